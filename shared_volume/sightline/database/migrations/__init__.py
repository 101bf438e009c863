"""Alembic's migrations of the tables.

Their names start with their number, which is their revision. They only add: code that is older than the database
(a run that started before an upgrade) goes on working. Every operation can be repeated, because MySQL cannot take
back half a migration: `if_not_exists=True`.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
HEAD = max(path.stem.partition("_")[0] for path in (FOLDER / "versions").glob("[0-9]*.py"))
