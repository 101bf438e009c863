"""Storage in a Google Cloud Storage bucket: `gs://bucket[/prefix]`. Only this file knows Google's client."""

import http.client
import logging
import mimetypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

import requests
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY

from sightline.deadline import deadline_seconds
from sightline.storage.base import (
    NEARBY,
    PARALLEL,
    NoSuchObjectError,
    ObjectExistsError,
    StorageDeniedError,
    StorageError,
    StorageUnreachableError,
    StoredObject,
    check_key,
    files_below,
    filling,
    join_key,
    key_of,
    local_errors,
    missing,
    replacing,
)
from sightline.storage.folder import crc32c

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0  # without a byte on an open connection
LONGEST_PAUSE_SECONDS = 8.0  # between two attempts
CHUNK = 16 << 20  # bytes of a large upload that one attempt repeats
WRITER = "sightline-writer"  # metadata: which write made an object
UNREACHABLE = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    http.client.HTTPException,
    auth.TransportError,
    api.RetryError,
    api.ServerError,
    api.TooManyRequests,
)
DENIED = (api.Forbidden, api.Unauthorized, auth.DefaultCredentialsError, auth.RefreshError)


class BucketStorage:
    """A Storage whose keys are object names below a prefix of one bucket."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self._name, self._prefix = bucket, prefix
        self._deadline = deadline_seconds()
        self._patience = _Patience(self._deadline)
        silence = min(SILENCE_SECONDS, self._deadline)
        pause = min(LONGEST_PAUSE_SECONDS, self._deadline / 4)
        self._request = {
            "timeout": (min(CONNECT_SECONDS, self._deadline), silence),
            "retry": Retry(predicate=self._patience, timeout=None, initial=0.2, maximum=pause),
        }
        # The client would ask for the bucket's metadata beside every first request, for traces that nobody reads.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        with self._asking(self.root):
            emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
            self._client = storage.Client(project=None, credentials=AnonymousCredentials() if emulated else None)
            self._client._http.hooks["response"].append(self._patience.heard)
            self._bucket = self._client.bucket(bucket)

    @property
    def root(self) -> str:
        return f"gs://{join_key(self._name, self._prefix)}"

    def uri(self, key: str) -> str:
        return f"{self.root}/{check_key(key)}"

    def exists(self, key: str) -> bool:
        with self._asking(self.uri(key)):
            if self._blob(key).exists(**self._request):
                return True
            self._require_bucket()
            return False

    def read_bytes(self, key: str) -> bytes:
        with self._asking(self.uri(key), key):
            return self._blob(key).download_as_bytes(checksum="auto", **self._request)

    def write_bytes(self, key: str, data: bytes, create_only: bool = False) -> None:
        with self._asking(self.uri(key), key), self._creating(key, create_only) as (blob, condition):
            kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
            blob.upload_from_string(data, content_type=kind, checksum="auto", **condition, **self._request)

    def upload_file(self, local: Path, key: str, create_only: bool = False) -> str:
        if not local.is_file():
            raise StorageError(f"There is no file {local} to upload. Check the path.")
        with local_errors(), self._asking(self.uri(key), key), self._creating(key, create_only) as (blob, condition):
            blob.upload_from_filename(str(local), checksum="auto", **condition, **self._request)
        return self.uri(key)

    def upload_folder(self, local_dir: Path, prefix: str) -> tuple[str, ...]:
        with local_errors():
            files = {join_key(prefix, name): path for name, path in files_below(local_dir).items()}
            stored = {found.key: found for found in self.list(prefix)}
            wanted = [key for key, path in files.items() if not _same(path, stored.get(key))]
            with self._asking(f"{self.root}/{prefix}"):
                transfer_manager.upload_many(
                    [(str(files[key]), self._new_blob(key)) for key in wanted],
                    upload_kwargs={"checksum": "auto", **self._request},
                    raise_exception=True,
                    worker_type=transfer_manager.THREAD,
                    max_workers=PARALLEL,
                )
        return tuple(files)

    def download_file(self, uri_or_key: str, local: Path) -> None:
        key = key_of(uri_or_key, self.root)
        with local_errors(), replacing(local) as part, self._asking(self.uri(key), key):
            self._blob(key).download_to_filename(str(part), checksum="auto", **self._request)

    def download_folder(self, prefix: str, local_dir: Path) -> None:
        found = list(self.list(prefix))
        if not found:
            raise self._missing(prefix)
        inside = len(prefix) + 1 if prefix else 0
        with local_errors(), filling(local_dir, {each.key: each.key[inside:] for each in found}) as targets:
            uri = f"{self.root}/{prefix}"
            with self._asking(uri):
                transfer_manager.download_many(
                    [(self._blob(key), str(target)) for key, target in targets.items()],
                    download_kwargs={"checksum": "auto", **self._request},
                    raise_exception=True,
                    worker_type=transfer_manager.THREAD,
                    max_workers=PARALLEL,
                )
            _check_sizes(uri, found, targets)

    def delete(self, key: str) -> None:
        with self._asking(self.uri(key)):
            try:
                self._blob(key).delete(**self._request)
            except api.NotFound:
                self._require_bucket()

    def list(self, prefix: str = "", checksums: bool = False) -> Iterator[StoredObject]:
        folder = self._object_name(check_key(prefix)) if prefix else self._prefix
        with self._asking(f"gs://{join_key(self._name, folder)}"):
            blobs = self._client.list_blobs(
                self._bucket,
                prefix=f"{folder}/" if folder else None,
                fields="items(name,size,crc32c),nextPageToken",
                **self._request,
            )
            for blob in blobs:
                if not blob.name.endswith("/"):  # Google's console marks an empty folder with such an object
                    key = blob.name[len(self._prefix) + 1 if self._prefix else 0 :]
                    yield StoredObject(key, blob.size, blob.crc32c)

    def _object_name(self, key: str) -> str:
        return join_key(self._prefix, key)

    def _blob(self, key: str) -> storage.Blob:
        return self._bucket.blob(self._object_name(check_key(key)))

    def _new_blob(self, key: str) -> storage.Blob:
        blob = self._blob(key)
        blob.chunk_size = CHUNK  # for uploads only: a download in chunks would go unverified
        return blob

    @contextmanager
    def _creating(self, key: str, create_only: bool) -> Iterator[tuple[storage.Blob, dict[str, int]]]:
        """The object to write and the write's precondition.

        A create-only write whose first answer got lost is repeated, and then meets its own object: the writer's
        mark in the metadata tells that from another's.
        """
        blob, writer = self._new_blob(key), uuid4().hex
        if not create_only:
            yield blob, {}
            return
        blob.metadata = {WRITER: writer}
        try:
            yield blob, {"if_generation_match": 0}
        except api.PreconditionFailed:
            stored = self._bucket.get_blob(blob.name, **self._request)
            if stored is None or (stored.metadata or {}).get(WRITER) != writer:
                raise ObjectExistsError(
                    f"{self.uri(key)} is there already, and was to be created. Nothing was written."
                ) from None

    def _require_bucket(self) -> None:
        """Raise NotFound when it is the bucket that is missing: an object's own answer does not tell."""
        next(iter(self._client.list_blobs(self._bucket, max_results=1, **self._request)), None)

    def _missing(self, key: str) -> NoSuchObjectError:
        parent = str(PurePosixPath(key).parent)
        folder = self._object_name("" if parent == "." else parent).rstrip("/")
        start = len(folder) + 1 if folder else 0
        uri = f"{self.root}/{key}".rstrip("/")
        with self._asking(uri):
            blobs = self._client.list_blobs(
                self._bucket,
                prefix=f"{folder}/" if folder else None,
                delimiter="/",
                max_results=NEARBY * 10,
                **self._request,
            )
            names = [blob.name[start:] for blob in blobs]
            names += [name[start:].rstrip("/") for name in blobs.prefixes]
        return missing(uri, key, sorted(filter(None, names)))

    @contextmanager
    def _asking(self, uri: str, key: str | None = None) -> Iterator[None]:
        """Turn what goes wrong on the way to `uri` into our errors; `key` when a 404 means that object."""
        started = time.monotonic()
        self._patience.start()
        try:
            yield
        except DENIED as error:
            raise self._denied(uri, error) from error
        except UNREACHABLE as error:
            host = getattr(getattr(self, "_client", None), "api_endpoint", "Google's sign-in")
            raise StorageUnreachableError(
                f"{uri} could not be reached: {host} gave no usable answer for {time.monotonic() - started:.0f} s "
                f"({_cause(error)}). Check the network, STORAGE_EMULATOR_HOST if set, and SIGHTLINE_TIMEOUT "
                f"(now {self._deadline:g} s)."
            ) from error
        except api.NotFound as error:
            if key is not None:
                raise self._missing(key) from error
            raise NoSuchObjectError(
                f"There is no bucket gs://{self._name}, or you may not see it. Check SIGHTLINE_STORAGE, or create it: "
                f"gcloud storage buckets create gs://{self._name}"
            ) from error
        except DataCorruption as error:
            raise StorageError(f"{uri} arrived with a wrong checksum; nothing was kept. Try again.") from error
        except (api.GoogleAPICallError, auth.GoogleAuthError, requests.RequestException) as error:
            raise StorageError(f"Cloud Storage refused {uri}: {_cause(error)}.") from error

    def _denied(self, uri: str, error: Exception) -> StorageDeniedError:
        if isinstance(error, auth.GoogleAuthError):
            return StorageDeniedError(
                f"No valid Google credentials for {uri} ({_cause(error)}). Run `gcloud auth application-default login`, "
                f"or set GOOGLE_APPLICATION_CREDENTIALS; on a cluster bind the service account."
            )
        return StorageDeniedError(
            f"No permission for {uri} ({_cause(error)}). Grant this account the role roles/storage.objectAdmin on "
            f"gs://{self._name}."
        )


