"""Storage in a folder and in a bucket: one table of behaviours for both, then what a network adds."""

import hashlib
import http.client
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sightline.models.bundle import WEIGHTS, write_bundle
from sightline.models.store import find_bundle, store_bundle, write_bundle_facts
from sightline.services.storage.access import fetch, open_storage
from sightline.services.storage.base import (
    BadKeyError,
    NoSuchObjectError,
    ObjectExistsError,
    Storage,
    StorageDeniedError,
    StorageError,
    StorageUnreachableError,
    StoredObject,
)
from tests.ports import closed_port

UNHELPFUL_NAMES = [
    "a b.txt",
    "ä/ö.txt",
    "100%.txt",
    "what?.txt",
    "a#b.txt",
    "x+y&z.txt",
    "deep/er/and/deeper.bin",
    ".hidden",
]
BAD_KEYS = ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\nb", "a\0b", "x" * 1025]


@pytest.fixture(params=["folder", "bucket", "prefix in a bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return f"file://{tmp_path}/stored%20here"
    bucket = request.getfixturevalue("bucket")
    return f"gs://{bucket}" if request.param == "bucket" else f"gs://{bucket}/some/prefix"


@pytest.fixture
def storage(root: str) -> Storage:
    return open_storage(root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A local folder with a file of each unhelpful name."""
    for name in UNHELPFUL_NAMES:
        path = tmp_path / "local" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
    return tmp_path / "local"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 1000], ids=["empty", "one byte", "256 kB"])
def test_bytes_come_back_as_they_were_written(storage: Storage, data: bytes) -> None:
    storage.write_bytes("a/b.bin", data)
    assert storage.read_bytes("a/b.bin") == data
    assert storage.exists("a/b.bin")
    assert not storage.exists("a")


def test_a_write_replaces(storage: Storage) -> None:
    storage.write_bytes("a", b"old and longer")
    storage.write_bytes("a", b"new")
    assert storage.read_bytes("a") == b"new"


def test_a_create_only_write_leaves_what_is_there(storage: Storage) -> None:
    storage.write_bytes("claim", b"mine", create_only=True)
    with pytest.raises(ObjectExistsError, match="claim is there already"):
        storage.write_bytes("claim", b"yours", create_only=True)
    assert storage.read_bytes("claim") == b"mine"
    assert [each.key for each in storage.list()] == ["claim"]


def test_of_many_create_only_writers_one_wins(storage: Storage) -> None:
    won = []

    def claim(name: str) -> None:
        try:
            storage.write_bytes("claim", name.encode(), create_only=True)
            won.append(name)
        except ObjectExistsError:
            pass

    threads = [threading.Thread(target=claim, args=(f"writer {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [storage.read_bytes("claim").decode()] == won


def test_a_folder_comes_back_as_it_was_uploaded(storage: Storage, folder: Path, tmp_path: Path) -> None:
    keys = storage.upload_folder(folder, "results/x")
    assert keys == tuple(sorted(f"results/x/{name}" for name in UNHELPFUL_NAMES))
    storage.download_folder("results/x", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


def test_a_folder_uploads_to_the_root_as_well(storage: Storage, folder: Path, tmp_path: Path) -> None:
    storage.upload_folder(folder, "")
    storage.download_folder("", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


def test_a_changed_folder_uploads_over_the_old_one(storage: Storage, folder: Path) -> None:
    storage.upload_folder(folder, "x")
    (folder / "a b.txt").write_bytes(b"edited")
    storage.upload_folder(folder, "x")
    assert storage.read_bytes("x/a b.txt") == b"edited"
    assert storage.read_bytes("x/.hidden") == b".hidden" * 100


def test_of_a_folder_that_is_uploaded_again_what_is_stored_already_stays(storage: Storage, folder: Path) -> None:
    storage.upload_folder(folder, "x")
    before = {each.key: each.changed_at for each in storage.list("x")}
    time.sleep(0.01)
    (folder / "a b.txt").write_bytes(b"A B.TXT" * 100)  # as long as before
    (folder / ".hidden").write_bytes(b"longer")
    assert storage.upload_folder(folder, "x") == tuple(sorted(before))
    after = {each.key: each.changed_at for each in storage.list("x")}
    assert {key for key in after if after[key] != before[key]} == {"x/a b.txt", "x/.hidden"}
    assert storage.read_bytes("x/a b.txt") == b"A B.TXT" * 100


@pytest.mark.parametrize("name", UNHELPFUL_NAMES)
def test_a_file_travels_by_its_uri(storage: Storage, folder: Path, tmp_path: Path, name: str) -> None:
    uri = storage.upload_file(folder / name, name)
    assert uri == storage.uri(name)
    storage.download_file(name, tmp_path / "by key" / "file")
    fetch(uri, tmp_path / "fetched")
    for copy in ("by key/file", "fetched"):
        assert (tmp_path / copy).read_bytes() == (folder / name).read_bytes()


def test_fetch_brings_a_folder_by_its_uri(storage: Storage, folder: Path, tmp_path: Path) -> None:
    storage.upload_folder(folder, "a/x")
    fetch(storage.uri("a/x"), tmp_path / "one")
    fetch(f"{storage.root}/a/", tmp_path / "two")
    assert contents(tmp_path / "one") == contents(folder)
    assert contents(tmp_path / "two" / "x") == contents(folder)


def test_fetch_takes_plain_paths(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert contents(fetch("local", tmp_path / "one")) == contents(folder)
    assert fetch(str(folder / "100%.txt"), tmp_path / "two").read_bytes() == (folder / "100%.txt").read_bytes()


def test_list_gives_keys_sizes_and_checksums_in_order(storage: Storage) -> None:
    for key, data in {"a/b": b"12", "a-b": b"1", "ab/c": b"", "a/b.txt": b"123456789"}.items():
        storage.write_bytes(key, data)
    assert [each.key for each in storage.list()] == ["a-b", "a/b", "a/b.txt", "ab/c"]
    # The CRC32C of "123456789" is known: e3069283.
    found = list(storage.list("a", checksums=True))[1]
    assert replace(found, md5=None) == StoredObject("a/b.txt", 9, "4waSgw==")
    assert found.md5 == (hashlib.md5(b"123456789").hexdigest() if storage.root.startswith("gs://") else None)
    assert list(storage.list("nothing")) == []


def test_find_tells_of_those_that_are_there_as_a_listing_does(storage: Storage) -> None:
    for key, data in {"a/b": b"12", "a/c/d": b"1", "e": b""}.items():
        storage.write_bytes(key, data)
    listed = {each.key: replace(each, checksum=None) for each in storage.list()}
    found = storage.find(["a/b", "e", "a/c", "a/b/x", "no"])
    assert {key: replace(each, checksum=None) for key, each in found.items()} == {
        key: listed[key] for key in ("a/b", "e")
    }
    assert storage.find([]) == {}


def test_deleting_twice_is_no_error(storage: Storage) -> None:
    storage.write_bytes("a/b", b"")
    storage.delete("a/b")
    storage.delete("a/b")
    assert not storage.exists("a/b")


@pytest.mark.parametrize("verb", ["read", "download", "download folder", "fetch"])
def test_a_missing_object_is_named_with_the_nearest_there_is(storage: Storage, verb: str, tmp_path: Path) -> None:
    storage.write_bytes("results/report.html", b"")
    storage.write_bytes("results/model/x", b"")
    with pytest.raises(NoSuchObjectError) as caught:
        {
            "read": lambda: storage.read_bytes("results/reprot.html"),
            "download": lambda: storage.download_file("results/reprot.html", tmp_path / "x"),
            "download folder": lambda: storage.download_folder("results/reprot.html", tmp_path / "x"),
            "fetch": lambda: fetch(f"{storage.root}/results/reprot.html", tmp_path / "x"),
        }[verb]()
    assert f"{storage.root}/results/reprot.html" in str(caught.value)
    assert "Did you mean 'report.html'?" in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_a_missing_folder_is_named_with_the_nearest_there_is(storage: Storage, tmp_path: Path) -> None:
    storage.write_bytes("results/desk/x", b"")
    with pytest.raises(NoSuchObjectError, match="Did you mean 'desk'"):
        storage.download_folder("results/dsek", tmp_path / "x")


@pytest.mark.parametrize("key", BAD_KEYS, ids=[repr(key)[:12] for key in BAD_KEYS])
def test_keys_that_leave_the_root_or_that_no_storage_holds_are_refused(
    storage: Storage, key: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for use in (
        lambda: storage.write_bytes(key, b""),
        lambda: storage.upload_file(tmp_path / "file", key),
        lambda: storage.read_bytes(key),
        lambda: storage.download_file(key, tmp_path / "x"),
        lambda: storage.delete(key),
        lambda: storage.exists(key),
        lambda: storage.uri(key),
    ):
        with pytest.raises(BadKeyError):
            use()


def test_a_uri_is_no_key(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(BadKeyError, match="is not a storage key"):
        storage.download_file("gs://somewhere-else/x", tmp_path / "x")


def test_a_folder_with_files_in_it_is_not_overwritten(storage: Storage, tmp_path: Path) -> None:
    storage.write_bytes("a/b", b"")
    (tmp_path / "mine").mkdir()
    storage.download_folder("a", tmp_path / "mine")
    (tmp_path / "mine" / "own").write_bytes(b"precious")
    with pytest.raises(StorageError, match="not empty"):
        storage.download_folder("a", tmp_path / "mine")
    assert (tmp_path / "mine" / "own").read_bytes() == b"precious"


def test_uploading_what_is_not_there_says_so(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="no file .*nothing"):
        storage.upload_file(tmp_path / "nothing", "a")
    with pytest.raises(StorageError, match="no folder .*nothing"):
        storage.upload_folder(tmp_path / "nothing", "a")
    with pytest.raises(StorageError, match="no files"):
        storage.upload_folder(tmp_path / "empty", "a")


@pytest.mark.parametrize(
    "root", ["s3://bucket/x", "gs://", "gs:///x", "gs://UPPER", "file://relative/path", "gs://bucket/../x", ""]
)
def test_roots_that_are_no_storage_are_refused(root: str) -> None:
    with pytest.raises(StorageError):
        open_storage(root)


def test_what_a_killed_writer_left_is_not_listed(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    storage.write_bytes("a/whole", b"")
    script = (
        "import os, signal; from pathlib import Path; from sightline.services.storage.base import replacing\n"
        f"with replacing(Path({str(tmp_path / 'a' / 'cut')!r})) as part:\n"
        "    part.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": "shared_volume"}, check=False)
    assert len(list((tmp_path / "a").iterdir())) == 2
    assert [each.key for each in storage.list()] == ["a/whole"]
    assert not storage.exists("a/cut")


def test_a_full_or_broken_path_is_a_clear_error(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    storage.write_bytes("file", b"")
    with pytest.raises(StorageError, match="file"):
        storage.write_bytes("file/below", b"")


# What a network adds.


class Faults:
    """A proxy in front of the emulator that misbehaves as told; counts the requests it got."""

    def __init__(self, emulator: str) -> None:
        self.answers: list[int] = []  # statuses to give instead of asking the emulator
        self.lost: list[str] = []  # methods whose next answer is lost after the emulator did the work
        self.refused: list[str] = []  # methods whose next request fails before it reaches the emulator
        self.damage = False
        self.rewritten = (b"", b"")  # in listings
        self.requests = 0
        faults = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                faults.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if faults.answers:
                    return self.answer(faults.answers.pop(0), {}, b"{}")
                if self.command in faults.refused:
                    faults.refused.remove(self.command)
                    return self.answer(503, {}, b"{}")
                connection = http.client.HTTPConnection(emulator.removeprefix("http://"))
                connection.request(self.command, self.path, body, dict(self.headers))
                response = connection.getresponse()
                data = response.read()
                if self.command in faults.lost:
                    faults.lost.remove(self.command)
                    return self.answer(503, {}, b"{}")
                if self.path.endswith("/o") or "/o?" in self.path:
                    data = data.replace(*faults.rewritten)
                if faults.damage and "alt=media" in self.path:
                    data = data[:-1] + b"!"
                return self.answer(response.status, dict(response.headers), data)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

            def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def faults(gcs_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    proxy = Faults(gcs_emulator)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "5")
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()


def test_transient_answers_are_asked_again(faults: Faults, bucket: str) -> None:
    storage = open_storage(f"gs://{bucket}")
    for status in (503, 500, 429):
        faults.answers = [status]
        storage.write_bytes("a", b"1")
        faults.answers = [status]
        assert storage.read_bytes("a") == b"1"
    assert faults.requests == 12


def test_a_create_only_write_whose_answer_got_lost_is_still_ours(faults: Faults, bucket: str) -> None:
    storage = open_storage(f"gs://{bucket}")
    faults.lost = ["POST"]
    storage.write_bytes("claim", b"mine", create_only=True)
    assert faults.lost == []
    with pytest.raises(ObjectExistsError):
        storage.write_bytes("claim", b"mine", create_only=True)


def test_a_damaged_download_is_refused(faults: Faults, bucket: str, tmp_path: Path) -> None:
    storage = open_storage(f"gs://{bucket}")
    storage.write_bytes("a/b", b"content")
    faults.damage = True
    reads: list[Callable[[], object]] = [
        lambda: storage.read_bytes("a/b"),
        lambda: storage.download_file("a/b", tmp_path / "file"),
        lambda: storage.download_folder("a", tmp_path / "folder"),
    ]
    for read in reads:
        with pytest.raises(StorageError, match="wrong checksum"):
            read()
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_says_which_permission_is_needed(faults: Faults, bucket: str) -> None:
    storage = open_storage(f"gs://{bucket}")
    faults.answers = [403]
    with pytest.raises(StorageDeniedError, match=f"roles/storage.objectAdmin on gs://{bucket}"):
        storage.read_bytes("a")
    assert faults.requests == 1


def test_an_unchanged_folder_is_not_uploaded_again(faults: Faults, bucket: str, folder: Path) -> None:
    storage = open_storage(f"gs://{bucket}")
    storage.upload_folder(folder, "x")
    before = faults.requests
    storage.upload_folder(folder, "x")
    assert faults.requests == before + 1


def test_a_large_file_travels_in_pieces_that_are_repeated_alone(faults: Faults, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(1 << 20) * 20)
    storage = open_storage(f"gs://{bucket}")
    faults.refused = ["PUT"]
    storage.upload_file(tmp_path / "large", "large")
    storage.download_file("large", tmp_path / "back")
    assert faults.refused == []
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()


def test_a_missing_bucket_is_named(gcs_emulator: str, tmp_path: Path) -> None:
    storage = open_storage("gs://no-such-bucket/x")
    uses: list[Callable[[], object]] = [
        lambda: storage.read_bytes("a"),
        lambda: storage.exists("a"),
        lambda: storage.write_bytes("a", b""),
        lambda: list(storage.list()),
        lambda: storage.download_folder("a", tmp_path / "x"),
    ]
    for use in uses:
        with pytest.raises(NoSuchObjectError, match="no bucket gs://no-such-bucket"):
            use()


def test_a_hostile_object_name_cannot_leave_the_target(faults: Faults, bucket: str, tmp_path: Path) -> None:
    storage = open_storage(f"gs://{bucket}")
    storage.write_bytes("a/xx/xx/evil", b"")
    faults.rewritten = (b"a/xx/xx/evil", b"a/../../evil")
    with pytest.raises(BadKeyError):
        storage.download_folder("a", tmp_path / "x" / "y")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["read", "write", "list", "upload folder"])
def test_a_dead_service_is_given_up_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, folder: Path, gcs_emulator: str, verb: str
) -> None:
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "1")
    with closed_port() as port:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        storage = open_storage("gs://bucket/x")
        use = {
            "read": lambda: storage.read_bytes("a"),
            "write": lambda: storage.write_bytes("a", b""),
            "list": lambda: list(storage.list()),
            "upload folder": lambda: storage.upload_folder(folder, "a"),
        }[verb]
        started = time.monotonic()
        told = rf"gs://bucket/x.*127\.0\.0\.1:{port} gave no usable answer for \d+ s"
        with pytest.raises(StorageUnreachableError, match=told):
            use()
        assert 1 <= time.monotonic() - started < 4


@pytest.mark.slow
def test_a_service_that_dies_during_a_download_leaves_nothing(
    mortal_emulator: tuple[subprocess.Popen[bytes], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    process, bucket = mortal_emulator
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "1")
    storage = open_storage(f"gs://{bucket}")
    storage.upload_folder(folder, "x")
    listed = list(storage.list("x"))
    monkeypatch.setattr(storage, "list", lambda prefix: iter(listed))
    process.kill()
    started = time.monotonic()
    with pytest.raises(StorageUnreachableError):
        storage.download_folder("x", tmp_path / "back")
    assert time.monotonic() - started < 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local"]


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan"])
def test_a_malformed_timeout_is_named(monkeypatch: pytest.MonkeyPatch, gcs_emulator: str, value: str) -> None:
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", value)
    with pytest.raises(Exception, match="SIGHTLINE_TIMEOUT"):
        open_storage("gs://bucket")


def test_what_a_killed_upload_left_is_removed_by_the_next(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "stored"))
    storage.write_bytes("a/whole", b"")
    (tmp_path / "file").write_bytes(b"x")
    script = (
        "import os, signal; from pathlib import Path; from sightline.services.storage import folder; from sightline.services.storage.access import open_storage\n"
        "folder.os.sync = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"open_storage({str(tmp_path / 'stored')!r}).upload_files({{'a/cut': Path({str(tmp_path / 'file')!r})}})"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script], check=False, env=os.environ | {"PYTHONPATH": "shared_volume"}
    )
    assert killed.returncode == -9
    assert len(contents(tmp_path / "stored")) == 3  # with its half and its lock
    assert [each.key for each in storage.list()] == ["a/whole"]
    storage.upload_files({})
    assert contents(tmp_path / "stored") == {"a/whole": b""}


def test_a_model_is_stored_once_and_a_damaged_one_is_put_right(storage: Storage, root: str, tmp_path: Path) -> None:
    digest = write_bundle(tmp_path / "best", {"w": torch.ones(9)}, "max_epochs = 3\n", ["cup"], None, None, {})
    uri = store_bundle(storage, tmp_path / "best", digest)
    data = storage.read_bytes(f"models/{digest}/{WEIGHTS}")
    storage.write_bytes(f"models/{digest}/{WEIGHTS}", data[:-1] + bytes([data[-1] ^ 1]))
    assert store_bundle(storage, tmp_path / "best", digest) == uri
    assert storage.read_bytes(f"models/{digest}/{WEIGHTS}") == data
    record = "results/desk/v0.1.0/run-1/train/best"
    write_bundle_facts(storage, record, digest, {})
    assert find_bundle(storage.uri(record)) == find_bundle(storage.uri(f"{record}.json")) == uri
