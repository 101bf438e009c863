"""Which files of a folder are helper code, and whether somebody writes to them.

`sync` sends this text to the process beside the volume: Python's standard library only.
"""

import contextlib
import os
from pathlib import Path

Stamp = tuple[int, int, int]
"""A file's time of change, size and number: when they stay, nobody has written to it."""

JUNK_NAMES = ("__pycache__", ".ipynb_checkpoints")
JUNK_ENDINGS = (".pyc", ".swp", ".tmp", "~")


def list_files(folder: Path) -> list[Path]:
    """All files below a folder but what editors and Python leave there, relative to it."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name not in JUNK_NAMES and not name.startswith(".")]
        paths = [Path(parent, name) for name in names if not name.startswith(".") and not name.endswith(JUNK_ENDINGS)]
        found += [path.relative_to(folder) for path in paths if path.is_file()]
    return found


def stamp_files(folder: Path) -> dict[Path, Stamp]:
    """The same files with their stamps."""
    stamps = {}
    for file in list_files(folder):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            found = (folder / file).stat()
            stamps[file] = (found.st_mtime_ns, found.st_size, found.st_ino)
    return stamps
