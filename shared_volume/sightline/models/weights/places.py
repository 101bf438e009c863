"""Where a training's first weights lie, as a user says it: a file, a bundle, a web address, a name."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from sightline.errors import did_you_mean
from sightline.models import mmdet_index
from sightline.models.weights.base import WeightsError
from sightline.models.weights.digests import ENDINGS, WHOLE, digest_in
from sightline.models.weights.named import NAMED
from sightline.services.storage.addresses import check_address, shown
from sightline.services.storage.folder import local_path

AUTO: Final = "auto"
FORMS: Final = (
    "a file or folder, gs://…, https://…, a model that Sightline trained, mmdet::NAME, auto, or one of the named sets: "
    f"{', '.join(NAMED)}"
)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MARK: Final = "#sha256="


class Kind(StrEnum):
    """What has to be done to get at them."""

    FILE = "file"  # one file in a folder or a bucket
    STORED = "stored"  # a bundle, a reference to one, or a folder with one file of weights
    ADDRESS = "address"  # a file on a web server
    NAMED = "named"  # a file in a Python package


@dataclass(frozen=True, slots=True)
class WeightsPlace:
    """One place of weights; nothing was looked at there yet."""

    kind: Kind
    uri: str = field(repr=False)  # may hold a password; of a named set its name
    text: str  # as it may be printed
    name: str  # of the file; empty for a bundle or folder
    digest: str  # SHA-256 of the file in hex, whole or its beginning (8 digits at least); empty where nothing tells it


def parse(where: str, config: str = "") -> WeightsPlace:
    """The place that a user's words name; `config` is the one that is trained, which `auto` asks for.

    Raises:
        WeightsError: these words name no place; says which would.
        ConfigError: mmdet has no config of that name.
        StorageError: a malformed path or address.
    """
    base, digest = _split_digest(where.strip())
    if base == AUTO:
        if not config.startswith(mmdet_index.PREFIX):
            raise WeightsError(
                f"Weights {AUTO!r} are those that were published for a config of mmdet, and the config is {config or 'not given'!r}. "
                f"Choose a config mmdet::NAME, or say where the weights are: {FORMS.replace(f'{AUTO}, ', '')}."
            )
        base = config
    if base.startswith(mmdet_index.PREFIX):
        return _published(base, digest)
    if base in NAMED:
        chosen = NAMED[base]
        return WeightsPlace(Kind.NAMED, base, base, chosen.file_name, digest or chosen.sha256)
    scheme = _SCHEME.match(base)
    if scheme and scheme[1].lower() in ("https", "http"):
        return _address(base, digest)
    if scheme and scheme[1].lower() not in ("gs", "file"):
        raise WeightsError(f"Weights cannot be fetched from {scheme[1]}://. Give {FORMS}.")
    if not base or not (scheme or "/" in base or base.endswith(ENDINGS) or Path(base).exists()):
        raise WeightsError(f"{base!r} names no weights.{did_you_mean(base, [*NAMED, AUTO])} Give {FORMS}.")
    return _stored(base, digest)


def _split_digest(where: str) -> tuple[str, str]:
    base, mark, digest = where.partition(_MARK)
    if mark and not WHOLE.fullmatch(digest.lower()):
        raise WeightsError(f"{_MARK}{digest} is not a SHA-256: write its 64 hex digits, as sha256sum FILE prints them.")
    return base, digest.lower()


def _published(name: str, digest: str) -> WeightsPlace:
    config = mmdet_index.find(name)
    if not config.weights:
        folder = config.path.rpartition("/")[0]
        others = [each for each in mmdet_index.search("") if each.path.rpartition("/")[0] == folder and each.weights]
        near = f" Of its neighbours these have some: {', '.join(each.name for each in others[:5])}." if others else ""
        raise WeightsError(f"Nobody published weights for mmdet's config {config.name}.{near}")
    if len(config.weights) > 1:
        told = ", ".join(each.address for each in config.weights)
        raise WeightsError(f"mmdet's config {config.name} has several files of weights. Give one of them: {told}.")
    (weights,) = config.weights
    name = _file_name(weights.address)
    return WeightsPlace(
        Kind.ADDRESS, weights.address, f"{mmdet_index.PREFIX}{config.name}", name, digest or weights.digest
    )


def _address(address: str, digest: str) -> WeightsPlace:
    check_address(address, checked=bool(digest))
    name = _file_name(address)
    if not name.endswith(ENDINGS):
        raise WeightsError(
            f"{shown(address)} is no file of weights by its name. Give the address of a file that ends in {', '.join(ENDINGS)}, or fetch "
            "it yourself and give its path."
        )
    return WeightsPlace(Kind.ADDRESS, address, shown(address), name, digest or digest_in(name))


def _file_name(address: str) -> str:
    """The last part of the path, as a name that every file system takes."""
    return re.sub(r"[^\w.+-]", "_", unquote(urlsplit(address).path.rpartition("/")[2])).lstrip(".")[-200:]


def _stored(uri: str, digest: str) -> WeightsPlace:
    if not uri.startswith("gs://"):
        uri = local_path(str(Path(uri).expanduser()) if uri.startswith("~") else uri).as_uri()
    text = uri if uri.startswith("gs://") else str(local_path(uri))
    if not text.endswith(ENDINGS):
        return WeightsPlace(Kind.STORED, uri.rstrip("/"), text, "", digest)
    return WeightsPlace(Kind.FILE, uri, text, text.rpartition("/")[2], digest)
