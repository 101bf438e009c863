"""A version's files, named by the MD5 of their content: on a DVC remote, and in the cache on the volume that DVC uses too.

The layout is DVC's own, so that anybody's `dvc pull` works. The transfer is ours: `dvc push` takes a folder's listing on
the remote for a proof that its files are there, gives no reasons, and waits for a silent remote for ever.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from sightline.errors import SightlineError
from sightline.processes.batches import in_batches
from sightline.services.storage import base
from sightline.services.storage.folder import digest_file
from sightline.services.versioning.moving import READ_ONLY, move_into

log = logging.getLogger(__name__)

FOLDER: Final = "files/md5"
LISTING_ENDING: Final = ".dir"  # of the object that lists a folder's files
MD5: Final = partial(hashlib.md5, usedforsecurity=False)
MOVED_AT_ONCE: Final = 10_000  # objects that are uploaded or asked for; their paths take memory, and each time a folder's storage flushes the disk
PARTS: Final = [f"{number:02x}" for number in range(256)]  # how digests begin, each a folder of the remote's
SAMPLE: Final = PARTS[0]  # its objects are counted
LISTED_WHOLE: Final = 5000  # objects of a remote that is listed at once
BATCH: Final = 2000  # objects that a killed download loses at most
_REPAIR: Final = "Restore it from a backup, or type: python pipeline.py verify --repair"


class DamagedObjectError(SightlineError):
    """An object whose content is not what its name says."""


class LostObjectError(SightlineError):
    """A remote that lacks objects of a version."""


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one DVC remote, by digest (hex MD5, with `.dir` at its end for a folder's listing)."""

    storage: base.Storage
    remote: str  # `annotations` or `datasets`
    cache: Path  # DVC's, on this machine's volume

    def key(self, digest: str) -> str:
        """Where an object lies in the storage."""
        return self._key(object_name(digest))

    def cached(self, digest: str) -> Path | None:
        """The object's whole copy in the cache, or None."""
        path = self.cache / object_name(digest)
        return path if _is_whole(path, object_name(digest)) else None

    def read(self, digest: str) -> bytes:
        """An object's content, from the cache or else from the remote.

        A StorageError where it is in neither, a DamagedObjectError where the remote's content is another.
        """
        if found := self.cached(digest):
            return found.read_bytes()
        data = self.storage.read_bytes(self.key(digest))
        md5 = MD5(data).hexdigest()
        if md5 != digest.removesuffix(LISTING_ENDING):
            raise DamagedObjectError(
                f"{self.storage.uri(self.key(digest))} is damaged: its content has the md5 {md5}. "
                "Type: python pipeline.py verify --repair"
            )
        with base.replacing(self.cache / object_name(digest)) as part:
            part.write_bytes(data)
            part.chmod(READ_ONLY)
        return data

    def read_all(self, digests: Iterable[str]) -> dict[str, bytes]:
        """The content of several small objects, by digest; raises like `read`."""
        wanted = sorted(set(digests))
        with ThreadPoolExecutor(base.PARALLEL_SMALL) as pool:
            return dict(zip(wanted, pool.map(self.read, wanted), strict=True))

    def listing(self, digest: str) -> dict[str, str]:
        """A version's files: path inside the version -> digest; raises like `read`."""
        return _parse_listing(self.read(digest), self.storage.uri(self.key(digest)))

    def needed(self, digest: str) -> dict[str, int]:
        """What a pull of a folder needs: object name -> size in bytes. A LostObjectError when the cache does not hold all."""
        with base.local_errors():
            try:
                names = {object_name(digest), *self._cached_files(digest).values()}
                return {name: os.stat(f"{self.cache}/{name}").st_size for name in sorted(names)}  # noqa: PTH116 - thousands
            except FileNotFoundError as error:
                raise LostObjectError(
                    f"{error.filename} is gone, which was there when this began: `prune` on another machine, or somebody else, "
                    "removed it meanwhile. Nothing was published; run the same command again."
                ) from None

    def lacking(self, needed: Mapping[str, int]) -> list[str]:
        """Names of the objects (name -> size) that are not on the remote, or not with their size (in a bucket: their MD5)."""
        return list(self._not_right(needed))

    def stored(self, digests: Collection[str]) -> dict[str, base.StoredObject]:
        """Those of the objects that are on the remote, by digest; nothing is said of others."""
        names = {object_name(digest): digest for digest in digests}
        there: dict[str, base.StoredObject] = {}
        self._look_for(names, lambda name, item: there.update({names[name]: item}))
        return there

    def upload(self, needed: Mapping[str, int]) -> None:
        """Bring what the remote lacks there, the listing last.

        A DamagedObjectError for a cached object that is not whole: then nothing was uploaded. A StorageError where the remote
        failed for longer than the deadline.
        """
        lacking = self._not_right(needed)
        began = time.monotonic()
        for names in in_batches(lacking, MOVED_AT_ONCE):
            self._require_whole(names)
        # Others may upload the same at the same time: what is there is theirs and right, but for what is known to be wrong.
        for is_listing in (False, True):
            for is_wrong in (False, True):
                chosen = [
                    name
                    for name, wrong in lacking.items()
                    if name.endswith(LISTING_ENDING) == is_listing and wrong == is_wrong
                ]
                # Also where there are none: storage then removes what dead processes left half written.
                for names in list(in_batches(chosen, MOVED_AT_ONCE)) or [[]]:
                    files = {self._key(name): self.cache / name for name in names}
                    self.storage.upload_files(files, create_only=not is_wrong)
        size = sum(needed[name] for name in lacking)
        log.info("uploaded %d objects, %.1f MB, in %.1f s", len(lacking), size / 1e6, time.monotonic() - began)

    def fetch(self, digest: str, scratch: Path, target: Path, wanted: Collection[str] | None = None) -> None:
        """Fill a folder with the files that a listing names; objects that the cache lacks are brought there first.

        With `wanted` only with the files of these names. Each appears in the cache when it is whole, by way of `scratch`, a
        private folder.

        Raises:
            LostObjectError: the remote lacks objects.
            DamagedObjectError: an object's content is not what its name says.
            StorageError: the remote failed for longer than the deadline; says how.
        """
        with base.local_errors():
            self._fetch([object_name(digest)], scratch)
            files = self._cached_files(digest)
            if wanted is not None:
                files = {name: files[name] for name in wanted}
            self._fetch(sorted(set(files.values())), scratch)
            for parent in {(target / name).parent for name in files}:
                parent.mkdir(parents=True, exist_ok=True)
            for name, found in files.items():
                try:
                    os.link(self.cache / found, target / name)  # nobody can write to it
                except FileExistsError:
                    raise
                except OSError:  # no links here, or too many of one file
                    shutil.copyfile(self.cache / found, target / name)

    def _cached_files(self, digest: str) -> dict[str, str]:
        path = self.cache / object_name(digest)
        return {name: object_name(each) for name, each in _parse_listing(path.read_bytes(), str(path)).items()}

    def _key(self, name: str) -> str:
        return f"dvc/{self.remote}/{name}"

    def _not_right(self, needed: Mapping[str, int]) -> dict[str, bool]:
        """Names of the objects that are not on the remote as they should be, and whether something is there in their stead."""
        lacking = dict.fromkeys(needed, False)

        def compare(name: str, found: base.StoredObject) -> None:
            if found.size == needed[name] and found.md5 in (None, _md5_in(name)):
                del lacking[name]
            else:
                lacking[name] = True

        self._look_for(needed, compare)
        return lacking

    def _gone(self, names: Collection[str]) -> list[str]:
        lacking = set(names)
        self._look_for(set(names), lambda name, _: lacking.discard(name))
        return sorted(lacking)

    def _look_for(self, names: Collection[str], tell: Callable[[str, base.StoredObject], None]) -> None:
        """Tell of those of the objects that the remote has: asked for one by one, or out of a listing where that is quicker.

        Nothing is kept of them, of which there may be hundreds of thousands. Digests are spread evenly, so that a small part of
        the remote tells how large the whole is.
        """
        start = len(self._key(""))

        def look_into(folder: str) -> None:
            for item in self.storage.list(self._key(folder)):
                if (name := item.key[start:]) in names:
                    tell(name, item)

        total = len(PARTS) * sum(1 for _ in self.storage.list(self._key(f"{FOLDER}/{SAMPLE}")))
        if total > len(names) * self.storage.listed_at_once:
            for batch in in_batches(names, MOVED_AT_ONCE):
                for item in self.storage.find([self._key(name) for name in batch]).values():
                    tell(item.key[start:], item)
        elif total > LISTED_WHOLE:  # pages of one folder come one after the other
            folders = [f"{FOLDER}/{beginning}" for beginning in PARTS]
            base.in_parallel(look_into, folders, self.storage.parallel_small, "looking at the remote")
        else:
            look_into(FOLDER)

    def _require_whole(self, names: Collection[str]) -> None:
        with base.local_errors():
            if damaged := _not_whole({name: self.cache / name for name in names}):
                for name in damaged:
                    (self.cache / name).unlink(missing_ok=True)
                raise DamagedObjectError(
                    f"{self.cache / damaged[0]} is damaged: its content is not what its name says. The disk may be full or failing. "
                    "It was removed, and nothing was published; run the same command again."
                )

    def _fetch(self, names: Collection[str], scratch: Path) -> None:
        for batch in in_batches(_not_whole({name: self.cache / name for name in names}), BATCH):
            parts = {name: scratch / name.replace("/", "-") for name in batch}
            scratch.mkdir(parents=True, exist_ok=True)
            try:
                self.storage.download_files({self._key(name): part for name, part in parts.items()})
            except base.NoSuchObjectError:
                if not (gone := self._gone(names)):
                    raise
                raise LostObjectError(
                    f"{len(gone)} of {len(names)} objects of this version are gone from the remote, the first "
                    f"{self.storage.uri(self._key(gone[0]))}. {_REPAIR}"
                ) from None
            finally:  # also what arrived before a failure
                damaged = _not_whole(parts)
                whole = [(f"{parts[name]}", f"{self.cache}/{name}") for name in parts.keys() - set(damaged)]
                base.in_parallel(lambda pair: move_into(*pair), whole)
            if damaged:
                raise DamagedObjectError(
                    f"{self.storage.uri(self._key(damaged[0]))} is damaged: its content is not what its name says. "
                    f"It was not kept. {_REPAIR}"
                )


def object_name(digest: str) -> str:
    """The path in a remote and in the cache of an object: hex MD5, with `.dir` at its end for a folder's listing."""
    return f"{FOLDER}/{digest[:2]}/{digest[2:]}"


def _parse_listing(data: bytes, where: str) -> dict[str, str]:
    """A listing's files: path inside the folder -> digest. `where` names the listing in a DamagedObjectError."""
    try:
        files = {str(entry["relpath"]): str(entry["md5"]) for entry in orjson.loads(data)}
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


def _not_whole(paths: Mapping[str, Path]) -> list[str]:
    """The names of the objects of which no whole copy lies at its path, sorted."""
    found: list[str] = []
    base.in_parallel(lambda name: None if _is_whole(paths[name], name) else found.append(name), paths, doing="checking")
    return sorted(found)


def _is_whole(path: Path, name: str) -> bool:
    """Whether there is such a file, with the content that the object's name says."""
    try:
        return digest_file(path, MD5)[1] == _md5_in(name)
    except FileNotFoundError:
        return False


def _md5_in(name: str) -> str:
    """The digest in an object's name, without the ending of a listing's."""
    _, beginning, rest = name.rsplit("/", 2)
    return (beginning + rest).removesuffix(LISTING_ENDING)
