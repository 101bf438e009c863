"""Proving versions against the remote, Git and SQL: everything that can break is broken once, named, and mended."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy

from sightline.catalogue import verification
from sightline.catalogue.git_tags import open_git_tags
from sightline.catalogue.listing import State
from sightline.catalogue.repair import repair_versions
from sightline.catalogue.verification import Verification, verify_versions
from sightline.errors import SightlineError
from sightline.publish.annotations import publish_annotations
from sightline.services.database.connection import connect
from sightline.services.database.models import Finding, Image, Stage, VersionRow
from sightline.services.database.versions import claim_version, list_images
from sightline.services.storage.access import open_storage
from sightline.services.versioning.claims import name_owner
from sightline.settings import read_settings
from tests.catalogued import ALL, NEW, NEW_SET, OLD, OLD_SET, fill, name_of, overwrite
from tests.installed import Installed, install, run
from tests.make_labelme import files_in, make_labelme


@dataclass(frozen=True)
class Pristine:
    """An installation with four versions, and a copy of all its files as they were."""

    folder: Path
    copy: Path

    def restored(self, environment: pytest.MonkeyPatch) -> Installed:
        shutil.rmtree(self.folder)
        shutil.copytree(self.copy, self.folder, symlinks=True)
        return install(self.folder, environment)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    folder = tmp_path_factory.mktemp("catalogued")
    with pytest.MonkeyPatch.context() as environment:
        fill(install(folder / "here", environment), folder)
    read_settings.cache_clear()
    shutil.copytree(folder / "here", folder / "copy", symlinks=True)
    yield Pristine(folder / "here", folder / "copy")


@pytest.fixture
def catalogued(pristine: Pristine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """Two annotation versions and two dataset versions in folders and SQLite."""
    yield pristine.restored(monkeypatch)
    read_settings.cache_clear()


@pytest.fixture
def in_the_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str, mariadb_url: str) -> Iterator[Installed]:
    """The same in the Cloud Storage emulator and MariaDB."""
    yield fill(install(tmp_path / "here", monkeypatch, f"gs://{bucket}/team", mariadb_url), tmp_path)
    read_settings.cache_clear()


def troubles(found: Verification) -> dict[str, list[str]]:
    """Tag -> the kinds of its problems, of the versions that have any."""
    return {one.tag: [str(problem.trouble) for problem in one.problems] for one in found.versions if one.problems}


def verified(installed: Installed, full: bool = False) -> Verification:
    return verify_versions(installed.settings, full=full)


def mended(installed: Installed) -> Verification:
    """What a verification finds after a repair."""
    deeds = repair_versions(installed.settings, verified(installed, full=True))
    assert [deed for deed in deeds if not deed.done] == []
    return verified(installed, full=True)


def everybody_can_pull(installed: Installed, *tags: str) -> None:
    """A fresh clone with a cache of its own gets a version's files, as many as its rows say."""
    for tag in tags:
        clone = installed.clone_and_pull(tag, f"clone-{tag}")
        kind = "annotations" if "_ann_" in tag else "datasets"
        pulled = files_in(clone / kind / "desk")
        assert ".sightline/version.json" in pulled
        assert len([name for name in pulled if name.endswith(".png")]) == (10 if kind == "annotations" else 0)


def key_of(installed: Installed, tag: str, name: str) -> str:
    """Where a file of a version lies in the storage."""
    kind = "annotations" if "_ann_" in tag else "datasets"
    clone = installed.folder / "for-keys"
    shutil.rmtree(clone, ignore_errors=True)
    run("git", "clone", "--quiet", "--branch", tag, installed.settings.dataset_repo, str(clone))
    pointer = (clone / kind / "desk.dvc").read_text()
    digest = next(line.split()[-1] for line in pointer.splitlines() if "md5:" in line)
    if name:
        import json

        listing = json.loads(open_storage(installed.settings.storage).read_bytes(object_key(kind, digest)))
        digest = next(entry["md5"] for entry in listing if entry["relpath"] == name)
    return object_key(kind, digest)


