"""What may go of an installation, and the removal of some of it by itself whenever a run starts."""

import logging
from collections.abc import Callable, Collection

from sightline.catalogue.listing import open_installation
from sightline.catalogue.pruning.plan import Look, Plan, Prunable
from sightline.catalogue.pruning.results import find_in_storage
from sightline.catalogue.pruning.uploads import find_left_by_publishers
from sightline.catalogue.pruning.volume import find_on_volume, find_remakeable
from sightline.errors import SightlineError
from sightline.services.database.connection import Database
from sightline.settings import Settings

log = logging.getLogger(__name__)


def find_prunable(
    settings: Settings, keep: int | None = None, older_than: float | None = None, named: Collection[str] = ()
) -> Plan:
    """What may go. Nothing is removed.

    `keep` is how many of the newest work folders, unpacked datasets, fetched models and weights stay (default: the setting). With
    `older_than`, in days, also what something refers to may go: results, models that were never selected. `named` are the
    sha256 of further models that stay.

    Raises:
        SightlineError: storage, Git or SQL is out of reach, or the tables are of a newer Sightline.
    """
    installation = open_installation(settings)
    if installation.database.is_newer():
        raise SightlineError(
            f"{installation.database.name} has tables of a newer Sightline, which may refer to more than this one knows: nothing "
            "can be told to be needless. Prune with the release that the team uses."
        )
    look = Look(settings, installation.database, settings.keep_folders if keep is None else keep, older_than, named)
    items = [
        *find_on_volume(look),
        *find_in_storage(look, installation.storage),
        *find_left_by_publishers(look, installation),
    ]
    return Plan(tuple(items), tuple(look.notes))


def remove(plan: Plan, on_change: Callable[[Prunable], None]) -> tuple[list[Prunable], dict[str, str]]:
    """Remove what may go still; `on_change` is told of each before it goes.

    Returns what was removed, and by name why something could not be.
    """
    removed, failed = [], {}
    for item in plan.items:
        on_change(item)
        try:
            if item.remove():
                removed.append(item)
        except OSError as error:
            failed[item.name] = f"{error.strerror or error} ({error.filename})"
        except SightlineError as error:
            failed[item.name] = str(error)
    return removed, failed


def tidy_volume(settings: Settings, database: Database) -> None:
    """Remove from the volume what only saves work, beyond the newest of each; what cannot go now goes another time."""
    look = Look(settings, database, settings.keep_folders, None)
    removed, failed = remove(Plan(tuple(find_remakeable(look))), lambda _: None)
    if removed:
        log.info("removed, as newer ones stay: %s", ", ".join(item.name for item in removed))
    for name, why in failed.items():
        log.warning("%s stays for now: %s", name, why)
