"""Listing and comparing versions: exact numbers, and what a user sees of them."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from laptop import catalogue
from laptop.cli import main
from sightline.catalogue.difference import (
    Annotation,
    Changed,
    ClassCount,
    DifferentKindsError,
    Moved,
    Renamed,
    compare_versions,
)
from sightline.catalogue.listing import State, list_catalogue
from sightline.errors import SightlineError
from sightline.publish.annotations import publish_annotations
from sightline.services.database.connection import connect
from sightline.services.database.versions import claim_version
from sightline.services.storage.access import open_storage
from sightline.services.versioning.claims import name_owner
from sightline.services.versioning.repository import DatasetRepo
from sightline.settings import read_settings
from tests.catalogued import ALL, IMAGES, NEW, NEW_SET, OLD, OLD_SET, fill, name_of
from tests.installed import Installed, install, run
from tests.make_labelme import files_in, make_labelme, tick


@pytest.fixture(scope="module")
def catalogued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Two annotation versions and two dataset versions; tests only read them."""
    folder = tmp_path_factory.mktemp("catalogued")
    with pytest.MonkeyPatch.context() as environment:
        yield fill(install(folder / "workspace", environment), folder)
    read_settings.cache_clear()


@pytest.fixture
def in_the_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str, mariadb_url: str) -> Iterator[Installed]:
    yield fill(install(tmp_path / "here", monkeypatch, f"gs://{bucket}/team", mariadb_url), tmp_path)
    read_settings.cache_clear()


def splits(installed: Installed, tag: str) -> dict[str, str]:
    """Image -> split, as a dataset version's own files say."""
    repo = DatasetRepo.of(installed.settings)
    digest = next(row["digest"] for row in installed.rows("versions")["versions"] if row["tag"] == tag)
    listing = repo.objects("datasets").listing(digest)
    found = {}
    for split in ("train", "val", "test"):
        content = json.loads(repo.objects("datasets").read(listing[f"{split}.json"]))
        found |= {image["file_name"]: split for image in content["images"]}
    return found


ADDED = (Annotation("new.png", "plug"),)
REMOVED = (Annotation(name_of(0), "plug"), Annotation(name_of(5), "switch"))
CHANGED = (Changed(name_of(4), "plug", "switch", False), Changed(name_of(3), "plug", "plug", True))


def check_differences(installed: Installed) -> None:
    for before, after in ((OLD, NEW), (OLD_SET, NEW_SET)):
        found = compare_versions(installed.settings, before, after)
        assert found.images_added == ("new.png",)
        assert found.images_removed == (name_of(0),)
        assert found.images_changed == (name_of(1),)
        assert found.images_renamed == (Renamed(name_of(2), "renamed.png"),)
        assert (found.annotations_added, found.annotations_removed) == (ADDED, REMOVED)
        assert found.annotations_changed == CHANGED
        assert found.class_counts == (ClassCount("plug", 10, 9), ClassCount("switch", 5, 5))


def test_two_versions_differ_in_exactly_what_was_edited(catalogued):
    check_differences(catalogued)
    assert compare_versions(catalogued.settings, OLD, NEW).images_moved == ()


@pytest.mark.slow
def test_the_same_in_the_cloud(in_the_cloud):
    check_differences(in_the_cloud)


def test_images_that_changed_split_are_named(catalogued):
    old, new = splits(catalogued, OLD_SET), splits(catalogued, NEW_SET)
    kept = {name: name for name in new if name in old} | {"renamed.png": name_of(2)}
    moved = tuple(Moved(name, old[kept[name]], new[name]) for name in sorted(kept) if old[kept[name]] != new[name])
    assert moved, "another seed moved no image: the test proves nothing"
    assert compare_versions(catalogued.settings, OLD_SET, NEW_SET).images_moved == moved


