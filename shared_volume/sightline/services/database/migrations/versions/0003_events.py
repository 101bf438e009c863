"""Which attempt of a step is at work, and what happened to it: steps.attempt, step_events."""

import sqlalchemy as sa

from sightline.services.database.migrations.operations import LONG_TEXT, TIME, add, column, create, key

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # Older code, which knows no attempts, goes on inserting rows.
    add("steps", column("attempt", sa.Integer(), server_default="0"))
    create(
        "step_events",
        key(),
        column("step_id", sa.Integer()),
        column("at", TIME),
        column("attempt", sa.Integer()),
        column("kind", sa.String(32)),
        column("iteration", sa.Integer(), null=True),
        column("message", LONG_TEXT),
        sa.UniqueConstraint("step_id", "at", "kind", name="uq_step_events"),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name="fk_step_events_step"),
    )
