"""DVC's objects: a version's files by the MD5 of their content, in a cache on the volume and on a remote.

The layout is DVC's own, so that anybody's `dvc pull` works. The transfer is ours: `dvc push` takes a folder's listing on
the remote for a proof that its files are there, gives no reasons, and waits for a silent remote for ever.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

from sightline.errors import SightlineError
from sightline.services.storage.base import NoSuchObjectError, Storage, StoredObject, in_parallel, local_errors

log = logging.getLogger(__name__)

FOLDER: Final = "files/md5"
LISTING_ENDING: Final = ".dir"  # of the object that lists a folder's files
READ_ONLY: Final = 0o444  # as DVC leaves its cache: files of working copies may be links to it
BATCH: Final = 2000  # objects that a killed download loses at most


class DamagedObjectError(SightlineError):
    """An object whose content is not what its name says."""


class LostObjectError(SightlineError):
    """A remote that lacks objects of a version."""


def object_name(digest: str) -> str:
    """An object's path in a remote and in the cache.

    Args:
        digest: hex MD5, with `.dir` at its end for a folder's listing.
    """
    return f"{FOLDER}/{digest[:2]}/{digest[2:]}"


def needed_objects(cache: Path, digest: str) -> dict[str, int]:
    """What a pull of a folder needs, of which the cache holds all: object name -> size in bytes.

    Raises:
        SightlineError: an object is not in the cache.
    """
    listing = object_name(digest)
    with local_errors():
        names = {listing, *read_listing(cache / listing).values()}
        return {name: (cache / name).stat().st_size for name in sorted(names)}


def read_listing(path: Path) -> dict[str, str]:
    """A folder's files: path inside the folder -> object name; raises like `parse_listing`."""
    return {name: object_name(digest) for name, digest in parse_listing(path.read_bytes(), str(path)).items()}


def parse_listing(data: bytes, where: str) -> dict[str, str]:
    """The files that a listing lists: path inside the folder -> digest.

    Args:
        data: the listing's content.
        where: it lies, for messages.

    Raises:
        DamagedObjectError: not a listing, or it names a file outside the folder.
    """
    try:
        files = {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(data)}
    except (ValueError, KeyError, TypeError):
        raise DamagedObjectError(
            f"{where} is not a listing of files as DVC writes them. Remove it and try again."
        ) from None
    for name in files:
        if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise DamagedObjectError(
                f"{where} lists {name!r}, which lies outside the version's folder. Nothing was read."
            )
    return files


def missing_objects(storage: Storage, remote: str, needed: Mapping[str, int]) -> list[str]:
    """Names of the objects that are not on the remote, or not with their size (in a bucket: not with their MD5).

    Args:
        storage: the installation's.
        remote: `annotations` or `datasets`.
        needed: object name -> size in bytes.
    """
    return _lacking(storage, remote, needed)[0]


def upload_objects(storage: Storage, remote: str, cache: Path, needed: Mapping[str, int]) -> int:
    """Bring what the remote lacks there, the listing last. Returns the number of objects that it lacked.

    Raises:
        DamagedObjectError: a cached object is not whole; nothing was uploaded.
        StorageError: the remote failed for longer than the deadline; says how.
    """
    began = time.monotonic()
    lacking, there = _lacking(storage, remote, needed)
    _require_whole(cache, lacking)
    # Others may upload the same at the same time: what is there is theirs and right, but for what is known to be wrong.
    for is_listing in (False, True):
        for is_wrong in (False, True):
            storage.upload_files(
                {
                    _key(remote, name): cache / name
                    for name in lacking
                    if name.endswith(LISTING_ENDING) == is_listing and (name in there) == is_wrong
                },
                create_only=not is_wrong,
            )
    size = sum(needed[name] for name in lacking)
    log.info("uploaded %d objects, %.1f MB, in %.1f s", len(lacking), size / 1e6, time.monotonic() - began)
    return len(lacking)


def fetch_objects(storage: Storage, remote: str, digest: str, cache: Path, scratch: Path) -> dict[str, str]:
    """Bring a folder's objects into the cache, where they are not there whole.

    Args:
        storage: the installation's.
        remote: `annotations` or `datasets`.
        digest: the folder's.
        cache: where objects are kept; each appears there when it is whole.
        scratch: a private folder on the same file system.

    Returns:
        The folder's files: path inside the folder -> object name.

    Raises:
        LostObjectError: the remote lacks objects.
        DamagedObjectError: an object's content is not what its name says.
        StorageError: the remote failed for longer than the deadline; says how.
    """
    listing = object_name(digest)
    with local_errors():
        _fetch(storage, remote, [listing], cache, scratch)
        files = read_listing(cache / listing)
        _fetch(storage, remote, sorted(set(files.values())), cache, scratch)
    return files


