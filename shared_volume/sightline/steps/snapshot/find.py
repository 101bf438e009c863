"""What is trained on, by its row in SQL."""

from sightline.references import task_of
from sightline.services.database.connection import connect
from sightline.services.database.versions import find_version, newest_version
from sightline.settings import Settings
from sightline.versions import Kind


def find_task(place: Settings, category: str, kind: Kind, version: str) -> tuple[str, str] | None:
    """A published version and its task, by its row; None where there is no such row.

    Args:
        place: the installation.
        category: the version's.
        kind: annotation or dataset.
        version: empty for the newest.
    """
    database = connect(place.database_url.get_secret_value())
    try:
        database.migrate()
        found = find_version(database, category, kind, version) if version else newest_version(database, category, kind)
    finally:
        database.close()
    return (found.version, task_of(found.recipe)) if found else None
