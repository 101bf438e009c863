"""Recording a smoke test of 2,000 photographs of 8 KB: its images chosen ahead, and chosen after all were fetched.

    python benchmarks/smoke_record.py [--images 2000]

Both sides record the same version on a volume that has fetched nothing, from a storage on this machine: from a bucket every
photograph that is not fetched saves more. Each side works in a process of its own. Exits with 1 when choosing ahead is not faster.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "shared_volume"))
sys.path.insert(0, str(HERE.parent))

from convert import make_files  # noqa: E402

from sightline.publish.annotations import publish_annotations  # noqa: E402
from sightline.settings import Settings, read_settings  # noqa: E402
from sightline.steps.record import record  # noqa: E402

SMOKE = {"smoke": 20}
SIDES = {"chosen ahead": record.choose_ahead, "chosen after fetching all": lambda *_: None}


def run(settings: Settings, commit: str, name: str) -> float:
    """Seconds to record; prints them, and what was fetched."""
    shutil.rmtree(settings.volume)
    os.environ["SIGHTLINE_RUN"] = name.replace(" ", "-")
    record.choose_ahead = SIDES[name]  # type: ignore[assignment]
    started = time.perf_counter()
    record.record_dataset("/nowhere/record-0", "bench", "v1.0.0", commit, SMOKE)
    seconds = time.perf_counter() - started
    objects = [path for path in (settings.volume / "dvc-cache").rglob("*") if path.is_file()]
    fetched = sum(path.stat().st_size for path in objects) / 1e6
    print(f"{name}: {seconds:.1f} s, {len(objects)} objects of {fetched:.1f} MB on the volume", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work, folder = Path(name), Path(name) / "annotations"
        os.environ |= {
            "SIGHTLINE_STORAGE": (work / "storage").as_uri(),
            "SIGHTLINE_DATABASE_URL": f"sqlite:///{work / 'sightline.db'}",
            "SIGHTLINE_DATASET_REPO": str(work / "dataset.git"),
            "SIGHTLINE_VOLUME": str(work / "volume"),
        }
        settings = read_settings()
        folder.mkdir()
        make_files(folder, arguments.images)
        commit = str(publish_annotations(settings, folder, "bench", "v1.0.0").publication.row.commit)
        seconds = []
        for side in SIDES:
            with ProcessPoolExecutor(1, get_context("fork")) as own:
                seconds.append(own.submit(run, settings, commit, side).result())
        ahead, after = seconds
        print(f"{after / ahead:.1f} times as fast")
        raise SystemExit(ahead >= after)


if __name__ == "__main__":
    main()
