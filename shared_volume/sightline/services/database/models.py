"""The tables, whose objects are the rows that are read. A change of a table needs a new migration; a test compares the two."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import JSON, Boolean, DateTime, Double, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

Columns = Mapping[str, Any]

# InnoDB indexes at most 3072 bytes, four for each character: the longest unique columns are made to that measure.
LONGEST_URI = 768
LONGEST_PATH = 700
LONGEST_NAME = 255
LOST_AFTER = timedelta(seconds=180)  # without a sign of life

# On MySQL names are told apart by every byte (case, accents), as file names and Git tags are; SQLite does so anyway.
_OPTIONS = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}
TABLE_OPTIONS = {f"{dialect}_{name}": value for dialect in ("mysql", "mariadb") for name, value in _OPTIONS.items()}


class UtcTime(TypeDecorator[datetime]):
    """A moment, to the microsecond: aware in Python, UTC in the database."""

    impl = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value else None


class Number(TypeDecorator[float]):
    """A double whose NaN and infinities are NULL, since MySQL has none."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        return None if value is None or not math.isfinite(value) else float(value)


# What people and programs write at length; MySQL's TEXT would end at 64 kB.
LongText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


class Base(DeclarativeBase):
    """The tables' common ground. Rows are equal when all that they hold is."""

    __table_args__: Any = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(primary_key=True)

    def __eq__(self, other: object) -> bool:
        names = type(self).__mapper__.attrs.keys()
        return type(other) is type(self) and all(getattr(self, name) == getattr(other, name) for name in names)


class VersionRow(Base):
    """An annotation or dataset version. Tag, commit, digest, counts and time of publication are None while it is pending: a
    claim, which `owner` holds until `lease_until` (and after it, until somebody else claims)."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("category", "kind", "version", name="uq_versions"), TABLE_OPTIONS)

    category: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(16))
    version: Mapped[str] = mapped_column(String(40))
    tag: Mapped[str | None] = mapped_column(String(LONGEST_NAME))
    commit: Mapped[str | None] = mapped_column(String(64))
    digest: Mapped[str | None] = mapped_column(String(128))
    status: Mapped[str] = mapped_column(String(16))
    owner: Mapped[str] = mapped_column(String(LONGEST_NAME))
    lease_until: Mapped[datetime | None] = mapped_column(UtcTime)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id", name="fk_versions_parent"))
    recipe: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    image_count: Mapped[int | None] = mapped_column(Integer)
    annotation_count: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    published_at: Mapped[datetime | None] = mapped_column(UtcTime)


class Image(Base):
    """One image of a version."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("version_id", "name", name="uq_images"), TABLE_OPTIONS)

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", name="fk_images_version"))
    name: Mapped[str] = mapped_column(String(LONGEST_PATH))
    split: Mapped[str | None] = mapped_column(String(16))
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    bytes: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64))
    annotation_count: Mapped[int] = mapped_column(Integer)
    perceptual_hash: Mapped[str | None] = mapped_column(String(16))
    labels: Mapped[dict[str, int] | None] = mapped_column(JSON(none_as_null=True))


class Stage(Base):
    """What one stage of a recipe left of a dataset version's images and annotations."""

    __tablename__ = "stages"
    __table_args__ = (UniqueConstraint("version_id", "position", name="uq_stages"), TABLE_OPTIONS)

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", name="fk_stages_version"))
    position: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(String(64))
    images_before: Mapped[int] = mapped_column(Integer)
    images_after: Mapped[int] = mapped_column(Integer)
    annotations_before: Mapped[int] = mapped_column(Integer)
    annotations_after: Mapped[int] = mapped_column(Integer)


class Finding(Base):
    """Something found wrong in a version's files, and what was done about it."""

    __tablename__ = "findings"
    __table_args__ = (Index("ix_findings_version", "version_id"), TABLE_OPTIONS)

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", name="fk_findings_version"))
    code: Mapped[str] = mapped_column(String(64))
    file: Mapped[str] = mapped_column(String(LONGEST_PATH))
    shape_index: Mapped[int | None] = mapped_column(Integer)
    message: Mapped[str] = mapped_column(LongText)
    outcome: Mapped[str] = mapped_column(String(64))


