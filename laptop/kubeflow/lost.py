"""Runs of which Kubeflow says that they go on, though nothing of them is there any more: it never ends them itself."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from itertools import islice

from laptop.kubeflow.answers import Run
from laptop.kubeflow.connect import Server, ServerError
from laptop.kubeflow.find import newest_runs
from laptop.kubeflow.pods import Pods
from laptop.kubeflow.steps import Evidence
from laptop.kubeflow.tasks import PENDING, RUNNING

QUIET = timedelta(hours=1)  # drivers and steps that stop beating do not last so long in a run that goes on
STOPPING = timedelta(minutes=10)  # a run that was told to stop does in seconds
SETTLED = timedelta(minutes=5)  # between two pods of a run pass seconds
OTHERS = 100  # runs, by whose pods the server's cluster is known
GOES_ON = {"RUNNING", "CANCELING"}


def why_lost(known: Evidence, near: Callable[[], Collection[str]]) -> str:
    """Why a run is lost, and how to be rid of it; empty for one that goes on or has ended.

    `near` gives other runs of the server: a cluster without a pod of any is not where its runs are.
    """
    run = known.run
    if run is None or run.state not in GOES_ON:
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
        return f"nothing of it has changed for {_hours(now - changed)}: its workflow is gone; {rid}"
    return ""


def others(server: Server) -> set[str]:
    """The server's newest runs, the same whatever of them is shown; none while it is silent."""
    try:
        return {run.run_id for run in islice(newest_runs(server), OTHERS)}
    except ServerError:
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


def _hours(span: timedelta) -> str:
    hours = int(span.total_seconds() // 3600)
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"
