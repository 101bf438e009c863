"""Model bundles as steps fetch them."""

from pathlib import Path

import pytest
import torch

from sightline.models.bundle import BundleError, write_bundle
from sightline.models.fetch import fetch_bundle, given_model
from sightline.services.storage.base import StorageError
from sightline.settings import Settings, settings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SIGHTLINE_STORAGE", (tmp_path / "storage").as_uri())
    monkeypatch.setenv("SIGHTLINE_DATABASE_URL", "sqlite://")
    monkeypatch.setenv("SIGHTLINE_DATASET_REPO", str(tmp_path / "dataset.git"))
    monkeypatch.setenv("SIGHTLINE_VOLUME", str(tmp_path / "volume"))
    settings.cache_clear()
    yield settings()
    settings.cache_clear()


def write(folder: Path, value: float) -> str:
    """A bundle whose only weight is `value`. Returns its digest."""
    return write_bundle(folder, {"weight": torch.tensor([value])}, "max_epochs = 3\n", ["cup"], None, None, {})


def test_a_bundle_given_by_uri_can_be_used_again_and_again(place, tmp_path):
    digest = write(tmp_path / "given", 1.0)
    uri = (tmp_path / "given").as_uri()
    first, second = fetch_bundle(place, uri), fetch_bundle(place, uri)
    assert first[0] == second[0] == place.volume / "models" / digest
    assert second[1].sha256 == digest


def test_what_lies_behind_a_uri_now_is_what_is_used(place, tmp_path):
    write(tmp_path / "given", 1.0)
    fetch_bundle(place, str(tmp_path / "given"))
    digest = write(tmp_path / "given", 2.0)
    assert fetch_bundle(place, str(tmp_path / "given"))[1].sha256 == digest


def test_a_bundle_of_a_known_digest_is_fetched_once(place, tmp_path):
    digest = write(tmp_path / "given", 1.0)
    folder, _ = fetch_bundle(place, str(tmp_path / "given"), digest)
    assert fetch_bundle(place, "file:///nowhere", digest)[0] == folder


def test_a_bundle_of_another_digest_is_refused_and_not_kept(place, tmp_path):
    write(tmp_path / "given", 1.0)
    with pytest.raises(BundleError):
        fetch_bundle(place, str(tmp_path / "given"), "0" * 64)
    assert list((place.volume / "models").iterdir()) == []


def test_a_uri_without_a_bundle_says_so(place, tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        fetch_bundle(place, str(tmp_path / "nowhere"))


def test_a_step_that_was_given_a_uri_knows_the_bundle_by_its_digest(place, tmp_path):
    digest = write(tmp_path / "given", 1.0)
    given = given_model(place, str(tmp_path / "given"), "desk")
    assert given is not None
    assert (given.sha256, given.category) == (digest, "desk")
