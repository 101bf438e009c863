"""A version's objects against one listing of the remote: all there, of the right size, and of the right content.

Likewise its unpacked copy on this volume.
"""

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from sightline.catalogue.problems import NAMES_SHOWN, Problem, Trouble
from sightline.errors import SightlineError, counted, some_of
from sightline.processes.folders import private_folder
from sightline.services.database.versions import ImageRow
from sightline.services.storage.base import PARALLEL, StoredObject
from sightline.services.storage.folder import BLOCK
from sightline.services.versioning.datasets import unpacked_folder
from sightline.services.versioning.objects import LISTING_ENDING, Objects, object_name
from sightline.services.versioning.shards import IMAGES, SHARD_PATTERN
from sightline.versions import Tag

_Hash = Callable[[], "hashlib._Hash"]

_REMEDIES: Final = {
    True: "--repair uploads this again: the DVC cache of this volume has it",
    False: "the DVC cache of this volume does not have this: run verify --repair where it was published; otherwise it is "
    "lost, so publish these files in a new version",
}
IN_MEMORY: Final = 16 << 20  # bytes; larger objects are read back through a file
_WHAT: Final = {
    Trouble.OBJECTS_MISSING: "missing on the remote",
    Trouble.OBJECTS_CUT: "of a wrong size on the remote",
    Trouble.OBJECTS_DAMAGED: "on the remote with other content",
}


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What an object's content is: hex digests of the whole, and of a shard's members, image name -> sha256."""

    md5: str
    sha256: str
    members: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Remote:
    """One DVC remote: what lies there, as it was listed or asked for, and what was read back so far, by digest."""

    objects: Objects
    there: dict[str, StoredObject]
    read: dict[str, ReadBack]


def check_listing(remote: Remote, digest: str) -> tuple[dict[str, str] | None, list[Problem]]:
    """The version's files, or None when nobody knows them any more; and what is wrong with the listing on the remote."""
    stored = remote.there.get(digest)
    try:
        listing = remote.objects.listing(digest)
    except SightlineError:
        listing = None
    size = len(remote.objects.read(digest)) if stored is not None and listing is not None else None
    trouble = _trouble(digest, stored, size) or (Trouble.OBJECTS_DAMAGED if listing is None else None)
    return listing, _problems(remote, trouble, {"its list of files": digest}) if trouble else []


def check_objects(
    remote: Remote, listing: Mapping[str, str], sizes: Mapping[str, int], total: int | None, full: bool
) -> list[Problem]:
    """Every file's object is on the remote, whole; with `full` every byte of it is read back.

    Without `full`, and where the remote's listing tells no md5, only a change of a file's size is noticed. `listing` and
    `sizes` are digests, and bytes where these are known, by path inside the version; `total` is bytes of all, if known.
    """
    bad: dict[Trouble, dict[str, str]] = {trouble: {} for trouble in _WHAT}
    rest: dict[str, str] = {}
    for name, digest in listing.items():
        trouble = _trouble(digest, remote.there.get(digest), sizes.get(name))
        (bad[trouble] if trouble else rest)[name] = digest
    if full:
        _read_back(remote, rest.values(), frozenset(d for name, d in rest.items() if fnmatch(name, SHARD_PATTERN)))
    elif not any(bad.values()) and total not in (None, sum(remote.there[one].size for one in rest.values())):
        rest = {name: digest for name, digest in rest.items() if name not in sizes and not _has_size(remote, digest)}
        _read_back(remote, rest.values())
    for name, digest in rest.items():
        if digest in remote.read and remote.read[digest].md5 != digest:
            bad[Trouble.OBJECTS_DAMAGED][name] = digest
    return [problem for trouble, files in bad.items() for problem in _problems(remote, trouble, files)]


def check_images(remote: Remote, listing: Mapping[str, str], images: Iterable[ImageRow]) -> list[Problem]:
    """Whether the images' content, as far as it was read back, is what their rows say."""
    content: dict[str, str] = {}
    for name, digest in listing.items():
        if (found := remote.read.get(digest)) and found.md5 == digest:
            content |= {name: found.sha256, **found.members}
    names = sorted(image.name for image in images if content.get(image.name, image.sha256) != image.sha256)
    message = f"the sha256 of {counted(len(names), 'image')} is not that of the content: {some_of(names, NAMES_SHOWN)}"
    remedy = "publish the images again as a new version"
    return [Problem(Trouble.IMAGES_DIFFER, message, remedy, False, tuple(names))] if names else []


