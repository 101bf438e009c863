"""An unpacked dataset version on the volume: whether its files are as they were left, and what to do where they are not.

People and programs can write to the volume. A look at each file's size and time, at every use, tells whether somebody did;
then the contents are compared, and what differs is replaced.
"""

import contextlib
import filecmp
import json
import os
import secrets
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sightline.errors import SightlineError

STAMPS: Final = ".files.json"
"""In the folder: the size in bytes and the time of change in nanoseconds of each of its files."""


def write_stamps(folder: Path, names: Iterable[str] | None = None) -> None:
    """Note files of an unpacked version whose contents are known to be right, by default all; replaces an older note at once."""
    stamps = {name: _stamp(folder / name) for name in (file_names(folder) if names is None else names)}
    note = folder / f".{secrets.token_hex(6)}.new"
    note.write_text(json.dumps(stamps))
    note.replace(folder / STAMPS)


def is_as_left(folder: Path) -> bool:
    """Whether every file that was noted is there with its size and time; False where nothing was noted."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        noted = json.loads((folder / STAMPS).read_bytes())
        if isinstance(noted, dict) and noted:
            return all(_stamp(folder / name) == stamp for name, stamp in noted.items())
    return False


def replace_changed(folder: Path, fresh: Path) -> tuple[list[str], Path]:
    """Make the files of a folder those of a fresh one beside it; what stood there instead is kept.

    Each file is exchanged at once, so that who reads the folder meanwhile sees the one or the other.

    Args:
        folder: an unpacked dataset version.
        fresh: the same version, unpacked a moment ago on the same file system; its files are moved.

    Returns:
        The names of those that were changed or missing, sorted, and where the changed ones are kept.

    Raises:
        SightlineError: a file cannot be read or replaced; names it.
    """
    kept = folder.with_name(f"{folder.name}.changed-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
    changed, names = [], file_names(fresh)
    for name in names:
        try:
            if not _same(folder / name, fresh / name):
                changed.append(name)
                _keep_in_the_way(folder, name, kept)
                _keep(folder / name, kept / name)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).replace(folder / name)
        except OSError as error:
            raise SightlineError(
                f"{folder / name} is not the dataset version's and cannot be replaced ({error.strerror or error}). Look at "
                f"its owner and mode, or move the folder {folder} away: it is unpacked anew then."
            ) from error
    write_stamps(folder, names)
    return changed, kept


def file_names(folder: Path) -> list[str]:
    """The paths of a folder's files inside it, with forward slashes, sorted."""
    paths = (Path(target, name) for target, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder).as_posix() for path in paths if path != folder / STAMPS)


def _same(path: Path, other: Path) -> bool:
    return path.is_file() and filecmp.cmp(path, other, shallow=False)


def _keep(path: Path, target: Path) -> None:
    """Put what lies at `path` to another place; a file stays where it is as well, until it is replaced."""
    if not os.path.lexists(path):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or not path.is_file():
        path.rename(target)
        return
    try:
        os.link(path, target)
    except OSError:  # no links on this file system
        shutil.copy2(path, target)


def _keep_in_the_way(folder: Path, name: str, kept: Path) -> None:
    """Move away what stands where a folder above a file belongs."""
    for parent in reversed(Path(name).parents[:-1]):
        if os.path.lexists(folder / parent) and not (folder / parent).is_dir():
            (kept / parent).parent.mkdir(parents=True, exist_ok=True)
            (folder / parent).rename(kept / parent)
            return


def _stamp(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