def link_files(cache: Path, files: Mapping[str, str], target: Path) -> None:
    """Fill a folder with files of the cache: links where the file system has them, which nobody can write to."""
    with local_errors():
        for parent in {(target / name).parent for name in files}:
            parent.mkdir(parents=True, exist_ok=True)
        for name, found in files.items():
            try:
                os.link(cache / found, target / name)
            except FileExistsError:
                raise
            except OSError:  # no links here, or too many of one file
                shutil.copyfile(cache / found, target / name)


def move_objects(source: Path, cache: Path) -> None:
    """Move a private cache's objects into the one that all share; each appears there at once."""
    with local_errors():
        for path in sorted((source / FOLDER).glob("??/*")):
            _move(path, cache / path.relative_to(source))


def _stored(storage: Storage, remote: str, names: Collection[str]) -> dict[str, StoredObject]:
    prefix = _key(remote, "")
    listed = ((item.key.removeprefix(prefix), item) for item in storage.list(f"{prefix}{FOLDER}"))
    return {name: item for name, item in listed if name in names}


def _lacking(storage: Storage, remote: str, needed: Mapping[str, int]) -> tuple[list[str], dict[str, StoredObject]]:
    """The names of what is not there or wrong, and all that is there."""
    there = _stored(storage, remote, needed)
    right = {name for name, found in there.items() if found.size == needed[name] and found.md5 in (None, _md5_in(name))}
    return [name for name in needed if name not in right], there


def _require_whole(cache: Path, names: Collection[str]) -> None:
    def check(name: str) -> None:
        if not is_whole(cache / name, name):
            (cache / name).unlink(missing_ok=True)
            raise DamagedObjectError(
                f"{cache / name} is damaged: its content is not what its name says. The disk may be full or failing. "
                "It was removed, and nothing was published; run the same command again."
            )

    with local_errors():
        in_parallel(check, names)


def _fetch(storage: Storage, remote: str, names: Collection[str], cache: Path, scratch: Path) -> None:
    lacking: list[str] = []

    def look(name: str) -> None:
        if not is_whole(cache / name, name):
            lacking.append(name)

    in_parallel(look, names)
    waiting = iter(sorted(lacking))
    while batch := list(islice(waiting, BATCH)):
        parts = {name: scratch / name.replace("/", "-") for name in batch}
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            storage.download_files({_key(remote, name): part for name, part in parts.items()})
        except NoSuchObjectError as error:
            raise _lost(storage, remote, names) or error from None
        finally:
            damaged = _adopt(parts, cache)  # also what arrived before a failure
        if damaged:
            raise DamagedObjectError(
                f"{storage.uri(_key(remote, damaged[0]))} is damaged: its content is not what its name says. "
                f"It was not kept. {_REPAIR}"
            )


def _adopt(parts: Mapping[str, Path], cache: Path) -> list[str]:
    """Move whole objects into the cache. Returns the names of the others, sorted."""
    damaged: list[str] = []

    def adopt(name: str) -> None:
        if is_whole(parts[name], name):
            parts[name].chmod(READ_ONLY)
            _move(parts[name], cache / name)
        else:
            damaged.append(name)

    in_parallel(adopt, parts.keys())
    return sorted(damaged)


def _lost(storage: Storage, remote: str, names: Collection[str]) -> LostObjectError | None:
    gone = sorted(set(names) - _stored(storage, remote, names).keys())
    if not gone:
        return None
    return LostObjectError(
        f"{len(gone)} of {len(names)} objects of this version are gone from the remote, the first "
        f"{storage.uri(_key(remote, gone[0]))}. {_REPAIR}"
    )


def is_whole(path: Path, name: str) -> bool:
    """Whether there is such a file, with the content that the object's name says."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == _md5_in(name)
    except FileNotFoundError:
        return False


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)


def _md5_in(name: str) -> str:
    path = PurePosixPath(name)
    return (path.parent.name + path.name).removesuffix(LISTING_ENDING)


def _key(remote: str, name: str) -> str:
    return f"dvc/{remote}/{name}"


_REPAIR: Final = "Restore it from a backup, or type: python pipeline.py verify --repair"
