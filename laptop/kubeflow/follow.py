"""Wait for a run: a line for every change of a step, then the scores or the reason."""

import sys
import time

from rich.console import Console

from laptop.kubeflow.answers import Run
from laptop.kubeflow.connect import Server, ServerError
from laptop.kubeflow.find import get_run, short_id
from laptop.kubeflow.pods import Glance
from laptop.kubeflow.sql import Metadata, scores_of, still_there
from laptop.kubeflow.steps import Evidence, others, shown_steps, waiting_of, why_lost
from laptop.kubeflow.tasks import (
    ENDED,
    NOT_BEGUN,
    PENDING,
    RUNNING,
    STOPPED,
    nothing_new,
    state_of,
    steps_of,
    stopped_while_it_waited,
)
from laptop.scores import scores_table, shown_scores
from laptop.tables import print_framed
from sightline.processes.deadline import deadline_seconds

SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_BETWEEN_DOUBTS = 60.0  # whether a run that says nothing is still there
INTERRUPTED = 130


def follow(server: Server, run_id: str, metadata: Metadata) -> int:
    """Show the run until it ends. Returns the exit status: 0, 1 when it failed, was stopped or is lost, 130 after Ctrl-C."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    glance = Glance(server.pods)
    try:
        run, lost = _Following(server, run_id, metadata, glance, console).to_the_end()
    except KeyboardInterrupt:
        print(f"\nno longer following; the run goes on: {server.link(run_id)}", file=sys.stderr)
        print(f"its log as it grows: python pipeline.py logs {short_id(run_id)} --follow", file=sys.stderr)
        print("how it stands: python pipeline.py runs; stop it in the UI", file=sys.stderr)
        return INTERRUPTED
    metadata = still_there(metadata)
    if run.state == "SUCCEEDED":
        _print_end(console, run, metadata)
        console.print(server.link(run_id))
        return 0
    step, why = ("", f"the run is lost: {lost}") if lost else _end(run, metadata, glance)
    print_framed(f"error: {why}", sys.stderr)
    log = f"python pipeline.py logs {short_id(run_id)}{f' {step}' if step else ''}"
    print(f"{server.link(run_id)}\nits log: {log}", file=sys.stderr)
    return 1


class _Following:
    """One look after the other, and what was shown so far."""

    def __init__(self, server: Server, run_id: str, metadata: Metadata, glance: Glance, console: Console) -> None:
        self._server, self._run_id, self._metadata, self._glance = server, run_id, metadata, glance
        self._console = console
        self._told: dict[str, str] = {}
        self._silent_since: float | None = None
        self._doubted = time.monotonic()

    def to_the_end(self) -> tuple[Run, str]:
        """The run as it ended, or why it is lost."""
        while True:
            run = self._look()
            if run is not None:
                self._show(run)
                if run.state in ENDED:
                    return self._once_more(run), ""
                if lost := self._lost(run):
                    return run, lost
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _look(self) -> Run | None:
        """The run; None while the server is silent. The run does not need us: a server that restarts is waited for."""
        try:
            run = get_run(self._server, self._run_id)
            self._silent_since = None
            return run
        except ServerError as error:
            self._silent_since = self._silent_since or time.monotonic()
            passing = error.status in (0, 429) or error.status >= 500
            if not passing or time.monotonic() - self._silent_since > deadline_seconds():
                raise ServerError(f"{error} The run {self._run_id} goes on all the same.", error.status) from None
            return None

    def _once_more(self, run: Run) -> Run:
        """In the second in which a run ends its steps may still be said to run."""
        if any(step.state in (PENDING, RUNNING) for step in steps_of(run)):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            again = self._look()
            if again is not None and again.state in ENDED:
                self._show(again)
                return again
        return run

    def _show(self, run: Run) -> None:
        steps = steps_of(run)
        for step in steps:
            if step.state != NOT_BEGUN:
                took = f"{step.seconds():7.0f} s" if step.ended_at else ""
                self._tell(step.name, step.state, f"  {step.name:<10} {step.state:<8}{took}".rstrip())
        if not self._told and run.state not in ENDED:
            self._tell("", "", "waiting to begin")
        if run.state in ENDED or any(step.state == RUNNING for step in steps):
            return
        for name, why in (self._glance.ask(lambda pods: waiting_of(pods, run.run_id)) or {}).items():
            self._tell(f"{name} waits", why, f"  {name:<10} cannot start: {why}")

    def _tell(self, about: str, now: str, line: str) -> None:
        """Print the line where what it is about has changed."""
        if self._told.get(about) != now:
            self._told[about] = now
            self._console.print(line, markup=False)

    def _lost(self, run: Run) -> str:
        if time.monotonic() - self._doubted < SECONDS_BETWEEN_DOUBTS:
            return ""
        self._doubted = time.monotonic()
        known = Evidence(run.run_id, run, still_there(self._metadata), self._glance)
        return why_lost(known, lambda: others(self._server))


def _end(run: Run, metadata: Metadata, glance: Glance) -> tuple[str, str]:
    """The step at which a run ended, if it was one, and why."""
    if state_of(run) == STOPPED:
        waited = stopped_while_it_waited(run)
        return "", f"the run was stopped by somebody{f' while {waited} waited to begin' if waited else ''}"
    failed = [step for step in shown_steps(Evidence(run.run_id, run, metadata, glance)) if step.failed]
    if failed:
        return failed[0].name, f"the step {failed[0].name} failed: {failed[0].reason}"
    return "", f"the run failed: {run.error or 'Kubeflow gives no reason; the events of its pods may'}"


def _print_end(console: Console, run: Run, metadata: Metadata) -> None:
    steps = steps_of(run)
    if nothing_new(steps):
        console.print("nothing new: every step was reused, code and data are those of an earlier run")
    scores, made_by = scores_of(run, metadata)
    if names := shown_scores(scores):
        console.print(scores_table("scores of the selected model", scores, names))
        if made_by:
            console.print(made_by, markup=False)
    elif any(step.name == "evaluate" for step in steps):
        why = f"not from SQL: {metadata.missing}" if metadata.missing else "SQL has none of this run"
        console.print(f"scores: in the UI, step evaluate, artifact scores ({why})")
