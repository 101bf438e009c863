"""Rows written again from a version's own description, after a crash."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from sightline.services.database import versions
from sightline.services.database.connection import in_transaction
from sightline.services.database.models import Finding, Image, Stage, VersionRow
from sightline.versions import Tag


@dataclass(frozen=True, slots=True)
class VersionRows:
    """All that the database says of a published version."""

    tag: Tag
    commit: str
    digest: str
    published_at: datetime
    parent_id: int | None
    content: versions.Content


@in_transaction
def restore_version(session: Session, rows: VersionRows, owner: str, instead_of: str | None = None) -> None:
    """Write a published version's rows, in place of those that are there, in one transaction. Its id stays.

    The owner is recorded where the version has no row yet. The lease of `instead_of`, an owner known to be dead, need not run
    out.

    Raises:
        VersionClaimedError: somebody is publishing the version right now.
        DatabaseError: an unknown parent, or two images of one name.
    """
    values = {"tag": str(rows.tag), "commit": rows.commit, "digest": rows.digest, "published_at": rows.published_at}
    values |= versions.public_values(rows.content, rows.parent_id)
    version = _row_for(session, rows.tag, owner, instead_of)
    for name, value in values.items():
        setattr(version, name, value)
    session.flush()
    for table in (Image, Finding, Stage):
        session.execute(delete(table).where(table.version_id == version.id))
    versions.insert_content(session, version.id, rows.content)


def _row_for(session: Session, tag: Tag, owner: str, instead_of: str | None) -> VersionRow:
    """The version's row, locked; a new one where there is none."""
    named = {"category": tag.category, "kind": tag.kind, "version": tag.version}
    row = session.scalars(select(VersionRow).filter_by(**named).with_for_update()).one_or_none()
    now = versions.database_time(session)
    if row is None:
        row = VersionRow(**named, status=versions.PENDING, owner=owner, created_at=now)
        session.add(row)
    elif row.status == versions.PENDING and row.owner != instead_of and row.lease_until and row.lease_until > now:
        session.expunge(row)
        raise versions.VersionClaimedError(
            f"{tag} is being published by {row.owner}, who holds it until {row.lease_until:%H:%M:%S} UTC. Wait for it.",
            row,
        )
    return row
