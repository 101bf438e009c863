"""A version's folder turned into objects, as `dvc add` would: same digests, same listing, same pointer.

`dvc add` reads and links every file twice and imports a hundred modules; of a version that is mostly published already it
took most of the time.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from sightline.services.storage import base
from sightline.services.storage.folder import digest_file
from sightline.services.versioning.moving import READ_ONLY, move_into
from sightline.services.versioning.objects import LISTING_ENDING, MD5, object_name

IN_MEMORY: Final = 64 << 20  # bytes; larger files are not read whole


@dataclass(frozen=True, slots=True)
class Added:
    """A folder by its listing's digest (hex MD5 and `.dir`), and its files: how many bytes, how many."""

    digest: str
    size: int
    files: int


Noted = tuple[int, str]  # of a file: its size in bytes and its MD5 in hex


class NewFiles:
    """Writes the files of a version in the making to a folder, but for those whose content the cache has: these are only noted.

    From several threads at a time.
    """

    def __init__(self, cache: Path) -> None:
        self.noted: dict[str, Noted] = {}  # path inside the version, with forward slashes -> size and digest
        self._cache, self._folder = str(cache), ""

    def begin(self, folder: Path) -> None:
        """Begin with an empty folder."""
        self._folder = str(folder)
        self.noted.clear()

    def copy(self, source: str, name: str) -> tuple[int, str]:
        """Take a file over; its size in bytes and hex sha256."""
        if os.stat(source).st_size > IN_MEMORY:  # noqa: PTH116 - of hundreds of thousands of files
            target = self._target(name)
            shutil.copyfile(source, target)
            self.noted[name] = digest_file(target, MD5)
            return digest_file(target, hashlib.sha256)
        with open(source, "rb", buffering=0) as file:  # noqa: PTH123
            data = file.readall()
        self.write(name, data)
        return len(data), hashlib.sha256(data).hexdigest()

    def write(self, name: str, data: bytes) -> None:
        """Write a file."""
        md5 = MD5(data).hexdigest()
        if not _has(self._cache, md5, len(data)):
            with open(self._target(name), "wb", buffering=0) as file:  # noqa: PTH123
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
        self.noted[name] = (len(data), md5)

    def _target(self, name: str) -> str:
        target = f"{self._folder}/{name}"
        os.makedirs(target.rpartition("/")[0], exist_ok=True)  # noqa: PTH103
        return target


def move_into_cache(folder: Path, cache: Path, noted: Mapping[str, Noted]) -> Added:
    """Move a folder's files into the cache, each there at once, and their listing last.

    Those that are `noted` are not digested, and belong to the listing also where only the cache has them. A StorageError where
    the file system refuses.
    """
    with base.local_errors():
        found = dict(noted)
        written = _names_in(folder)

        def digest(name: str) -> None:
            found[name] = digest_file(f"{folder}/{name}", MD5)

        base.in_parallel(digest, [name for name in written if name not in noted], doing="digesting")
        for name in written:
            size, md5 = found[name]
            if not _has(str(cache), md5, size):
                move_into(f"{folder}/{name}", f"{cache}/{object_name(md5)}")
        data = _listing(found)
        listing = f"{MD5(data).hexdigest()}{LISTING_ENDING}"
        with base.replacing(cache / object_name(listing)) as part:
            part.write_bytes(data)
            part.chmod(READ_ONLY)
    return Added(listing, sum(size for size, _ in found.values()), len(found))


def _listing(found: Mapping[str, Noted]) -> bytes:
    """The files as DVC lists them: JSON, sorted by path. Put together piece by piece, of hundreds of thousands."""
    data = bytearray(b"[")
    for name in sorted(found):
        data += b", " if len(data) > 1 else b""
        data += json.dumps({"md5": found[name][1], "relpath": name}).encode()
    return bytes(data + b"]")


def write_pointer(pointer: Path, added: Added, remote: str) -> None:
    """Write DVC's small file that stands for a folder of the pointer's name, and says on which remote its objects are."""
    described = {"md5": added.digest, "size": added.size, "nfiles": added.files, "hash": "md5"}
    outs = [{**described, "path": pointer.name.removesuffix(".dvc"), "remote": remote}]
    pointer.write_text(yaml.safe_dump({"outs": outs}, sort_keys=False))


def _names_in(folder: Path) -> list[str]:
    """The paths of a folder's files inside it, with forward slashes."""
    start = len(f"{folder}/")
    return [f"{parent}/{name}"[start:] for parent, _, names in os.walk(str(folder)) for name in names]


def _has(cache: str, md5: str, size: int) -> bool:
    """Whether the cache has an object; damage that leaves it its size is noticed before an upload."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(f"{cache}/{object_name(md5)}").st_size == size  # noqa: PTH116
    return False
