"""Wait for a run: a line for every change of a step, then the scores or the reason."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from laptop.kubeflow.answers import Run, read
from laptop.kubeflow.connect import Server, ServerError
from laptop.kubeflow.sql import Records, failure_of
from laptop.kubeflow.tasks import ENDED, FAILED, NOT_BEGUN, STOPPED, StepState, nothing_new, state_of, steps_of
from sightline.processes.deadline import deadline_seconds
from sightline.tasks.task import headlines_of

SECONDS_BETWEEN_LOOKS = 5.0
INTERRUPTED = 130


def follow(server: Server, run_id: str, records: Records) -> int:
    """Show the run until it ends. Returns the exit status: 0, 1 when it failed or was stopped, 130 after Ctrl-C."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    try:
        run = _wait(server, run_id, console)
    except KeyboardInterrupt:
        print(f"\nno longer following; the run goes on: {server.link(run_id)}", file=sys.stderr)
        print("follow it with: python pipeline.py runs; stop it in the UI", file=sys.stderr)
        return INTERRUPTED
    if run.state == "SUCCEEDED":
        _print_end(console, run, records)
        console.print(server.link(run_id))
        return 0
    print(f"error: {_end(run, records)}", file=sys.stderr)
    print(f"{server.link(run_id)}\nits log: python pipeline.py logs {run_id[:8]}", file=sys.stderr)
    return 1


def _wait(server: Server, run_id: str, console: Console) -> Run:
    shown: dict[str, str] = {}
    silent_since: float | None = None
    while True:
        try:
            run = read(Run, server.ask(server.api("runs").run_service_get_run, run_id=run_id))
            silent_since = None
        except ServerError as error:
            # The run does not need us: a server that restarts is waited for.
            silent_since = silent_since or time.monotonic()
            passing = error.status in (0, 429) or error.status >= 500
            if not passing or time.monotonic() - silent_since > deadline_seconds():
                raise ServerError(f"{error} The run {run_id} goes on without us.", error.status) from None
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        for step in steps_of(run):
            if step.state != NOT_BEGUN and shown.get(step.name) != step.state:
                shown[step.name] = step.state
                console.print(_line(step))
        if run.state in ENDED:
            return run
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _line(step: StepState) -> str:
    time_taken = f"{step.seconds():7.0f} s" if step.ended_at else ""
    return f"  {step.name:<10} {step.state:<8}{time_taken}".rstrip()


def _end(run: Run, records: Records) -> str:
    if state_of(run) == STOPPED:
        return "the run was stopped by somebody"
    recorded = failure_of(records, run.run_id)
    failed = [step for step in steps_of(run) if step.state == FAILED]
    if recorded:
        return f"the step {recorded[0]} failed: {recorded[1]}"
    said = run.error.message
    if not failed:
        return f"the run failed: {said or 'Kubeflow gives no reason; the events of its pods may'}"
    reason = failed[-1].message or said
    where = f"SQL could tell more: {records.missing}" if records.missing else "its log tells more"
    return f"the step {failed[-1].name} failed: {reason or f'Kubeflow gives no reason; {where}'}"


def _print_end(console: Console, run: Run, records: Records) -> None:
    steps = steps_of(run)
    if nothing_new(steps):
        console.print("nothing new: every step was reused, code and data are those of an earlier run")
    scores = _scores(records, run.run_id)
    if scores:
        table = Table(title="scores of the selected model")
        table.add_column("metric")
        table.add_column("value", justify="right")
        for name in headlines_of(scores):
            table.add_row(name, f"{scores[name]:.3f}")
        console.print(table)
    elif any(step.name == "evaluate" for step in steps):
        why = f"not from SQL: {records.missing}" if records.missing else "SQL has them under the run that made them"
        console.print(f"scores: in the UI, step evaluate, artifact scores ({why})")


def _scores(records: Records, run_id: str) -> Mapping[str, float | None]:
    if records.database is None:
        return {}
    from sightline.services.database.scores import list_evaluations

    return next((each.overall for each in list_evaluations(records.database, run_id) if each.selected), {})
