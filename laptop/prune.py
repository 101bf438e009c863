"""`pipeline.py prune`: what may go from volume and storage; removes it when asked."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from laptop.tables import as_table
from sightline.catalogue.pruning.find import find_prunable, remove
from sightline.catalogue.pruning.plan import Plan, Prunable
from sightline.settings import read_settings


@dataclass(frozen=True, slots=True)
class Asked:
    """The command's options."""

    keep: int | None = None
    older_than: int | None = None  # days
    yes: bool = False
    all: bool = False
    json: bool = False


def prune(workspace: Path, asked: Asked) -> int:
    """Print what may go, by kind and reason, or every name of it; remove it when asked.

    Returns the exit status: 1 where something could not be removed.
    """
    plan = find_prunable(read_settings(), asked.keep, asked.older_than, models_in_cache(workspace))
    print(_as_json(plan) if asked.json else "\n".join(_lines(plan, asked.all)))
    if not plan.items or asked.json:
        return 0
    if not asked.yes:
        print("nothing was removed: the same command with --yes does it")
        return 0
    with Console().status("") as status:
        removed, failed = remove(plan, lambda item: status.update(f"removing {item.what}: {item.name}"))
    print(f"removed {len(removed)} of {len(plan.items)}, {decimal(_size(removed))}")
    if spared := len(plan.items) - len(removed) - len(failed):
        print(f"left alone: {spared}, used or removed by somebody meanwhile")
    for name, why in failed.items():
        print(f"could not be removed: {name}: {why}")
    return 1 if failed else 0


def models_in_cache(workspace: Path) -> set[str]:
    """The sha256 of every model that `local` hands to a run that reuses its training."""
    entries = [entry for entry in (workspace / "kfp").glob("*/cache/*.json") if entry.is_file()]
    return {found.decode() for entry in entries for found in re.findall(rb"[0-9a-f]{64}", entry.read_bytes())}


def _lines(plan: Plan, everything: bool) -> Iterable[str]:
    key = attrgetter("what", "reason")
    groups = [(what, why, list(items)) for (what, why), items in groupby(sorted(plan.items, key=key), key)]
    rows = [[what, str(len(items)), decimal(_size(items)), why] for what, why, items in groups]
    if everything:
        rows = [[what, item.name, decimal(item.size), why] for what, why, items in groups for item in items]
    if rows:
        total = ["total", str(len(plan.items)), decimal(plan.size), ""]
        yield as_table(("what", "name" if everything else "how many", "size", "why it may go"), [*rows, total])
    else:
        yield "nothing can be removed"
    yield from (f"note: {note}" for note in plan.notes)


def _size(items: Sequence[Prunable]) -> int:
    return sum(item.size for item in items)


def _as_json(plan: Plan) -> str:
    """A plan for programs."""
    items = [
        {"what": item.what, "name": item.name, "bytes": item.size, "why": item.reason}
        for item in sorted(plan.items, key=attrgetter("what", "name"))
    ]
    return json.dumps({"bytes": plan.size, "items": items, "notes": plan.notes}, indent=2, ensure_ascii=False)
