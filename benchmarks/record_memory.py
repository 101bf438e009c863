"""Peak memory and time of building a dataset from 10,000 images of 8 KB, in a process of its own.

python benchmarks/record_memory.py [--images 10000]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_MB = 400
HERE = Path(__file__).resolve()


def build(folder: Path, target: Path) -> None:
    """The child's part: build, then print peak resident memory in MB and seconds."""
    sys.path.insert(0, str(HERE.parents[1] / "shared_volume"))
    from sightline.annotations.recipe import Recipe
    from sightline.steps.record.build import build_dataset

    started = time.perf_counter()
    facts = {"category": "bench", "version": "v1.0.0", "annotation_version": "v1.0.0"}
    summary = build_dataset(folder, target, Recipe(), facts)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux
    print(f"{len(summary.images)} images: {seconds:.1f} s, peak memory {peak:.0f} MB (limit {LIMIT_MB} MB)")
    if peak > LIMIT_MB:
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--build", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        build(*arguments.build)
        return
    sys.path.insert(0, str(HERE.parent))
    from convert import make_files

    with tempfile.TemporaryDirectory() as work:
        folder, target = Path(work) / "annotations", Path(work) / "dataset"
        folder.mkdir()
        make_files(folder, arguments.images)
        command = [sys.executable, str(HERE), "--build", str(folder), str(target)]
        raise SystemExit(subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False).returncode)


if __name__ == "__main__":
    main()
