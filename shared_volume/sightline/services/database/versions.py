"""Annotation and dataset versions: claimed by one publisher, then published whole."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Select, delete, insert, or_, select, text, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sightline.errors import SightlineError
from sightline.processes.batches import in_batches
from sightline.services.database.connection import Database, DatabaseError, in_transaction
from sightline.services.database.models import Finding, Image, Stage, VersionRow
from sightline.versions import Kind, check_category, check_kind, next_version, parse_version

PENDING, PUBLISHED = "pending", "published"
LEASE_SECONDS = 60.0
ROWS_AT_ONCE = 2000  # that one statement writes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of a version."""

    name: str  # path inside the version, with forward slashes
    split: str | None  # train, val or test; None in annotation versions
    width: int  # of the upright image, in pixels
    height: int
    bytes: int
    sha256: str  # of the file, in hex
    annotation_count: int  # shapes in an annotation version, instances in a dataset version
    perceptual_hash: str | None = None  # 16 hex digits where it was computed; see `sightline.images.similarity`
    labels: Mapping[str, int] | None = None  # label -> how many of the annotations have it


@dataclass(frozen=True, slots=True)
class FindingRow:
    """Something found wrong in a file (in one of its shapes, from 0, or in the whole file) and what was done about it."""

    code: str
    file: str
    shape_index: int | None
    message: str
    outcome: str


@dataclass(frozen=True, slots=True)
class StageRow:
    """How many images and annotations one stage of a recipe was given, and how many it left."""

    name: str
    images_before: int
    images_after: int
    annotations_before: int
    annotations_after: int


@dataclass(frozen=True, slots=True)
class Content:
    """What a version's rows say of it: its images (sorted by name), what was found wrong in its files and done about it, the
    recipe that made it, and what each stage of that left."""

    images: Sequence[ImageRow] = ()
    findings: Sequence[FindingRow] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[StageRow] = ()


EMPTY = Content()


class VersionTakenError(SightlineError):
    """The version is public already."""

    def __init__(self, message: str, published: VersionRow | None, free: str = "") -> None:
        super().__init__(message)
        self.published = published  # None when an interrupted attempt left its tag and no rows
        self.free = free  # the next version that nobody has taken, where that was looked up


class VersionClaimedError(SightlineError):
    """Somebody else is publishing the version; `holder` is the pending row: owner and end of the lease."""

    def __init__(self, message: str, holder: VersionRow) -> None:
        super().__init__(message)
        self.holder = holder


class ClaimLostError(SightlineError):
    """The claim ran out and somebody else took the version over, or it was released."""


@in_transaction
def claim_version(
    session: Session,
    category: str,
    kind: Kind,
    version: str,
    owner: str,
    lease_seconds: float = LEASE_SECONDS,
    instead_of: str | None = None,
) -> VersionRow:
    """Become the one publisher of a version that is new, or pending with us or with an expired lease.

    The owner is unique to one attempt's process or run, and may claim again; others keep off for `lease_seconds`, which
    renew_claim prolongs. The lease of `instead_of`, an owner known to be dead, need not run out.

    Raises:
        VersionTakenError: published already.
        VersionClaimedError: pending with somebody else.
        BadNameError: a category, kind or version that the grammar does not allow.
    """
    check_category(category)
    check_kind(kind)
    parse_version(version)
    named = {"category": category, "kind": kind, "version": version}
    now = database_time(session)
    lease = {"owner": owner, "lease_until": now + timedelta(seconds=lease_seconds)}
    with contextlib.suppress(IntegrityError), session.begin_nested():  # somebody was first
        session.execute(insert(VersionRow).values(**named, **lease, status=PENDING, created_at=now))
    ours = or_(VersionRow.owner.in_([owner, instead_of or owner]), VersionRow.lease_until < now)
    held = update(VersionRow).filter_by(**named, status=PENDING).where(ours).values(lease)
    taken = session.execute(held).rowcount  # type: ignore[attr-defined]
    row = session.scalars(select(VersionRow).filter_by(**named).with_for_update()).one()
    if not taken:
        session.expunge(row)  # whose values the rollback would take along
        raise _refusal(row)
    return row


