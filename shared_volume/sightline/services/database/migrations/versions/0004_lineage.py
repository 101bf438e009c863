"""What a model's training began from: models.weights_sha256, weights_origin, parent_sha256."""

import sqlalchemy as sa

from sightline.services.database.migrations.operations import LONG_TEXT, add, column

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # Older code goes on inserting rows, of models of which that is not known.
    add("models", column("weights_sha256", sa.String(64), null=True))
    add("models", column("weights_origin", LONG_TEXT, null=True))
    add("models", column("parent_sha256", sa.String(64), null=True))
