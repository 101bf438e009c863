"""A version's files one by one: DVC's objects on the remote, each fetched once into the cache that DVC uses too."""

import contextlib
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sightline.services.storage.base import PARALLEL_SMALL, Storage, replacing
from sightline.services.versioning.object_transfers import (
    LISTING_ENDING,
    READ_ONLY,
    DamagedObjectError,
    is_whole,
    object_name,
    parse_listing,
)


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one DVC remote.

    Attributes:
        storage: the installation's.
        remote: `annotations` or `datasets`.
        cache: DVC's cache on this machine's volume.
    """

    storage: Storage
    remote: str
    cache: Path

    def key(self, digest: str) -> str:
        """Where an object lies in the storage."""
        return f"dvc/{self.remote}/{object_name(digest)}"

    def cached(self, digest: str) -> Path | None:
        """The object's whole copy in the cache, or None."""
        path = self.cache / object_name(digest)
        return path if is_whole(path, object_name(digest)) else None

    def read(self, digest: str) -> bytes:
        """An object's content, from the cache or else from the remote.

        Raises:
            StorageError: it is in neither.
            DamagedObjectError: the remote's content is another.
        """
        wanted = digest.removesuffix(LISTING_ENDING)
        path = self.cache / object_name(digest)
        with contextlib.suppress(FileNotFoundError):
            data = path.read_bytes()
            if _md5(data) == wanted:
                return data
        data = self.storage.read_bytes(self.key(digest))
        if _md5(data) != wanted:
            raise DamagedObjectError(
                f"{self.storage.uri(self.key(digest))} is damaged: its content has the md5 {_md5(data)}. "
                "Type: python pipeline.py verify --repair"
            )
        with replacing(path) as part:
            part.write_bytes(data)
            part.chmod(READ_ONLY)
        return data

    def read_all(self, digests: Iterable[str]) -> dict[str, bytes]:
        """The content of several small objects, by digest; raises like `read`."""
        wanted = sorted(set(digests))
        with ThreadPoolExecutor(PARALLEL_SMALL) as pool:
            return dict(zip(wanted, pool.map(self.read, wanted), strict=True))

    def listing(self, digest: str) -> dict[str, str]:
        """A version's files: path inside the version -> digest; raises like `read`."""
        return parse_listing(self.read(digest), self.storage.uri(self.key(digest)))


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
