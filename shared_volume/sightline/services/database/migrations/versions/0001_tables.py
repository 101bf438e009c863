"""The first tables: versions, images, findings, runs, steps, models, evaluations, metric values."""

import sqlalchemy as sa

from sightline.services.database.migrations.operations import LONG_TEXT, TIME, column, create, key

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_versions()
    create_runs()
    create_scores()


def create_versions() -> None:
    create(
        "versions",
        key(),
        column("category", sa.String(100)),
        column("kind", sa.String(16)),
        column("version", sa.String(40)),
        column("tag", sa.String(255), null=True),
        column("commit", sa.String(64), null=True),
        column("digest", sa.String(128), null=True),
        column("status", sa.String(16)),
        column("owner", sa.String(255)),
        column("lease_until", TIME, null=True),
        column("parent_id", sa.Integer(), null=True),
        column("recipe", sa.JSON(), null=True),
        column("image_count", sa.Integer(), null=True),
        column("annotation_count", sa.Integer(), null=True),
        column("created_at", TIME),
        column("published_at", TIME, null=True),
        sa.UniqueConstraint("category", "kind", "version", name="uq_versions"),
        sa.ForeignKeyConstraint(["parent_id"], ["versions.id"], name="fk_versions_parent"),
    )
    create(
        "images",
        key(),
        column("version_id", sa.Integer()),
        column("name", sa.String(700)),
        column("split", sa.String(16), null=True),
        column("width", sa.Integer()),
        column("height", sa.Integer()),
        column("bytes", sa.Integer()),
        column("sha256", sa.String(64)),
        column("annotation_count", sa.Integer()),
        sa.UniqueConstraint("version_id", "name", name="uq_images"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_images_version"),
    )
    create(
        "findings",
        key(),
        column("version_id", sa.Integer()),
        column("code", sa.String(64)),
        column("file", sa.String(700)),
        column("shape_index", sa.Integer(), null=True),
        column("message", LONG_TEXT),
        column("outcome", sa.String(64)),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_findings_version"),
        sa.Index("ix_findings_version", "version_id"),
    )


def create_runs() -> None:
    create(
        "runs",
        sa.Column("id", sa.String(64), primary_key=True),
        column("category", sa.String(100)),
        column("code_digest", sa.String(128)),
        column("parameters", sa.JSON()),
        column("state", sa.String(16)),
        column("started_at", TIME),
        column("ended_at", TIME, null=True),
    )
    create(
        "steps",
        key(),
        column("run_id", sa.String(64)),
        column("step", sa.String(64)),
        column("code", sa.String(255)),
        column("state", sa.String(16)),
        column("reason", LONG_TEXT),
        column("started_at", TIME),
        column("heartbeat_at", TIME),
        column("ended_at", TIME, null=True),
        sa.UniqueConstraint("run_id", "step", name="uq_steps"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_steps_run"),
    )


def create_scores() -> None:
    create(
        "models",
        key(),
        column("uri", sa.String(768)),
        column("sha256", sa.String(64)),
        column("kind", sa.String(16)),
        column("run_id", sa.String(64), null=True),
        column("version_id", sa.Integer(), null=True),
        column("config", sa.String(255), null=True),
        column("created_at", TIME),
        sa.UniqueConstraint("uri", name="uq_models"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_models_run"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_models_version"),
    )
    create(
        "evaluations",
        key(),
        column("run_id", sa.String(64)),
        column("model_id", sa.Integer()),
        column("version_id", sa.Integer()),
        column("split", sa.String(16)),
        column("selected", sa.Boolean()),
        sa.UniqueConstraint("run_id", "model_id", "version_id", "split", name="uq_evaluations"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_evaluations_run"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_evaluations_model"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_evaluations_version"),
    )
    create(
        "metric_values",
        key(),
        column("evaluation_id", sa.Integer()),
        column("class_name", sa.String(255)),
        column("name", sa.String(255)),
        column("value", sa.Double(), null=True),
        sa.UniqueConstraint("evaluation_id", "class_name", "name", name="uq_metric_values"),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="fk_metric_values_evaluation"),
    )