def object_key(kind: str, digest: str) -> str:
    return f"dvc/{kind}/files/md5/{digest[:2]}/{digest[2:]}"


def delete_image(installed: Installed) -> None:
    open_storage(installed.settings.storage).delete(key_of(installed, NEW, "new.png"))


def delete_document(installed: Installed) -> None:
    open_storage(installed.settings.storage).delete(key_of(installed, NEW, "new.json"))


def delete_listing(installed: Installed) -> None:
    open_storage(installed.settings.storage).delete(key_of(installed, OLD, ""))


def change_stored(installed: Installed, key: str, change: Callable[[bytes], bytes]) -> None:
    storage = open_storage(installed.settings.storage)
    storage.write_bytes(key, change(storage.read_bytes(key)))


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def truncate_image(installed: Installed) -> None:
    change_stored(installed, key_of(installed, NEW, "new.png"), lambda data: data[:-5])


def truncate_document(installed: Installed) -> None:
    change_stored(installed, key_of(installed, NEW, "new.json"), lambda data: data[:-5])


def truncate_shard(installed: Installed) -> None:
    change_stored(installed, key_of(installed, NEW_SET, "images-00000.tar"), lambda data: data[:-512])


def flip_shard(installed: Installed) -> None:
    change_stored(installed, key_of(installed, NEW_SET, "images-00000.tar"), flip)


def flip_image(installed: Installed) -> None:
    change_stored(installed, key_of(installed, NEW, "new.png"), flip)


def delete_tag(installed: Installed) -> None:
    run("git", "-C", installed.settings.dataset_repo, "tag", "--delete", NEW_SET)


def move_tag(installed: Installed) -> None:
    run("git", "-C", installed.settings.dataset_repo, "tag", "--force", NEW_SET, f"{OLD_SET}^{{}}")


def write_sql(installed: Installed, *statements: sqlalchemy.Executable) -> None:
    database = connect(installed.settings.database_url.get_secret_value())
    with database.engine.execution_options(sightline_writes=True).begin() as connection:
        for statement in statements:
            connection.execute(statement)
    database.close()


def id_of(tag: str) -> sqlalchemy.ScalarSelect[int]:
    return sqlalchemy.select(VersionRow.id).where(VersionRow.tag == tag).scalar_subquery()


def delete_rows(installed: Installed) -> None:
    number = next(row["id"] for row in installed.rows("versions")["versions"] if row["tag"] == NEW_SET)
    write_sql(
        installed,
        *(sqlalchemy.delete(table).where(table.version_id == number) for table in (Image, Finding, Stage)),
        sqlalchemy.delete(VersionRow).where(VersionRow.id == number),
    )


def delete_image_row(installed: Installed) -> None:
    write_sql(installed, sqlalchemy.delete(Image).where(Image.version_id == id_of(OLD), Image.name == name_of(3)))


def change_sha256(installed: Installed) -> None:
    named = (Image.version_id == id_of(OLD)) & (Image.name == name_of(3))
    write_sql(installed, sqlalchemy.update(Image).where(named).values(sha256="0" * 64))


def change_split(installed: Installed) -> None:
    named = (Image.version_id == id_of(OLD_SET)) & (Image.name == name_of(3))
    write_sql(installed, sqlalchemy.update(Image).where(named).values(split="nowhere"))


def change_count(installed: Installed) -> None:
    write_sql(installed, sqlalchemy.update(VersionRow).where(VersionRow.tag == OLD).values(annotation_count=99))


def change_recipe(installed: Installed) -> None:
    row = next(row for row in installed.rows("versions")["versions"] if row["tag"] == OLD_SET)
    recipe = row["recipe"] | {"seed": 77}
    write_sql(installed, sqlalchemy.update(VersionRow).where(VersionRow.tag == OLD_SET).values(recipe=recipe))


def change_digest(installed: Installed) -> None:
    write_sql(installed, sqlalchemy.update(VersionRow).where(VersionRow.tag == OLD).values(digest=f"{'0' * 32}.dir"))


def change_commit(installed: Installed) -> None:
    write_sql(installed, sqlalchemy.update(VersionRow).where(VersionRow.tag == OLD).values(commit="0" * 40))


