"""What versions live in, opened together: storage, Git and the database; every version that SQL or Git knows, with its state."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from sightline.errors import SightlineError, nearest
from sightline.references import task_of
from sightline.services.database.connection import Database, connect
from sightline.services.database.versions import VersionRow, list_versions
from sightline.services.storage.access import open_storage
from sightline.services.storage.base import Storage
from sightline.services.versioning.claims import is_dead
from sightline.services.versioning.git import without_password
from sightline.services.versioning.objects import Objects
from sightline.services.versioning.publication import FOLDERS
from sightline.services.versioning.repository import DatasetRepo
from sightline.settings import Settings
from sightline.versions import Kind, Tag, check_category, make_tag, parse_tag, parse_version, version_tags

Rows = Mapping[str, VersionRow]  # by the tag that the version has or would have


class State(StrEnum):
    """How far a version got."""

    PUBLISHED = "published"
    PENDING = "pending"  # somebody claimed it; nothing of it is public
    INTERRUPTED = "interrupted"  # its tag is public, its rows are missing
    LOST = "lost"  # its rows are published, its tag is gone


class OtherRepositoryError(SightlineError):
    """Database and dataset repository are two installations'."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One version; what a published one has is None where it is not recorded."""

    tag: str  # which it has, or will have
    category: str
    kind: Kind
    version: str
    state: State
    task: str | None = None
    owner: str | None = None  # of a pending version: who claimed it; empty when that attempt gave up
    lease_until: datetime | None = None  # of a pending version: until when nobody else may take it over
    images: int | None = None
    annotations: int | None = None
    parent: str | None = None  # a dataset version's annotation version, as a tag
    commit: str | None = None  # the tag's, or the recorded one
    date: datetime | None = None  # of publication, UTC


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

    def rows(self) -> Rows:
        """Every version's row, published or pending."""
        return {
            make_tag(row.category, row.kind, row.version): row  # type: ignore[arg-type]  # the column is a text
            for row in list_versions(self.database, pending=True)
        }


def open_installation(settings: Settings) -> Installation:
    """Open what the settings name, and bring the database's tables up to date; what is not there is not made."""
    database = connect(settings.database_url.get_secret_value())
    if not database.is_to_be_made:
        database.migrate()
    return Installation(settings, DatasetRepo.of(settings), open_storage(settings.storage), database)


def list_catalogue(settings: Settings, category: str | None = None) -> tuple[Listed, ...]:
    """Every version, or one category's, oldest first within category and kind.

    An OtherRepositoryError where the repository knows no category of the versions that the database says are published.
    """
    if category is not None:
        check_category(category)
    installation = open_installation(settings)
    before = installation.rows()
    commits = installation.repo.tags()
    rows = settled_rows(before, installation.rows(), commits)
    tags = version_tags([*rows, *commits])
    _require_theirs(settings, rows, {tag.category for name, tag in tags.items() if name in commits})
    parents = {row.id: name for name, row in rows.items()}
    asked = {name: tag for name, tag in tags.items() if category in (None, tag.category)}
    listed = [_list_one(tag, rows.get(name), commits.get(name), parents) for name, tag in asked.items()]
    return tuple(sorted(listed, key=lambda one: (one.category, one.kind, parse_version(one.version))))


def _require_theirs(settings: Settings, rows: Rows, tagged: set[str]) -> None:
    """Of a repository that knows no category of the published versions most likely only its name is wrong: nothing is lost."""
    published = {name: row.category for name, row in rows.items() if row.status == "published"}
    if not published or tagged & set(published.values()):
        return
    raise OtherRepositoryError(
        f"The dataset repository {without_password(settings.dataset_repo)} has no tag of any of the {len(published)} versions that "
        f"the database {without_password(settings.database_url.get_secret_value())} has (like {next(iter(published))}), so it is likely not theirs. Set SIGHTLINE_DATASET_REPO to the one that they "
        "were published to; of a cluster's, python pipeline.py connect says which. If it is this one, its tags are gone: "
        "python pipeline.py verify."
    )


def state_of(row: VersionRow | None, tagged: bool) -> State:
    """The state that follows from a version's row and from whether its tag is there."""
    if row is not None and row.status == "published":
        return State.PUBLISHED if tagged else State.LOST
    return State.INTERRUPTED if tagged and not is_held(row) else State.PENDING


def is_held(row: VersionRow | None) -> bool:
    """Whether somebody is publishing the version right now: its lease has not run out, nor is its owner known dead."""
    if row is None or row.status != "pending" or row.lease_until is None:
        return False
    return row.lease_until > datetime.now(UTC) and not is_dead(row.owner)


def _list_one(tag: Tag, row: VersionRow | None, commit: str | None, parents: Mapping[int, str]) -> Listed:
    state = state_of(row, commit is not None)
    known = Listed(str(tag), tag.category, tag.kind, tag.version, state, commit=commit)
    if row is None:
        return known
    if row.status != "published":
        return replace(known, owner=row.owner, lease_until=row.lease_until)
    return replace(
        known,
        task=task_of(row.recipe),
        images=row.image_count,
        annotations=row.annotation_count,
        parent=parents.get(row.parent_id) if row.parent_id is not None else None,
        commit=commit or row.commit,
        date=row.published_at,
    )


def settled_rows(before: Rows, after: Rows, tags: Container[str]) -> dict[str, VersionRow]:
    """Rows that agree with tags read in between: without versions that were published while the tags were read.

    A version's tag is there before its rows: only what is published already when the tags are read must have one.
    """
    settled = {name for name, row in before.items() if row.status == "published"}
    return {name: row for name, row in after.items() if row.status != "published" or name in settled or name in tags}


def published_row(rows: Rows, tag: str) -> VersionRow:
    """The row of a published version; a SightlineError for what is no tag of one names the nearest."""
    parse_tag(tag)
    row = rows.get(tag)
    if row is None or row.status != "published" or row.digest is None:
        known = [name for name, other in rows.items() if other.status == "published"]
        hint = nearest(tag, known) or " None is published yet: python pipeline.py publish."
        raise SightlineError(f"{tag} is not published in this database.{hint} All: python pipeline.py versions")
    return row
