"""Whether database, dataset repository and storage are one installation's.

A publication makes what is not there yet. Of a mistyped setting it would make a second installation, and half a version in each.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from sightline.errors import SightlineError, counted
from sightline.services.database.connection import Database
from sightline.services.database.models import VersionRow
from sightline.services.database.versions import PUBLISHED
from sightline.services.storage.access import open_storage
from sightline.services.versioning.git import without_password
from sightline.services.versioning.objects import Objects
from sightline.services.versioning.repository import REMOTES, DatasetRepo
from sightline.versions import make_tag, version_tags

ASKED: Final = 16  # versions, of which the storage must have one
_ANEW: Final = (
    "To begin anew without these versions, set SIGHTLINE_DATABASE_URL, SIGHTLINE_DATASET_REPO and SIGHTLINE_STORAGE to new places, "
    "all three."
)


class OtherInstallationError(SightlineError):
    """One of database, dataset repository and storage knows nothing of the versions that the others hold."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the database says of a version: enough to look for it elsewhere, and in the columns of the first migration."""

    remote: str  # of DVC, where its objects lie
    published: bool
    digest: str


def recorded_versions(database: Database) -> dict[str, Recorded]:
    """Every version's row, published or pending, by tag; none where there are no tables yet. Makes nothing."""
    if database.is_to_be_made or database.revision() is None:
        return {}
    columns = (VersionRow.category, VersionRow.kind, VersionRow.version, VersionRow.status, VersionRow.digest)
    rows = database.read(lambda session: session.execute(select(*columns)).all())
    return {
        make_tag(category, kind, version): Recorded(REMOTES[kind == "dataset"], status == PUBLISHED, digest or "")  # type: ignore[arg-type]  # the column is a text
        for category, kind, version, status, digest in rows
    }


def listings_in(repo: DatasetRepo, recorded: Mapping[str, Recorded]) -> set[str]:
    """Those of the versions whose list of files is on the remote, by tag."""
    storage = open_storage(repo.storage)
    keys = {Objects(storage, one.remote, repo.cache).key(one.digest): tag for tag, one in recorded.items()}
    return {keys[key] for key in storage.find(list(keys))}


def require_one_installation(repo: DatasetRepo, database: Database, tag: str) -> None:
    """Refuse to publish the version of a tag where one of the three is likely another installation's. Makes nothing.

    An OtherInstallationError names the setting to check, and what to do where it is right. What an interrupted publication left is
    no reason: its tag alone, in a database that has tables.
    """
    recorded = recorded_versions(database)
    tags = set(version_tags(repo.tags()))
    if tags and not tags & recorded.keys():
        recorded = recorded_versions(database)  # somebody's first version, since
    published = {name: one for name, one in recorded.items() if one.published}
    if not tags & recorded.keys():
        if published:
            raise _no_tags(repo, database, published)
        if tags - {tag} or (tags and database.revision() is None):
            raise _no_rows(repo, database, tags)
    if published:
        _require_objects(repo, database, published)


def _require_objects(repo: DatasetRepo, database: Database, published: Mapping[str, Recorded]) -> None:
    names = list(published)[-ASKED:]
    if not any(listings_in(repo, {name: published[name]}) for name in reversed(names)):
        raise OtherInstallationError(
            f"The storage {repo.storage} has the files of none of the {counted(len(names), 'version')} that were looked for and that "
            f"the database {database.name} has (like {names[-1]}), so it is likely not theirs; nothing was published or made. "
            "Check SIGHTLINE_STORAGE. If it is right, the files were lost: python pipeline.py verify --repair uploads what this "
            f"volume's cache has of them. {_ANEW}"
        )


def _no_tags(repo: DatasetRepo, database: Database, published: Collection[str]) -> OtherInstallationError:
    return OtherInstallationError(
        f"The dataset repository {without_password(repo.url)} has no tag of any of the {counted(len(published), 'version')} that the "
        f"database {database.name} has (like {next(iter(published))}), so one of the two is likely another installation's; nothing was "
        "published or made. Check SIGHTLINE_DATASET_REPO and SIGHTLINE_DATABASE_URL. If they are right, the repository was lost: put a "
        "copy of it there again, or of any clone of it with all tags; python pipeline.py verify --repair makes tags again whose "
        f"commits it still has. {_ANEW}"
    )


def _no_rows(repo: DatasetRepo, database: Database, tags: Collection[str]) -> OtherInstallationError:
    return OtherInstallationError(
        f"The database {database.name} {'is not there' if database.is_to_be_made else 'knows no version'}, while the dataset repository "
        f"{without_password(repo.url)} has tags of {len(tags)} (like {min(tags)}), so one of the two is likely another installation's; "
        "nothing was published or made. Check SIGHTLINE_DATABASE_URL and SIGHTLINE_DATASET_REPO. If they are right, the database was "
        f"lost: python pipeline.py verify --repair writes the rows again. {_ANEW}"
    )