class RunRow(Base):
    """One run of the pipeline. Of its steps' states it has the one that comes first in `runs.WORST_FIRST`."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # type: ignore[assignment]
    category: Mapped[str] = mapped_column(String(100))
    code_digest: Mapped[str] = mapped_column(String(128))
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[datetime] = mapped_column(UtcTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)


class StepRow(Base):
    """One step of a run, as it recorded itself."""

    __tablename__ = "steps"
    __table_args__ = (UniqueConstraint("run_id", "step", name="uq_steps"), TABLE_OPTIONS)

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", name="fk_steps_run"))
    step: Mapped[str] = mapped_column(String(64))
    code: Mapped[str] = mapped_column(String(LONGEST_NAME))  # names the release that it ran from
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(LongText)
    started_at: Mapped[datetime] = mapped_column(UtcTime)
    heartbeat_at: Mapped[datetime] = mapped_column(UtcTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)
    # The newest, from 0; a pod that was lost is followed by another attempt, and a retry of the run too.
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    events: Mapped[list["EventRow"]] = relationship(order_by="EventRow.at, EventRow.id", lazy="selectin", viewonly=True)

    def lost(self, now: datetime | None = None) -> bool:
        """Whether it is recorded as lost, or says that it runs but has given no sign of life for three minutes."""
        silent = (now or datetime.now(UTC)) - self.heartbeat_at > LOST_AFTER
        return self.state == "lost" or (self.state == "running" and silent)


class EventRow(Base):
    """Something that happened to a step: it ran out of memory, started again, resumed after its pod was lost."""

    __tablename__ = "step_events"
    __table_args__ = (UniqueConstraint("step_id", "at", "kind", name="uq_step_events"), TABLE_OPTIONS)

    step_id: Mapped[int] = mapped_column(ForeignKey("steps.id", name="fk_step_events_step"))
    at: Mapped[datetime] = mapped_column(UtcTime)
    attempt: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(String(32))
    iteration: Mapped[int | None] = mapped_column(Integer)
    message: Mapped[str] = mapped_column(LongText)


class ModelRow(Base):
    """A model bundle: where it lies, the digest of its manifest, and what made it (None for one from elsewhere).

    The file of weights that its training began from, and the `sha256` of the model that this is of, if Sightline trained that:
    all None for one that began from random weights.
    """

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("uri", name="uq_models"), TABLE_OPTIONS)

    uri: Mapped[str] = mapped_column(String(LONGEST_URI))
    sha256: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id", name="fk_models_run"))
    version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id", name="fk_models_version"))
    config: Mapped[str | None] = mapped_column(String(LONGEST_NAME))
    weights_sha256: Mapped[str | None] = mapped_column(String(64))
    weights_origin: Mapped[str | None] = mapped_column(LongText)
    parent_sha256: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcTime)


class EvaluationRow(Base):
    """One model scored on one split of a dataset version, in one run."""

    __tablename__ = "evaluations"
    __table_args__ = (
        UniqueConstraint("run_id", "model_id", "version_id", "split", name="uq_evaluations"),
        TABLE_OPTIONS,
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", name="fk_evaluations_run"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", name="fk_evaluations_model"))
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", name="fk_evaluations_version"))
    split: Mapped[str] = mapped_column(String(16))
    selected: Mapped[bool] = mapped_column(Boolean)
    values: Mapped[list["MetricValue"]] = relationship(order_by="MetricValue.id", lazy="selectin", viewonly=True)

    @property
    def overall(self) -> dict[str, float | None]:
        """Metric name -> value of all classes together, None where undefined."""
        return {each.name: each.value for each in self.values if not each.class_name}

    @property
    def per_class(self) -> dict[str, dict[str, float | None]]:
        """Class name -> metric name -> value."""
        grouped = groupby((each for each in self.values if each.class_name), key=attrgetter("class_name"))
        return {label: {each.name: each.value for each in scores} for label, scores in grouped}


class MetricValue(Base):
    """One score of an evaluation; an empty class name is all classes together."""

    __tablename__ = "metric_values"
    __table_args__ = (UniqueConstraint("evaluation_id", "class_name", "name", name="uq_metric_values"), TABLE_OPTIONS)

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id", name="fk_metric_values_evaluation"))
    class_name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    value: Mapped[float | None] = mapped_column(Number)


def upsert(session: Session, table: type[Base], key: Columns, values: Columns, at_first: Columns | None = None) -> None:
    """Make the row with this unique `key` hold `values` (a new one `at_first`, too); two processes may do so at once."""
    row = {**key, **values, **(at_first or {})}
    if session.get_bind().dialect.name == "sqlite":
        inserting = sqlite.insert(table).values(row)
        session.execute(inserting.on_conflict_do_update(index_elements=list(key), set_=dict(values)))
    else:
        session.execute(mysql.insert(table).values(row).on_duplicate_key_update(**values))
