"""The steps of a run by Kubeflow and by SQL, side by side, each with the reason of its failure or why it waits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from laptop.kubeflow.answers import Run
from laptop.kubeflow.pods import Glance
from laptop.kubeflow.reasons import reason_of, waiting_of
from laptop.kubeflow.tasks import ENDED, FAILED, LOST, PENDING, RUNNING, StepState, steps_of

FINE = ("done", "reused", "running", "pending", "not begun", "stopped")
"""States by Kubeflow under which SQL's "failed" is of an earlier attempt, or not yet true."""


@dataclass(frozen=True, slots=True)
class StepShown:
    """A step: its state by Kubeflow and by SQL (`lost` when the heartbeat stopped), empty where one knows nothing.

    Attributes:
        reason: why it failed, in a sentence.
        attempt: how many pods were started for it, this one included; 0 where SQL does not know it.
        waits: why its pod cannot start.
    """

    name: str
    kubeflow: str = ""
    sql: str = ""
    seconds: float | None = None
    reason: str = ""
    attempt: int = 0
    events: tuple[str, ...] = ()
    waits: str = ""

    def __str__(self) -> str:
        states = [state for state in dict.fromkeys((self.kubeflow, self.sql)) if state]
        again = f" (attempt {self.attempt})" if self.attempt > 1 else ""
        return f"{self.name} {' / '.join(states)}{again}"

    @property
    def failed(self) -> bool:
        """Whether it failed, or is lost where Kubeflow knows nothing better."""
        return self.kubeflow == FAILED or (self.sql in (FAILED, LOST) and self.kubeflow not in FINE)


def shown_steps(
    run: Run | None, run_id: str, sql_rows: Mapping[str, Any], glance: Glance, missing: str
) -> tuple[StepShown, ...]:
    """The steps in the order they began.

    Args:
        sql_rows: what they wrote to SQL, by name.
        missing: why SQL cannot be read; empty where it can.
    """
    steps = {step.name: step for step in steps_of(run)} if run else {}
    rows = []
    for name in dict.fromkeys((*steps, *sql_rows)):
        row = _row(name, steps.get(name), sql_rows.get(name))
        if row.failed:
            reason = reason_of(name, run_id, run, steps.get(name), sql_rows.get(name), glance, missing)
            row = replace(row, reason=reason)
        rows.append(row)
    return _waiting(run, rows, glance)


def _row(name: str, step: StepState | None, sql_row: Any) -> StepShown:
    row = StepShown(name)
    if sql_row is not None:
        seconds = (sql_row.ended_at or sql_row.heartbeat_at) - sql_row.started_at
        row = replace(
            row,
            sql=LOST if sql_row.lost() else sql_row.state,
            seconds=seconds.total_seconds(),
            attempt=sql_row.attempt + 1,
            events=tuple(f"{event.kind}: {event.message}" for event in sql_row.events),
        )
    return replace(row, kubeflow=step.state, seconds=step.seconds()) if step else row


def _waiting(run: Run | None, rows: list[StepShown], glance: Glance) -> tuple[StepShown, ...]:
    """The rows, and why those that cannot start cannot. Kubernetes is asked only while no step is at work."""
    at_work = any(row.kubeflow == RUNNING for row in rows)
    if run is None or run.state in ENDED or at_work:
        return tuple(rows)
    waits = glance.ask(lambda pods: waiting_of(pods, run.run_id)) or {}
    known = {row.name: replace(row, waits=waits.get(row.name, "")) for row in rows}
    for name, why in waits.items():
        if name not in known or known[name].kubeflow != PENDING:
            known[name] = replace(known.get(name, StepShown(name)), kubeflow=PENDING, waits=why)
    return tuple(known.values())
