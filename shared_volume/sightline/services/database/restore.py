"""Putting rows right after a crash: written again from a version's own description, or a dead claim removed."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, true
from sqlalchemy.orm import Session

from sightline.services.database.connection import Database, as_row
from sightline.services.database.models import Finding, Image, Stage, Version
from sightline.services.database.versions import (
    PENDING,
    PUBLISHED,
    FindingRow,
    ImageRow,
    StageRow,
    VersionClaimedError,
    VersionRow,
    _now,
)
from sightline.versions import Tag


@dataclass(frozen=True, slots=True)
class VersionRows:
    """All that the database says of a published version."""

    tag: Tag
    commit: str
    digest: str
    published_at: datetime
    parent_id: int | None
    recipe: dict[str, Any]
    images: tuple[ImageRow, ...]
    findings: tuple[FindingRow, ...]
    stages: tuple[StageRow, ...]


def restore_version(database: Database, rows: VersionRows, owner: str, instead_of: str | None = None) -> VersionRow:
    """Write a published version's rows, in place of those that are there, in one transaction. Its id stays.

    Args:
        database: an open database.
        rows: what to write.
        owner: who writes; recorded where the version has no row yet.
        instead_of: the owner of a claim that is known to be dead, whose lease need not run out.

    Raises:
        VersionClaimedError: somebody is publishing the version right now.
        DatabaseError: an unknown parent, or two images of one name.
    """
    images = [asdict(row) for row in rows.images]
    findings = [asdict(row) for row in rows.findings]
    stages = [asdict(row) | {"position": position} for position, row in enumerate(rows.stages)]

    def restore(session: Session) -> VersionRow:
        version = _row_for(session, rows.tag, owner, instead_of)
        version.tag, version.commit, version.digest = str(rows.tag), rows.commit, rows.digest
        version.status, version.lease_until = PUBLISHED, None
        version.parent_id, version.recipe = rows.parent_id, dict(rows.recipe)
        version.image_count = len(rows.images)
        version.annotation_count = sum(image.annotation_count for image in rows.images)
        version.published_at = rows.published_at
        session.flush()
        for table, content in ((Image, images), (Finding, findings), (Stage, stages)):
            session.execute(delete(table).where(table.version_id == version.id))
            if content:
                values = [row | {"version_id": version.id} for row in content]
                session.execute(insert(table).execution_options(render_nulls=True), values)
        return as_row(VersionRow, version)

    return database.write(restore)


def remove_claim(database: Database, claim: VersionRow, is_dead: bool) -> bool:
    """Delete a pending version, unless it was taken over or published since. Returns whether it was deleted.

    Args:
        database: an open database.
        claim: the version's row.
        is_dead: whether its owner is known to be dead; else its lease must have run out.
    """

    def remove(session: Session) -> bool:
        gone = session.execute(
            delete(Version).where(
                Version.id == claim.id,
                Version.status == PENDING,
                Version.owner == claim.owner,
                true() if is_dead else Version.lease_until < _now(session),
            )
        )
        return bool(gone.rowcount)  # type: ignore[attr-defined]

    return database.write(remove)


def _row_for(session: Session, tag: Tag, owner: str, instead_of: str | None) -> Version:
    """The version's row, locked; a new one where there is none."""
    query = select(Version).where(
        Version.category == tag.category, Version.kind == tag.kind, Version.version == tag.version
    )
    row = session.scalars(query.with_for_update()).one_or_none()
    now = _now(session)
    if row is None:
        row = Version(
            category=tag.category, kind=tag.kind, version=tag.version, status=PENDING, owner=owner, created_at=now
        )
        session.add(row)
    elif row.status == PENDING and row.owner != instead_of and row.lease_until is not None and row.lease_until > now:
        raise VersionClaimedError(
            f"{tag} is being published by {row.owner}, who holds it until {row.lease_until:%H:%M:%S} UTC. Wait for it.",
            as_row(VersionRow, row),
        )
    return row
