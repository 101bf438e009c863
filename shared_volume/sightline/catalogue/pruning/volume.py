"""What may go from the volume: what is made or fetched again when somebody needs it, and what dead processes left."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from sightline.catalogue.pruning.plan import DAY_SECONDS, HOUR_SECONDS, SHA256_NAME, Look, Prunable, shown_days, size_of
from sightline.processes.folders import find_abandoned, remove_abandoned_folder, remove_untaken
from sightline.services.runs.releases import LOCK, find_old_releases, needed_by_runs
from sightline.services.runs.work_folders import (
    WorkFolder,
    find_surplus,
    find_work_folders,
    is_in_use,
    remove_work_folder,
    slim,
    spare_parts,
)

UNPACKED: Final = re.compile(r"(?P<category>.+)-v\d+\.\d+\.\d+-[0-9a-f]{16}(?P<edited>\.changed-.+)?")
PRIVATE: Final = (
    "work",
    "sources",
    "datasets",
    "models",
    "weights",
    "resumed",
    "releases",
)  # where steps and publishers work


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A folder of what is fetched by its digest."""

    what: str
    folder: str
    steps: tuple[str, ...]  # while one of these is at work nothing of it goes


FETCHED: Final = (
    _Fetched("fetched models", "models", ("snapshot", "train", "evaluate", "test")),
    _Fetched("fetched weights", "weights", ("snapshot", "record", "train")),  # snapshot fetches what train reads
    _Fetched("checkpoints to go on from", "resumed", ("snapshot", "record", "train")),
)


def find_on_volume(look: Look) -> Iterator[Prunable]:
    """All of it."""
    yield from find_remakeable(look)
    yield from _edited_datasets(look)
    yield from _releases(look)
    yield from _abandoned(look)


def find_remakeable(look: Look) -> Iterator[Prunable]:
    """What only saves work: beyond the newest `keep` of each, and where nobody is at work."""
    yield from _work_folders(look)
    yield from _datasets(look)
    needed = _fetched_for_runs(look)
    for fetched in FETCHED:
        yield from _fetched(look, fetched, needed)


def _work_folders(look: Look) -> Iterator[Prunable]:
    folders = find_work_folders(look.settings.volume)
    surplus = find_surplus(folders, look.keep, look.days)
    for folder in folders:
        with look.noting(folder.path):
            if found := _of_work_folder(look, folder, folder in surplus):
                yield found


def _of_work_folder(look: Look, folder: WorkFolder, is_surplus: bool) -> Prunable | None:
    name, why = folder.path.name, f"nobody went on with the training for {shown_days(look.days)}"
    if is_surplus and not is_in_use(folder):
        why = f"its training is finished, and the newest {look.keep} stay" if folder.finished else why
        return Prunable("work folders", name, size_of(folder.path), why, partial(remove_work_folder, folder))
    if folder.finished and (parts := spare_parts(folder.path)) and not is_in_use(folder):
        why = "the training is finished: its newest checkpoint is enough"
        return Prunable("parts of work folders", name, sum(map(size_of, parts)), why, partial(slim, folder))
    return None


def _datasets(look: Look) -> Iterator[Prunable]:
    busy = look.busy_categories()
    for folder in _surplus(look, "datasets", UNPACKED):
        category = _category(folder)
        if category not in busy:
            why = f"the newest {look.keep} stay; unpacked again when a run needs it"
            yield Prunable(
                "unpacked datasets", folder.name, size_of(folder), why, partial(_remove_dataset, look, folder)
            )


def _remove_dataset(look: Look, folder: Path) -> bool:
    return _category(folder) not in look.busy_categories() and remove_untaken(folder, look.now - HOUR_SECONDS)


def _category(folder: Path) -> str:
    found = UNPACKED.fullmatch(folder.name)
    return found["category"] if found else ""


def _fetched(look: Look, fetched: _Fetched, needed: Collection[str]) -> Iterator[Prunable]:
    if not look.busy_with(*fetched.steps):
        why = f"the newest {look.keep} stay; fetched again when a run needs it"
        for folder in _surplus(look, fetched.folder, SHA256_NAME):
            if f"{fetched.folder}/{folder.name}" in needed:
                continue
            remove = partial(_remove_fetched, look, fetched, folder)
            yield Prunable(fetched.what, folder.name, size_of(folder), why, remove)


def _fetched_for_runs(look: Look) -> set[str]:
    """What snapshot fetched for runs that may go on: their train may wait for days until there is a node for it."""
    over = _find_old_releases(look)[1]
    return needed_by_runs(look.settings.volume / "runs", over, "fetched")


def _remove_fetched(look: Look, fetched: _Fetched, folder: Path) -> bool:
    return not look.busy_with(*fetched.steps) and remove_untaken(folder, look.now - HOUR_SECONDS)


def _surplus(look: Look, name: str, pattern: re.Pattern[str]) -> list[Path]:
    """Folders that runs share, but for the newest ones and those that somebody took a moment ago."""
    home = look.settings.volume / name
    found = [path for path in home.iterdir() if path.is_dir()] if home.is_dir() else []
    shared = [(path.stat().st_mtime, path) for path in found if _is_shared(path, pattern)]
    newest_first = sorted(shared, reverse=True)
    return [path for taken, path in newest_first[look.keep :] if taken < look.now - HOUR_SECONDS]


def _is_shared(path: Path, pattern: re.Pattern[str]) -> bool:
    found = pattern.fullmatch(path.name)
    return found is not None and not found.groupdict().get("edited")


def _edited_datasets(look: Look) -> Iterator[Prunable]:
    """What people wrote to unpacked datasets and a step replaced: theirs, so only what is older than asked."""
    if look.older_than is None:
        return
    limit = look.now - look.older_than * DAY_SECONDS
    for folder in (look.settings.volume / "datasets").glob("*.changed-*"):
        if UNPACKED.fullmatch(folder.name) and folder.stat().st_mtime < limit:
            why = f"edits of an unpacked dataset that a step replaced more than {shown_days(look.older_than)} ago"
            yield Prunable("edited datasets", folder.name, size_of(folder), why, partial(remove_untaken, folder, limit))


def _find_old_releases(look: Look) -> tuple[list[Path], set[Path]]:
    signs = look.signs()

    def lives(run: str, since: datetime) -> bool:
        return any(sign.run == run and sign.at > since for sign in signs)

    return find_old_releases(look.settings.volume, look.settings.keep_releases, look.days, lives)


def _releases(look: Look) -> Iterator[Prunable]:
    limit, keep = look.now - look.days * DAY_SECONDS, look.settings.keep_releases
    for release in _find_old_releases(look)[0]:
        why = f"no run of the last {shown_days(look.days)} used it, and the newest {keep} of its step stay"
        remove = partial(remove_untaken, release, limit, release.parent / LOCK)
        yield Prunable("frozen code", release.name, size_of(release), why, remove)


def _abandoned(look: Look) -> Iterator[Prunable]:
    for parent in (look.settings.volume / name for name in PRIVATE):
        for folder in find_abandoned(parent):
            remove = partial(remove_abandoned_folder, folder)
            yield Prunable("abandoned folders", folder.name, size_of(folder), "the process that made it died", remove)
