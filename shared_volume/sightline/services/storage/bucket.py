"""Storage in a Google Cloud Storage bucket: `gs://bucket[/prefix]`. Only this file knows Google's client."""

import base64
import http.client
import mimetypes
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from requests.adapters import HTTPAdapter

from sightline.errors import clause
from sightline.processes.deadline import deadline_seconds
from sightline.services.storage import base
from sightline.services.storage.folder import crc32c
from sightline.services.storage.patience import Patience, cause_of

PARALLEL_EMULATED = 4  # an emulator serves one request at a time, and turns away those that queue
LISTED_AT_ONCE = 100  # of a page's 1000: pages come one after the other, answers about single objects 32 at a time
CHUNK = 16 << 20  # bytes of a large upload that one attempt repeats
WRITER = "sightline-writer"  # metadata: which write made an object
UNREACHABLE = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    http.client.HTTPException,
    urllib3.exceptions.HTTPError,
    auth.TransportError,
    api.RetryError,
    api.ServerError,
    api.TooManyRequests,
)


class BucketStorage(base.Storage):
    """A Storage whose keys are object names below a prefix of one bucket."""

    listed_at_once = LISTED_AT_ONCE

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self._name, self._prefix = bucket, prefix
        self._deadline = deadline_seconds()
        patience = Patience(self._deadline)
        self._request = {"timeout": (patience.connecting, patience.silence), "retry": patience}
        # The client would ask for the bucket's metadata beside every first request, for traces that nobody reads.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        with self._asking(self.root):
            emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
            self.parallel_small = PARALLEL_EMULATED if emulated else base.PARALLEL_SMALL
            self._client = storage.Client(project=None, credentials=AnonymousCredentials() if emulated else None)
            for scheme in ("https://", "http://"):
                self._client._http.mount(scheme, HTTPAdapter(pool_maxsize=base.PARALLEL_SMALL))
            self._bucket = self._client.bucket(bucket)

    @property
    def root(self) -> str:
        return f"gs://{base.join_key(self._name, self._prefix)}"

    def uri(self, key: str) -> str:
        return f"{self.root}/{base.check_key(key)}"

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
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        blob, condition, writer = self._new_blob(key), {}, uuid4().hex
        if create_only:
            # One whose first answer got lost is repeated, and then meets its own object: the mark tells that from another's.
            blob.metadata, condition = {WRITER: writer}, {"if_generation_match": 0}
        with self._asking(self.uri(key), key):
            try:
                blob.upload_from_string(data, content_type=kind, checksum="auto", **condition, **self._request)
            except api.PreconditionFailed:
                if not create_only:
                    raise
                stored = self._bucket.get_blob(blob.name, **self._request)
                if stored is None or (stored.metadata or {}).get(WRITER) != writer:
                    raise base.ObjectExistsError(
                        f"{self.uri(key)} is there already, and was to be created. Nothing was written."
                    ) from None

    def _upload(self, local: Path, key: str) -> None:
        with self._asking(self.uri(key), key):
            self._new_blob(key).upload_from_filename(str(local), checksum="auto", **self._request)

    def upload_folder(self, local_dir: Path, prefix: str) -> tuple[str, ...]:
        with base.local_errors():
            files = {base.join_key(prefix, name): path for name, path in base.files_below(local_dir).items()}
            stored = {found.key: found for found in self.list(prefix)}
            self.upload_files({key: path for key, path in files.items() if not _same(path, stored.get(key))})
        return tuple(files)

    def upload_files(self, files: Mapping[str, Path], create_only: bool = False) -> None:
        condition = {"if_generation_match": 0} if create_only else {}

        def upload(key: str) -> None:
            with suppress(api.PreconditionFailed):  # it is there already
                self._new_blob(key).upload_from_filename(str(files[key]), checksum="auto", **condition, **self._request)

        with base.local_errors():
            small = {key for key, path in files.items() if path.stat().st_size <= base.SMALL}
            folder = os.path.commonpath([key.rpartition("/")[0] for key in files]) if files else ""
            with self._asking(f"{self.root}/{folder}".rstrip("/")):
                base.in_parallel(upload, small, self.parallel_small, "uploading")
                base.in_parallel(upload, files.keys() - small, base.PARALLEL, "uploading")

    def _download(self, key: str, target: Path) -> None:
        with self._asking(self.uri(key), key):
            self._blob(key).download_to_filename(str(target), checksum="auto", **self._request)

    def delete(self, key: str) -> bool:
        with self._asking(self.uri(key)):
            try:
                self._blob(key).delete(**self._request)
            except api.NotFound:
                self._require_bucket()
                return False
            return True

    def list(self, prefix: str = "", checksums: bool = False) -> Iterator[base.StoredObject]:
        folder = self._object_name(base.check_key(prefix)) if prefix else self._prefix
        with self._asking(f"gs://{base.join_key(self._name, folder)}"):
            for blob in self._list(folder, fields="items(name,size,crc32c,md5Hash,updated),nextPageToken"):
                if not blob.name.endswith("/"):  # Google's console marks an empty folder with such an object
                    yield _stored(blob.name.removeprefix(f"{self._prefix}/") if self._prefix else blob.name, blob)

    def find(self, keys: Collection[str]) -> dict[str, base.StoredObject]:
        found: dict[str, base.StoredObject] = {}

        def ask(key: str) -> None:
            if (blob := self._bucket.get_blob(self._object_name(base.check_key(key)), **self._request)) is not None:
                found[key] = _stored(key, blob)

        with self._asking(self.root):
            base.in_parallel(ask, keys, self.parallel_small, "asking")
            if len(found) < len(keys):
                self._require_bucket()
        return found

    def _object_name(self, key: str) -> str:
        return base.join_key(self._prefix, key)

    def _blob(self, key: str) -> storage.Blob:
        return self._bucket.blob(self._object_name(base.check_key(key)))

    def _new_blob(self, key: str) -> storage.Blob:
        blob = self._blob(key)
        blob.chunk_size = CHUNK  # for uploads only: a download in chunks would go unverified
        return blob

    def _require_bucket(self) -> None:
        """Raise NotFound when it is the bucket that is missing: an object's own answer does not tell."""
        next(iter(self._list("", max_results=1)), None)

    def _missing(self, key: str) -> base.NoSuchObjectError:
        folder = self._object_name(key.rpartition("/")[0])
        uri = f"{self.root}/{key}".rstrip("/")
        with self._asking(uri):
            blobs = self._list(folder, delimiter="/", max_results=base.NEARBY * 10)
            names = [*(blob.name for blob in blobs), *blobs.prefixes]
        inside = (name.removeprefix(f"{folder}/").rstrip("/") for name in names)
        return base.missing(uri, key, sorted(filter(None, inside)))

    def _list(self, folder: str, **options: Any) -> Any:
        prefix = f"{folder}/" if folder else None
        return self._client.list_blobs(self._bucket, prefix=prefix, **options, **self._request)

    @contextmanager
    def _asking(self, uri: str, key: str | None = None) -> Iterator[None]:
        """Turn what goes wrong on the way to `uri` into our errors; `key` when a 404 means that object."""
        started = time.monotonic()
        try:
            yield
        except (auth.DefaultCredentialsError, auth.RefreshError) as error:
            raise base.StorageDeniedError(
                f"No valid Google credentials for {uri} ({cause_of(error)}). Run `gcloud auth application-default login`, "
                "or set GOOGLE_APPLICATION_CREDENTIALS; on a cluster bind the service account."
            ) from error
        except (api.Forbidden, api.Unauthorized) as error:
            raise base.StorageDeniedError(
                f"No permission for {uri} ({cause_of(error)}). Grant this account the role roles/storage.objectAdmin on "
                f"gs://{self._name}."
            ) from error
        except UNREACHABLE as error:
            host = getattr(getattr(self, "_client", None), "api_endpoint", "Google's sign-in")
            raise base.StorageUnreachableError(
                f"{uri} could not be reached: {host} gave no usable answer for {time.monotonic() - started:.0f} s "
                f"({cause_of(error)}). Check the network, STORAGE_EMULATOR_HOST if set, and SIGHTLINE_TIMEOUT "
                f"(now {self._deadline:g} s)."
            ) from error
        except api.NotFound as error:
            if key is not None:
                raise self._missing(key) from error
            raise base.NoSuchObjectError(
                f"There is no bucket gs://{self._name}, or you may not see it. Check SIGHTLINE_STORAGE, or create it: "
                f"gcloud storage buckets create gs://{self._name}"
            ) from error
        except DataCorruption as error:
            raise base.StorageError(f"{uri} arrived with a wrong checksum; nothing was kept. Try again.") from error
        except (api.GoogleAPICallError, auth.GoogleAuthError, requests.RequestException) as error:
            raise base.StorageError(f"Cloud Storage refused {uri}: {clause(cause_of(error))}.") from error


def _stored(key: str, blob: storage.Blob) -> base.StoredObject:
    md5 = base64.b64decode(blob.md5_hash).hex() if blob.md5_hash else None
    return base.StoredObject(key, blob.size, blob.crc32c, md5, blob.updated)


def _same(path: Path, stored: base.StoredObject | None) -> bool:
    return stored is not None and stored.size == path.stat().st_size and stored.checksum == crc32c(path)
