"""Files by the MD5 of their content, in DVC's layout: names, listings, and the cache on the volume."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from sightline.errors import SightlineError
from sightline.services.storage.base import local_errors

FOLDER: Final = "files/md5"
LISTING_ENDING: Final = ".dir"  # of the object that lists a folder's files
READ_ONLY: Final = 0o444  # as DVC leaves its cache: files of working copies may be links to it


class DamagedObjectError(SightlineError):
    """An object whose content is not what its name says."""


class LostObjectError(SightlineError):
    """A remote that lacks objects of a version."""


def object_name(digest: str) -> str:
    """The path in a remote and in the cache of an object: hex MD5, with `.dir` at its end for a folder's listing."""
    return f"{FOLDER}/{digest[:2]}/{digest[2:]}"


def parse_listing(data: bytes, where: str) -> dict[str, str]:
    """The files that a listing lists: path inside the folder -> digest; `where` names the listing in messages.

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
            move_object(path, cache / path.relative_to(source))


def is_whole(path: Path, name: str) -> bool:
    """Whether there is such a file, with the content that the object's name says."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5_in(name)
    except FileNotFoundError:
        return False


def move_object(path: Path, target: Path) -> None:
    """Move a file to its place in the cache, where it appears at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)


def md5_in(name: str) -> str:
    """The digest in an object's name, without the ending of a listing's."""
    path = PurePosixPath(name)
    return (path.parent.name + path.name).removesuffix(LISTING_ENDING)
