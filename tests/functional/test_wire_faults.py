"""Publishing and recording over a bad connection: retried or reported, never half published."""

import hashlib
import json
import os
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sightline.errors import SightlineError
from sightline.publish.annotations import publish_annotations
from sightline.services.database.connection import connect
from sightline.services.storage.access import open_storage
from sightline.services.storage.base import StorageDeniedError, StorageError, StorageUnreachableError
from sightline.services.versioning.adding import Noted
from sightline.services.versioning.objects import DamagedObjectError, LostObjectError
from sightline.services.versioning.publication import Content, Publication, Services, publish
from sightline.services.versioning.repository import DatasetRepo, WorkingCopy
from sightline.settings import read_settings
from sightline.steps.record.record import record_dataset
from tests.installed import Installed, install, run
from tests.make_labelme import make_labelme
from tests.wire import Wire

DEADLINE = 3  # seconds
FILES = {"a.json": b'{"a": 1}', "deep/er/b.json": b'{"b": 2}', "image.png": bytes(range(256)) * 40, "empty": b""}


@pytest.fixture
def wire(gcs_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    proxy = Wire(gcs_emulator)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", str(DEADLINE))
    yield proxy
    proxy.heal()
    proxy.server.shutdown()
    proxy.server.server_close()


@dataclass(frozen=True)
class Remote:
    """The bucket as somebody sees and changes it who does not use this library or the faulty connection."""

    emulator: str
    bucket: str

    def read(self, name: str) -> bytes:
        with urllib.request.urlopen(f"{self._url(name)}?alt=media") as answer:
            return bytes(answer.read())

    def delete(self, name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(self._url(name), method="DELETE")).close()

    def overwrite(self, name: str, data: bytes) -> None:
        name = urllib.parse.quote(f"team/dvc/{name}", safe="")
        url = f"{self.emulator}/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={name}"
        urllib.request.urlopen(urllib.request.Request(url, data=data)).close()

    def _url(self, name: str) -> str:
        return f"{self.emulator}/storage/v1/b/{self.bucket}/o/{urllib.parse.quote(f'team/dvc/{name}', safe='')}"


@pytest.fixture
def remote(gcs_emulator: str, bucket: str) -> Remote:
    return Remote(gcs_emulator, bucket)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str, wire: Wire) -> Iterator[Installed]:
    yield install(tmp_path, monkeypatch, storage=f"gs://{bucket}/team")
    read_settings.cache_clear()


def publish_files(installed: Installed, version: str = "v0.1.0") -> Publication:
    """Publish FILES as an annotation version of `desk`."""
    database = connect(installed.settings.database_url.get_secret_value())
    database.migrate()

    def build(target: Path) -> Content:
        for name, data in FILES.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(data)
        return Content(images=())

    services = Services(DatasetRepo.of(installed.settings), database)
    try:
        return publish(services, "desk", "annotation", version, build)
    finally:
        database.close()


def pointer_at(installed: Installed, tag: str, path: str) -> str:
    text = run("git", "--git-dir", installed.settings.dataset_repo, "show", f"{tag}:{path}.dvc")
    return str(yaml.safe_load(text)["outs"][0]["md5"])


def name_of(digest: str, kind: str = "annotations") -> str:
    return f"{kind}/files/md5/{digest[:2]}/{digest[2:]}"


def object_of(file: str) -> str:
    return name_of(hashlib.md5(FILES[file]).hexdigest())


def files_at(installed: Installed, remote: Remote, tag: str, path: str = "annotations/desk") -> dict[str, str]:
    """The files of a public version, each object's content checked as DVC would: path -> MD5."""
    kind, digest = path.partition("/")[0], pointer_at(installed, tag, path)
    listing = remote.read(name_of(digest, kind))
    assert hashlib.md5(listing).hexdigest() == digest.removesuffix(".dir")
    files = {entry["relpath"]: entry["md5"] for entry in json.loads(listing)}
    for md5 in files.values():
        assert hashlib.md5(remote.read(name_of(md5, kind))).hexdigest() == md5
    return files


