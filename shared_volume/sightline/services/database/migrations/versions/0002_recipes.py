"""What a recipe did at each stage, and what images look like: stages, images.perceptual_hash, images.labels."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OPTIONS = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}
OPTIONS = {f"{dialect}_{name}": value for dialect in ("mysql", "mariadb") for name, value in _OPTIONS.items()}


def upgrade() -> None:
    add_to_images(sa.Column("perceptual_hash", sa.String(16), nullable=True))
    add_to_images(sa.Column("labels", sa.JSON(), nullable=True))
    op.create_table(
        "stages",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("images_before", sa.Integer(), nullable=False),
        sa.Column("images_after", sa.Integer(), nullable=False),
        sa.Column("annotations_before", sa.Integer(), nullable=False),
        sa.Column("annotations_after", sa.Integer(), nullable=False),
        sa.UniqueConstraint("version_id", "position", name="uq_stages"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_stages_version"),
        if_not_exists=True,
        **OPTIONS,
    )


def add_to_images(column: sa.Column[Any]) -> None:
    """MySQL has no "add column if it does not exist"."""
    there = {found["name"] for found in sa.inspect(op.get_bind()).get_columns("images")}
    if column.name not in there:
        op.add_column("images", column)
