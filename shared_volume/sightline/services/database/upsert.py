"""Insert a row or update the one that is there, in one statement that two processes may run at once."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.orm import Session

from sightline.services.database.models import Base


def upsert(
    session: Session,
    table: type[Base],
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    at_first: Mapping[str, Any] | None = None,
) -> None:
    """Make the row with this unique `key` hold `values`; a new row gets `at_first` as well."""
    row = {**key, **values, **(at_first or {})}
    if session.get_bind().dialect.name == "sqlite":
        session.execute(
            sqlite.insert(table).values(row).on_conflict_do_update(index_elements=list(key), set_=dict(values))
        )
    else:
        session.execute(mysql.insert(table).values(row).on_duplicate_key_update(**values))
