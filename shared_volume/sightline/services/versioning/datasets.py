"""Dataset versions as steps read them: pulled once to the volume, then shared by every step and run."""

import contextlib
import logging
from pathlib import Path

from sightline.errors import SightlineError
from sightline.processes.folders import private_folder, remove_abandoned
from sightline.references import DatasetReference, task_of
from sightline.services.database.connection import connect
from sightline.services.database.versions import list_versions
from sightline.services.versioning.repository import DatasetRepo
from sightline.services.versioning.shards import unpack
from sightline.services.versioning.unpacked import is_as_left, replace_changed, write_stamps
from sightline.settings import Settings
from sightline.versions import make_tag

log = logging.getLogger(__name__)

NAMES_SHOWN = 10


class NoSuchDatasetError(SightlineError):
    """The dataset version is not published."""


def find_dataset(settings: Settings, category: str, version: str) -> DatasetReference:
    """The published dataset version; an empty version means the newest.

    Raises:
        NoSuchDatasetError: it is not published; names those that are.
    """
    database = connect(settings.database_url.get_secret_value())
    database.migrate()
    published = {row.version: row for row in list_versions(database, category, "dataset")}
    found = published.get(version or next(reversed(published), ""))
    if found is None:
        raise NoSuchDatasetError(
            f"There is no published dataset version {version or '(newest)'} of {category}. "
            f"Published: {', '.join(published) or 'none'}. The record step makes one from an annotation version."
        )
    return DatasetReference(
        category, found.version, str(found.tag), str(found.commit), str(found.digest), task_of(found.recipe)
    )


def pull_dataset(settings: Settings, dataset: DatasetReference) -> Path:
    """The folder of a dataset version on the volume, with its images unpacked; pulled when it is not there yet.

    Where somebody has written to its files since, they are looked at: what is no longer the version's is unpacked anew, and
    what stood there instead is kept beside the folder.

    Raises:
        SightlineError: the version cannot be pulled, or a changed file cannot be replaced; names it.
    """
    target = unpacked_folder(settings.volume, dataset.category, dataset.version, dataset.digest)
    if target.is_dir() and is_as_left(target):
        remove_abandoned(target.parent)
        return target
    mend_dataset(settings, dataset)
    return target


def unpacked_folder(volume: Path, category: str, version: str, digest: str) -> Path:
    """Where a dataset version lies unpacked, or will."""
    return volume / "datasets" / f"{category}-{version}-{digest.removesuffix('.dir')[:16]}"


def mend_dataset(settings: Settings, dataset: DatasetReference) -> list[str]:
    """Unpack a dataset version, or compare what is unpacked with it and replace what differs.

    Returns:
        The names of the files that were replaced.

    Raises:
        SightlineError: as `pull_dataset`.
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
                write_stamps(private)
                with contextlib.suppress(OSError):  # another step pulled the same version meanwhile
                    private.rename(target)
                    log.info("pulled %s %s to %s", dataset.category, dataset.version, target)
                    return []
            changed, kept = replace_changed(target, private)
    if changed:
        _tell(target, changed, kept)
    return changed


def _tell(target: Path, changed: list[str], kept: Path) -> None:
    shown = ", ".join(changed[:NAMES_SHOWN]) + (", …" if len(changed) > NAMES_SHOWN else "")
    where = f" What stood there is kept in {kept}." if kept.is_dir() else ""
    log.warning(
        "%d files in %s were not the dataset version's and were replaced: %s.%s", len(changed), target, shown, where
    )
