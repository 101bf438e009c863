"""Copies of the helper code, and edits of them: whole statements at the end of a file, as a user adds them on the volume."""

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import sightline

LIVE = Path(sightline.__file__).resolve().parents[1]
"""This checkout's helper code."""

Place = str | ModuleType | type | Callable[..., object]
"""A file of the helper code: its path, or something that is written in it."""


def copy_live(target: Path) -> Path:
    """Copy this checkout's helper code to a folder that is not there yet."""
    return shutil.copytree(LIVE, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))


def file_of(place: Place) -> str:
    """The path of a file below the helper code's folder; by what is written in it, since files move."""
    if isinstance(place, str):
        return place
    source = inspect.getsourcefile(place)
    assert source is not None, place
    return Path(source).resolve().relative_to(LIVE).as_posix()


def append(code: Path, place: Place, text: str = "# a remark") -> Path:
    """Add statements at the end of a file of a copy of the helper code, or make the file."""
    path = code / file_of(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{text}\n")
    return path
