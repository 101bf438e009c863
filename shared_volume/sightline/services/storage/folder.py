"""Storage in a folder of this machine: `file:///path`."""

import base64
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from sightline.processes.folders import private_folder, remove_abandoned, remove_file
from sightline.services.storage import base

BLOCK = 1 << 20  # bytes read at a time
UPLOADS = f".uploads{base.PART}"  # the folder of what is being uploaded; what dead processes left there is removed
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")


class FolderStorage(base.Storage):
    """A Storage whose keys are paths below a folder, which the first write creates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def root(self) -> str:
        return self._folder.as_uri().rstrip("/")

    def uri(self, key: str) -> str:
        return self._path(key).as_uri()

    def exists(self, key: str) -> bool:
        with base.local_errors():
            return self._path(key).is_file()

    def read_bytes(self, key: str) -> bytes:
        with base.local_errors():
            return self._existing(key).read_bytes()

    def write_bytes(self, key: str, data: bytes, create_only: bool = False) -> None:
        with base.local_errors(), base.replacing(self._path(key), create_only) as part:
            part.write_bytes(data)

    def _upload(self, local: Path, key: str) -> None:
        with base.replacing(self._path(key)) as part:
            shutil.copyfile(local, part)

    def upload_folder(self, local_dir: Path, prefix: str) -> tuple[str, ...]:
        files = {base.join_key(prefix, name): path for name, path in base.files_below(local_dir).items()}
        with base.local_errors():
            changed = {key: path for key, path in files.items() if not _same(path, self._path(key))}
        self.upload_files(changed)
        return tuple(files)

    def upload_files(self, files: Mapping[str, Path], create_only: bool = False) -> None:
        if (self._folder / UPLOADS).is_dir():
            remove_abandoned(self._folder / UPLOADS)
        if not files:
            return
        with base.local_errors(), private_folder(self._folder / UPLOADS, "files-") as private:
            # Plain paths: thousands of Path objects take more time than the copies, and the memory of ten of them.
            moves = [
                (f"{private}/{number}", f"{self._folder}/{base.check_key(key)}") for number, key in enumerate(files)
            ]
            pairs = zip(files.values(), moves, strict=True)
            base.in_parallel(lambda pair: shutil.copyfile(pair[0], pair[1][0]), list(pairs))
            os.sync()  # once; a flush of each file takes several times as long as its copy
            folders = {target.rpartition("/")[0] for _, target in moves}
            for folder in folders:
                os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            for part, target in moves:
                if create_only:
                    with suppress(FileExistsError):
                        os.link(part, target)  # unlike a rename, a link never replaces
                else:
                    os.replace(part, target)  # noqa: PTH105
            for folder in folders:
                base.flush(Path(folder))

    def _download(self, key: str, target: Path) -> None:
        shutil.copyfile(self._existing(key), target)

    def delete(self, key: str) -> bool:
        with base.local_errors():
            path = self._path(key)
            return path.is_file() and remove_file(path)

    def list(self, prefix: str = "", checksums: bool = False) -> Iterator[base.StoredObject]:
        with base.local_errors():
            for name, path in sorted(base.walk(self._path(prefix) if prefix else self._folder).items()):
                try:
                    checksum = crc32c(path) if checksums else None
                    found = path.stat()
                except FileNotFoundError:
                    continue  # removed since the folder was listed, as a bucket would not list it either
                changed = datetime.fromtimestamp(found.st_mtime, UTC)
                yield base.StoredObject(base.join_key(prefix, name), found.st_size, checksum, changed_at=changed)

    def find(self, keys: Collection[str]) -> dict[str, base.StoredObject]:
        found = {}
        with base.local_errors():
            for key in keys:
                with suppress(FileNotFoundError, NotADirectoryError):
                    status = os.stat(f"{self._folder}/{base.check_key(key)}")  # noqa: PTH116 - thousands of files
                    if stat.S_ISREG(status.st_mode):
                        changed = datetime.fromtimestamp(status.st_mtime, UTC)
                        found[key] = base.StoredObject(key, status.st_size, None, changed_at=changed)
        return found

    def _path(self, key: str) -> Path:
        return self._folder / base.check_key(key)

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise self._missing(key)
        return path

    def _missing(self, key: str) -> base.NoSuchObjectError:
        folder = self._folder / PurePosixPath(key).parent
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return base.missing((self._folder / key).as_uri(), key, names[: base.NEARBY * 10])


def local_path(uri: str) -> Path:
    """The absolute path that a `file://` URI or a plain path (`~` is the user's home) names; a StorageError for another or malformed URI."""
    if not uri.strip() or "\0" in uri:
        raise base.StorageError(f"{uri!r} is no path or URI. Give file:///path or gs://bucket/prefix.")
    if not uri.startswith("file:"):
        if scheme := _SCHEME.match(uri):
            raise base.StorageError(
                f"{uri}: {scheme[1]} is not a kind of storage. Give file:///path or gs://bucket/prefix."
            )
        return Path(uri).expanduser().absolute()
    host, slash, path = uri.removeprefix("file:").removeprefix("//").partition("/")
    if host not in ("", "localhost") or not slash:
        raise base.StorageError(f"{uri} is not an absolute path. Write three slashes: file:///path.")
    return Path(unquote(f"/{path}"))


def digest_file(path: str | Path, method: Callable[[], "hashlib._Hash"]) -> tuple[int, str]:
    """A file's size in bytes and hex digest. Small files, of which there are thousands, are read at once."""
    digest, size = method(), 0
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def _same(path: Path, stored: Path) -> bool:
    """Whether a file is stored already, as a bucket would tell by size and checksum."""
    if not stored.is_file() or path.stat().st_size != stored.stat().st_size:
        return False
    return crc32c(path) == crc32c(stored)


def crc32c(path: Path) -> str:
    """The CRC32C of a file's content as Cloud Storage writes it (base64)."""
    import google_crc32c  # comes with Google's client; only checksums need it

    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()
