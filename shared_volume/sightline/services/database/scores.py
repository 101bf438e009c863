"""Models and their evaluations: every metric value, overall and per class."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, TypedDict, Unpack

from sqlalchemy import delete, insert, or_, select
from sqlalchemy.orm import Session

from sightline.errors import SightlineError
from sightline.services.database.connection import Database, in_transaction
from sightline.services.database.models import LONGEST_URI, EvaluationRow, MetricValue, ModelRow, upsert

ModelKind = Literal["best", "last", "given", "selected"]
Values = Mapping[str, float | None]
PerClass = Mapping[str, Values]


class MadeBy(TypedDict, total=False):
    """What made a model, as far as it is known: columns of its row."""

    run_id: str | None
    version_id: int | None
    config: str | None
    weights_sha256: str | None
    weights_origin: str | None
    parent_sha256: str | None


@in_transaction
def write_model(session: Session, uri: str, sha256: str, kind: ModelKind, **made_by: Unpack[MadeBy]) -> ModelRow:
    """The model's row, written or brought up to date: a URI, of 768 characters at most, has one row.

    A DatabaseError for an unknown run or version.
    """
    if len(uri) > LONGEST_URI:
        raise SightlineError(
            f"The model's URI has {len(uri)} characters, more than {LONGEST_URI}: {uri[:80]}… Shorten it."
        )
    values = {"sha256": sha256, "kind": kind, **dict.fromkeys(MadeBy.__annotations__), **made_by}
    upsert(session, ModelRow, {"uri": uri}, values, {"created_at": datetime.now(UTC)})
    return session.scalars(select(ModelRow).filter_by(uri=uri)).one()


def find_model(database: Database, uri: str) -> ModelRow | None:
    """The row of the model at a URI, or None."""
    return next(iter(database.rows(select(ModelRow).filter_by(uri=uri))), None)


def list_models(database: Database, run_id: str) -> list[ModelRow]:
    """The models that a run made or scored, in the order they were recorded."""
    scored = select(EvaluationRow.model_id).filter_by(run_id=run_id)
    query = select(ModelRow).where(or_(ModelRow.run_id == run_id, ModelRow.id.in_(scored)))
    return database.rows(query.order_by(ModelRow.id))


@in_transaction
def write_evaluation(
    session: Session,
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
    upsert(session, EvaluationRow, key, {"selected": selected})
    number = session.scalars(select(EvaluationRow.id).filter_by(**key)).one()
    session.execute(delete(MetricValue).where(MetricValue.evaluation_id == number))
    values = [
        {"evaluation_id": number, "class_name": class_name, "name": name, "value": value}
        for class_name, scores in {"": overall, **(per_class or {})}.items()
        for name, value in scores.items()
    ]
    if values:
        session.execute(insert(MetricValue).execution_options(render_nulls=True), values)
    return session.scalars(select(EvaluationRow).filter_by(**key)).one()


def list_evaluations(database: Database, run_id: str) -> list[EvaluationRow]:
    """A run's evaluations in the order they were recorded first."""
    return database.rows(select(EvaluationRow).filter_by(run_id=run_id).order_by(EvaluationRow.id))
