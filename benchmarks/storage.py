"""Many small objects to a bucket and back, and what becomes of a bad connection: ours, Google's transfer manager, gcsfs.

    python benchmarks/storage.py [--objects 500]

All of them talk to the tests' storage emulator, with as many workers. The sides take turns, three rounds, and the fastest
of each counts. The faults come from a proxy before it, and SIGHTLINE_TIMEOUT is 3 s. Exits with 1 when ours is slower than
the transfer manager by half, or breaks a promise: damage is noticed, a service that is gone or refuses is given up soon.
"""

import argparse
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1] / "shared_volume"), str(HERE.parents[1])]

from tests.services import EMULATOR_SETTINGS, make_bucket, start_emulator  # noqa: E402

os.environ |= EMULATOR_SETTINGS  # gcsfs reads them when it is imported
import gcsfs  # noqa: E402
from google.auth.credentials import AnonymousCredentials  # noqa: E402
from google.cloud import storage as google  # noqa: E402
from google.cloud.storage import transfer_manager  # noqa: E402
from google.cloud.storage.retry import DEFAULT_RETRY  # noqa: E402

from sightline.services.storage.access import open_storage  # noqa: E402
from tests.wire import FOR_EVER, Wire  # noqa: E402

logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints every failed attempt with its stack

ROUNDS = 3
BYTES = 8000  # of an object, about a label file with its thumbnail
WORKERS = 4  # as ours takes for an emulator, which answers one request at a time
TIMEOUT = 3.0  # seconds without a usable answer
SLOWER = 1.5  # times, at most
GIVEN_UP = 30.0  # seconds after which the benchmark waits no longer for a side
FAULTS: dict[str, int | str] = {"damaged": "flip", "503": 503, "403": 403, "none": "hang"}

Files = Mapping[str, Path]


class Ours:
    """`sightline.services.storage`."""

    def __init__(self, bucket: str) -> None:
        self.storage = open_storage(f"gs://{bucket}")

    def upload(self, files: Files) -> None:
        self.storage.upload_files(files)

    def download(self, files: Files) -> None:
        self.storage.download_files(files)


class TransferManager:
    """google.cloud.storage.transfer_manager, told to repeat a request for as long as ours does."""

    def __init__(self, bucket: str) -> None:
        client = google.Client(project="test", credentials=AnonymousCredentials())
        self.bucket = client.bucket(bucket)
        self.request = {"timeout": (TIMEOUT / 2, TIMEOUT / 2), "retry": DEFAULT_RETRY.with_timeout(TIMEOUT)}
        self.how = {"raise_exception": True, "worker_type": transfer_manager.THREAD, "max_workers": WORKERS}

    def upload(self, files: Files) -> None:
        pairs = [(str(path), self.bucket.blob(key)) for key, path in files.items()]
        transfer_manager.upload_many(pairs, upload_kwargs={"checksum": "auto", **self.request}, **self.how)

    def download(self, files: Files) -> None:
        pairs = [(self.bucket.blob(key), str(path)) for key, path in files.items()]
        transfer_manager.download_many(pairs, download_kwargs={"checksum": "auto", **self.request}, **self.how)


class Gcsfs:
    """fsspec's file system of a bucket; how often and how long it tries is fixed in its code."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.files = gcsfs.GCSFileSystem(
            token="anon", endpoint_url=os.environ["STORAGE_EMULATOR_HOST"], project="test", skip_instance_cache=True
        )

    def upload(self, files: Files) -> None:
        self.files.put([str(path) for path in files.values()], [f"{self.bucket}/{key}" for key in files], batch_size=4)

    def download(self, files: Files) -> None:
        self.files.get([f"{self.bucket}/{key}" for key in files], [str(path) for path in files.values()], batch_size=4)


SIDES: dict[str, Callable[[str], Ours | TransferManager | Gcsfs]] = {
    "ours": Ours,
    "transfer manager": TransferManager,
    "gcsfs": Gcsfs,
}


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_speed(emulator: str, count: int, folder: Path) -> dict[str, list[float]]:
    """Seconds to bring the objects up and back down: the fastest of each side."""
    files = {f"files/md5/{index % 256:02x}/{index:05d}": folder / "up" / str(index) for index in range(count)}
    (folder / "up").mkdir()
    for index, path in enumerate(files.values()):
        path.write_bytes(f"{index:07d} ".encode() * (BYTES // 8))
    rounds: dict[str, list[list[float]]] = {name: [] for name in SIDES}
    for turn in range(ROUNDS):
        for name, side in SIDES.items():
            bucket = make_bucket(emulator)
            back = {key: folder / f"{name} {turn}" / path.name for key, path in files.items()}
            next(iter(back.values())).parent.mkdir()
            client = side(bucket)
            rounds[name].append([timed(lambda: client.upload(files)), timed(lambda: client.download(back))])  # noqa: B023
            for key, path in files.items():
                if back[key].read_bytes() != path.read_bytes():
                    raise SystemExit(f"{name}: {key} arrived changed")
    return {name: [min(column) for column in zip(*turns, strict=True)] for name, turns in rounds.items()}


def measure_fault(emulator: str, name: str, kind: int | str, folder: Path) -> tuple[str, float, int]:
    """How a side ends when each of 60 downloads is answered so, after how many seconds, and with how many requests."""
    os.environ["STORAGE_EMULATOR_HOST"] = emulator
    bucket, files = make_bucket(emulator), {f"x/{index}": folder / "up" / str(index) for index in range(60)}
    Ours(bucket).upload(files)
    wire = Wire(emulator)
    os.environ["STORAGE_EMULATOR_HOST"] = wire.url
    client, outcome = SIDES[name](bucket), ["still trying"]
    fault = wire.fail(kind, lambda request: "alt=media" in request.path, FOR_EVER)

    def download() -> None:
        try:
            client.download({key: folder / f"{name} {kind} {path.name}" for key, path in files.items()})
            outcome[0] = "taken for good"
        except Exception as error:
            outcome[0] = type(error).__name__

    thread = threading.Thread(target=download, daemon=True)
    seconds = timed(lambda: (thread.start(), thread.join(GIVEN_UP)))
    ended, met = outcome[0], fault.met
    wire.heal()
    wire.server.shutdown()
    return ended, seconds, met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=500)
    count, found = parser.parse_args().objects, {}
    process, emulator = start_emulator()
    os.environ |= {"STORAGE_EMULATOR_HOST": emulator, "SIGHTLINE_TIMEOUT": str(TIMEOUT)}
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
            print(f"{count} objects of {BYTES / 1000:g} kB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
            speeds = measure_speed(emulator, count, Path(work))
            for name, (up, down) in speeds.items():
                print(f"{name:18s} up {up:5.1f} s   down {down:5.1f} s", flush=True)
            print("each of 60 downloads answered with …")
            for kind in FAULTS:
                for name in SIDES:
                    found[kind, name] = measure_fault(emulator, name, FAULTS[kind], Path(work))
                    ended, seconds, met = found[kind, name]
                    print(f"{kind:8s} {name:18s} {ended} after {seconds:5.1f} s and {met} requests", flush=True)
    finally:
        process.kill()
        process.communicate()
    slow = [ours > SLOWER * theirs for ours, theirs in zip(speeds["ours"], speeds["transfer manager"], strict=True)]
    wrong = [
        kind for kind in FAULTS if found[kind, "ours"][0] == "taken for good" or found[kind, "ours"][1] > 3 * TIMEOUT
    ]
    if any(slow) or wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