@in_transaction
def renew_claim(session: Session, claim: VersionRow, lease_seconds: float = LEASE_SECONDS) -> VersionRow:
    """The same claim with a lease that starts now; a ClaimLostError where somebody else has it."""
    until = database_time(session) + timedelta(seconds=lease_seconds)
    if not session.execute(update(VersionRow).where(_held(claim)).values(lease_until=until)).rowcount:  # type: ignore[attr-defined]
        raise _lost(claim)
    return session.scalars(select(VersionRow).where(_held(claim))).one()


@in_transaction
def release_claim(session: Session, claim: VersionRow, only_expired: bool = False) -> bool:
    """Delete a claim, so that others may claim the version at once, unless it was taken over or published since.

    With `only_expired` its lease must have run out. Returns whether it was deleted.
    """
    expired = VersionRow.lease_until < database_time(session) if only_expired else true()
    return bool(session.execute(delete(VersionRow).where(_held(claim), expired)).rowcount)  # type: ignore[attr-defined]


def publish_version(
    database: Database,
    claim: VersionRow,
    *,
    tag: str,
    commit: str,
    digest: str,
    content: Content = EMPTY,
    parent_id: int | None = None,
) -> VersionRow:
    """Make a claimed version public with all its rows, in one transaction.

    Raises:
        ClaimLostError: somebody else has the version by now; nothing was written.
        DatabaseError: two images of one name, a value too long for its column, an unknown parent.
    """
    values = {"tag": tag, "commit": commit, "digest": digest, **public_values(content, parent_id)}

    def publish(session: Session) -> VersionRow:
        values["published_at"] = database_time(session)
        published = session.execute(update(VersionRow).where(_held(claim)).values(values))
        row = session.get(VersionRow, claim.id)
        if row is None:
            raise _lost(claim)
        if published.rowcount:  # type: ignore[attr-defined]
            insert_content(session, claim.id, content)
        # Ours after all when the connection broke just after the commit.
        elif (row.status, row.owner, row.digest, row.commit) != (PUBLISHED, claim.owner, digest, commit):
            raise _lost(claim)
        return row

    try:
        return database.write(publish)
    except DatabaseError as error:
        if isinstance(error.__cause__, IntegrityError):
            raise DatabaseError(
                f"{claim.category} {claim.version} cannot be recorded: {error} Each image needs a name of its own, "
                "and the parent must be recorded."
            ) from error
        raise


def find_version(database: Database, category: str, kind: Kind, version: str) -> VersionRow | None:
    """The version's row, pending or published, or None."""
    query = select(VersionRow).filter_by(category=category, kind=kind, version=version)
    return next(iter(database.rows(query)), None)


def list_versions(
    database: Database, category: str | None = None, kind: Kind | None = None, pending: bool = False
) -> list[VersionRow]:
    """Published versions (and pending ones when asked for), oldest number first within category and kind."""
    wanted = {"category": category, "kind": kind, "status": None if pending else PUBLISHED}
    query = select(VersionRow).filter_by(**{name: value for name, value in wanted.items() if value is not None})
    return sorted(database.rows(query), key=lambda row: (row.category, row.kind, parse_version(row.version)))


def list_images(database: Database, version_id: int) -> list[ImageRow]:
    """A published version's images, by name."""
    return _rows_of(database, version_id, Image, ImageRow, Image.name)


def stream_images(session: Session, version_id: int) -> Iterator[ImageRow]:
    """The same, a few at a time: a hundred thousand take 100 MB."""
    query = _query_of(version_id, Image, ImageRow, Image.name).execution_options(yield_per=ROWS_AT_ONCE)
    return (ImageRow(*row) for row in session.execute(query))


