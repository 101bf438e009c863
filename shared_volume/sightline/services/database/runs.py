"""Runs and their steps: each step records when it starts, that it lives, and how it ends."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from sightline.errors import SightlineError
from sightline.processes.lifetime import TERMINATED, Terminated
from sightline.services.database.connection import Database, in_transaction
from sightline.services.database.models import LOST_AFTER, EventRow, RunRow, StepRow, upsert

log = logging.getLogger(__name__)

End = Literal["done", "failed", "stopped"]
State = Literal["running", "lost", End]
"""Stopped: somebody ended it. Lost: it gave no sign of life any more. Both may be started again, like what failed."""
WORST_FIRST: tuple[State, ...] = ("failed", "running", "stopped", "lost", "done")
"""Of its steps' states a run has the one that comes first here."""
BEAT_SECONDS = 30.0
LONGEST_REASON = 20_000  # characters


def start_step(
    database: Database,
    run_id: str,
    step: str,
    *,
    category: str,
    code: str,
    code_digest: str,
    parameters: Mapping[str, Any],
    attempt: int = 0,
    goes_on: bool = False,
) -> StepRow | None:
    """Record that a step starts (again), and its run if this is the run's first. Returns its row from before.

    It runs from the release `code`; `code_digest` is of the whole live copy. Parameters are JSON, without secrets. `attempt`
    says which pod of its task it is, from 0; Kubeflow begins again at 0 when a run is retried, and the number that is recorded
    goes on instead. With `goes_on` it is the same attempt in a new process: its number and the time of its start stay.
    """
    now = datetime.now(UTC)
    run = {"category": category, "code_digest": code_digest, "parameters": dict(parameters)}
    running = {"state": "running", "ended_at": None}
    began = {"started_at": now}
    before: StepRow | None = None

    def start(session: Session) -> StepRow | None:
        nonlocal before
        found = session.scalar(select(StepRow).filter_by(run_id=run_id, step=step))
        if found and now in (found.started_at, found.heartbeat_at):
            return before  # written by this very call, whose answer was lost
        session.expunge_all()  # or it would expire with a transaction whose end is not known
        before = found
        least = 0 if before is None else before.attempt + (0 if goes_on else 1)
        upsert(session, RunRow, {"id": run_id}, run | running, began)
        values = {"code": code, "reason": "", "heartbeat_at": now, "attempt": max(attempt, least)} | running
        upsert(session, StepRow, {"run_id": run_id, "step": step}, values | ({} if goes_on else began), began)
        return before

    return database.write(start)


def write_event(
    database: Database,
    run_id: str,
    step: str,
    kind: str,
    message: str,
    *,
    iteration: int | None = None,
    at: datetime | None = None,
) -> None:
    """Record something that happened, by default just now, to a step that has started; the same event is recorded once."""
    moment = at or datetime.now(UTC)

    def write(session: Session) -> None:
        row = _started(session, run_id, step)
        key = {"step_id": row.id, "at": moment, "kind": kind}
        upsert(session, EventRow, key, {"attempt": row.attempt, "iteration": iteration, "message": message})

    database.write(write)


@in_transaction
def beat(session: Session, run_id: str, step: str) -> None:
    """Record that a running step is alive; nothing happens when it has ended.

    One that was taken for lost, because the database was out of reach or two clocks differ, runs again.
    """
    own = (StepRow.run_id == run_id) & (StepRow.step == step)
    alive = {"heartbeat_at": datetime.now(UTC)}
    session.execute(update(StepRow).where(own, StepRow.state == "running").values(alive))
    again = alive | {"state": "running", "reason": "", "ended_at": None}
    if session.execute(update(StepRow).where(own, StepRow.state == "lost").values(again)).rowcount:  # type: ignore[attr-defined]
        _settle_run(session, run_id, None)


def end_lost_steps(database: Database) -> None:
    """Record as lost what says that it runs and has given no sign of life for three minutes, and end its run.

    Whoever looks at runs does this first. Where it cannot be written, the rows' `lost` says it all the same.
    """
    silent = select(StepRow).where(StepRow.state == "running", StepRow.heartbeat_at < datetime.now(UTC) - LOST_AFTER)

    def end(session: Session) -> None:
        for row in session.scalars(silent).all():
            row.state, row.ended_at = "lost", row.heartbeat_at
            row.reason = f"gave no sign of life after {row.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC"
            session.flush()
            _settle_run(session, row.run_id, row.heartbeat_at)

    if database.read(lambda session: session.scalars(silent).first()):
        try:
            database.write(end)
        except SightlineError as error:
            log.info("lost steps could not be recorded: %s", error)


