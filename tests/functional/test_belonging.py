"""A setting that names another installation's database, repository or storage, or none yet: publish refuses, and makes nothing."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from pydantic import SecretStr

from sightline.catalogue.repair import repair_versions
from sightline.catalogue.verification import verify_versions
from sightline.publish.annotations import publish_annotations
from sightline.services.database.connection import connect
from sightline.services.database.models import Finding, Image, VersionRow
from sightline.services.database.versions import Content
from sightline.services.versioning.belonging import OtherInstallationError
from sightline.services.versioning.publication import Services, publish
from sightline.services.versioning.repository import DatasetRepo
from tests.installed import Installed, install, run
from tests.make_labelme import make_labelme

WRONG = {
    "SIGHTLINE_DATABASE_URL": lambda folder: {"database_url": SecretStr(f"sqlite:///{folder}/typo/typo.db")},
    "SIGHTLINE_DATASET_REPO": lambda folder: {"dataset_repo": f"{folder}/typo/typo.git"},
    "SIGHTLINE_STORAGE": lambda folder: {"storage": f"file://{folder}/typo/storage"},
}


@pytest.fixture
def two(installed: Installed, tmp_path: Path) -> Installed:
    """Two versions are published; `tmp_path/three` is to be the third."""
    for version in ("v0.1.0", "v0.2.0"):
        publish_annotations(installed.settings, make_labelme(tmp_path / version, [f"{version}.png"]), "desk", version)
    make_labelme(tmp_path / "three", ["three.png"])
    return installed


def other(installed: Installed, **values: Any) -> Any:
    return installed.settings.model_copy(update=values)


@pytest.mark.parametrize("volume", ["the same volume", "a new volume"])
@pytest.mark.parametrize("name", WRONG)
def test_a_mistyped_setting_is_refused_before_anything_is_made(two, tmp_path, name, volume):
    new = {"volume": tmp_path / "new"} if volume == "a new volume" else {}
    before, there = two.state(), sorted(two.folder.rglob("*"))
    with pytest.raises(OtherInstallationError) as refused:
        publish_annotations(other(two, **WRONG[name](tmp_path), **new), tmp_path / "three", "desk", "v0.3.0")
    assert f"Check {name}" in str(refused.value) and "typo" in str(refused.value)
    assert "nothing was published or made" in str(refused.value) and "To begin anew" in str(refused.value)
    assert not (tmp_path / "typo").exists() and not (tmp_path / "new").exists()
    assert two.state() == before and sorted(two.folder.rglob("*")) == there


@pytest.mark.parametrize("name", WRONG)
def test_another_installations_is_refused_like_one_that_is_not_there(two, tmp_path, monkeypatch, name):
    others = install(tmp_path / "others", monkeypatch)
    publish_annotations(others.settings, make_labelme(tmp_path / "pets", ["pet.png"]), "pets", "v0.1.0")
    field = name.removeprefix("SIGHTLINE_").lower()
    before = two.state(), others.state()
    with pytest.raises(OtherInstallationError, match=name):
        publish_annotations(
            other(two, **{field: getattr(others.settings, field)}), tmp_path / "three", "desk", "v0.3.0"
        )
    assert (two.state(), others.state()) == before


def test_what_record_publishes_is_refused_likewise(two, tmp_path):
    settings = other(two, storage=f"file://{tmp_path}/typo")
    services = Services(DatasetRepo.of(settings), connect(settings.database_url.get_secret_value()))
    with pytest.raises(OtherInstallationError, match="Check SIGHTLINE_STORAGE"):
        publish(services, "desk", "dataset", "v0.1.0", lambda folder: (folder / "a").write_text("a") and Content())
    assert not (tmp_path / "typo").exists() and two.left_behind() == []


def test_after_a_loss_the_repair_that_is_named_lets_publish_go_on(two, tmp_path):
    """The database is written again from Git and storage, the storage from the volume's cache, a tag from its commit."""
    (two.folder / "sightline.db").unlink()
    shutil.rmtree(two.folder / "storage")
    with pytest.raises(OtherInstallationError, match=r"The database .* is not there.*verify --repair"):
        publish_annotations(two.settings, tmp_path / "three", "desk", "v0.3.0")
    for _ in range(2):
        repair_versions(two.settings, verify_versions(two.settings))
    for version in ("v0.1.0", "v0.2.0"):
        run("git", "-C", two.settings.dataset_repo, "tag", "--delete", f"desk_ann_{version}")
    with pytest.raises(OtherInstallationError, match="makes tags again whose commits it still has"):
        publish_annotations(two.settings, tmp_path / "three", "desk", "v0.3.0")
    repair_versions(two.settings, verify_versions(two.settings))
    assert publish_annotations(two.settings, tmp_path / "three", "desk", "v0.3.0").publication.new
    assert verify_versions(two.settings).ok


def test_a_first_version_that_was_interrupted_is_finished_in_its_own_database_only(installed, tmp_path):
    folder = make_labelme(tmp_path / "one", ["one.png"])
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    database = connect(installed.settings.database_url.get_secret_value())
    database.write(lambda session: [session.execute(sqlalchemy.delete(each)) for each in (Image, Finding, VersionRow)])
    with pytest.raises(OtherInstallationError, match="Check SIGHTLINE_DATABASE_URL"):
        publish_annotations(other(installed, **WRONG["SIGHTLINE_DATABASE_URL"](tmp_path)), folder, "desk", "v0.1.0")
    assert publish_annotations(installed.settings, folder, "desk", "v0.1.0").publication.new