def list_findings(database: Database, version_id: int) -> list[FindingRow]:
    """A published version's findings, in the order they were recorded."""
    return _rows_of(database, version_id, Finding, FindingRow, Finding.id)


def list_stages(database: Database, version_id: int) -> list[StageRow]:
    """What each stage of a dataset version's recipe did, in order."""
    return _rows_of(database, version_id, Stage, StageRow, Stage.position)


def _rows_of(database: Database, version_id: int, table: Any, kind: type[T], order: Any) -> list[T]:
    query = _query_of(version_id, table, kind, order)
    return database.read(lambda session: [kind(*row) for row in session.execute(query)])


def _query_of(version_id: int, table: Any, kind: type[T], order: Any) -> Select[Any]:
    # Columns, not objects: of 10,000 rows and more, four times as fast.
    columns = [getattr(table, field.name) for field in fields(kind)]  # type: ignore[arg-type]
    return select(*columns).where(table.version_id == version_id).order_by(order)


def known_hashes(database: Database, category: str) -> dict[str, str]:
    """The perceptual hashes of all images in a category's published annotation versions, by their files' sha256."""
    query = (
        select(Image.sha256, Image.perceptual_hash)
        .join(VersionRow, VersionRow.id == Image.version_id)
        .where(VersionRow.category == category, VersionRow.kind == "annotation", VersionRow.status == PUBLISHED)
        .where(Image.perceptual_hash.is_not(None))
        .distinct()
    )
    return database.read(lambda session: {sha256: str(looks) for sha256, looks in session.execute(query)})


def public_values(content: Content, parent_id: int | None) -> dict[str, Any]:
    """The columns of a published version that follow from its content; the counts are those of its images."""
    return {
        "status": PUBLISHED,
        "lease_until": None,
        "parent_id": parent_id,
        "recipe": dict(content.recipe),
        "image_count": len(content.images),
        "annotation_count": sum(image.annotation_count for image in content.images),
    }


def insert_content(session: Session, version_id: int, content: Content) -> None:
    """Write the rows of a version's images, findings and stages."""
    stages = [_columns(row) | {"position": position} for position, row in enumerate(content.stages)]
    images, findings = map(_columns, content.images), map(_columns, content.findings)
    for table, rows in ((Image, images), (Finding, findings), (Stage, stages)):
        for batch in in_batches(rows, ROWS_AT_ONCE):
            values = [row | {"version_id": version_id} for row in batch]
            session.execute(insert(table).execution_options(render_nulls=True), values)


def _columns(row: Any) -> dict[str, Any]:
    # Not `asdict`, which copies each value: of 10,000 rows, ten times as slow.
    return {name: getattr(row, name) for name in row.__slots__}


def database_time(session: Session) -> datetime:
    """The database's own time, since publishers' machines may disagree; SQLite has but this machine's."""
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)
    return session.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one().replace(tzinfo=UTC)


def _held(claim: VersionRow) -> Any:
    return (VersionRow.id == claim.id) & (VersionRow.owner == claim.owner) & (VersionRow.status == PENDING)


def _refusal(row: VersionRow) -> SightlineError:
    if row.status == PUBLISHED:
        return VersionTakenError(
            f"{row.category} {row.version} is already published as {row.tag} ({str(row.digest)[:12]}). Published versions "
            f"never change: publish as {next_version(row.version)} instead.",
            row,
        )
    until = row.lease_until.strftime("%Y-%m-%d %H:%M:%S UTC") if row.lease_until else "further notice"
    return VersionClaimedError(
        f"{row.category} {row.version} is being published by {row.owner}, who holds it until {until}. Wait, or publish "
        "another version.",
        row,
    )


def _lost(claim: VersionRow) -> ClaimLostError:
    return ClaimLostError(
        f"{claim.category} {claim.version} is no longer held by {claim.owner}: the lease ended at "
        f"{claim.lease_until:%H:%M:%S} UTC and another publisher took over. Nothing was recorded; publish again."
    )
