"""The one door to stored files: a folder (`file:///path`) or a Cloud Storage bucket (`gs://bucket/prefix`), used alike."""

import re
from pathlib import Path

from sightline.services.storage.base import Storage, StorageError, check_key, local_errors
from sightline.services.storage.folder import FolderStorage, local_path

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def open_storage(root: str) -> Storage:
    """The storage at `gs://bucket[/prefix]`, `file:///path` or the plain path of a folder.

    Reaches nothing yet, so a bucket may turn out to be missing at the first use.

    Raises:
        StorageError: another kind of URI, or a malformed one.
        StorageDeniedError: a bucket, but this machine has no Google credentials.
    """
    if not root.startswith("gs://"):
        return FolderStorage(local_path(root))
    bucket, prefix = _bucket_and_key(root)
    from sightline.services.storage.bucket import BucketStorage  # only buckets need Google's client

    return BucketStorage(bucket, prefix)


def fetch(uri: str, target: Path) -> Path:
    """Copy a file or a folder, at any `gs://` or `file://` URI or a plain path, to `target`; all of it or nothing.

    The target is its own new path, and returned. A file there is replaced, a folder with files in it is refused.

    Raises:
        NoSuchObjectError: nothing lies there; names what lies near.
        StorageError: `target` is in use, or the copy failed (the subclass says how).
    """
    if uri.startswith("gs://"):
        bucket, key = _bucket_and_key(uri)
        storage = open_storage(f"gs://{bucket}")
        is_file = bool(key) and not uri.endswith("/") and storage.exists(key)
    else:
        path = local_path(uri)
        with local_errors():
            is_folder, is_file = path.is_dir(), path.is_file()
        storage, key = FolderStorage(path if is_folder else path.parent), "" if is_folder else path.name
    (storage.download_file if is_file else storage.download_folder)(key, target)
    return target


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("gs://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(
            f"{uri} names no bucket. Write gs://bucket/prefix; a bucket has 3 to 222 small letters and digits."
        )
    key = key.rstrip("/")
    return bucket, check_key(key) if key else ""
