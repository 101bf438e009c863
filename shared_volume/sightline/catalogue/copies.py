"""The unpacked copy of a dataset version on this volume, against the version's own content."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from sightline.catalogue.problems import Problem, Trouble, counted, some_names
from sightline.services.database.versions import ImageRow
from sightline.services.storage.base import PARALLEL
from sightline.services.versioning.datasets import unpacked_folder
from sightline.services.versioning.shards import IMAGES, SHARD_PATTERN
from sightline.versions import Tag

Hash = Callable[[], "hashlib._Hash"]


def check_copy(
    volume: Path, tag: Tag, digest: str, listing: Mapping[str, str], images: Iterable[ImageRow]
) -> list[Problem]:
    """Whether every file of a dataset version's unpacked copy has the version's content; nothing where there is none.

    Args:
        volume: where the copy may lie.
        tag: the version's.
        digest: of its listing.
        listing: path inside the version -> md5.
        images: with the sha256 of each.
    """
    folder = unpacked_folder(volume, tag.category, tag.version, digest)
    if tag.kind != "dataset" or not folder.is_dir():
        return []
    md5 = partial(hashlib.md5, usedforsecurity=False)
    wanted: dict[str, tuple[Hash, str]] = {
        name: (md5, known)
        for name, known in listing.items()
        if name.endswith(".json") and "/" not in name and not fnmatch(name, SHARD_PATTERN)
    }
    wanted |= {f"{IMAGES}/{image.name}": (hashlib.sha256, image.sha256) for image in images}
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = pool.map(lambda name: _content(folder / name, wanted[name][0]), wanted)
        names = sorted(name for name, content in zip(wanted, found, strict=True) if content != wanted[name][1])
    if not names:
        return []
    message = f"{counted(len(names), 'file')} of its unpacked copy ({folder}) is not as published: {some_names(names)}"
    remedy = "--repair unpacks it anew, as the next run that uses it does; what stands there is kept beside it"
    return [Problem(Trouble.COPY_DIFFERS, message, remedy, True, tuple(names))]


def _content(path: Path, method: Hash) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, method).hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"
