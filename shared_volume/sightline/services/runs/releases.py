"""Frozen copies of helper code on the volume: used again by run after run, removed when no run may need them."""

import contextlib
import json
import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from sightline.processes.folders import only_one, private_folder

log = logging.getLogger(__name__)

NAME = re.compile(r"([a-z]+)-[0-9a-f]{16}")
LOCK = ".lock"
LOCK_SECONDS = 60.0
DAY_SECONDS = 86_400


def take_release(release: Path) -> bool:
    """Use a release once more, which keeps it from being removed. Returns whether it is there."""
    with only_one(release.parent / LOCK, LOCK_SECONDS):
        if not release.is_dir():
            return False
        with contextlib.suppress(PermissionError):  # another user's: then the run's facts keep it
            os.utime(release)
    return True


def remove_old_releases(volume: Path, keep: int, days: float, lives: Callable[[str, datetime], bool]) -> list[str]:
    """Remove the releases that no run may need, and the facts of runs that are over; returns the releases' names.

    A release is removed when there are `keep` newer ones of its step, no run has taken it for so many days, and no run that
    may still go on names it in its facts: `lives` says whether a run that started before a time gave a sign of life since.
    """
    limit = time.time() - days * DAY_SECONDS
    old = list(_old_releases(volume / "releases", keep, limit))
    needed = _needed_releases(volume / "runs", limit, lives)
    unneeded = [release for release in old if release.name not in needed]
    if not unneeded:
        return []
    removed = []
    with private_folder(volume / "releases", ".removing-") as bin_folder:
        for release in unneeded:
            # A run that is just starting may have taken it since: under the lock that shows, and no other can.
            with only_one(release.parent / LOCK, LOCK_SECONDS) as alone, contextlib.suppress(OSError):
                if alone and release.stat().st_mtime < limit:
                    release.rename(bin_folder / release.name)
                    removed.append(release.name)
    log.info("removed releases that no run needs: %s", ", ".join(removed))
    return removed


def _old_releases(releases: Path, keep: int, limit: float) -> Iterator[Path]:
    by_step = defaultdict(list)
    for release in releases.iterdir():
        if (name := NAME.fullmatch(release.name)) and release.is_dir():
            by_step[name[1]].append((release.stat().st_mtime, release))
    for found in by_step.values():
        yield from (release for time_taken, release in sorted(found, reverse=True)[keep:] if time_taken < limit)


def _needed_releases(runs: Path, limit: float, lives: Callable[[str, datetime], bool]) -> set[str]:
    """The releases of runs that may go on. The facts of the others are removed."""
    needed: set[str] = set()
    for facts in runs.glob("*.json"):
        # Another run's snapshot was here meanwhile, or is writing just now: then its releases are new, too.
        with contextlib.suppress(FileNotFoundError, ValueError):
            if facts.stat().st_mtime < limit and not lives(facts.stem, datetime.fromtimestamp(limit, UTC)):
                facts.unlink()
            else:
                needed |= set(json.loads(facts.read_text()).get("releases", ()))
    return needed
