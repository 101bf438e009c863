"""Runs and their steps: each step records when it starts, that it lives, and how it ends."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from sightline.database.connection import Database, record
from sightline.database.models import Run, Step
from sightline.database.upsert import upsert
from sightline.errors import SightlineError

log = logging.getLogger(__name__)

State = Literal["running", "done", "failed"]
BEAT_SECONDS = 30.0
LOST_AFTER = timedelta(seconds=180)
LONGEST_REASON = 20_000  # characters


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run. Its state is that of the steps so far: running while one runs, failed when one failed, else done."""

    id: str
    category: str
    code_digest: str
    parameters: Mapping[str, Any]
    state: str
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step of a run; `code` names the release that it ran from, `reason` says why it failed."""

    run_id: str
    step: str
    code: str
    state: str
    reason: str
    started_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None

    def lost(self, now: datetime | None = None) -> bool:
        """Whether it says that it runs but has given no sign of life for three minutes."""
        return self.state == "running" and (now or datetime.now(UTC)) - self.heartbeat_at > LOST_AFTER


def start_step(
    database: Database,
    run_id: str,
    step: str,
    *,
    category: str,
    code: str,
    code_digest: str,
    parameters: Mapping[str, Any],
) -> None:
    """Record that a step starts (again), and its run if this is the run's first.

    Args:
        code: the name of the release that the step runs from.
        code_digest: digest of the whole live copy, the run's.
        parameters: the run's; JSON, no secrets.
    """
    now = datetime.now(UTC)

    def start(session: Session) -> None:
        upsert(
            session,
            Run,
            {"id": run_id},
            {
                "category": category,
                "code_digest": code_digest,
                "parameters": dict(parameters),
                "state": "running",
                "ended_at": None,
            },
            {"started_at": now},
        )
        begun = {
            "code": code,
            "state": "running",
            "reason": "",
            "started_at": now,
            "heartbeat_at": now,
            "ended_at": None,
        }
        upsert(session, Step, {"run_id": run_id, "step": step}, begun)

    database.write(start)


def beat(database: Database, run_id: str, step: str) -> None:
    """Record that a running step is alive; nothing happens when it has ended."""
    database.write(
        lambda session: session.execute(
            update(Step)
            .where(Step.run_id == run_id, Step.step == step, Step.state == "running")
            .values(heartbeat_at=datetime.now(UTC))
        )
    )


def end_step(database: Database, run_id: str, step: str, state: Literal["done", "failed"], reason: str = "") -> None:
    """Record how a step ended, and the run's state that follows.

    Raises:
        SightlineError: the step never started.
    """
    now = datetime.now(UTC)

    def end(session: Session) -> None:
        row = session.scalar(select(Step).where(Step.run_id == run_id, Step.step == step))
        if row is None:
            raise SightlineError(f"Step {step} of run {run_id} ended but was never started. Call start_step first.")
        row.state, row.reason, row.ended_at, row.heartbeat_at = state, reason[:LONGEST_REASON], now, now
        session.flush()
        states = set(session.scalars(select(Step.state).where(Step.run_id == run_id)))
        overall = next((each for each in ("failed", "running") if each in states), "done")
        ended_at = None if overall == "running" else now
        session.execute(update(Run).where(Run.id == run_id).values(state=overall, ended_at=ended_at))

    database.write(end)


@contextmanager
def recorded_step(
    database: Database,
    run_id: str,
    step: str,
    *,
    category: str,
    code: str,
    code_digest: str,
    parameters: Mapping[str, Any],
    beat_seconds: float = BEAT_SECONDS,
) -> Iterator[None]:
    """Record the block as a step: its start, its heartbeat while it runs, and its end with the reason of a failure.

    A heartbeat that cannot be written is logged and left out: the work goes on.
    """
    start_step(database, run_id, step, category=category, code=code, code_digest=code_digest, parameters=parameters)
    ended = threading.Event()

    def keep_beating() -> None:
        while not ended.wait(beat_seconds):
            try:
                beat(database, run_id, step)
            except SightlineError as error:
                log.warning("no heartbeat: %s", error)

    thread = threading.Thread(target=keep_beating, name=f"heartbeat-{step}", daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        ended.set()
        try:
            end_step(database, run_id, step, "failed", f"{type(error).__name__}: {error}")
        except SightlineError as unrecorded:
            error.add_note(f"(The failure could not be recorded: {unrecorded})")
        raise
    ended.set()
    end_step(database, run_id, step, "done")


def find_run(database: Database, run_id: str) -> RunRecord | None:
    """The run's record, or None."""

    def find(session: Session) -> RunRecord | None:
        row = session.get(Run, run_id)
        return record(RunRecord, row) if row else None

    return database.read(find)


def list_runs(database: Database, category: str | None = None) -> list[RunRecord]:
    """Runs, newest first."""
    query = select(Run).order_by(Run.started_at.desc(), Run.id)
    if category is not None:
        query = query.where(Run.category == category)
    return database.read(lambda session: [record(RunRecord, row) for row in session.scalars(query)])


def list_steps(database: Database, run_id: str) -> list[StepRecord]:
    """A run's steps in the order they started."""
    query = select(Step).where(Step.run_id == run_id).order_by(Step.started_at, Step.id)
    return database.read(lambda session: [record(StepRecord, row) for row in session.scalars(query)])
