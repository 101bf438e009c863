"""Bringing the new files of a version to a large remote: what is there already is asked for by name, or read from a listing.

    python benchmarks/remote.py [--objects 1000000] [--new 200] [--kept 20000] [--latency 0.03]

The bucket holds `--objects` others and is a server of this benchmark's, which keeps every request waiting for `--latency`
seconds, answers several at a time, and counts them. Uploaded are a version of `--new` files that nothing else has, and one
of `--kept` files that are there already with as many new ones. Printed are the requests and seconds of both ways, from the
first question to the proof that everything has arrived. Exits with 1 when the way that is taken is the slower one by half,
or takes more than three requests for each new file of the small version.
"""

import argparse
import bisect
import hashlib
import json
import os
import re
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "shared_volume"))

PAGE = 1000  # objects of a listing that Cloud Storage tells at once
SLOWER = 1.5
REQUESTS = 3  # a new file: asked for, uploaded, asked for again
REMOTE = "annotations"
BYTES = 30  # of an object


class Bucket(ThreadingHTTPServer):
    """Cloud Storage's JSON API, as far as this benchmark asks: list, metadata, upload."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, names: list[str], latency: float) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.names, self.latency = sorted(names), latency
        self.known = set(names)
        self.added: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    def start_over(self) -> None:
        """Forget the uploads and the counts."""
        self.added.clear()
        self.asked.clear()

    def page(self, prefix: str, after: str) -> dict[str, object]:
        """A page of the objects below a prefix that follow a name; uploaded ones are on the first."""
        start = bisect.bisect_right(self.names, after) if after else bisect.bisect_left(self.names, prefix)
        names = [name for name in self.names[start : start + PAGE] if name.startswith(prefix)]
        more = {"nextPageToken": names[-1]} if len(names) == PAGE else {}
        first = [] if after else [name for name in self.added if name.startswith(prefix)]
        return {"items": [describe(name) for name in [*first, *names]], **more}


def describe(name: str) -> dict[str, str]:
    """An object as the API tells of it."""
    return {"name": name, "size": str(BYTES), "updated": "2026-01-01T00:00:00Z"}


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def do_GET(self) -> None:
        split = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(split.query))
        if split.path.endswith("/o"):
            self._answer("pages", self.server.page(query.get("prefix", ""), query.get("pageToken", "")))
        else:
            name = urllib.parse.unquote(split.path.partition("/o/")[2])
            there = not name or name in self.server.known or name in self.server.added
            self._answer("questions", describe(name) if there else None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        found = re.search(rb'"name": "([^"]+)"', body)
        assert found is not None
        with self.server.lock:
            self.server.added.add(name := found[1].decode())
        self._answer("uploads", describe(name))

    def _answer(self, kind: str, content: dict | None) -> None:
        with self.server.lock:
            self.server.asked[kind] += 1
        time.sleep(self.server.latency)
        data = json.dumps(content or {}).encode()
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


def content_of(number: int) -> bytes:
    """Of an object, by which none is like another."""
    return f"{number:0{BYTES}}".encode()


def bring(server: Bucket, cache: Path, needed: dict[str, int], listed_at_once: int) -> tuple[float, Counter[str]]:
    """Upload what the remote lacks and look whether it is there; the seconds, and the requests by kind."""
    from sightline.services.storage.bucket import BucketStorage
    from sightline.services.versioning.objects import Objects

    server.start_over()
    storage = BucketStorage("bench")
    storage.listed_at_once = listed_at_once
    storage.parallel_small = 32  # as outside an emulator
    objects = Objects(storage, REMOTE, cache)
    began = time.perf_counter()
    objects.upload(needed)
    lacking = objects.lacking(needed)
    assert not lacking, lacking[:3]
    return time.perf_counter() - began, Counter(server.asked)


def compare(server: Bucket, cache: Path, what: str, needed: dict[str, int]) -> dict[str, tuple[float, int]]:
    """Both ways, and the one that is taken: seconds and requests."""
    from sightline.services.storage.bucket import LISTED_AT_ONCE

    costs = {}
    for way, listed_at_once in (("asked", 0), ("listed", 10**12), ("taken", LISTED_AT_ONCE)):
        seconds, asked = bring(server, cache, needed, listed_at_once)
        costs[way] = (seconds, asked.total())
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(asked.items()))
        print(f"  {what:28} {way:7} {seconds:7.2f} s  {asked.total():6} requests ({counts})", flush=True)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=200)
    parser.add_argument("--kept", type=int, default=20_000)
    parser.add_argument("--latency", type=float, default=0.03, help="seconds")
    arguments = parser.parse_args()
    from sightline.services.versioning.objects import object_name

    there = [object_name(hashlib.md5(content_of(number)).hexdigest()) for number in range(arguments.objects)]
    names = [f"dvc/{REMOTE}/{name}" for name in there]
    server = Bucket(names, arguments.latency)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{server.server_port}", "SIGHTLINE_TIMEOUT": "60"}
    with tempfile.TemporaryDirectory() as folder:
        cache, alone = Path(folder), {}
        for number in range(arguments.objects, arguments.objects + arguments.new):
            name = object_name(hashlib.md5(content_of(number)).hexdigest())
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            (cache / name).write_bytes(content_of(number))
            alone[name] = BYTES
        small = compare(server, cache, f"{len(alone)} new files", alone)
        whole = alone | dict.fromkeys(there[: arguments.kept], BYTES)
        large = compare(server, cache, f"{arguments.kept} kept, {len(alone)} new", whole)
    wrong = small["taken"][1] > REQUESTS * arguments.new + 10
    for costs in (small, large):
        wrong |= costs["taken"][0] > SLOWER * min(costs["asked"][0], costs["listed"][0])
    raise SystemExit(int(wrong))


if __name__ == "__main__":
    main()
