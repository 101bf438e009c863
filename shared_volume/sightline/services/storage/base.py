"""What every storage promises, its errors, the rules for keys, and atomic files on this machine."""

import errno
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar
from uuid import uuid4

from sightline.errors import SightlineError, nearest
from sightline.processes.progress import track

PART = ".sightline-part"  # ends the name of what is still being written; such names are never listed
LONGEST_KEY = 1024  # bytes, Cloud Storage's limit
NEARBY = 10  # names in a hint
PARALLEL = 8  # transfers of large files at a time
PARALLEL_SMALL = 32  # of small ones, which mostly wait for the service
SMALL = 1 << 20  # bytes
_PLAIN_KEY = re.compile(r"[\w-]{1,99}(?:/[\w-]{1,99}){0,8}(?:\.dir)?", re.ASCII)

Item = TypeVar("Item")


class StorageError(SightlineError):
    """Storage could not do what was asked."""


class BadKeyError(StorageError):
    """A key that would leave the storage's root or that some storage cannot hold."""


class NoSuchObjectError(StorageError):
    """Nothing is stored there."""


class ObjectExistsError(StorageError):
    """A create-only write met an object that is there already."""


class StorageDeniedError(StorageError):
    """No permission, or no credentials."""


class StorageUnreachableError(StorageError):
    """The service gave no usable answer within the deadline."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One stored file."""

    key: str  # its path below the storage's root, with forward slashes
    size: int  # in bytes
    checksum: str | None  # CRC32C of the content as Cloud Storage writes it (base64), where it was asked for
    md5: str | None = None  # hex digest of the content, where a bucket tells it
    changed_at: datetime | None = field(default=None, compare=False)  # when it was written, where that is known


class Storage(Protocol):
    """Files under one root, named by keys such as `results/desk/report.html`.

    Writes are whole or not there. Every method raises a StorageError that names the URI: NoSuchObjectError,
    StorageDeniedError, StorageUnreachableError (SIGHTLINE_TIMEOUT seconds without an answer), BadKeyError.
    """

    listed_at_once: int = 0  # objects that a listing tells of in the time of one question about one object; 0: of none
    parallel_small: int = PARALLEL

    @property
    def root(self) -> str:
        """The root's own URI, without a slash at its end."""

    def uri(self, key: str) -> str:
        """The object's full URI."""

    def exists(self, key: str) -> bool:
        """Whether an object (not only a folder) has this key."""

    def read_bytes(self, key: str) -> bytes:
        """The object's content, checksum verified."""

    def write_bytes(self, key: str, data: bytes, create_only: bool = False) -> None:
        """Store `data`; with `create_only` an object that is there already is left alone (ObjectExistsError)."""

    def upload_file(self, local: Path, key: str) -> str:
        """Store a file and return its URI."""
        if not local.is_file():
            raise StorageError(f"There is no file {local} to upload. Check the path.")
        with local_errors():
            self._upload(local, key)
        return self.uri(key)

    def upload_folder(self, local_dir: Path, prefix: str) -> tuple[str, ...]:
        """Store every file of a folder under `prefix` and return their keys, sorted; what is stored already stays."""

    def upload_files(self, files: Mapping[str, Path], create_only: bool = False) -> None:
        """Store many files (key -> file), several at a time, until one fails; `create_only` leaves those there."""

    def download_file(self, key: str, local: Path) -> None:
        """Copy an object to the file `local`, replacing it at once when the copy is whole and verified."""
        with local_errors(), replacing(local) as part:
            self._download(key, part)

    def download_files(self, files: Mapping[str, Path]) -> None:
        """Copy many objects (key -> new file in a folder of one's own), several at a time, until one fails."""
        with local_errors():
            in_parallel(lambda pair: self._download(*pair), files.items(), self.parallel_small, "downloading")

    def download_folder(self, prefix: str, local_dir: Path) -> None:
        """Copy every object under `prefix` to the new (or empty) folder `local_dir`, which appears when all are there."""
        found = list(self.list(prefix))
        if not found:
            raise self._missing(prefix)
        names = {each.key: each.key.removeprefix(f"{prefix}/") for each in found}
        with local_errors(), filling(local_dir, names) as targets:
            self.download_files(targets)
            for each in found:
                if (size := targets[each.key].stat().st_size) != each.size:
                    raise StorageError(
                        f"{self.root}/{prefix}: {each.key} arrived with {size} bytes, not {each.size}; nothing was kept. "
                        "Try again."
                    )

    def delete(self, key: str) -> bool:
        """Remove the object; nothing happens when there is none. Returns whether it was there."""

    def list(self, prefix: str = "", checksums: bool = False) -> Iterator[StoredObject]:
        """The objects in the folder `prefix` and below, by key; a local folder reads every byte for `checksums`."""

    def find(self, keys: Collection[str]) -> dict[str, StoredObject]:
        """Those of the objects that are there, by key, as `list` tells of them; nothing else in storage is looked at."""

    def _upload(self, local: Path, key: str) -> None:
        """Store a file that is there."""

    def _download(self, key: str, target: Path) -> None:
        """Copy an object to a new file."""

    def _missing(self, key: str) -> NoSuchObjectError:
        """The error for an object or folder that is not there, which names its neighbours."""


