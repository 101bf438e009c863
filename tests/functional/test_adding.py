"""A version's folder becomes objects as DVC would make them, and a remote is asked about no more objects than are needed."""

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from sightline.services.storage.base import StoredObject
from sightline.services.storage.folder import FolderStorage
from sightline.services.versioning.adding import NewFiles, move_into_cache, write_pointer
from sightline.services.versioning.objects import Objects, object_name

FILES = {"b.json": b"{}", "a.jpg": b"x" * 3000, "sub/ü z.png": b"y", "sub/a-b": b"", ".sightline/version.json": b"1"}


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_objects_listing_and_pointer_are_dvcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    root = tmp_path / "repo"
    root.mkdir()
    repo = Repo.init(str(root), no_scm=True)
    repo.add([str(fill(root / "desk", FILES))])
    added = move_into_cache(fill(tmp_path / "ours" / "desk", FILES), tmp_path / "cache", {})
    write_pointer(tmp_path / "ours" / "desk.dvc", added, "annotations")
    theirs = (root / "desk.dvc").read_text()
    assert (tmp_path / "ours" / "desk.dvc").read_text() == f"{theirs}  remote: annotations\n"
    assert contents(tmp_path / "cache") == contents(root / ".dvc" / "cache")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert modes == {0o444}


@pytest.mark.parametrize("in_memory", [1 << 20, 100])
def test_what_the_cache_has_is_not_written_again(
    tmp_path: Path, in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.services.versioning.adding.IN_MEMORY", in_memory)
    source, cache, folder = fill(tmp_path / "in", FILES), tmp_path / "cache", tmp_path / "desk"
    move_into_cache(fill(tmp_path / "first", {"old name": FILES["b.json"]}), cache, {})
    fill(cache, {object_name(hashlib.md5(FILES["sub/ü z.png"]).hexdigest()): b"cut off"})
    new = NewFiles(cache)
    new.begin(folder)
    for name in ("a.jpg", "sub/ü z.png"):
        assert new.copy(str(source / name), name) == (len(FILES[name]), hashlib.sha256(FILES[name]).hexdigest())
    for name in ("b.json", "sub/a-b", ".sightline/version.json"):
        new.write(name, FILES[name])
    assert contents(folder).keys() == FILES.keys() - {"b.json"}
    added = move_into_cache(folder, cache, new.noted)
    assert added == move_into_cache(source, tmp_path / "another", {})
    assert contents(tmp_path / "another").items() <= contents(cache).items()


class Counting(FolderStorage):
    """A folder that lists as a bucket does, and counts what it is asked."""

    listed_at_once = 100

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.listed = 0, 0

    def find(self, keys: Collection[str]) -> dict[str, StoredObject]:
        self.asked += len(keys)
        return super().find(keys)

    def list(self, prefix: str = "", checksums: bool = False) -> Iterator[StoredObject]:
        for item in super().list(prefix, checksums):
            self.listed += 1
            yield item


@pytest.mark.parametrize("whole", [0, 5000])
@pytest.mark.parametrize(("needed", "listed"), [(5, False), (200, True)])
def test_a_large_remote_is_listed_only_for_many_objects(
    tmp_path: Path, needed: int, listed: bool, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.services.versioning.objects.LISTED_WHOLE", whole)
    digests = [hashlib.md5(str(number).encode()).hexdigest() for number in range(2000)]
    storage = Counting(tmp_path)
    objects = Objects(storage, "annotations", tmp_path / "cache")
    fill(tmp_path, {objects.key(digest): digest.encode() for digest in digests})
    assert objects.stored([*digests[:needed], "0" * 32]).keys() == set(digests[:needed])
    assert storage.listed < 1.1 * len(digests)
    assert (storage.asked, storage.listed >= len(digests)) == ((0, True) if listed else (needed + 1, False))
