"""What a recipe did at each stage, and what images look like: stages, images.perceptual_hash, images.labels."""

import sqlalchemy as sa

from sightline.services.database.migrations.operations import add, column, create, key

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    add("images", column("perceptual_hash", sa.String(16), null=True))
    add("images", column("labels", sa.JSON(), null=True))
    create(
        "stages",
        key(),
        column("version_id", sa.Integer()),
        column("position", sa.Integer()),
        column("name", sa.String(64)),
        column("images_before", sa.Integer()),
        column("images_after", sa.Integer()),
        column("annotations_before", sa.Integer()),
        column("annotations_after", sa.Integer()),
        sa.UniqueConstraint("version_id", "position", name="uq_stages"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_stages_version"),
    )
