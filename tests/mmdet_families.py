"""Tries one config of every family of mmdet's package, and writes docs/configs.md, which says what works.

    PYTHONPATH=shared_volume:. python -m tests.mmdet_families --write docs/configs.md
    PYTHONPATH=shared_volume:. python -m tests.mmdet_families --only atss --again

A family is a folder of the package's configs. Each is tried in a process of its own, so that one that crashes or hangs is a row
like any other. What was tried is kept in a JSON file beside the page, and the next call tries what is missing there.
"""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from sightline.models.mmdet_index import CONFIGS, VERSION, find, names
from tests.mmdet_families_one import (
    FAILED,
    OPERATOR,
    PACKAGE,
    REFUSED,
    WORKS,
    Outcome,
    as_outcome,
    prepare,
    run_and_write,
)
from tests.mmdet_families_page import page

SECONDS: Final = 180
NO_FAMILIES: Final = ("common",)  # parts of configs
NO_CONFIGS: Final = re.compile(r"_tta$|/override_")
EXOTIC: Final = (
    *("dcn", "m?dconv", "mdpool", r"sac\b", "align", "attn1111"),  # operators that are compiled
    *(
        "caffe",
        "sync",
        "amp",
        "lsj",
        r"ms\b",
        "ms-",
        "multi",
        "crop",
        "iter",
        r"cas\b",
        "scp",
        "semi",
        "bf16",
        "pretrain",
        "wandb",
    ),
    *("[23]x", "20e", "3[26]e", "24e", "refine", "twostage", "x4d"),  # longer, or in more stages
    *("hrnetv2p-w[34]", "[xs]?101", "x50", "r34", "r101", "swin", "pvt-[ml]", "-[lmx]_", "_[lmx]_"),  # larger backbones
    *("htc", "cascade", "mask", "grid", "fast-rcnn", "-rpn_r", "seesaw-loss-normed"),  # other methods
    *("panoptic", "video", "mot", "odinw"),  # other tasks
    *("cityscapes", "openimages", "challenge", "objects365v1", r"v0\.5"),  # data
)
"""What in a name tells of more than the family's own method, or of a larger size of it: regular expressions."""
_EXOTIC: Final = re.compile("|".join(EXOTIC))


def families() -> dict[str, list[str]]:
    """Each family's configs, the plainest and smallest first."""
    found: dict[str, list[str]] = {}
    for name in names():
        path = find(name).path.removeprefix(f"{CONFIGS}/").removesuffix(".py")
        family = path.partition("/")[0]
        if family not in NO_FAMILIES and not NO_CONFIGS.search(path):
            found.setdefault(family, []).append(path)
    return {family: sorted(configs, key=_plainness) for family, configs in sorted(found.items())}


def _plainness(path: str) -> tuple[int, int, str]:
    """Sorts what has least beside its method first."""
    name = path.partition("/")[2]
    return len(_EXOTIC.findall(name)), len(name), name


def try_family(configs: Sequence[str], seconds: float = SECONDS) -> Outcome:
    """Try a family in a child process; what ends that otherwise than by itself is an outcome, too."""
    folder = Path(tempfile.mkdtemp(prefix="family-"))
    result, log = folder / "outcome.json", folder / "log"
    child = multiprocessing.get_context("fork").Process(target=_child, args=(configs, folder, result, log))
    child.start()
    child.join(seconds)
    late = child.is_alive()
    if late:
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
    try:
        if result.is_file():
            return as_outcome(json.loads(result.read_text()))
        ended = f"took longer than {seconds:g} s" if late else f"ended by signal {-(child.exitcode or 0)}"
        return Outcome(
            configs[0], FAILED, ended, where=log.read_text(errors="replace")[-2000:] if log.is_file() else ""
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _child(configs: Sequence[str], folder: Path, result: Path, log: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    run_and_write(configs, folder, result)


def main(arguments: Sequence[str]) -> int:
    """Try what was not tried yet, and write the page where one is named."""
    options = _parser().parse_args(arguments)
    kept = options.results or (options.write or Path("configs.md")).with_suffix(".json")
    outcomes = _read(kept)
    every = families()
    if unknown := sorted(set(options.only) - set(every)):
        raise SystemExit(f"mmdet {VERSION} has no family {', '.join(unknown)}.")
    wanted = options.only or list(every)
    missing = [family for family in wanted if options.again or family not in outcomes]
    prepare()
    for number, family in enumerate(missing, 1):
        outcomes[family] = outcome = try_family(every[family])
        print(f"{number}/{len(missing)} {outcome.config}: {outcome.state} {outcome.reason}", flush=True)
        _write(kept, outcomes)
    told = {family: outcomes[family] for family in every if family in outcomes}
    if options.write:
        options.write.write_text(page(told))
    print(
        ", ".join(
            f"{state}: {sum(o.state == state for o in told.values())}"
            for state in (WORKS, OPERATOR, PACKAGE, REFUSED, FAILED)
        )
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mmdet_families", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page to write")
    parser.add_argument("--results", type=Path, help="what was tried (default: beside the page, with .json)")
    parser.add_argument("--only", action="append", default=[], metavar="FAMILY", help="try this one; may be repeated")
    parser.add_argument("--again", action="store_true", help="also try what was tried before")
    return parser


def _read(kept: Path) -> dict[str, Outcome]:
    return {family: as_outcome(each) for family, each in json.loads(kept.read_text()).items()} if kept.is_file() else {}


def _write(kept: Path, outcomes: Mapping[str, Outcome]) -> None:
    new = kept.with_suffix(".new")
    new.write_text(json.dumps({family: asdict(each) for family, each in sorted(outcomes.items())}, indent=1))
    new.replace(kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
