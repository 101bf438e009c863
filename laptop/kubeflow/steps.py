"""The steps of a run by Kubeflow and by SQL, side by side, each with the reason of its failure or why it waits."""

from dataclasses import dataclass, replace
from typing import Any

from laptop.kubeflow.reasons import Evidence, waiting_of, why_failed
from laptop.kubeflow.tasks import ENDED, FAILED, LOST, PENDING, RUNNING, StepState

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


def shown_steps(known: Evidence) -> tuple[StepShown, ...]:
    """A run's steps in the order they began."""
    found = {}
    for name in dict.fromkeys((*known.steps, *known.sql_rows)):
        shown = _shown(name, known.steps.get(name), known.sql_rows.get(name))
        if shown.failed:
            reason = why_failed(known, name)
            shown = replace(shown, reason=f"{reason.why}{reason.hint}")
        found[name] = shown
    # Kubernetes is asked why pods do not start only while no step is at work.
    run, at_work = known.run, any(shown.kubeflow == RUNNING for shown in found.values())
    if run is None or run.state in ENDED or at_work:
        return tuple(found.values())
    for name, why in (known.glance.ask(lambda pods: waiting_of(pods, run.run_id)) or {}).items():
        found[name] = replace(found.get(name, StepShown(name)), kubeflow=PENDING, waits=why)
    return tuple(found.values())


def _shown(name: str, step: StepState | None, sql_row: Any) -> StepShown:
    shown = StepShown(name)
    if sql_row is not None:
        seconds = (sql_row.ended_at or sql_row.heartbeat_at) - sql_row.started_at
        shown = StepShown(
            name,
            sql=LOST if sql_row.lost() else sql_row.state,
            seconds=seconds.total_seconds(),
            attempt=sql_row.attempt + 1,
            events=tuple(f"{event.kind}: {event.message}" for event in sql_row.events),
        )
    return replace(shown, kubeflow=step.state, seconds=step.seconds()) if step else shown