def require_published(installed: Installed, remote: Remote, *versions: str) -> None:
    assert installed.tags() == [f"desk_ann_{version}" for version in versions]
    assert installed.published() == [("desk", "annotation", version) for version in versions]
    for version in versions:
        files = files_at(installed, remote, f"desk_ann_{version}")
        assert {name: files[name] for name in FILES} == {
            name: hashlib.md5(data).hexdigest() for name, data in FILES.items()
        }
    assert installed.left_behind() == []


def require_nothing_public(installed: Installed) -> None:
    assert (installed.refs(), installed.rows("versions")["versions"], installed.left_behind()) == ([], [], [])


UPLOAD, LISTING, DOWNLOAD = (
    lambda request: request.is_upload,
    lambda request: request.is_listing,
    lambda request: request.is_download,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "on", "times", "headers"),
    [
        (503, UPLOAD, 3, {}),
        (503, LISTING, 2, {}),
        (429, UPLOAD, 1, {"Retry_After": "1"}),
        ("hang", UPLOAD, 1, {}),
        ("close", UPLOAD, 1, {}),
        ("lose", UPLOAD, 2, {}),
        ("truncate", LISTING, 1, {}),
    ],
)
def test_a_passing_fault_is_retried_and_the_version_published_once(installed, wire, remote, kind, on, times, headers):
    fault = wire.fail(kind, on, times, **headers)
    assert publish_files(installed).new
    assert fault.met == times
    needed = set(files_at(installed, remote, "desk_ann_v0.1.0").values())
    asked = [request for request in wire.requests if on(request)]
    # Each object and the listing of them once, or a part of the remote and the whole, before and after; and what failed once more.
    assert len(asked) == times + (len(needed) + 1 if on is UPLOAD else 4)
    wire.heal()
    require_published(installed, remote, "v0.1.0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "on", "error", "says"),
    [
        (503, UPLOAD, StorageUnreachableError, r"gs://{bucket}/team/dvc/annotations.* could not be reached"),
        (503, LISTING, StorageUnreachableError, r"gs://{bucket}/team/dvc/annotations.* could not be reached"),
        (429, UPLOAD, StorageUnreachableError, r"gs://{bucket}/team/dvc/annotations.* could not be reached"),
        ("hang", UPLOAD, StorageUnreachableError, r"gs://{bucket}/team/dvc/annotations.* could not be reached"),
        ("close", UPLOAD, StorageUnreachableError, r"gs://{bucket}/team/dvc/annotations.* could not be reached"),
        ("truncate", LISTING, StorageUnreachableError, r"gs://{bucket}/team/dvc/annotations.* could not be reached"),
        (403, UPLOAD, StorageDeniedError, r"No permission for gs://{bucket}/team/dvc/annotations"),
    ],
)
def test_a_lasting_fault_is_reported_within_the_deadline_and_nothing_is_published(
    installed, wire, remote, kind, on, error, says
):
    fault = wire.fail(kind, on)
    with pytest.raises(error, match=says.format(bucket=remote.bucket)) as reported:
        publish_files(installed)
    spent = re.search(r"for (\d+) s", str(reported.value))
    if error is StorageUnreachableError:
        assert spent
        assert DEADLINE <= int(spent[1]) + 1 <= 2 * DEADLINE
        assert fault.met > 1
    require_nothing_public(installed)
    wire.heal()
    assert publish_files(installed).new
    require_published(installed, remote, "v0.1.0")


def losing(monkeypatch: pytest.MonkeyPatch, remote: Remote, find: Callable[[str], str], times: int) -> None:
    """Delete an object behind everybody's back right after each of the first `times` uploads of it."""
    uploaded, left = WorkingCopy.push, [times]

    def push(copy: WorkingCopy, path: Path) -> None:
        uploaded(copy, path)
        if left[0]:
            left[0] -= 1
            remote.delete(find(str(copy.digest(path))))

    monkeypatch.setattr(WorkingCopy, "push", push)


