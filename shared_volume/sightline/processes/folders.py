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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

HELD: Final = ".held"  # ends the name of a folder's lock file
BUSY_PAUSE_SECONDS: Final = 0.05
LOCK_SECONDS: Final = 60.0  # how long somebody may take or remove a shared folder

# A process's own locks never stop it, and a second look at one of these files would give the lock away.
_ours: set[Path] = set()
_between_threads: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


@contextlib.contextmanager
def private_folder(parent: Path, prefix: str, tidies: bool = True) -> Iterator[Path]:
    """A new, empty folder of one's own, removed at the end; those of dead processes beside it first, if it `tidies`."""
    parent.mkdir(parents=True, exist_ok=True)
    if tidies:
        remove_abandoned(parent)
    lock, descriptor = _make_lock(parent.resolve(), prefix)
    folder = lock.with_name(lock.name.removesuffix(HELD))
    try:
        folder.mkdir()
        yield folder
    finally:
        try:
            _remove_with_lock(folder, lock)
        except OSError as error:
            log.warning("%s cannot be removed: %s (%s)", folder, error.strerror, error.filename)
        os.close(descriptor)
        _ours.discard(lock)


def _remove_with_lock(folder: Path, lock: Path) -> None:
    """Remove a private folder and its lock. What cannot be removed keeps its lock, by which it is found again."""
    _remove_tree(folder)
    lock.unlink(missing_ok=True)


def _remove_tree(folder: Path) -> None:
    """Remove a folder, as much of it as can be; an OSError names what cannot."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)  # the rest of it
        if folder.exists():
            raise


def remove_abandoned(parent: Path) -> int:
    """Remove the private folders in `parent` whose process died. Returns how many this call removed."""
    removed = 0
    for lock in sorted(parent.resolve().glob(f"*{HELD}")):
        try:
            removed += _remove_if_dead(lock)
        except OSError as error:
            log.warning("what is left of a process that died cannot be removed: %s", error)
    return removed


def remove_abandoned_folder(folder: Path) -> bool:
    """Remove one private folder if its process died. Returns whether this very call did: of several at once, one.

    An OSError names what of it cannot be removed.
    """
    return _remove_if_dead(folder.with_name(f"{folder.name}{HELD}"))


def _remove_if_dead(lock: Path) -> bool:
    if lock in _ours:
        return False
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:  # somebody else removed it meanwhile
        return False
    try:
        with contextlib.suppress(FileNotFoundError):
            if _take(descriptor) and os.path.samestat(os.fstat(descriptor), lock.stat()):
                folder = lock.with_name(lock.name.removesuffix(HELD))
                log.info("removing %s, which a process left that died", folder)
                _remove_with_lock(folder, lock)
                return True
    finally:
        os.close(descriptor)
    return False


def remove_file(path: Path) -> bool:
    """Remove a file of this machine. Returns whether this very call did: of several at once, one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def find_abandoned(parent: Path) -> list[Path]:
    """The private folders in `parent` whose process died; nothing is changed."""
    found = []
    for lock in sorted(lock for lock in parent.resolve().glob(f"*{HELD}") if lock not in _ours):
        with contextlib.suppress(OSError):
            descriptor = os.open(lock, os.O_RDWR)
            try:
                if _take(descriptor):
                    found.append(lock.with_name(lock.name.removesuffix(HELD)))
            finally:
                os.close(descriptor)
    return found


def take_shared(folder: Path, lock: Path | None = None) -> bool:
    """Use a folder that others share once more, which keeps it from being removed. Returns whether it is there."""
    with only_one(lock or _lock_beside(folder.parent), LOCK_SECONDS):
        if not folder.is_dir():
            return False
        with contextlib.suppress(OSError):  # another user's
            os.utime(folder)
        return True


def remove_untaken(folder: Path, limit: float, lock: Path | None = None) -> bool:
    """Remove a folder that nobody has taken since `limit` (seconds since 1970). Returns whether it did.

    An OSError names what of it cannot be removed: that is an abandoned private folder from then on. Killed anywhere, the folder is there as it was, or gone: what is left of it is an abandoned private folder.
    """
    with private_folder(folder.parent, ".removing-", tidies=False) as bin_folder:
        # Somebody may have taken it since it was looked at: under the lock that shows, and nobody else can.
        with only_one(lock or _lock_beside(folder.parent), LOCK_SECONDS) as alone:
            try:
                if not alone or folder.stat().st_mtime >= limit:
                    return False
                folder.rename(bin_folder / folder.name)
            except OSError:
                return False
        _remove_tree(bin_folder / folder.name)
        return True


def _lock_beside(shared: Path) -> Path:
    """The lock of a folder of shared folders; it lies beside it, where nobody takes it for one of them."""
    return shared.with_name(f".{shared.name}.lock")


def remove_unlocked(folder: Path, name: str, may_go: Callable[[], bool]) -> bool:
    """Remove a folder whose lock, the file `name` in it, nobody holds, if it then may go. Returns whether it did.

    Killed anywhere, the folder is there as it was, or gone. An OSError as in `remove_untaken`.
    """
    with private_folder(folder.parent, ".removing-", tidies=False) as bin_folder, lock_if_free(folder / name) as alone:
        if not alone or not may_go():
            return False
        folder.rename(bin_folder / folder.name)
        _remove_tree(bin_folder / folder.name)
        return True


@contextlib.contextmanager
def lock_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock file that is there in the block, or not. Yields whether: False where others hold it, or nobody can.

    Not for a file that this process has locked already: its lock would end with the block.
    """
    descriptor = None
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR)
        yield descriptor is not None and _take(descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


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