def check_key(key: str) -> str:
    """The key; a BadKeyError if it is empty, absolute, too long, or has `.`, `..`, empty parts, control characters."""
    if _PLAIN_KEY.fullmatch(key):  # nearly all, of hundreds of thousands
        return key
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise BadKeyError(f"{key!r} is not a storage key: it must be a relative path without empty, '.' or '..' parts.")
    if re.search(r"[\x00-\x1f\x7f]", key) or any(part.endswith(PART) for part in parts):
        raise BadKeyError(f"{key!r} is not a storage key: rename it without control characters or the ending {PART}.")
    if len(key.encode("utf-8", "surrogateescape")) > LONGEST_KEY:
        raise BadKeyError(f"{key[:80]!r}… is too long for a storage key: at most {LONGEST_KEY} bytes.")
    return key


def join_key(prefix: str, key: str) -> str:
    """`prefix/key`, or the one that is not empty."""
    return f"{prefix}/{key}" if prefix and key else prefix or key


def missing(uri: str, key: str, siblings: list[str]) -> NoSuchObjectError:
    """The error for an object or folder that is not there; `siblings` are names in the same folder."""
    name = PurePosixPath(key).name
    hint = nearest(name, siblings[:NEARBY]) if siblings else " Nothing else lies in that folder either."
    more = ", …" if len(siblings) > NEARBY and "Known" in hint else ""
    return NoSuchObjectError(f"There is nothing at {uri}.{hint}{more}")


def files_below(folder: Path) -> dict[str, Path]:
    """The files in a folder and below, sorted: path inside (forward slashes) -> path. A StorageError for none."""
    if not folder.is_dir():
        raise StorageError(f"There is no folder {folder} to upload. Check the path.")
    if not (found := walk(folder)):
        raise StorageError(f"The folder {folder} has no files to upload.")
    return {check_key(name): found[name] for name in sorted(found)}


def walk(folder: Path) -> dict[str, Path]:
    """Every finished file below a folder by its path inside; what is still being written is left out."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.endswith(PART)]
        for name in names:
            path = Path(parent, name)
            if not name.endswith(PART) and path.is_file():
                found[path.relative_to(folder).as_posix()] = path
    return found


def in_parallel(
    work: Callable[[Item], object], items: Collection[Item], workers: int = PARALLEL, doing: str = "copying"
) -> None:
    """Call `work` on every item, several at a time; after the first failure no other begins, and that one is raised.

    `doing` is what a terminal calls it where that takes long.
    """
    failed, taking, waiting = threading.Event(), threading.Lock(), iter(track(items, doing, len(items), "file"))

    def work_on() -> None:  # no future for each item: of thousands they take longer than the work
        while not failed.is_set():
            with taking:
                taken = list(islice(waiting, 1))
            if not taken:
                return
            try:
                work(taken[0])
            except BaseException:
                failed.set()
                raise

    pool = ThreadPoolExecutor(max(1, min(workers, len(items))))
    try:
        for done in as_completed([pool.submit(work_on) for _ in range(min(workers, len(items)))]):
            done.result()
    finally:  # also when this thread is interrupted
        failed.set()
        pool.shutdown()


@contextmanager
def replacing(target: Path, create_only: bool = False) -> Iterator[Path]:
    """A path beside `target` to write to; moved there, flushed to disk, when the block ends well.

    With `create_only` a `target` that is there stays as it is (ObjectExistsError).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{uuid4().hex}{PART}"
    try:
        yield part
        flush(part)
        if create_only:
            os.link(part, target)  # unlike a rename, a link never replaces
        else:
            part.replace(target)
        flush(target.parent)
    except FileExistsError:
        raise ObjectExistsError(f"{target} is there already, and was to be created. Nothing was written.") from None
    except OSError as error:
        error.filename = error.filename or str(target)  # a write that fails names no file
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def filling(target: Path, keys: Mapping[str, str]) -> Iterator[dict[str, Path]]:
    """Stored key -> path inside a new folder, which appears as `target` (not there yet, or empty) when the block ends well.

    Yields the path to write to instead, for each key.
    """
    names = set(keys.values())
    if both := names & {str(parent) for name in names for parent in PurePosixPath(name).parents}:
        raise StorageError(f"{min(both)!r} is stored both as a file and as a folder, which {target} cannot hold.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StorageError(f"{target} is there already and not empty. Remove it or use another folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{uuid4().hex}{PART}"
    try:
        paths = {key: part / check_key(name) for key, name in keys.items()}
        for parent in {path.parent for path in paths.values()}:
            parent.mkdir(parents=True, exist_ok=True)
        yield paths
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def flush(path: Path) -> None:
    """Make a written file, or a folder's list of names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def local_errors() -> Iterator[None]:
    """Turn what this machine's file system refuses into a StorageError that names the path."""
    try:
        yield
    except PermissionError as error:
        named = str(error.filename)
        refused = Path(named).parent if named.endswith(PART) else named  # the part is ours; its folder is what refused
        raise StorageDeniedError(f"No permission for {refused}. Check its owner and mode.") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        path = full and error.filename2 or error.filename  # a copy's target is what is full
        where = f" at {path}" if path else ""
        hint = " Free some space there, then run the same again." if full else ""
        raise StorageError(f"The file system refused{where}: {error.strerror or error}.{hint}") from error