LOST = pytest.mark.parametrize("find", [lambda listing: object_of("image.png"), name_of], ids=["a file", "the listing"])


@pytest.mark.slow
@LOST
def test_an_object_deleted_after_the_upload_is_uploaded_again(installed, remote, monkeypatch, find):
    losing(monkeypatch, remote, find, 1)
    assert publish_files(installed).new
    require_published(installed, remote, "v0.1.0")


@pytest.mark.slow
@LOST
def test_an_object_deleted_after_every_upload_is_reported_and_nothing_is_published(
    installed, remote, monkeypatch, find
):
    losing(monkeypatch, remote, find, 2)
    with pytest.raises(LostObjectError, match=r"1 of 6 objects are missing .* after two uploads, the first files/md5/"):
        publish_files(installed)
    require_nothing_public(installed)
    assert publish_files(installed).new
    require_published(installed, remote, "v0.1.0")


@pytest.mark.slow
def test_what_an_earlier_versions_remote_lost_is_uploaded_with_the_next(installed, remote):
    """`dvc push` would take the listing, which is still there, for a proof that its files are."""
    publish_files(installed)
    for file in ("image.png", "a.json"):
        remote.delete(object_of(file))
    assert publish_files(installed, "v0.2.0").new
    require_published(installed, remote, "v0.1.0", "v0.2.0")


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"short", FILES["image.png"][::-1]], ids=["cut short", "same size"])
def test_a_damaged_object_on_the_remote_is_replaced_not_taken_for_the_right_one(installed, remote, content):
    remote.overwrite(object_of("image.png"), content)
    publish_files(installed)
    require_published(installed, remote, "v0.1.0")


@pytest.mark.slow
def test_a_damaged_file_in_the_cache_is_never_uploaded(installed, remote, monkeypatch):
    """As a full or failing disk leaves it: between the adding and the upload."""
    added = WorkingCopy.add

    def damage(copy: WorkingCopy, path: Path, noted: Mapping[str, Noted]) -> str:
        digest = added(copy, path, noted)
        cached = copy.repo.cache / object_of("image.png").removeprefix("annotations/")
        cached.chmod(0o644)
        cached.write_bytes(FILES["image.png"][::-1])
        return digest

    monkeypatch.setattr(WorkingCopy, "add", damage)
    with pytest.raises(DamagedObjectError, match=r"dvc-cache/files/md5/.* is damaged"):
        publish_files(installed)
    require_nothing_public(installed)
    assert installed.stored() == {}
    monkeypatch.setattr(WorkingCopy, "add", added)
    publish_files(installed)
    require_published(installed, remote, "v0.1.0")


def pull_elsewhere(installed: Installed, name: str) -> tuple[dict[str, bytes], Path]:
    """The files of v0.1.0 pulled on a machine whose volume is `name`, and that machine's cache."""
    repo = DatasetRepo.of(installed.settings.model_copy(update={"volume": installed.folder / name}))
    with repo.working_copy("desk_ann_v0.1.0") as copy:
        folder = copy.pull(copy.category_folder("annotations", "desk"))
        return {file: (folder / file).read_bytes() for file in FILES}, repo.cache