def forget_parent(installed: Installed) -> None:
    write_sql(installed, sqlalchemy.update(VersionRow).where(VersionRow.tag == OLD_SET).values(parent_id=None))


def leave_a_claim(installed: Installed) -> None:
    database = connect(installed.settings.database_url.get_secret_value())
    claim_version(database, "desk", "annotation", "v0.3.0", "process 1 on nowhere", lease_seconds=-5)
    database.close()


BROKEN = {
    delete_image: (NEW, "objects-missing", "new.png"),
    delete_document: (NEW, "objects-missing", "new.json"),
    delete_listing: (OLD, "objects-missing", "its list of files"),
    truncate_image: (NEW, "objects-cut", "new.png"),
    truncate_document: (NEW, "objects-damaged", "new.json"),
    truncate_shard: (NEW_SET, "objects-damaged", "images-00000.tar"),
    delete_tag: (NEW_SET, "tag-missing", "gone from Git"),
    move_tag: (NEW_SET, "tag-moved", "was moved"),
    delete_rows: (NEW_SET, "rows-missing", "no rows"),
    delete_image_row: (OLD, "rows-differ", name_of(3)),
    change_sha256: (OLD, "rows-differ", name_of(3)),
    change_split: (OLD_SET, "rows-differ", name_of(3)),
    change_count: (OLD, "rows-differ", "10 images and 99 objects"),
    change_recipe: (OLD_SET, "rows-differ", "the recipe"),
    change_digest: (OLD, "rows-differ", "the digest is 0000"),
    change_commit: (OLD, "rows-differ", "which Git does not have"),
    forget_parent: (OLD_SET, "parent-missing", OLD),
    leave_a_claim: ("desk_ann_v0.3.0", "claim-expired", "process 1 on nowhere"),
}
"""How to break an installation -> the version that has a problem then, the problem's kind, what its message names."""


@pytest.mark.slow
def test_whole_versions_verify(catalogued):
    for full in (False, True):
        found = verified(catalogued, full)
        assert [(one.tag, one.state, one.images, one.problems) for one in found.versions] == [
            (tag, State.PUBLISHED, 10, ()) for tag in ALL
        ]
        assert (found.ok, found.unneeded_objects, found.abandoned_folders) == (True, 0, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(spoil, id=spoil.__name__, marks=() if spoil is delete_image else pytest.mark.slow)
        for spoil in BROKEN
    ],
)
def test_what_is_broken_is_named_and_mended_and_nothing_else(catalogued, spoil):
    before = sound(catalogued)
    spoil(catalogued)
    tag, trouble, named = BROKEN[spoil]
    found = verified(catalogued)
    assert troubles(found) == {tag: [trouble]}
    problem = next(one for one in found.versions if one.problems).problems[0]
    assert named in problem.message
    assert problem.repairable
    assert mended(catalogued).ok
    assert sound(catalogued) == before
    if spoil in (delete_image, truncate_shard, move_tag):
        everybody_can_pull(catalogued, tag)


def sound(installed: Installed) -> tuple[object, ...]:
    """What must be the same after a repair: objects, tags with their commits, and rows but for their own numbers."""
    tags = [line for line in installed.refs() if line.endswith("^{}") or "heads" in line]
    rows = installed.rows("versions", "images", "findings", "stages")
    names = {row["id"]: row["tag"] for row in rows["versions"]}
    versions = [
        {**row, "id": 0, "owner": "", "created_at": None, "parent_id": names.get(row["parent_id"])}
        | ({"published_at": None} if row["tag"] == NEW_SET else {})  # from its tag, when the row was gone
        for row in rows["versions"]
    ]
    others = [
        {**row, "id": 0, "version_id": names[row["version_id"]]}
        for table in ("images", "findings", "stages")
        for row in rows[table]
    ]
    return (
        installed.stored(),
        sorted(tags),
        sorted(versions, key=lambda row: str(row["tag"])),
        sorted(others, key=repr),
    )


