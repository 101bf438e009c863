"""What migrations are written in. A migration stays what it was: what is here may grow, and never change."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
_OPTIONS = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}
OPTIONS = {f"{dialect}_{name}": value for dialect in ("mysql", "mariadb") for name, value in _OPTIONS.items()}


def create(name: str, *parts: Any) -> None:
    """A table, unless it is there."""
    op.create_table(name, *parts, if_not_exists=True, **OPTIONS)


def add(table: str, column: sa.Column[Any]) -> None:
    """Add a column: MySQL has no "if it does not exist"."""
    if column.name not in {found["name"] for found in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)


def key() -> sa.Column[int]:
    """The number that a row has."""
    return sa.Column("id", sa.Integer(), primary_key=True)


def column(name: str, kind: Any, null: bool = False, **options: Any) -> sa.Column[Any]:
    """A column that must have a value, unless it may be null."""
    return sa.Column(name, kind, nullable=null, **options)
