"""Models and their evaluations: every metric value, overall and per class."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from sightline.errors import SightlineError
from sightline.services.database.connection import Database
from sightline.services.database.models import LONGEST_URI, Evaluation, MetricValue, Model, as_row, upsert

ModelKind = Literal["best", "last", "given", "selected"]
Values = Mapping[str, float | None]
PerClass = Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model bundle: where it lies, the digest of its manifest, and what made it (None for one from elsewhere)."""

    id: int
    uri: str
    sha256: str
    kind: str
    run_id: str | None
    version_id: int | None
    config: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One model's scores on one split: metric name -> value (None where undefined), overall and per class name."""

    id: int
    run_id: str
    model_id: int
    version_id: int
    split: str
    selected: bool
    overall: Values
    per_class: PerClass


def write_model(
    database: Database,
    uri: str,
    sha256: str,
    kind: ModelKind,
    *,
    run_id: str | None = None,
    version_id: int | None = None,
    config: str | None = None,
) -> ModelRow:
    """The model's row, written or brought up to date: a URI, of 768 characters at most, has one row.

    A DatabaseError for an unknown run or version.
    """
    if len(uri) > LONGEST_URI:
        raise SightlineError(
            f"The model's URI has {len(uri)} characters, more than {LONGEST_URI}: {uri[:80]}… Shorten it."
        )
    values = {"sha256": sha256, "kind": kind, "run_id": run_id, "version_id": version_id, "config": config}

    def write(session: Session) -> ModelRow:
        upsert(session, Model, {"uri": uri}, values, {"created_at": datetime.now(UTC)})
        return as_row(ModelRow, session.scalars(select(Model).where(Model.uri == uri)).one())

    return database.write(write)


def find_model(database: Database, uri: str) -> ModelRow | None:
    """The row of the model at a URI, or None."""
    return next(iter(database.rows(ModelRow, select(Model).where(Model.uri == uri))), None)


def write_evaluation(
    database: Database,
    run_id: str,
    model_id: int,
    version_id: int,
    split: str,
    *,
    selected: bool,
    overall: Values,
    per_class: PerClass | None = None,
) -> EvaluationRow:
    """Write one evaluation with all its values in one transaction; a repeated one replaces the earlier values.

    The values are by metric's name, those of classes by theirs (not empty) before; NaN and None both mean undefined. A
    DatabaseError for an unknown run, model or version.
    """
    if per_class and "" in per_class:
        raise SightlineError(
            "A class has an empty name, which stands for all classes together. Rename it in the labels."
        )
    key = {"run_id": run_id, "model_id": model_id, "version_id": version_id, "split": split}

    def write(session: Session) -> EvaluationRow:
        upsert(session, Evaluation, key, {"selected": selected})
        row = session.scalars(select(Evaluation).filter_by(**key)).one()
        session.execute(delete(MetricValue).where(MetricValue.evaluation_id == row.id))
        values = [
            {"evaluation_id": row.id, "class_name": class_name, "name": name, "value": value}
            for class_name, scores in {"": overall, **(per_class or {})}.items()
            for name, value in scores.items()
        ]
        if values:
            session.execute(insert(MetricValue).execution_options(render_nulls=True), values)
        return _with_values(session, row)

    return database.write(write)


def list_evaluations(database: Database, run_id: str) -> list[EvaluationRow]:
    """A run's evaluations in the order they were recorded first."""
    query = select(Evaluation).where(Evaluation.run_id == run_id).order_by(Evaluation.id)
    return database.read(lambda session: [_with_values(session, row) for row in session.scalars(query).all()])


def _with_values(session: Session, row: Evaluation) -> EvaluationRow:
    query = select(MetricValue).where(MetricValue.evaluation_id == row.id).order_by(MetricValue.id)
    by_class: dict[str, dict[str, float | None]] = {"": {}}
    for each in session.scalars(query):
        by_class.setdefault(each.class_name, {})[each.name] = each.value
    return as_row(EvaluationRow, row, overall=by_class.pop(""), per_class=by_class)