def test_a_version_whose_rows_are_gone_gets_the_date_of_its_tag(catalogued):
    delete_rows(catalogued)
    assert mended(catalogued).ok
    row = next(row for row in catalogued.rows("versions")["versions"] if row["tag"] == NEW_SET)
    seconds = run(
        "git", "-C", catalogued.settings.dataset_repo, "tag", "--list", NEW_SET, "--format=%(creatordate:unix)"
    )
    assert row["published_at"] == datetime.fromtimestamp(int(seconds), UTC)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [flip_image, flip_shard], ids=lambda spoil: spoil.__name__)
def test_a_flipped_bit_is_found_by_reading_everything_back(catalogued, spoil):
    spoil(catalogued)
    assert verified(catalogued).ok, "a folder's listing tells no checksum"
    tag, name = (NEW, "new.png") if spoil is flip_image else (NEW_SET, "images-00000.tar")
    found = verified(catalogued, full=True)
    assert troubles(found) == {tag: ["objects-damaged"]}
    assert next(one for one in found.versions if one.problems).problems[0].files == (name,)
    assert mended(catalogued).ok


def test_bytes_that_are_gone_everywhere_are_named_and_nothing_is_made_public_without_them(catalogued):
    key = key_of(catalogued, NEW, "new.png")
    open_storage(catalogued.settings.storage).delete(key)
    cached = catalogued.settings.volume / "dvc-cache" / key.removeprefix("dvc/annotations/")
    cached.unlink()
    run("git", "-C", catalogued.settings.dataset_repo, "tag", "--delete", NEW)
    found = verified(catalogued)
    assert troubles(found) == {NEW: ["objects-missing", "tag-missing"]}
    problems = next(one for one in found.versions if one.problems).problems
    assert problems[0].files == ("new.png",)
    assert [problem.repairable for problem in problems] == [False, False]
    assert repair_versions(catalogued.settings, found) == ()
    assert NEW not in catalogued.tags()


def test_a_damaged_copy_in_the_cache_is_not_uploaded(catalogued):
    key = key_of(catalogued, NEW, "new.png")
    open_storage(catalogued.settings.storage).delete(key)
    cached = catalogued.settings.volume / "dvc-cache" / key.removeprefix("dvc/annotations/")
    overwrite(cached, flip(cached.read_bytes()))
    found = verified(catalogued)
    assert not next(one for one in found.versions if one.problems).problems[0].repairable


def test_an_empty_cache_changes_nothing_but_who_can_mend(catalogued):
    """Another machine: what it needs of the listings and descriptions it fetches once."""
    shutil.rmtree(catalogued.settings.volume / "dvc-cache")
    assert verified(catalogued).ok
    fetched = files_in(catalogued.settings.volume / "dvc-cache")
    assert len(fetched) == 2 * len(ALL)
    assert all(hashlib.md5(data).hexdigest() in name.replace("/", "") for name, data in fetched.items())
    truncate_document(catalogued)
    truncate_shard(catalogued)
    assert troubles(verified(catalogued)) == {NEW: ["objects-damaged"], NEW_SET: ["objects-damaged"]}


def test_many_things_broken_at_once_are_all_mended(catalogued):
    for spoil in (delete_image, truncate_shard, delete_tag, change_sha256, leave_a_claim):
        spoil(catalogued)
    found = verified(catalogued)
    assert set(troubles(found)) == {OLD, NEW, NEW_SET, "desk_ann_v0.3.0"}
    assert mended(catalogued).ok


def test_rows_of_every_version_come_back_after_the_database_was_lost(catalogued):
    (catalogued.folder / "sightline.db").unlink()
    found = verified(catalogued)
    assert troubles(found) == {tag: ["rows-missing"] for tag in ALL}
    assert {one.state for one in found.versions} == {State.INTERRUPTED}
    assert mended(catalogued).ok
    rows = {row["tag"]: row for row in catalogued.rows("versions")["versions"]}
    assert rows[OLD_SET]["parent_id"] == rows[OLD]["id"]
    assert (rows[NEW]["image_count"], rows[NEW]["annotation_count"]) == (10, 14)