def stop_steps(database: Database, run_id: str) -> list[str]:
    """Record as stopped what says that it runs of a run that somebody terminated, and end the run. Returns the steps' names.

    A step that has the time to say how it ended is believed afterwards.
    """
    now = datetime.now(UTC)
    at_work = StepRow.state.in_(("running", "lost"))
    written = (StepRow.state == "stopped") & (StepRow.ended_at == now)  # by this very call, whose answer was lost
    query = select(StepRow).filter_by(run_id=run_id).where(at_work | written).order_by(StepRow.id)

    def stop(session: Session) -> list[str]:
        rows = session.scalars(query).all()
        for row in rows:
            row.state, row.reason, row.ended_at = "stopped", TERMINATED, now
        if rows:
            _settle_run(session, run_id, now)
        return [row.step for row in rows]

    return database.write(stop)


def _settle_run(session: Session, run_id: str, ended_at: datetime | None) -> None:
    """Give a run the state that follows from its steps, and the time of its end when that is one."""
    session.flush()
    states = set(session.scalars(select(StepRow.state).where(StepRow.run_id == run_id)))
    overall = next(state for state in WORST_FIRST if state in {*states, "done"})
    ended = None if overall == "running" else ended_at
    session.execute(update(RunRow).where(RunRow.id == run_id).values(state=overall, ended_at=ended))


@in_transaction
def end_step(session: Session, run_id: str, step: str, state: End, reason: str = "") -> None:
    """Record how a step ended, and the run's state that follows; a SightlineError where it never started."""
    now = datetime.now(UTC)
    row = _started(session, run_id, step)
    row.state, row.reason, row.ended_at, row.heartbeat_at = state, reason[:LONGEST_REASON], now, now
    _settle_run(session, run_id, now)


@contextmanager
def tracked_step(
    database: Database,
    run_id: str,
    step: str,
    *,
    left_to_others: type[BaseException] | tuple[()] = (),
    beat_seconds: float = BEAT_SECONDS,
    **started: Any,
) -> Iterator[StepRow | None]:
    """Record the block as a step: its start, its heartbeat while it runs, and its end with the reason of a failure.

    Yields the step's row from before. A heartbeat that cannot be written is logged and left out: the work goes on. After an
    error that is `left_to_others` the step goes on in another process, or is ended by it.
    """
    before = start_step(database, run_id, step, **started)
    ended = threading.Event()

    def keep_beating() -> None:
        while not ended.wait(beat_seconds):
            try:
                beat(database, run_id, step)
            except SightlineError as error:
                log.warning("no heartbeat: %s", error)

    threading.Thread(target=keep_beating, name=f"heartbeat-{step}", daemon=True).start()
    try:
        try:
            yield before
        finally:
            ended.set()
    except left_to_others:
        raise
    except BaseException as error:
        state: End = "stopped" if isinstance(error, Terminated | KeyboardInterrupt) else "failed"
        reason = TERMINATED if state == "stopped" else f"{type(error).__name__}: {error}"
        try:
            end_step(database, run_id, step, state, reason)
        except SightlineError as unwritten:
            log.error("the end could not be recorded: %s", unwritten)
        raise
    end_step(database, run_id, step, "done")


def list_runs(database: Database, category: str | None = None) -> list[RunRow]:
    """Runs, newest first."""
    end_lost_steps(database)
    query = select(RunRow).filter_by(**({} if category is None else {"category": category}))
    return database.rows(query.order_by(RunRow.started_at.desc(), RunRow.id))


def list_steps(database: Database, run_id: str) -> list[StepRow]:
    """A run's steps with their events, in the order they started."""
    end_lost_steps(database)
    return database.rows(select(StepRow).filter_by(run_id=run_id).order_by(StepRow.started_at, StepRow.id))


def find_step(database: Database, run_id: str, step: str) -> StepRow | None:
    """One step's row, or None."""
    return next((row for row in list_steps(database, run_id) if row.step == step), None)


def _started(session: Session, run_id: str, step: str) -> StepRow:
    row = session.scalar(select(StepRow).filter_by(run_id=run_id, step=step))
    if row is None:
        raise SightlineError(f"The step {step} of run {run_id} never started: there is no row to change.")
    return row