class _Patience:
    """Says whether a failed request is worth repeating: while the service has not been failing for a whole deadline.

    Counted from the first failure after the last good answer, over all threads, so that a long transfer survives
    many short faults and a thousand files do not wait for a dead service one after the other.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._failing_since: float | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            self._failing_since = None

    def heard(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """Take note of an answer (a hook of requests)."""
        if response.status_code < 500 and response.status_code not in (408, 429):
            self.start()

    def __call__(self, error: Exception) -> bool:
        if not DEFAULT_RETRY._predicate(error):  # Google's own list of what passes
            return False
        now = time.monotonic()
        with self._lock:
            self._failing_since = self._failing_since or now
            failing = now - self._failing_since
        log.warning("storage: %s; failing for %.0f s of %g s", _cause(error), failing, self._seconds)
        return failing < self._seconds


def _same(path: Path, stored: StoredObject | None) -> bool:
    return stored is not None and stored.size == path.stat().st_size and stored.checksum == crc32c(path)


def _check_sizes(uri: str, found: list[StoredObject], targets: dict[str, Path]) -> None:
    for each in found:
        size = targets[each.key].stat().st_size
        if size != each.size:
            raise StorageError(
                f"{uri}: {each.key} arrived with {size} bytes, not {each.size}; nothing was kept. Try again."
            )


def _cause(error: BaseException) -> str:
    """The innermost reason, in one line."""
    text = str(getattr(error, "message", "") or error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
