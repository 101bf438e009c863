"""A version's folder turned into objects, as `dvc add` would: same digests, same listing, same pointer.

`dvc add` reads and links every file twice and imports a hundred modules; of a version that is mostly published already it
took most of the time.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from sightline.services.storage import base
from sightline.services.storage.folder import digest_file
from sightline.services.versioning.objects import LISTING_ENDING, MD5, READ_ONLY, object_name


@dataclass(frozen=True, slots=True)
class Added:
    """A folder by its listing's digest (hex MD5 and `.dir`), and its files: how many bytes, how many."""

    digest: str
    size: int
    files: int


def move_into_cache(folder: Path, cache: Path) -> Added:
    """Move a folder's files into the cache on the same file system, each there at once, and their listing last.

    A StorageError where the file system refuses.
    """
    with base.local_errors():
        names = _names_in(folder)
        found: dict[str, tuple[int, str]] = {}

        def digest(name: str) -> None:
            found[name] = digest_file(f"{folder}/{name}", MD5)

        base.in_parallel(digest, names, doing="digesting")
        for name in names:
            size, md5 = found[name]
            _move(f"{folder}/{name}", f"{cache}/{object_name(md5)}", size)
        entries = [{"md5": found[name][1], "relpath": name} for name in names]
        data = json.dumps(entries).encode()
        listing = f"{MD5(data).hexdigest()}{LISTING_ENDING}"
        with base.replacing(cache / object_name(listing)) as part:
            part.write_bytes(data)
            part.chmod(READ_ONLY)
    return Added(listing, sum(size for size, _ in found.values()), len(names))


def write_pointer(pointer: Path, added: Added, remote: str) -> None:
    """Write DVC's small file that stands for a folder of the pointer's name, and says on which remote its objects are."""
    described = {"md5": added.digest, "size": added.size, "nfiles": added.files, "hash": "md5"}
    outs = [{**described, "path": pointer.name.removesuffix(".dvc"), "remote": remote}]
    pointer.write_text(yaml.safe_dump({"outs": outs}, sort_keys=False))


def _names_in(folder: Path) -> list[str]:
    """The paths of a folder's files inside it, with forward slashes, in a listing's order."""
    start = len(f"{folder}/")
    return sorted(f"{parent}/{name}"[start:] for parent, _, names in os.walk(str(folder)) for name in names)


def _move(path: str, target: str, size: int) -> None:
    """Move a file to its place in the cache, unless it is there; one that was damaged without a change of its size is noticed at its upload."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(target).st_size == size:  # noqa: PTH116 - thousands of files
            return
    os.chmod(path, READ_ONLY)  # noqa: PTH101
    try:
        os.replace(path, target)  # noqa: PTH105
    except FileNotFoundError:
        os.makedirs(target.rpartition("/")[0], exist_ok=True)  # noqa: PTH103
        os.replace(path, target)  # noqa: PTH105
