"""The steps of a run by Kubeflow and by SQL, side by side, and why one failed or waits: in a sentence, from wherever that stands.

And runs of which Kubeflow says that they go on, though nothing of them is there any more: it never ends them itself.
"""

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal

from components.parameters import PARAMETERS
from laptop.kubeflow.answers import Run
from laptop.kubeflow.checks import wrong_quantity
from laptop.kubeflow.connect import Server, ServerError
from laptop.kubeflow.find import newest_runs, short_id
from laptop.kubeflow.log_text import driver_reason_in, ends_with_launcher, reason_in, sentence
from laptop.kubeflow.pod_state import NO_MEMORY, age_of, ended, is_lost, role_at, waits_for
from laptop.kubeflow.pods import Glance, Pods, RefusedError
from laptop.kubeflow.sql import Metadata, rows_of_steps
from laptop.kubeflow.tasks import ENDED, FAILED, LOST, PENDING, RUNNING, StepState, steps_of

# States by Kubeflow under which SQL's "failed" is of an earlier attempt, or not yet true.
FINE = ("done", "reused", "running", "pending", "not begun", "stopped")
SILENT = "its pod is gone and wrote no reason"
NO_DRIVER = "its driver, which prepares its pod, failed"
ORDERS = "podSpecPatch"  # what a driver makes of a step's sizes and places, which are as wrong the next time
DELETED = "pod deleted"  # Argo's words
QUIET = timedelta(hours=1)  # drivers and steps that stop beating do not last so long in a run that goes on
STOPPING = timedelta(minutes=10)  # a run that was told to stop does in seconds
SETTLED = timedelta(minutes=5)  # between two pods of a run pass seconds
OTHERS = 100  # runs, by whose pods the server's cluster is known


class Evidence:
    """What Kubeflow, SQL and Kubernetes know of a run."""

    def __init__(self, run_id: str, run: Run | None, metadata: Metadata, glance: Glance) -> None:
        """Ask SQL; without `run`, Kubeflow knows nothing of it. Kubernetes is asked when a question needs it."""
        self.run_id, self.run, self.glance = run_id, run, glance
        self.steps = {step.name: step for step in steps_of(run)} if run else {}
        self.sql_rows = rows_of_steps(metadata, run_id)
        self.missing = metadata.missing  # why SQL cannot be read


@dataclass(frozen=True, slots=True)
class StepShown:
    """A step: its state by Kubeflow and by SQL (`lost` when the heartbeat stopped), empty where one knows nothing."""

    name: str
    kubeflow: str = ""
    sql: str = ""
    seconds: float | None = None
    reason: str = ""
    attempt: int = 0  # how many pods were started for it, this one included; 0 where SQL does not know it
    events: tuple[str, ...] = ()
    waits: str = ""  # why its pod cannot start

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
    at_work = any(shown.kubeflow == RUNNING for shown in found.values())
    if known.run and known.run.state not in ENDED and not at_work:
        for name, why in (known.glance.ask(lambda pods: waiting_of(pods, known.run_id)) or {}).items():
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


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a step failed, or a run ended.

    By an error of the step's own, which a retry would meet again; lost with its pod or driver; stopped by somebody.
    """

    kind: Literal["error", "lost", "stopped", "unknown"]
    why: str
    hint: str = ""  # what to do, to be put after `why` where that is not being done already
    step: str = ""  # whose failure ended the run, where it was one


def log_hint(run_id: str, step: str) -> str:
    """Where more may stand."""
    return f"; its log: python pipeline.py logs {short_id(run_id)} {step}"


def why_failed(known: Evidence, name: str) -> Reason:
    """Why a step failed: what it recorded itself, else what its pod or its driver's tells, else what Kubeflow says."""
    run, state, sql_row = known.run, known.steps.get(name), known.sql_rows.get(name)
    by_driver = state is not None and state.by_driver
    if sql_row is not None and sql_row.state == "failed" and sql_row.reason and not by_driver:
        return Reason("error", sentence(sql_row.reason))
    if run and by_driver:  # with a size that no pod can be made of the driver is sure to fail
        sizes = {each.name for each in PARAMETERS if name in each.pod}
        if wrong := wrong_quantity({size: given for size, given in run.parameters.items() if size in sizes and given}):
            return Reason("error", wrong)
    began = sql_row is not None and sql_row.state != "failed"
    if told := known.glance.ask(lambda pods: pod_reason(pods, known.run_id, name)):
        return replace(told, kind="lost") if began and told.kind == "unknown" else told
    said = sentence((state.message if state else "") or (run.error if run else ""))
    if by_driver:
        why = f"{NO_DRIVER}{f': {said}' if said else ', and Kubeflow does not say why'}"
        return Reason("lost", why, f"; to go on: python pipeline.py retry {short_id(known.run_id)}")
    if NO_MEMORY in said:
        return Reason("error", said)
    if said:
        return Reason("lost" if sql_row is not None or DELETED in said else "unknown", said)
    if began:
        return Reason("lost", SILENT)
    no_sql = f"Kubeflow, and SQL cannot be read ({known.missing})" if known.missing else "SQL or Kubeflow"
    return Reason("unknown", f"no reason in {no_sql}", log_hint(known.run_id, name))