def cached_wrongly(cache: Path) -> list[Path]:
    return [
        path
        for path in cache.rglob("*")
        if path.is_file()
        and hashlib.md5(path.read_bytes()).hexdigest() != (path.parent.name + path.name).removesuffix(".dir")
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "times"), [(503, 3), (429, 2), ("hang", 1), ("close", 1), ("truncate", 2)])
def test_a_passing_fault_of_a_pull_is_retried(installed, wire, kind, times):
    publish_files(installed)
    fault = wire.fail(kind, DOWNLOAD, times)
    files, cache = pull_elsewhere(installed, "elsewhere")
    assert files == FILES
    assert fault.met == times
    assert cached_wrongly(cache) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        (503, StorageUnreachableError, r"could not be reached: .* for \d+ s"),
        ("hang", StorageUnreachableError, r"could not be reached: .* for \d+ s"),
        ("truncate", StorageUnreachableError, r"could not be reached: .* for \d+ s"),
        ("flip", StorageError, r"arrived with a wrong checksum"),
        ("flip unseen", DamagedObjectError, r"is damaged: its content is not what its name says"),
    ],
)
def test_a_lasting_fault_of_a_pull_is_reported_and_nothing_wrong_is_kept(installed, wire, remote, kind, error, says):
    publish_files(installed)
    wire.fail(kind, lambda request: request.is_download and object_of("image.png")[-20:] in request.path)
    with pytest.raises(
        error, match=rf"gs://{remote.bucket}/team/dvc/{object_of('image.png')} .*{says}|{says}"
    ) as found:
        pull_elsewhere(installed, "elsewhere")
    assert object_of("image.png") in str(found.value)
    assert cached_wrongly(installed.folder / "elsewhere" / "dvc-cache") == []
    wire.heal()
    assert pull_elsewhere(installed, "elsewhere")[0] == FILES


@pytest.mark.slow
def test_a_pull_of_what_the_remote_lost_names_the_object(installed, remote):
    publish_files(installed)
    remote.delete(object_of("image.png"))
    with pytest.raises(LostObjectError, match=rf"1 of 5 objects .* gone .*{object_of('image.png')}.*verify --repair"):
        pull_elsewhere(installed, "elsewhere")
    assert pull_elsewhere(installed, "volume")[0] == FILES  # this one still has it in its cache


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", FILES["image.png"][::-1]], ids=["cut short", "same size"])
def test_a_damaged_file_in_the_cache_is_fetched_again(installed, content):
    publish_files(installed)
    cached = installed.settings.volume / "dvc-cache" / object_of("image.png").removeprefix("annotations/")
    cached.chmod(0o644)
    cached.write_bytes(content)
    files, cache = pull_elsewhere(installed, "volume")
    assert files == FILES
    assert cached_wrongly(cache) == []
    assert {path.stat().st_mode & 0o777 for path in cache.rglob("*") if path.is_file()} == {0o444}


def test_a_listing_that_leaves_its_folder_is_refused(installed, remote, tmp_path):
    """Whoever may write to the bucket and the repository still cannot write elsewhere on our machines."""
    repo = DatasetRepo.of(installed.settings)
    evil = json.dumps([{"md5": hashlib.md5(b"x").hexdigest(), "relpath": "../../../../../evil"}]).encode()
    digest = f"{hashlib.md5(evil).hexdigest()}.dir"
    remote.overwrite(name_of(digest), evil)
    remote.overwrite(name_of(hashlib.md5(b"x").hexdigest()), b"x")
    with repo.working_copy() as copy:
        (copy.folder / "annotations").mkdir()
        (copy.folder / "annotations" / "desk.dvc").write_text(
            yaml.safe_dump({"outs": [{"md5": digest, "path": "desk"}]})
        )
        with pytest.raises(DamagedObjectError, match=r"'\.\./.*evil', which lies outside"):
            copy.pull(copy.category_folder("annotations", "desk"))
    assert list(tmp_path.rglob("evil")) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "times"), [("close", 1), (503, 2)])
def test_a_large_object_goes_on_where_the_connection_broke(wire, bucket, tmp_path, kind, times):
    (tmp_path / "large").write_bytes(os.urandom(1 << 20) * 20)
    storage = open_storage(f"gs://{bucket}")
    fault = wire.fail(kind, lambda request: request.is_piece, times)
    storage.upload_files({"large": tmp_path / "large"})
    storage.download_files({"large": tmp_path / "back"})
    assert fault.met == times
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()


@pytest.mark.slow
def test_many_files_do_not_wait_one_after_the_other_for_a_silent_remote(wire, bucket, tmp_path):
    files = {f"files/md5/{index}": tmp_path / str(index) for index in range(60)}
    for path in files.values():
        path.write_bytes(b"x")
    fault = wire.fail("hang", lambda request: request.method == "POST")
    with pytest.raises(StorageUnreachableError):
        open_storage(f"gs://{bucket}").upload_files(files)
    assert fault.met < len(files) / 2


