"""Publishing a folder of annotated photographs beside `dvc add` and `dvc push` of the same folder, by turns in one run.

    python benchmarks/publish.py [--images 1000 10000] [--added 200] [--rounds 2] [--storage gs://bucket/prefix]

Every photograph of 8 KB has a JSON of 8 KB. Each turn begins with an empty installation, or with a repository of DVC's alone; then a
second version has `--added` photographs more. Each step runs in a process of its own: printed are the seconds and the
processor's seconds of the work, without starting Python and importing the libraries, and the peak memory. At the end stand
the ratios of each count's best turns. DVC looks at no photograph and writes no row: it moves the bytes.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "shared_volume"))
sys.path.insert(0, str(HERE.parent))

CATEGORY = "bench"
TIMES_DVC = 1.3
NEXT_VERSION = 0.25  # of the first's seconds
MOST_MEGABYTES = 400.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step took: seconds, the processor's seconds (children's as well), and peak resident memory in MB."""

    seconds: float
    processor: float
    megabytes: float


def publish(folder: str, version: str) -> None:
    """Make an annotation version."""
    from sightline.publish.annotations import publish_annotations
    from sightline.settings import read_settings

    publish_annotations(read_settings(), Path(folder), CATEGORY, version)


def dvc(folder: str, remote: str) -> None:
    """What moves the same bytes: the folder lies in a Git repository."""
    from dvc.repo import Repo

    root = Path(folder).parent
    repo = Repo(str(root)) if (root / ".dvc").is_dir() else Repo.init(str(root))
    with repo.config.edit() as config:
        config["core"] |= {"remote": "there", "site_cache_dir": str(root / ".dvc/site")}
        config["remote"]["there"] = {"url": remote}
    repo.add([folder])
    repo.push()


STEPS: Mapping[str, Callable[..., None]] = {work.__name__: work for work in (publish, dvc)}


def run_step(step: str, *arguments: str) -> None:
    """The child's part: the costs are on the last line."""
    import dvc.repo  # noqa: F401

    import sightline.publish.annotations  # noqa: F401

    logging_off()
    started, before = time.perf_counter(), processor_seconds()
    STEPS[step](*arguments)
    seconds, processor = time.perf_counter() - started, processor_seconds() - before
    print(f"{seconds:.3f} {processor:.3f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def logging_off() -> None:
    """No bars, which would cost the other side."""
    import logging

    logging.getLogger("dvc").setLevel(logging.CRITICAL)


def processor_seconds() -> float:
    """So far, in this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(step: str, what: str, *arguments: str) -> Cost:
    """Run a step in a process of its own, when the disk is at rest, and print its line."""
    os.sync()
    command = [sys.executable, str(HERE), "--step", step, *arguments]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if child.returncode:
        raise SystemExit(f"{step} failed")
    cost = Cost(*map(float, child.stdout.splitlines()[-1].split()))
    print(
        f"  {step:8} {what:20} {cost.seconds:7.2f} s  processor {cost.processor:7.2f} s  {cost.megabytes:5.0f} MB",
        flush=True,
    )
    return cost


def take_turn(images: int, added: int, storage: str) -> tuple[dict[str, Cost], dict[str, Cost]]:
    """Both versions by both; the costs of the first and of the next, by step."""
    from convert import make_files

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "photographs")
        folder.mkdir()
        subprocess.run(["git", "init", "--quiet", work], check=True)
        os.environ |= {
            "SIGHTLINE_STORAGE": f"{storage}/{Path(work).name}" if storage else Path(work, "storage").as_uri(),
            "SIGHTLINE_DATABASE_URL": f"sqlite:///{work}/sightline.db",
            "SIGHTLINE_DATASET_REPO": f"{work}/dataset.git",
            "SIGHTLINE_VOLUME": f"{work}/volume",
            "SIGHTLINE_RUN": "bench",
            "DVC_NO_ANALYTICS": "1",
        }
        remote = f"{storage}/{Path(work).name}-dvc" if storage else f"{work}/remote"
        make_files(folder, images)
        first = {
            "publish": measure("publish", f"{images} photographs", str(folder), "v0.1.0"),
            "dvc": measure("dvc", f"{images} photographs", str(folder), remote),
        }
        make_files(folder, added, first=images)
        following = {
            "publish": measure("publish", f"{added} more", str(folder), "v0.2.0"),
            "dvc": measure("dvc", f"{added} more", str(folder), remote),
        }
    return first, following


def best(turns: list[dict[str, Cost]], step: str) -> Cost:
    """The least of each cost over the turns; of the memory the most."""
    costs = [turn[step] for turn in turns]
    return Cost(
        min(cost.seconds for cost in costs),
        min(cost.processor for cost in costs),
        max(cost.megabytes for cost in costs),
    )


def sum_up(images: int, added: int, firsts: list[dict[str, Cost]], nexts: list[dict[str, Cost]]) -> bool:
    """Print a count's ratios; whether they are within the limits."""
    ours, theirs, following = best(firsts, "publish"), best(firsts, "dvc"), best(nexts, "publish")
    times, part = ours.seconds / theirs.seconds, following.seconds / ours.seconds
    memory = max(ours.megabytes, following.megabytes)
    print(
        f"{images} photographs: publish takes {times:.2f} times DVC's seconds (at most {TIMES_DVC}; processor "
        f"{ours.processor / theirs.processor:.2f}), {1000 * ours.seconds / images:.2f} ms a photograph; the next version with {added} "
        f"more {part:.2f} of the first (at most {NEXT_VERSION}); peak memory {memory:.0f} MB (at most {MOST_MEGABYTES:.0f})"
    )
    return times <= TIMES_DVC and part <= NEXT_VERSION and memory <= MOST_MEGABYTES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--added", type=int, default=200, help="photographs that only the second version has")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--storage", default="", help="gs://bucket[/prefix]; default: a folder")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        run_step(*arguments.step)
        return
    kept = []
    for images in arguments.images:
        turns = [take_turn(images, arguments.added, arguments.storage.rstrip("/")) for _ in range(arguments.rounds)]
        firsts, nexts = [first for first, _ in turns], [following for _, following in turns]
        kept.append(sum_up(images, arguments.added, firsts, nexts))
    if not all(kept):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
