"""Who uses what: which runs live, when each was last heard of, and which models they made, scored or selected."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from sightline.services.database.connection import Database
from sightline.services.database.models import EvaluationRow, ModelRow, RunRow, StepRow

SILENT_FOR: Final = timedelta(hours=1)  # a step that was taken for lost less long ago may be back: a database was away


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """When a step of a run was last heard of."""

    run: str
    category: str
    step: str
    state: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A run that made, scored or selected a model; None for a model from elsewhere."""

    sha256: str
    run: str | None
    selected: bool
    trained: bool  # the run made it


def signs_of_life(database: Database) -> list[SignOfLife]:
    """The last one of every step of every run."""
    columns = (StepRow.run_id, RunRow.category, StepRow.step, StepRow.state, StepRow.heartbeat_at)
    query = select(*columns).join(RunRow, RunRow.id == StepRow.run_id)
    return database.read(lambda session: [SignOfLife(*row) for row in session.execute(query)])


def living(signs: Sequence[SignOfLife], now: datetime | None = None) -> list[SignOfLife]:
    """The steps that are at work, or may be."""
    limit = (now or datetime.now(UTC)) - SILENT_FOR
    return [sign for sign in signs if sign.state in ("running", "lost") and sign.at > limit]


def model_uses(database: Database) -> list[ModelUse]:
    """Every use of a model that SQL knows."""
    made = select(ModelRow.sha256, ModelRow.run_id, ModelRow.kind)
    scored = select(ModelRow.sha256, EvaluationRow.run_id, EvaluationRow.selected).join(
        ModelRow, ModelRow.id == EvaluationRow.model_id
    )

    def read(session: Session) -> list[ModelUse]:
        rows = [
            ModelUse(sha256, run, kind == "selected", kind in ("best", "last"))
            for sha256, run, kind in session.execute(made)
        ]
        return rows + [ModelUse(sha256, run, chosen, False) for sha256, run, chosen in session.execute(scored)]

    return database.read(read)
