"""Configs that mmdet's installed package holds: their files, and what of them a training depends on; mmdet is not imported."""

import hashlib
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sightline.errors import ConfigError
from sightline.models.mmdet_index import PREFIX, VERSION, find
from sightline.services.runs import homes
from sightline.services.runs.config_chains import assigned, shipped_in

PACKAGE: Final = "onedl-mmdetection"
FOLDER: Final = ".mim"  # of mmdet's package, where its configs are


def config_path(root: Path, config: str) -> Path:
    """The file of a config of the helper code or of mmdet's package (`mmdet::NAME`).

    Raises:
        ConfigError: mmdet has no config of that name, or its package is not here.
    """
    if not config.startswith(PREFIX):
        return root / homes.config_file(root, config)
    path = _package() / find(config).path
    if not path.is_file():
        raise ConfigError(f"{config} is not in the installed mmdet {_version()}; the list is of mmdet {VERSION}.")
    return path


def shipped_file(config: str) -> Path | None:
    """The file of `mmdet::NAME`; None where mmdet's package is not installed, or is another release without it."""
    spec = find_spec("mmdet")
    path = Path(spec.origin).parent / FOLDER / find(config).path if spec and spec.origin else None
    return path if path and path.is_file() else None


def shipped_digest(root: Path, config: str) -> str:
    """The digest of what a config takes from mmdet's package, and mmdet's version; empty when it takes nothing."""
    names = shipped_in(root, config)
    if not names:
        return ""
    whole = hashlib.sha256(_version().encode())
    for path in sorted({path for name in names for path in shipped_chain(config_path(root, name))}):
        whole.update(path.read_bytes())
    return whole.hexdigest()


def shipped_chain(config: Path) -> Iterator[Path]:
    """A config of mmdet's package, and those it inherits."""
    yield config
    bases = assigned(config, "_base_") or ()
    for base in [bases] if isinstance(bases, str) else bases:
        path = _package() / find(base).path if base.startswith(PREFIX) else Path(os.path.normpath(config.parent / base))
        if path.is_file():
            yield from shipped_chain(path)


def _package() -> Path:
    """The folder of mmdet's package that holds its configs; the package is not imported."""
    spec = find_spec("mmdet")
    if spec is None or not spec.origin:
        raise ConfigError(
            "mmdet is not installed here, and its package holds the config. Use an environment that trains."
        )
    return Path(spec.origin).parent / FOLDER


def _version() -> str:
    for name in (PACKAGE, "mmdet"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return VERSION