def pod_reason(pods: Pods, run_id: str, step: str) -> Reason | None:
    """What the newest pod that failed of a step says, its own or its driver's; None where none does."""
    ours = sorted((pod for pod in pods.of_run(run_id) if pod.role.step == step and pod.failed), key=age_of)
    if not ours:
        return None
    pod = ours[-1]
    if how := ended(pod):
        return Reason("lost" if is_lost(pod) else "error", how)
    log = pods.end_of_log(pod.name)
    if not pod.role.driver:
        said = reason_in(log)
        # Where the launcher cannot reach Kubeflow's server, the step has done its work, and nothing is wrong with it.
        return Reason("unknown" if ends_with_launcher(log) else "error", said) if said else None
    said = driver_reason_in(log)
    why = f"Kubeflow could not prepare its pod: {said}"
    return Reason("error" if ORDERS in said else "lost", why) if said else None


def waiting_of(pods: Pods, run_id: str) -> dict[str, str]:
    """Of a run's steps whose pod, or whose driver's, cannot start: why."""
    found = [
        (pod.role, why)
        for pod in sorted(pods.of_run(run_id), key=age_of)
        if pod.phase == "Pending" and (why := waits_for(pod) or waits_for(pod, pods.events(pod.name)))
    ]
    if not found:
        with contextlib.suppress(RefusedError):  # who may read pods need not be let read workflows
            nodes = pods.unmade(run_id)
            found = [(role_at(node.name), f"its pod cannot be made: {sentence(node.message)}") for node in nodes]
    return {role.step or "snapshot": f"the pod that prepares it: {why}" if role.driver else why for role, why in found}


def why_lost(known: Evidence, near: Callable[[], Collection[str]]) -> str:
    """Why a run is lost, and how to be rid of it; empty for one that goes on or has ended.

    `near` gives other runs of the server: a cluster without a pod of any is not where its runs are.
    """
    run = known.run
    if run is None or run.state not in ("RUNNING", "CANCELING"):
        return ""
    now, changed = datetime.now(UTC), _newest_change(run)
    if now - changed < SETTLED:
        return ""
    there = known.glance.ask(lambda pods: _is_there(pods, run.run_id, near()))
    if there:
        return ""
    rid = f"Kubeflow never ends it: archive or delete it in the UI, then start it again (last change {changed:%Y-%m-%d %H:%M})"
    if there is False:
        return f"its workflow is gone from Kubernetes, with all its pods; {rid}"
    if run.state == "CANCELING" and now - changed > STOPPING:
        return f"it was told to stop and does not: its workflow is gone; {rid}"
    if now - changed > QUIET and _is_silent(known, now):
        hours = int((now - changed).total_seconds() // 3600)
        span = f"{hours} h" if hours < 48 else f"{hours // 24} days"
        return f"nothing of it has changed for {span}: its workflow is gone; {rid}"
    return ""


def others(server: Server | None) -> set[str]:
    """The server's newest runs, the same whatever of them is shown; none while it is silent."""
    with contextlib.suppress(ServerError):
        return {run.run_id for run in islice(newest_runs(server), OTHERS)} if server else set()
    return set()


def _newest_change(run: Run) -> datetime:
    moments = [run.began, *(each.update_time for each in run.state_history)]
    for node in run.nodes:
        moments += [node.start_time, node.end_time, *(each.update_time for each in node.state_history)]
    return max(moment for moment in moments if moment)


def _is_there(pods: Pods, run_id: str, known: Collection[str]) -> bool | None:
    if pods.of_run(run_id):
        return True
    return False if pods.runs() & set(known) else None


def _is_silent(known: Evidence, now: datetime) -> bool:
    """Whether what goes on would have shown itself: a driver ends within minutes, a step's heart beats in SQL.

    A step that waits for a node may wait for days, and of one that SQL does not know nobody can tell.
    """
    if any(step.state == PENDING for step in known.steps.values()):
        return False
    rows = [known.sql_rows.get(name) for name, step in known.steps.items() if step.state == RUNNING]
    return all(row is not None and now - row.heartbeat_at > QUIET for row in rows)
