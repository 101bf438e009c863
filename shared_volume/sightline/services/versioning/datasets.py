"""Dataset versions as steps read them: pulled once to the volume, then shared by every step and run.

People and programs can write to the volume. A look at each file's size and time, at every use, tells whether somebody did;
then the contents are compared, and what differs is replaced.
"""

import contextlib
import filecmp
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sightline.errors import SightlineError, some_of
from sightline.processes.folders import private_folder, remove_abandoned, take_shared
from sightline.references import DatasetReference
from sightline.services.database.connection import connect
from sightline.services.database.versions import list_versions
from sightline.services.versioning.repository import DatasetRepo
from sightline.services.versioning.shards import unpack
from sightline.settings import Settings
from sightline.versions import make_tag

log = logging.getLogger(__name__)

NAMES_SHOWN = 10
# In an unpacked version: the size in bytes and the time of change in nanoseconds of each of its files.
STAMPS: Final = ".files.json"


class NoSuchDatasetError(SightlineError):
    """The dataset version is not published."""


def find_dataset(settings: Settings, category: str, version: str) -> DatasetReference:
    """The published dataset version, the newest for an empty one; a NoSuchDatasetError names those there are."""
    database = connect(settings.database_url.get_secret_value())
    database.migrate()
    published = {row.version: row for row in list_versions(database, category, "dataset")}
    found = published.get(version or next(reversed(published), ""))
    if found is None:
        raise NoSuchDatasetError(
            f"There is no published dataset version {version or '(newest)'} of {category}. "
            f"Published: {', '.join(published) or 'none'}. The record step makes one from an annotation version."
        )
    return DatasetReference.of(found)


def pull_dataset(settings: Settings, dataset: DatasetReference) -> Path:
    """The folder of a dataset version on the volume, with its images unpacked; pulled when it is not there yet.

    Where somebody has written to its files since, they are looked at: what is no longer the version's is unpacked again, and
    what stood there instead is kept beside the folder. A SightlineError names the file that cannot be replaced.
    """
    target = unpacked_folder(settings.volume, dataset.category, dataset.version, dataset.digest)
    if take_shared(target) and _is_as_left(target):
        remove_abandoned(target.parent)
        return target
    mend_dataset(settings, dataset)
    return target


def unpacked_folder(volume: Path, category: str, version: str, digest: str) -> Path:
    """Where a dataset version lies unpacked, or will."""
    return volume / "datasets" / f"{category}-{version}-{digest.removesuffix('.dir')[:16]}"


def mend_dataset(settings: Settings, dataset: DatasetReference) -> list[str]:
    """Unpack a dataset version, or compare what is unpacked with it and replace what differs.

    Returns the names of the files that were replaced; raises like `pull_dataset`.
    """
    target = unpacked_folder(settings.volume, dataset.category, dataset.version, dataset.digest)
    with DatasetRepo.of(settings).working_copy(make_tag(dataset.category, "dataset", dataset.version)) as copy:
        folder = copy.category_folder("datasets", dataset.category)
        if copy.digest(folder) != dataset.digest:
            raise SightlineError(
                f"The tag {dataset.tag} holds {copy.digest(folder)}, not {dataset.digest} as the reference says. "
                "Somebody moved the tag: restore it, or record a new version."
            )
        with private_folder(target.parent, ".pulling-") as private:
            unpack(copy.pull(folder), private)
            if not target.is_dir():
                _write_stamps(private, file_names(private))
                with contextlib.suppress(OSError):  # another step pulled the same version meanwhile
                    private.rename(target)
                    log.info("pulled %s %s to %s", dataset.category, dataset.version, target)
                    return []
            changed, kept = _replace_changed(target, private)
    if changed:
        shown = some_of(changed, NAMES_SHOWN)
        where = f" What stood there is kept in {kept}." if kept.is_dir() else ""
        log.warning(
            "%d files in %s were not the dataset version's and were replaced: %s.%s", len(changed), target, shown, where
        )
    return changed


def file_names(folder: Path) -> list[str]:
    """The paths of an unpacked version's files inside it, with forward slashes, sorted."""
    paths = (Path(target, name) for target, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder).as_posix() for path in paths if path != folder / STAMPS)


def _write_stamps(folder: Path, names: Iterable[str]) -> None:
    """Note files of an unpacked version whose contents are known to be right; replaces an older note at once."""
    note = folder / f".{secrets.token_hex(6)}.new"
    note.write_text(json.dumps({name: _stamp(folder / name) for name in names}))
    note.replace(folder / STAMPS)


def _is_as_left(folder: Path) -> bool:
    """Whether every file that was noted is there with its size and time; False where nothing was noted."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        noted = json.loads((folder / STAMPS).read_bytes())
        return isinstance(noted, dict) and bool(noted) and noted == {name: _stamp(folder / name) for name in noted}
    return False


def _stamp(path: Path) -> list[int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return [found.st_size, found.st_mtime_ns]
    return None


def _replace_changed(folder: Path, fresh: Path) -> tuple[list[str], Path]:
    """Make the files of an unpacked version those of a fresh copy on the same file system; what stood there is kept.

    Each file is exchanged at once, so that who reads the folder meanwhile sees the one or the other. Returns the names of
    those that were changed or missing, sorted, and where the changed ones are kept.
    """
    kept = folder.with_name(f"{folder.name}.changed-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
    changed, names = [], file_names(fresh)
    for name in names:
        file = folder / name
        try:
            if not file.is_file() or not filecmp.cmp(file, fresh / name, shallow=False):
                changed.append(name)
                _keep_in_the_way(folder, name, kept)
                _keep(file, kept / name)
                file.parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).replace(file)
        except OSError as error:
            raise SightlineError(
                f"{file} is not the dataset version's and cannot be replaced ({error.strerror or error}). Look at "
                f"its owner and mode, or move the folder {folder} away: it is unpacked again then."
            ) from error
    _write_stamps(folder, names)
    return changed, kept


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
