"""Every version that SQL or Git knows, with its state."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from sightline.catalogue.installation import open_installation, settled_rows
from sightline.errors import SightlineError
from sightline.references import task_of
from sightline.services.database.versions import VersionRow
from sightline.services.versioning.claims import is_dead
from sightline.services.versioning.git import without_password
from sightline.settings import Settings
from sightline.versions import BadNameError, Kind, Tag, check_category, parse_tag, parse_version


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
    """One version.

    Attributes:
        tag: which it has, or will have.
        task: what it is for, when it is recorded.
        owner: of a pending version: who claimed it; empty when that attempt gave up.
        lease_until: of a pending version: until when nobody else may take it over.
        images: how many, when it is recorded.
        annotations: likewise.
        parent: a dataset version's annotation version, as a tag.
        commit: the tag's, or the recorded one.
        date: of publication, UTC.
    """

    tag: str
    category: str
    kind: Kind
    version: str
    state: State
    task: str | None = None
    owner: str | None = None
    lease_until: datetime | None = None
    images: int | None = None
    annotations: int | None = None
    parent: str | None = None
    commit: str | None = None
    date: datetime | None = None


def list_catalogue(settings: Settings, category: str | None = None) -> tuple[Listed, ...]:
    """Every version, or one category's, oldest first within category and kind.

    Raises:
        SightlineError: database or dataset repository are out of reach.
        OtherRepositoryError: the repository knows no category of the versions that the database says are published.
    """
    if category is not None:
        check_category(category)
    installation = open_installation(settings)
    before = installation.rows()
    commits = installation.repo.tags()
    rows = settled_rows(before, installation.rows(), commits)
    _require_theirs(settings, rows, commits)
    tags = {str(tag): tag for name in (*rows, *commits) if (tag := _tag(name)) is not None}
    parents = {row.id: name for name, row in rows.items()}
    listed = [
        _list_one(tag, rows.get(name), commits.get(name), parents)
        for name, tag in tags.items()
        if category in (None, tag.category)
    ]
    return tuple(sorted(listed, key=lambda one: (one.category, one.kind, parse_version(one.version))))


def _require_theirs(settings: Settings, rows: Mapping[str, VersionRow], commits: Mapping[str, str]) -> None:
    """Of a repository that knows no category of the published versions most likely only its name is wrong: nothing is lost."""
    published = {name: row.category for name, row in rows.items() if row.status == "published"}
    if not published or {tag.category for name in commits if (tag := _tag(name))} & set(published.values()):
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
    return (
        row is not None
        and row.status == "pending"
        and row.lease_until is not None
        and row.lease_until > datetime.now(UTC)
        and not is_dead(row.owner)
    )


def _tag(name: str) -> Tag | None:
    try:
        return parse_tag(name)
    except BadNameError:
        return None


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
