"""Frozen copies of helper code on the volume: used again by run after run, removed when no run may need them."""

import contextlib
import json
import logging
import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

from sightline.processes.folders import remove_untaken, take_shared

log = logging.getLogger(__name__)

NAME = re.compile(r"([a-z]+)-[0-9a-f]{16}")
LOCK = ".lock"
DAY_SECONDS = 86_400


def take_release(release: Path) -> bool:
    """Use a release once more, which keeps it from being removed. Returns whether it is there."""
    return take_shared(release, release.parent / LOCK)


def remove_old_releases(volume: Path, keep: int, days: float, lives: Callable[[str, datetime], bool]) -> list[str]:
    """Remove the releases that no run may need, and the facts of runs that are over; returns the releases' names.

    A release is removed when there are `keep` newer ones of its step, no run has taken it for so many days, and no run that
    may still go on names it in its facts: `lives` says whether a run that started before a time gave a sign of life since.
    """
    unneeded, over = find_old_releases(volume, keep, days, lives)
    for facts in over:
        facts.unlink(missing_ok=True)
    limit = time.time() - days * DAY_SECONDS
    removed = [release.name for release in unneeded if remove_untaken(release, limit, release.parent / LOCK)]
    if removed:
        log.info("removed releases that no run needs: %s", ", ".join(removed))
    return removed


def find_old_releases(
    volume: Path, keep: int, days: float, lives: Callable[[str, datetime], bool]
) -> tuple[list[Path], set[Path]]:
    """The releases, and the facts of runs, that `remove_old_releases` would remove; nothing is changed."""
    limit = time.time() - days * DAY_SECONDS
    old = list(_old_releases(volume / "releases", keep, limit)) if (volume / "releases").is_dir() else []
    over = set(_facts_of_ended_runs(volume / "runs", limit, lives))
    needed = needed_by_runs(volume / "runs", over, "releases")
    return [release for release in old if release.name not in needed], over


def _old_releases(releases: Path, keep: int, limit: float) -> Iterator[Path]:
    by_step = defaultdict(list)
    for release in releases.iterdir():
        if (name := NAME.fullmatch(release.name)) and release.is_dir():
            by_step[name[1]].append((release.stat().st_mtime, release))
    for found in by_step.values():
        yield from (release for time_taken, release in sorted(found, reverse=True)[keep:] if time_taken < limit)


def needed_by_runs(runs: Path, over: Collection[Path], what: str) -> set[str]:
    """What runs that may go on need: their `releases`, or what was `fetched` for them, like `weights/<sha256>`."""
    needed: set[str] = set()
    for facts in set(runs.glob("*.json")) - set(over):
        # Another run's snapshot was here meanwhile, or is writing just now: then its releases are new, too.
        with contextlib.suppress(FileNotFoundError, ValueError):
            needed |= set(json.loads(facts.read_text()).get(what, ()))
    return needed


def _facts_of_ended_runs(runs: Path, limit: float, lives: Callable[[str, datetime], bool]) -> Iterator[Path]:
    for facts in runs.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            if facts.stat().st_mtime < limit and not lives(facts.stem, datetime.fromtimestamp(limit, UTC)):
                yield facts
