"""Private folders on the volume, and the removal of those whose process died.

A file beside each folder is locked by its process for as long as that lives: the lock dies with the process, and other
machines that mount the same volume see it. A folder whose lock can be taken is nobody's.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

HELD: Final = ".held"  # ends the name of a folder's lock file
BUSY_PAUSE_SECONDS: Final = 0.05

# A process's own locks never stop it, and a second look at one of these files would give the lock away.
_ours: set[Path] = set()
_between_threads: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


@contextlib.contextmanager
def private_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new, empty folder of one's own, removed at the end; those of dead processes beside it are removed first."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(parent)
    lock, descriptor = _make_lock(parent.resolve(), prefix)
    folder = lock.with_name(lock.name.removesuffix(HELD))
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(descriptor)
        _ours.discard(lock)


def remove_abandoned(parent: Path) -> int:
    """Remove the private folders in `parent` whose process died. Returns how many there were."""
    removed = 0
    for lock in sorted(lock for lock in parent.resolve().glob(f"*{HELD}") if lock not in _ours):
        with contextlib.suppress(OSError):  # somebody else removed it meanwhile
            descriptor = os.open(lock, os.O_RDWR)
            try:
                if _take(descriptor):
                    folder = lock.with_name(lock.name.removesuffix(HELD))
                    log.info("removing %s, which a process left that died", folder)
                    shutil.rmtree(folder, ignore_errors=True)
                    lock.unlink(missing_ok=True)
                    removed += 1
            finally:
                os.close(descriptor)
    return removed


@contextlib.contextmanager
def only_one(path: Path, seconds: float) -> Iterator[bool]:
    """Wait until no other process or thread is in such a block with the same file, whose lock decides and which stays, empty.

    Yields whether it is so: False after so many seconds, or where the file system has no locks.
    """
    until = time.monotonic() + seconds
    threads = _between_threads[path.resolve()]
    if not threads.acquire(timeout=seconds):
        yield False
        return
    descriptor, taken = None, False
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        while descriptor is not None and not (taken := _take(descriptor)) and time.monotonic() < until:
            time.sleep(BUSY_PAUSE_SECONDS)
        yield taken
    finally:
        if descriptor is not None:
            os.close(descriptor)
        threads.release()


def _make_lock(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        lock = parent / f"{prefix}{secrets.token_hex(6)}{HELD}"
        _ours.add(lock)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        ours = True
        try:
            # Not flock: child processes would inherit that, and hold it when this process is killed.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            ours = False
        except OSError as error:  # nobody can take a folder for abandoned there
            log.debug("no locks on this file system: %s", error)
        # Another process may have taken it for a dead one's before it was locked.
        if ours and lock.exists():
            return lock, descriptor
        os.close(descriptor)
        _ours.discard(lock)


def _take(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
