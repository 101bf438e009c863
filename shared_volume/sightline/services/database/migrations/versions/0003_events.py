"""Which attempt of a step is at work, and what happened to it: steps.attempt, step_events."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

_OPTIONS = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}
OPTIONS = {f"{dialect}_{name}": value for dialect in ("mysql", "mariadb") for name, value in _OPTIONS.items()}


def upgrade() -> None:
    # MySQL has no "add column if it does not exist".
    if "attempt" not in {found["name"] for found in sa.inspect(op.get_bind()).get_columns("steps")}:
        # Older code, which knows no attempts, goes on inserting rows.
        op.add_column("steps", sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"))
    moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    text = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
    op.create_table(
        "step_events",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("step_id", sa.Integer(), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=True),
        sa.Column("message", text, nullable=False),
        sa.UniqueConstraint("step_id", "at", "kind", name="uq_step_events"),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name="fk_step_events_step"),
        if_not_exists=True,
        **OPTIONS,
    )
