"""Delete a schedule without ending the run that it has going: a schedule owns its runs' workflows."""

from collections.abc import Iterator

from laptop.kubeflow.answers import Run, Schedule
from laptop.kubeflow.connect import Server, ServerError
from laptop.kubeflow.find import newest_runs
from laptop.kubeflow.sql import Metadata, write_stopped
from laptop.kubeflow.tasks import ENDED

LEAVE_RUNS = "ORPHAN"
"""Kubernetes' word for: what the deleted one owns stays. Without it the run's workflow is removed within seconds."""
HAS_ENDED = (400, 404)
BROKEN = 500


def delete_schedule(server: Server, found: Schedule, stop_in: Metadata | None) -> list[str]:
    """Delete the schedule; its run goes on, or is stopped before. Returns a line for each run that was going.

    Args:
        stop_in: where it is recorded that the run's steps were stopped; with None it goes on.
    """
    if stop_in:  # so that none starts in between
        server.ask(
            "recurring_runs.recurring_run_service_disable_recurring_run", recurring_run_id=found.recurring_run_id
        )
    told = [_stop(server, run, stop_in) if stop_in else _goes_on(run) for run in runs_going(server, found)]
    server.ask(
        "recurring_runs.recurring_run_service_delete_recurring_run",
        recurring_run_id=found.recurring_run_id,
        propagation_policy=LEAVE_RUNS,
    )
    return told


def runs_going(server: Server, found: Schedule) -> Iterator[Run]:
    """The schedule's runs that have not ended, newest first."""
    for run in newest_runs(server, experiment_id=found.experiment_id):
        if run.created_at and found.created_at and run.created_at < found.created_at:
            return
        if run.recurring_run_id == found.recurring_run_id and run.state not in ENDED:
            yield run


def _goes_on(run: Run) -> str:
    return (
        f"run {run.run_id}: {run.display_name} goes on and ends by itself (--stop-runs would have stopped it); without its "
        "schedule it cannot be retried"
    )


def _stop(server: Server, run: Run, metadata: Metadata) -> str:
    try:
        server.ask("runs.run_service_terminate_run", run_id=run.run_id)
    except ServerError as error:
        if error.status == BROKEN and "not found" in str(error):
            gone = write_stopped(metadata, run.run_id)
            return f"run {run.run_id}: {run.display_name} was lost, with its workflow; {gone}. Archive or delete it in the UI"
        if error.status not in HAS_ENDED:
            raise
        return f"run {run.run_id}: {run.display_name} had just ended"
    return f"run {run.run_id}: {run.display_name} is being stopped; {write_stopped(metadata, run.run_id)}"