def check_copy(
    volume: Path, tag: Tag, digest: str, listing: Mapping[str, str], images: Iterable[ImageRow]
) -> list[Problem]:
    """Whether every file of a dataset version's unpacked copy has the version's content; nothing where there is none.

    `digest` is that of the version's listing, which gives the md5 by the path inside the version.
    """
    folder = unpacked_folder(volume, tag.category, tag.version, digest)
    if tag.kind != "dataset" or not folder.is_dir():
        return []
    md5 = partial(hashlib.md5, usedforsecurity=False)
    wanted: dict[str, tuple[_Hash, str]] = {
        name: (md5, known)
        for name, known in listing.items()
        if name.endswith(".json") and "/" not in name and not fnmatch(name, SHARD_PATTERN)
    }
    wanted |= {f"{IMAGES}/{image.name}": (hashlib.sha256, image.sha256) for image in images}
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = pool.map(lambda name: _digest_of(folder / name, wanted[name][0]), wanted)
        names = sorted(name for name, content in zip(wanted, found, strict=True) if content != wanted[name][1])
    message = f"{counted(len(names), 'file')} of its unpacked copy ({folder}) is not as published: {some_of(names, NAMES_SHOWN)}"
    remedy = "--repair unpacks it again, as the next run that uses it does; what stands there is kept beside it"
    return [Problem(Trouble.COPY_DIFFERS, message, remedy, True, tuple(names))] if names else []


def _digest_of(path: Path, method: _Hash) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, method).hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _read_back(remote: Remote, digests: Iterable[str], shards: frozenset[str] = frozenset()) -> None:
    """Read objects from the remote that were not read yet, and note what they contain."""
    wanted = sorted(set(digests) - remote.read.keys())
    objects = remote.objects
    with private_folder(objects.cache.parent / "work", "verify-") as private, ThreadPoolExecutor(PARALLEL) as pool:

        def read(digest: str) -> ReadBack:
            key = objects.key(digest)
            if remote.there[digest].size <= IN_MEMORY:
                return _look_at(io.BytesIO(objects.storage.read_bytes(key)), digest in shards)
            path = private / digest
            objects.storage.download_file(key, path)
            with path.open("rb") as file:
                found = _look_at(file, digest in shards)
            path.unlink()
            return found

        remote.read.update(zip(wanted, pool.map(read, wanted), strict=True))


def _look_at(file: BinaryIO, is_shard: bool) -> ReadBack:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    while block := file.read(BLOCK):
        md5.update(block)
        sha256.update(block)
    members = {}
    if is_shard:
        file.seek(0)
        with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=file, encoding="utf-8") as shard:
            for entry in shard:
                if (content := shard.extractfile(entry)) is not None:
                    digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
                    members[entry.name.removeprefix(f"{IMAGES}/")] = digest
    return ReadBack(md5.hexdigest(), sha256.hexdigest(), members)


def _trouble(digest: str, stored: StoredObject | None, size: int | None) -> Trouble | None:
    """What the remote's listing says against an object; the size and the md5 are compared where they are known."""
    if stored is None:
        return Trouble.OBJECTS_MISSING
    if stored.size != (stored.size if size is None else size):
        return Trouble.OBJECTS_CUT
    return None if stored.md5 in (None, digest.removesuffix(LISTING_ENDING)) else Trouble.OBJECTS_DAMAGED


def _has_size(remote: Remote, digest: str) -> bool:
    """Whether the cache of this volume tells that the object has its right size."""
    copy = remote.objects.cache / object_name(digest)
    return copy.is_file() and copy.stat().st_size == remote.there[digest].size


def _problems(remote: Remote, trouble: Trouble, files: Mapping[str, str]) -> list[Problem]:
    """One problem for the files that this machine's cache has whole, one for those that it has not."""
    where = remote.objects.storage.uri(f"dvc/{remote.objects.remote}")
    saved = {name for name, digest in files.items() if remote.objects.cached(digest) is not None}
    problems = []
    for repairable, remedy in _REMEDIES.items():
        if names := sorted(name for name in files if (name in saved) == repairable):
            message = f"{counted(len(names), 'file')} {_WHAT[trouble]} ({where}): {some_of(names, NAMES_SHOWN)}"
            digests = tuple(sorted({files[name] for name in names}))
            problems.append(Problem(trouble, message, remedy, repairable, tuple(names), digests))
    return problems