def test_the_other_way_round_everything_is_reversed(catalogued):
    found = compare_versions(catalogued.settings, NEW, OLD)
    assert (found.images_added, found.images_removed) == ((name_of(0),), ("new.png",))
    assert found.images_renamed == (Renamed("renamed.png", name_of(2)),)
    assert found.annotations_removed == ADDED
    assert found.annotations_added == REMOVED
    assert found.class_counts == (ClassCount("plug", 9, 10), ClassCount("switch", 5, 5))


def test_a_version_does_not_differ_from_itself(catalogued):
    for tag in ALL:
        found = compare_versions(catalogued.settings, tag, tag).to_json()
        assert set(found["counts"].values()) == {0}


def test_only_what_differs_is_fetched_and_no_image(catalogued, monkeypatch):
    read = []
    storage = type(open_storage(catalogued.settings.storage))
    original = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda self, key: read.append(key) or original(self, key))
    aside = catalogued.settings.volume / "aside"
    cache = catalogued.settings.volume / "dvc-cache"
    cache.rename(aside)
    try:
        compare_versions(catalogued.settings, OLD, NEW)
        fetched = files_in(cache)
        compare_versions(catalogued.settings, OLD, NEW)
    finally:
        shutil.rmtree(cache)
        aside.rename(cache)
    # Two listings; the documents of i0, new, renamed (twice), and i3, i4, i5 twice: i1 kept its annotations.
    assert len(fetched) == len(read) == 2 + 1 + 1 + 2 + 2 * 3
    assert not [data for data in fetched.values() if data.startswith(b"\x89PNG")]


def test_rows_without_class_counts_are_counted_from_the_files(catalogued):
    """As those of versions that were published before the database had them."""
    import sqlalchemy

    from sightline.services.database.models import Image

    database = connect(catalogued.settings.database_url.get_secret_value())
    kept = catalogued.rows("images")["images"]
    with database.engine.execution_options(sightline_writes=True).begin() as connection:
        connection.execute(sqlalchemy.update(Image).values(labels=sqlalchemy.null()))
    try:
        check_differences(catalogued)
    finally:
        with database.engine.execution_options(sightline_writes=True).begin() as connection:
            for row in kept:
                connection.execute(sqlalchemy.update(Image).where(Image.id == row["id"]).values(labels=row["labels"]))


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (OLD, NEW_SET, r"of the kind annotation, .* of the kind dataset\. Compare two"),
        (OLD, "desk_ann_v0.9.0", r"desk_ann_v0\.9\.0 is not published in this database\. Did you mean 'desk_ann_v0\."),
        ("v0.1.0", NEW, r"'v0\.1\.0' is not a tag of a version"),
    ],
)
def test_versions_that_cannot_be_compared_are_refused(catalogued, before, after, says):
    with pytest.raises(SightlineError, match=says) as refused:
        compare_versions(catalogued.settings, before, after)
    assert isinstance(refused.value, DifferentKindsError) == ("kind" in says)


def test_every_version_is_listed_newest_last(catalogued):
    listed = list_catalogue(catalogued.settings)
    assert [(one.tag, one.state, one.images, one.annotations, one.parent) for one in listed] == [
        (OLD, State.PUBLISHED, IMAGES, 15, None),
        (NEW, State.PUBLISHED, IMAGES, 14, None),
        (OLD_SET, State.PUBLISHED, IMAGES, 15, OLD),
        (NEW_SET, State.PUBLISHED, IMAGES, 14, NEW),
    ]
    for one in listed:
        assert f"{one.commit}\trefs/tags/{one.tag}^{{}}" in catalogued.refs()


