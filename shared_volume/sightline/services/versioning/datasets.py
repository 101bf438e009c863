"""Dataset versions as steps read them: pulled once to the volume, then shared by every step and run."""

import contextlib
import logging
from pathlib import Path

from sightline.errors import SightlineError
from sightline.processes.folders import private_folder, remove_abandoned
from sightline.references import DatasetReference, task_of
from sightline.services.database.connection import connect
from sightline.services.database.versions import find_version, list_versions, newest_version
from sightline.services.versioning.repository import DatasetRepo
from sightline.services.versioning.shards import unpack
from sightline.settings import Settings
from sightline.versions import make_tag

log = logging.getLogger(__name__)


class NoSuchDatasetError(SightlineError):
    """The dataset version is not published."""


def find_dataset(place: Settings, category: str, version: str) -> DatasetReference:
    """The published dataset version; an empty version means the newest.

    Raises:
        NoSuchDatasetError: it is not published; names those that are.
    """
    database = connect(place.database_url.get_secret_value())
    database.migrate()
    found = (
        find_version(database, category, "dataset", version)
        if version
        else newest_version(database, category, "dataset")
    )
    if found is None or found.status != "published":
        published = [row.version for row in list_versions(database, category, "dataset")]
        raise NoSuchDatasetError(
            f"There is no published dataset version {version or '(newest)'} of {category}. "
            f"Published: {', '.join(published) or 'none'}. The record step makes one from an annotation version."
        )
    return DatasetReference(
        category, found.version, str(found.tag), str(found.commit), str(found.digest), task_of(found.recipe)
    )


def pull_dataset(place: Settings, dataset: DatasetReference) -> Path:
    """The folder of a dataset version on the volume, with its images unpacked; pulled when it is not there yet."""
    name = f"{dataset.category}-{dataset.version}-{dataset.digest.removesuffix('.dir')[:16]}"
    target = place.volume / "datasets" / name
    if target.is_dir():
        remove_abandoned(target.parent)
        return target
    with DatasetRepo.of(place).working_copy(make_tag(dataset.category, "dataset", dataset.version)) as copy:
        folder = copy.place("datasets", dataset.category)
        if copy.digest(folder) != dataset.digest:
            raise SightlineError(
                f"The tag {dataset.tag} holds {copy.digest(folder)}, not {dataset.digest} as the reference says. "
                "Somebody moved the tag: restore it, or record a new version."
            )
        with private_folder(target.parent, ".pulling-") as private:
            unpack(copy.pull(folder), private)
            with contextlib.suppress(OSError):  # another step pulled the same version meanwhile
                private.rename(target)
    log.info("pulled %s %s to %s", dataset.category, dataset.version, target)
    return target
