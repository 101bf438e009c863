"""A file moved into the cache on the volume, where it appears whole, also from another file system."""

import errno
import os
import shutil
from pathlib import Path
from typing import Final

from sightline.services.storage.base import replacing

READ_ONLY: Final = 0o444  # as DVC leaves its cache: files of working copies may be links to it


def move_into(path: str, target: str) -> None:
    """Move a file to a path in the cache and let nobody write to it; an OSError where the file system refuses."""
    os.chmod(path, READ_ONLY)  # noqa: PTH101 - of hundreds of thousands of files
    try:
        _replace(path, target)
    except FileNotFoundError:
        os.makedirs(target.rpartition("/")[0], exist_ok=True)  # noqa: PTH103
        _replace(path, target)


def _replace(path: str, target: str) -> None:
    try:
        os.replace(path, target)  # noqa: PTH105
    except OSError as error:
        if error.errno != errno.EXDEV:  # the cache may be a link to another disk
            raise
        with replacing(Path(target)) as part:
            shutil.copyfile(path, part)
            part.chmod(READ_ONLY)
        os.remove(path)  # noqa: PTH107
