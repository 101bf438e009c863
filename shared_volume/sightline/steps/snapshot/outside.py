"""Digests of what a run reads from places that no version names: folders of images, bundles given by URI.

A step's inputs name what it reads, or a reused result would be a stale one.
"""

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

from sightline.errors import did_you_mean
from sightline.images.limits import IMAGE_SUFFIXES
from sightline.models.bundle import MANIFEST
from sightline.models.store import find_bundle
from sightline.services.storage.access import open_storage
from sightline.services.storage.base import StorageError
from sightline.services.storage.folder import local_path


def require_images(uri: str) -> None:
    """Make sure that there is an image to test on, else a StorageError; an empty URI names none, and is all right."""
    if not uri:
        return
    folder = None if uri.startswith("gs://") else local_path(uri)
    if folder and folder.is_file():
        raise StorageError(f"{uri} is a single file. Give the folder or prefix that holds the images.")
    if folder and not folder.is_dir():
        beside = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        raise StorageError(
            f"There is no folder {uri} to test on.{did_you_mean(folder.name, beside)} Give one that holds images, or leave it "
            "out: then the test split is used."
        )
    if not any(PurePosixPath(item.key).suffix.lower() in IMAGE_SUFFIXES for item in open_storage(uri).list()):
        raise StorageError(f"There is no image below {uri} ({', '.join(sorted(IMAGE_SUFFIXES))}).")


def images_digest(uri: str) -> str:
    """A digest that changes when a file below a folder or prefix does; empty for an empty URI.

    In a bucket the objects' checksums are compared, in a folder sizes and times.
    """
    if not uri:
        return ""
    if uri.startswith("gs://"):
        objects = open_storage(uri).list(checksums=True)
        return _digest(f"{item.key} {item.checksum}" for item in objects)
    folder = local_path(uri)
    files = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return _digest(
        f"{path.relative_to(folder).as_posix()} {facts.st_size} {facts.st_mtime_ns}" for path, facts in files
    )


def models_digest(uris: Iterable[str]) -> str:
    """A digest of the manifests of bundles, empty when there are none; a StorageError where there is no such bundle."""
    given = [(uri, open_storage(find_bundle(uri).rstrip("/")).read_bytes(MANIFEST)) for uri in uris if uri]
    return _digest(f"{uri} {hashlib.sha256(manifest).hexdigest()}" for uri, manifest in given) if given else ""


def _digest(lines: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for line in lines:
        whole.update(f"{line}\n".encode())
    return whole.hexdigest()[:16]
