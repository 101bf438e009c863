"""What a version lives in, opened together: storage, Git and the database."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from sightline.errors import SightlineError, nearest
from sightline.services.database.connection import Database, connect
from sightline.services.database.versions import VersionRow, list_versions
from sightline.services.storage.access import open_storage
from sightline.services.storage.base import Storage
from sightline.services.versioning.objects import Objects
from sightline.services.versioning.publication import FOLDERS
from sightline.services.versioning.repository import DatasetRepo
from sightline.settings import Settings
from sightline.versions import Kind, make_tag, parse_tag


@dataclass(frozen=True, slots=True)
class Installation:
    """An open installation."""

    settings: Settings
    repo: DatasetRepo
    storage: Storage
    database: Database

    def objects(self, kind: Kind) -> Objects:
        """The DVC remote of a kind of version."""
        return self.repo.objects(FOLDERS[kind])

    def rows(self) -> Mapping[str, VersionRow]:
        """Every version's row, published or pending, by the tag that it has or would have."""
        return {
            make_tag(row.category, row.kind, row.version): row  # type: ignore[arg-type]  # the column is a text
            for row in list_versions(self.database, pending=True)
        }


def settled_rows(
    before: Mapping[str, VersionRow], after: Mapping[str, VersionRow], tags: Container[str]
) -> dict[str, VersionRow]:
    """Rows that agree with tags read in between: without versions that were published while the tags were read.

    A version's tag is there before its rows: only what is published already when the tags are read must have one.
    """
    settled = {name for name, row in before.items() if row.status == "published"}
    return {name: row for name, row in after.items() if row.status != "published" or name in settled or name in tags}


def open_installation(settings: Settings) -> Installation:
    """Open what the settings name, and bring the database's tables up to date.

    Raises:
        SightlineError: one of them is malformed or out of reach.
    """
    database = connect(settings.database_url.get_secret_value())
    database.migrate()
    return Installation(settings, DatasetRepo.of(settings), open_storage(settings.storage), database)


def published_row(rows: Mapping[str, VersionRow], tag: str) -> VersionRow:
    """The row of a published version.

    Raises:
        SightlineError: not a tag, or not that of a published version; names what is.
    """
    parse_tag(tag)
    row = rows.get(tag)
    if row is None or row.status != "published" or row.digest is None:
        known = [name for name, other in rows.items() if other.status == "published"]
        hint = nearest(tag, known) or " None is published yet: python pipeline.py publish."
        raise SightlineError(f"{tag} is not published in this database.{hint} All: python pipeline.py versions")
    return row
