"""Work folders of trainings on the volume: one process at a time in each; what of a finished one is no longer needed.

A work folder is named by what computes a model, so that whoever trains the same goes on there, or finds it finished.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sightline.processes.folders import lock_if_free, remove_unlocked

log = logging.getLogger(__name__)

PREFIX: Final = "train-"
LOCK: Final = "lock"
FINISHED: Final = "finished"  # this file says that the training is over and its models are stored
BUNDLES: Final = "bundles"  # what it stored, written again by whoever finds it finished
CHECKPOINTS: Final = "checkpoints"
LIGHT: Final = "light.pth"  # the one that is replaced every few seconds
DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """A training's work folder; `used` is when somebody was last at work there, in seconds since 1970."""

    path: Path
    used: float
    finished: bool


def work_folder(volume: Path, key: str) -> Path:
    """Where the training with this key has its checkpoints, or will."""
    return volume / "work" / f"{PREFIX}{key}"


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the one that trains here: of two runs that train the same the second waits, then finds everything done."""
    with contextlib.ExitStack() as stack:
        while not _lock(folder, stack):
            stack.close()
        yield


def _lock(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Wait for a work folder's lock, to be held by the stack; False when somebody removed the folder meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = stack.enter_context((folder / LOCK).open("w"))
        _wait_for(lock.fileno())
        os.utime(folder / LOCK)
        return os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat())
    except FileNotFoundError:
        return False


def _wait_for(lock: int) -> None:
    # Not flock: data loading processes would inherit that, and hold it when this process is killed.
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        log.info("another run is training the same model; waiting for it")
        fcntl.lockf(lock, fcntl.LOCK_EX)


def finish(folder: Path) -> None:
    """Note, alone in a work folder, that its training is over and stored; keep what a run that finds it so needs."""
    (folder / FINISHED).touch()
    _remove_spare(folder)


def find_work_folders(volume: Path) -> list[WorkFolder]:
    """All work folders, the last used first."""
    found = [_look(path) for path in (volume / "work").glob(f"{PREFIX}*") if path.is_dir() and not path.is_symlink()]
    return sorted(found, key=lambda one: one.used, reverse=True)


def find_surplus(folders: list[WorkFolder], keep: int, days: float) -> list[WorkFolder]:
    """Of work folders, the last used first, those that may go: all but `keep`, of trainings that are finished or that
    nobody went on with for so many days."""
    limit = time.time() - days * DAY_SECONDS
    return [folder for folder in folders[keep:] if folder.finished or folder.used < limit]


def is_in_use(folder: WorkFolder) -> bool:
    """Whether another process is at work there, or nobody can tell."""
    with lock_if_free(folder.path / LOCK) as free:
        return not free


def remove_work_folder(folder: WorkFolder) -> bool:
    """Remove a work folder that nobody has used since it was looked at. Returns whether it did."""
    return remove_unlocked(folder.path, LOCK, lambda: _look(folder.path) == folder)


def slim(folder: WorkFolder) -> bool:
    """Remove what a finished training no longer needs, where no other process is at work. Returns whether it did."""
    with lock_if_free(folder.path / LOCK) as free:
        if not free or not folder.finished or not spare_parts(folder.path):
            return False
        finish(folder.path)
        return True


def spare_parts(folder: Path, read: bool = False) -> list[Path]:
    """What a finished training's work folder no longer needs: all checkpoints but the newest whole one, and copies of what
    it stored. Nothing where no checkpoint is whole, which without `read` its end alone has to tell."""
    checkpoints = folder / CHECKPOINTS
    if checkpoints.is_symlink():  # somebody keeps them elsewhere
        return []
    newest_first = sorted(checkpoints.glob("iter_*.pth"), reverse=True)
    whole = next(filter(_is_whole if read else zipfile.is_zipfile, newest_first), None)
    if whole is None:
        return []
    others = [path for path in checkpoints.iterdir() if path != whole]
    copies = [folder / BUNDLES, folder / "mmengine", folder / "best.new"]
    return [*others, *(path for path in copies if path.exists())]


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint of a work folder that can be read to its end, for whoever holds the folder's lock; None for none."""
    there = [path for path in (folder / CHECKPOINTS).glob("*.pth") if path.is_file()]
    newest_first = sorted(there, key=lambda path: (path.stat().st_mtime_ns, path.name != LIGHT), reverse=True)
    return next(filter(_is_whole, newest_first), None)


def _remove_spare(folder: Path) -> None:
    for path in spare_parts(folder, read=True):
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError as error:  # a later look finds it again
            log.warning("%s stays for now: %s", path, error)


def _is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint can be read to its end: torch writes zip files, with a checksum of each part."""
    try:
        with zipfile.ZipFile(checkpoint) as parts:
            return parts.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _look(path: Path) -> WorkFolder:
    times = [0.0]
    # Not the time of a folder: that of what is removed from it would count.
    for file in (path / LOCK, path / "history.jsonl", *(path / CHECKPOINTS).glob("*.pth")):
        with contextlib.suppress(OSError):
            times.append(file.stat().st_mtime)
    # What was finished before that was noted had both of its bundles, the best last. os.path: what nobody may look at is no error.
    finished = any(map(os.path.exists, (path / FINISHED, path / BUNDLES / "best" / "manifest.json")))
    return WorkFolder(path, max(times), finished)
