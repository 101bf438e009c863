"""What is trained on: by its tag, and by its row in SQL."""

import contextlib

from sightline.errors import SightlineError, nearest
from sightline.references import task_of
from sightline.services.database.connection import connect
from sightline.services.database.versions import find_version, newest_version
from sightline.services.versioning.repository import DatasetRepo
from sightline.settings import Settings
from sightline.versions import BadNameError, Kind, Tag, make_tag, parse_tag, parse_version
from sightline.versions import newest_version as newest_of


def find_task(settings: Settings, category: str, kind: Kind, version: str) -> tuple[str, str] | None:
    """A published version (empty: the newest) and its task, by its row; None where there is no such row."""
    database = connect(settings.database_url.get_secret_value())
    try:
        database.migrate()
        found = find_version(database, category, kind, version) if version else newest_version(database, category, kind)
    finally:
        database.close()
    return (found.version, task_of(found.recipe)) if found else None


def find_annotation(settings: Settings, category: str, version: str) -> tuple[str, str]:
    """A published annotation version (empty: the newest) and its commit, by the dataset repository's tags.

    Raises:
        SightlineError: it is not published; names what is, and the nearest.
    """
    tags = DatasetRepo.of(settings).tags()
    published = [tag for tag in map(_parsed, tags) if tag and tag.kind == "annotation"]
    versions = [tag.version for tag in published if tag.category == category]
    if not versions:
        categories = {tag.category for tag in published}
        raise SightlineError(
            f"There is no annotation version of the category {category}.{nearest(category, categories)} Publish a folder "
            f"first: python pipeline.py publish FOLDER --category {category} --version v0.1.0"
        )
    chosen = version or str(newest_of(versions))
    if chosen not in versions:
        raise SightlineError(
            f"There is no annotation version {chosen} of {category}. Published: "
            f"{', '.join(sorted(versions, key=parse_version))}."
        )
    return chosen, tags[make_tag(category, "annotation", chosen)]


def _parsed(tag: str) -> Tag | None:
    with contextlib.suppress(BadNameError):  # a tag that people made for themselves
        return parse_tag(tag)
    return None
