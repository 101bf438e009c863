"""Publishing, recording, verifying and comparing versions of 10,000 images: seconds and peak memory of each.

    python benchmarks/versions.py [--images 10000] [--added 200] [--storage gs://bucket/prefix]

Each step runs in a process of its own, so that its peak memory is its own; seconds are those of the work, without starting
Python and importing the library. Storage is a folder unless a bucket is named (STORAGE_EMULATOR_HOST works as usual). Beside verify stands what
listing the same remote alone takes; exits with 1 when verify of the first two versions (annotations and dataset) takes more
than twice that. Every further version adds the reading of its rows to verify, and hardly anything to the listing.
"""

import argparse
import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "shared_volume"))
sys.path.insert(0, str(HERE.parent))

CATEGORY = "bench"
TIMES_LISTING = 2.0


def publish(folder: str, version: str) -> None:
    """Make an annotation version."""
    from sightline.publish.annotations import publish_annotations
    from sightline.settings import read_settings

    publish_annotations(read_settings(), Path(folder), CATEGORY, version)


def record(version: str) -> None:
    """Make a dataset version."""
    from sightline.services.database.connection import connect
    from sightline.services.database.versions import find_version
    from sightline.settings import read_settings
    from sightline.steps.record.record import record_dataset

    row = find_version(connect(read_settings().database_url.get_secret_value()), CATEGORY, "annotation", version)
    assert row is not None
    record_dataset("/code/record-0", CATEGORY, version, str(row.commit), {})


def list_remote() -> None:
    """What verify is measured against."""
    from sightline.services.storage.access import open_storage
    from sightline.settings import read_settings

    storage = open_storage(read_settings().storage)
    found = [item for remote in ("annotations", "datasets") for item in storage.list(f"dvc/{remote}/files/md5")]
    print(f"    ({len(found)} objects)")


def verify() -> None:
    """Every version."""
    from sightline.catalogue.verification import verify_versions
    from sightline.settings import read_settings

    found = verify_versions(read_settings())
    problems = [problem for version in found.versions for problem in version.problems]
    assert found.versions and not problems, problems


def compare(before: str, after: str) -> None:
    """What `diff` shows."""
    from sightline.catalogue.difference import compare_versions
    from sightline.settings import read_settings

    compare_versions(read_settings(), before, after)


STEPS: Mapping[str, Callable[..., None]] = {
    work.__name__: work for work in (publish, record, list_remote, verify, compare)
}


def measure(step: str, *arguments: str) -> float:
    """Run a step in a process of its own and print its line. Returns the seconds."""
    child = subprocess.run(
        [sys.executable, str(HERE), "--step", step, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if child.returncode:
        raise SystemExit(f"{step} failed")
    *said, last = child.stdout.splitlines()
    seconds, megabytes = map(float, last.split())
    print(f"{step:12} {' '.join(Path(one).name for one in arguments):40} {seconds:7.2f} s {megabytes:7.0f} MB", *said)
    return seconds


def run_step(step: str, arguments: list[str]) -> None:
    """The child's part: seconds and peak resident memory in MB, on the last line."""
    for module in ("publish.annotations", "steps.record.record", "catalogue.verification", "services.storage.access"):
        importlib.import_module(f"sightline.{module}")
    started = time.perf_counter()
    STEPS[step](*arguments)
    seconds = time.perf_counter() - started
    print(f"{seconds:.3f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--added", type=int, default=200, help="images that only the second version has")
    parser.add_argument("--storage", help="gs://bucket[/prefix]; default: a folder")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        run_step(arguments.step[0], arguments.step[1:])
        return
    from convert import make_files

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "annotations")
        folder.mkdir()
        os.environ |= {
            "SIGHTLINE_STORAGE": arguments.storage or Path(work, "storage").as_uri(),
            "SIGHTLINE_DATABASE_URL": f"sqlite:///{work}/sightline.db",
            "SIGHTLINE_DATASET_REPO": f"{work}/dataset.git",
            "SIGHTLINE_VOLUME": f"{work}/volume",
            "SIGHTLINE_RUN": "bench",
        }
        print(f"{arguments.images} images of 8 KB, then {arguments.added} more; {os.environ['SIGHTLINE_STORAGE']}")
        make_files(folder, arguments.images)
        measure("publish", str(folder), "v0.1.0")
        measure("record", "v0.1.0")
        times_listing = compare_with_listing()
        make_files(folder, arguments.added, first=arguments.images)
        measure("publish", str(folder), "v0.2.0")
        measure("record", "v0.2.0")
        for kind in ("ann", "train"):
            measure("compare", f"{CATEGORY}_{kind}_v0.1.0", f"{CATEGORY}_{kind}_v0.2.0")
        print("with four versions on the same remote:")
        compare_with_listing()
    if times_listing > TIMES_LISTING:
        raise SystemExit(1)


def compare_with_listing() -> float:
    """How many times as long as listing the remote verify takes; the fastest of three turns each."""
    listing = min(measure("list_remote") for _ in range(3))
    verifying = min(measure("verify") for _ in range(3))
    print(f"verify takes {verifying / listing:.2f} times the listing of the remote")
    return verifying / listing


if __name__ == "__main__":
    main()