def test_versions_order_by_number_and_a_category_may_be_asked_for(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk", ["a.png"])
    for category, version in (("desk", "v0.10.0"), ("desk", "v0.9.0"), ("plates", "v1.0.0")):
        publish_annotations(installed.settings, folder, category, version)
    assert [one.tag for one in list_catalogue(installed.settings, "desk")] == ["desk_ann_v0.9.0", "desk_ann_v0.10.0"]
    assert [one.category for one in list_catalogue(installed.settings)] == ["desk", "desk", "plates"]


def test_another_repository_is_named_instead_of_calling_every_version_lost(installed, tmp_path):
    for version, colour in (("v0.1.0", "red"), ("v0.2.0", "blue")):
        folder = make_labelme(tmp_path / colour, [f"{colour}.png"])
        publish_annotations(installed.settings, folder, "desk", version)
    other = installed.settings.model_copy(update={"dataset_repo": str(tmp_path / "other.git")})
    with pytest.raises(SightlineError) as refused:
        list_catalogue(other)
    assert str(refused.value).startswith(
        f"The dataset repository {tmp_path}/other.git has no tag of any of the 2 versions"
    )
    assert "Set SIGHTLINE_DATASET_REPO" in str(refused.value)
    # Its own versions, of another category, do not make it theirs.
    publish_annotations(
        other.model_copy(update={"database_url": SecretStr(f"sqlite:///{tmp_path}/own.db")}), folder, "plates", "v0.1.0"
    )
    with pytest.raises(SightlineError, match="has no tag of any of the 2 versions"):
        list_catalogue(other)


def test_a_lost_version_is_listed_with_the_repository_that_lacks_its_tag(installed, tmp_path, capsys):
    for version, colour in (("v0.1.0", "red"), ("v0.2.0", "blue")):
        folder = make_labelme(tmp_path / colour, [f"{colour}.png"])
        publish_annotations(installed.settings, folder, "desk", version)
    run("git", "-C", installed.settings.dataset_repo, "tag", "--delete", "desk_ann_v0.1.0")
    assert catalogue.versions(None, as_json=False) == 0
    out = capsys.readouterr().out
    assert out.count(" lost ") == 1
    assert out.endswith(f"lost: its tag is not in the dataset repository {installed.settings.dataset_repo}\n")


def test_a_list_tells_pending_interrupted_and_lost_versions(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk", ["a.png"])
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    database = connect(installed.settings.database_url.get_secret_value())
    claim_version(database, "desk", "annotation", "v0.2.0", owner := name_owner())
    bare = installed.settings.dataset_repo
    run("git", "-C", bare, "tag", "desk_ann_v0.3.0", "main")
    run("git", "-C", bare, "tag", "somebody-elses", "main")
    run("git", "-C", bare, "tag", "--delete", "desk_ann_v0.1.0")
    listed = list_catalogue(installed.settings)
    assert [(one.version, one.state) for one in listed] == [
        ("v0.1.0", State.LOST),
        ("v0.2.0", State.PENDING),
        ("v0.3.0", State.INTERRUPTED),
    ]
    assert listed[1].owner == owner
    assert listed[1].lease_until is not None
    assert listed[2].commit == run("git", "-C", bare, "rev-parse", "main").strip()


# What a user types and sees


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process, whose settings are those of the installation: exit status, output, errors."""

    def run_command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["--workspace", str(read_settings().volume.parent), *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run_command


def test_an_empty_installation_says_what_to_do(installed, typed):
    status, said, _ = typed("versions")
    assert (status, said.splitlines()[0]) == (
        0,
        f"no versions yet in SQLite file {installed.folder}/sightline.db and the dataset repository {installed.folder}/dataset.git",
    )
    assert "pipeline.py publish FOLDER" in said
    assert json.loads(typed("versions", "--json")[1]) == []
    assert typed("verify")[:2] == (0, "no versions yet: nothing to verify\n")
    status, _, error = typed("diff", OLD, NEW)
    assert (status, error.count("error:")) == (1, 1)
    assert "None is published yet" in error


def test_the_table_of_versions(catalogued, typed):
    status, said, _ = typed("versions", "--category", "desk")
    lines = said.splitlines()
    assert status == 0
    assert lines[0].split() == ["version", "state", "images", "objects", "parent", "commit", "date", "(UTC)"]
    assert [line.split()[:5] for line in lines[1:]] == [
        [OLD, "published", "10", "15", "-"],
        [NEW, "published", "10", "14", "-"],
        [OLD_SET, "published", "10", "15", OLD],
        [NEW_SET, "published", "10", "14", NEW],
    ]
    found = json.loads(typed("versions", "--json")[1])
    assert [(one["tag"], one["state"]) for one in found] == [(tag, "published") for tag in ALL]
    assert [line.split()[5] for line in lines[1:]] == [one["commit"][:12] for one in found]
    assert {one["task"] for one in found} == {"detection"}


def test_versions_for_another_task_are_listed_with_it(installed, tmp_path, typed):
    publish_annotations(installed.settings, make_labelme(tmp_path / "desk", ["a.png"]), "desk", "v0.1.0")
    tick(tmp_path / "pets", "a.png", "cat")
    publish_annotations(installed.settings, tmp_path / "pets", "pets", "v0.1.0")
    claim_version(
        connect(installed.settings.database_url.get_secret_value()), "pets", "annotation", "v0.2.0", name_owner()
    )
    lines = typed("versions")[1].splitlines()
    assert lines[0].split()[:4] == ["version", "state", "task", "images"]
    assert [line[lines[0].index("task") :].split()[0] for line in lines[1:]] == ["detection", "classification", "-"]
    assert "task" not in typed("versions", "--category", "desk")[1].splitlines()[0]
    assert [one["task"] for one in json.loads(typed("versions", "--json")[1])] == ["detection", "classification", None]


def test_a_difference_begins_with_its_counts(catalogued, typed):
    status, said, _ = typed("diff", OLD, NEW)
    lines = said.splitlines()
    assert status == 0
    assert lines[:4] == [
        f"{OLD} -> {NEW}",
        "",
        "images: 1 added, 1 removed, 1 changed, 1 renamed, 0 in another split",
        "objects: 1 added, 2 removed, 2 changed",
    ]
    assert [line.split() for line in lines[5:8]] == [
        ["class", OLD, NEW, "difference"],
        ["plug", "10", "9", "-1"],
        ["switch", "5", "5", "+0"],
    ]
    assert f"  {name_of(2)} -> renamed.png" in lines
    assert f"  {name_of(4)}: plug -> switch" in lines
    assert f"  {name_of(3)}: plug, redrawn" in lines
    found = json.loads(typed("diff", OLD, NEW, "--json")[1])
    assert found["counts"]["annotations_changed"] == 2
    assert found["images_renamed"] == [{"before": name_of(2), "after": "renamed.png"}]


@pytest.mark.slow
def test_only_the_first_ten_names_are_shown_unless_all_are_asked_for(installed, tmp_path, typed):
    folder = make_labelme(tmp_path / "desk", ["a.png"])
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    make_labelme(folder, [f"new{number:02}.png" for number in range(13)])
    publish_annotations(installed.settings, folder, "desk", "v0.2.0")
    said = typed("diff", OLD, NEW)[1]
    assert "images added (13)" in said
    assert "  new09.png\n  … and 3 more (--all)\n" in said
    said = typed("diff", OLD, NEW, "--all")[1]
    assert "  new12.png\n" in said
    assert "more" not in said


def test_verify_and_repair_as_a_user_types_them(installed, tmp_path, typed):
    publish_annotations(installed.settings, make_labelme(tmp_path / "desk"), "desk", "v0.1.0")
    assert typed("verify", OLD)[:2] == (0, f"{OLD}  ok: 4 images, 10 files\nok\n")
    run("git", "-C", installed.settings.dataset_repo, "tag", "--delete", OLD)
    status, said, _ = typed("verify")
    assert status == 1
    assert "tag-missing: its tag is gone from Git" in said
    assert "--repair makes it name" in said
    assert said.endswith("1 of 1 versions has problems\nnext: python pipeline.py verify --repair\n")
    report = json.loads(typed("verify", "--json")[1])
    assert (report["ok"], report["versions"][0]["problems"][0]["trouble"]) == (False, "tag-missing")
    status, said, _ = typed("verify", "--repair")
    assert status == 0
    assert said.splitlines()[0].startswith(f"{OLD}: made the tag name ")
    assert installed.tags() == [OLD]