@pytest.fixture
def recordable(installed, tmp_path) -> Callable[[], object]:
    """Metadata a published annotation version of 20 images as `desk` v0.1.0."""
    names = [f"{index}.png" for index in range(20)]
    commit = str(
        publish_annotations(
            installed.settings, make_labelme(tmp_path / "desk", names), "desk", "v0.1.0"
        ).publication.row.commit
    )
    code = tmp_path / "record-0123456789abcdef"
    (code / "configs" / "categories").mkdir(parents=True)
    return lambda: record_dataset(str(code), "desk", "v0.1.0", commit)


def require_nothing_recorded(installed: Installed) -> None:
    assert installed.tags() == ["desk_ann_v0.1.0"]
    assert [row["kind"] for row in installed.rows("versions")["versions"]] == ["annotation"]
    assert installed.left_behind() == []


def require_recorded(installed: Installed, remote: Remote) -> None:
    assert installed.tags() == ["desk_ann_v0.1.0", "desk_train_v0.1.0"]
    assert installed.published() == [("desk", "annotation", "v0.1.0"), ("desk", "dataset", "v0.1.0")]
    assert "dataset.json" in files_at(installed, remote, "desk_train_v0.1.0", "datasets/desk")


@pytest.mark.slow
def test_a_recording_survives_passing_faults(installed, wire, remote, recordable, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_VOLUME", str(installed.folder / "elsewhere"))  # so that it pulls
    read_settings.cache_clear()
    met = [wire.fail(503, UPLOAD, 2), wire.fail(503, DOWNLOAD, 2), wire.fail("truncate", DOWNLOAD, 1)]
    recordable()
    assert [fault.met for fault in met] == [2, 2, 1]
    require_recorded(installed, remote)
    installed.clone_and_pull("desk_train_v0.1.0", "clone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "on", "says"),
    [(503, UPLOAD, "could not be reached"), (503, DOWNLOAD, "could not be reached"), ("flip", DOWNLOAD, "checksum")],
)
def test_a_lasting_fault_ends_a_recording_and_nothing_is_published(
    installed, wire, remote, recordable, monkeypatch, kind, on, says
):
    monkeypatch.setenv("SIGHTLINE_VOLUME", str(installed.folder / "elsewhere"))
    read_settings.cache_clear()
    wire.fail(kind, on)
    with pytest.raises(SightlineError, match=says):
        recordable()
    require_nothing_recorded(installed)
    wire.heal()
    recordable()
    require_recorded(installed, remote)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_a_recording_whose_object_is_deleted_behind_its_back(installed, remote, recordable, monkeypatch, times):
    losing(monkeypatch, remote, lambda listing: name_of(listing, "datasets"), times)
    if times == 2:
        with pytest.raises(LostObjectError):
            recordable()
        require_nothing_recorded(installed)
    recordable()
    require_recorded(installed, remote)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, which `grow` makes larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a disk is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("full", ["storage", "volume"])
def test_a_full_disk_is_named_and_nothing_is_published(tmp_path, monkeypatch, small_disk, full):
    monkeypatch.setitem(FILES, "large", os.urandom(200_000))
    storage = (small_disk / "storage").as_uri() if full == "storage" else ""
    installed = install(tmp_path, monkeypatch, storage=storage)
    if full == "volume":
        monkeypatch.setenv("SIGHTLINE_VOLUME", str(small_disk / "volume"))
        read_settings.cache_clear()
        installed = Installed(read_settings(), tmp_path)
    with pytest.raises(
        SightlineError, match=rf"{small_disk}.*No space left on device|No space left on device.*{small_disk}"
    ):
        publish_files(installed)
    require_nothing_public(installed)
    grow(small_disk)
    assert publish_files(installed).new
    assert installed.published() == [("desk", "annotation", "v0.1.0")]
    assert pull_elsewhere(installed, "elsewhere")[0] == FILES
    read_settings.cache_clear()