def test_a_version_that_somebody_is_publishing_is_left_alone(catalogued):
    database = connect(catalogued.settings.database_url.get_secret_value())
    claim_version(database, "desk", "annotation", "v0.3.0", name_owner())
    run("git", "-C", catalogued.settings.dataset_repo, "tag", "desk_ann_v0.3.0", "main")  # the rows come next
    found = verified(catalogued)
    assert found.ok
    assert [(one.tag, one.state) for one in found.versions][2] == ("desk_ann_v0.3.0", State.PENDING)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before Git is read", "after Git was read"])
def test_a_version_that_is_published_meanwhile_is_no_problem(catalogued, tmp_path, monkeypatch, when):
    @contextlib.contextmanager
    def open_git_tags_meanwhile(repo):
        if when == "before Git is read":
            publish_annotations(catalogued.settings, make_labelme(tmp_path / "more"), "desk", "v0.3.0")
        with open_git_tags(repo) as git_tags:
            if when == "after Git was read":
                publish_annotations(catalogued.settings, make_labelme(tmp_path / "more"), "desk", "v0.3.0")
            yield git_tags

    monkeypatch.setattr(verification, "open_git_tags", open_git_tags_meanwhile)
    found = verified(catalogued)
    assert troubles(found) == {}
    assert len(found.versions) == len(ALL) + (when == "before Git is read")


def test_objects_for_no_version_are_counted_and_stay(catalogued):
    storage = open_storage(catalogued.settings.storage)
    storage.write_bytes("dvc/annotations/files/md5/ab/cdef", b"12345")
    found = verified(catalogued)
    assert (found.ok, found.unneeded_objects, found.unneeded_bytes) == (True, 1, 5)
    repair_versions(catalogued.settings, found)
    assert storage.exists("dvc/annotations/files/md5/ab/cdef")


def test_folders_of_dead_processes_are_counted_and_removed(catalogued):
    work = catalogued.settings.volume / "work"
    (work / "repo-dead").mkdir(parents=True)
    (work / "repo-dead.held").touch()
    assert verified(catalogued).abandoned_folders == 1
    assert not list(work.iterdir())


def test_one_version_alone_can_be_verified(catalogued):
    delete_image(catalogued)
    assert verify_versions(catalogued.settings, OLD_SET).ok
    assert troubles(verify_versions(catalogued.settings, NEW)) == {NEW: ["objects-missing"]}
    with pytest.raises(SightlineError, match=r"no version desk_ann_v0\.2\.1.* Did you mean 'desk_ann_v0\.[12]\.0'"):
        verify_versions(catalogued.settings, "desk_ann_v0.2.1")


def test_verifying_writes_nothing(catalogued):
    change_sha256(catalogued)
    delete_image(catalogued)
    before = catalogued.state()
    verified(catalogued, full=True)
    assert catalogued.state() == before


@pytest.mark.slow
def test_the_same_in_the_cloud(in_the_cloud):
    """A bucket's listing tells the md5: a flipped bit is found without reading a byte."""
    installed = in_the_cloud
    assert verified(installed).ok
    before = sound(installed)
    for spoil in (flip_image, delete_listing, truncate_shard, delete_tag, change_sha256, leave_a_claim):
        spoil(installed)
    assert troubles(verified(installed)) == {
        OLD: ["objects-missing", "rows-differ"],
        NEW: ["objects-damaged"],
        "desk_ann_v0.3.0": ["claim-expired"],
        NEW_SET: ["objects-damaged", "tag-missing"],
    }
    assert mended(installed).ok
    assert sound(installed) == before
    delete_rows(installed)
    assert troubles(verified(installed)) == {NEW_SET: ["rows-missing"]}
    assert mended(installed).ok
    assert sound(installed) == before
    everybody_can_pull(installed, NEW)


def test_every_row_is_compared(catalogued):
    """The description holds what the rows hold, field by field."""
    from sightline.catalogue.listing import open_installation
    from sightline.catalogue.rows import read_content

    installation = open_installation(catalogued.settings)
    row = installation.rows()[OLD]
    objects = installation.objects("annotation")
    content = read_content(objects, objects.listing(str(row.digest)))
    assert content is not None
    assert list(content.images) == list_images(installation.database, row.id)
