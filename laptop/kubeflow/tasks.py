"""A run's state and its steps, out of the many nodes that the server lists for it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from components.parameters import STEPS
from laptop.kubeflow.answers import Node, Run

NOT_BEGUN, PENDING, RUNNING, DONE, REUSED, FAILED, STOPPED, LOST = (
    "not begun", "pending", "running", "done", "reused", "failed", "stopped", "lost",
)  # fmt: skip
STATES = {
    **dict.fromkeys(("", "RUNTIME_STATE_UNSPECIFIED", "SKIPPED", "OMITTED"), NOT_BEGUN),
    "PENDING": PENDING,
    **dict.fromkeys(("RUNNING", "PAUSED", "CANCELING"), RUNNING),
    "SUCCEEDED": DONE,
    **dict.fromkeys(("FAILED", "ERROR", "SYSTEM_ERROR"), FAILED),
    "CANCELED": STOPPED,
}
"""What the server says -> what we say; other words are shown as they are."""
ENDED = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}  # states of a run that do not change any more
NEVER_CACHED = "snapshot"
DRIVER = "-driver"
NO_STEP = re.compile(r"root|executor|.*\(\d+\)|.*\.onExit|.*-driver|(exit-handler|condition|for-loop)-\d+")


@dataclass(frozen=True, slots=True)
class StepState:
    """A step as the server sees it: not begun, pending (no pod runs yet), running, done, reused (from the cache), failed, stopped."""

    name: str
    state: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    message: str = ""
    by_driver: bool = False  # what failed comes before the step: its inputs, or the cluster refused its pod

    def seconds(self) -> float:
        """How long it took, or has been going."""
        if self.started_at is None:
            return 0.0
        return max(0.0, ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds())


def state_of(run: Run) -> str:
    """A run's state in our words. One that somebody terminated ends as FAILED; only its history tells."""
    state = STATES.get(run.state, run.state.lower())
    states = [each.state for each in run.state_history]
    since = max((index for index, state in enumerate(states) if state == "RUNNING"), default=-1)
    stopped = "CANCELING" in states[since + 1 :]  # a run that was stopped, and retried since, is no longer stopped
    return STOPPED if state == FAILED and stopped else state


def steps_of(run: Run) -> tuple[StepState, ...]:
    """The steps, those that have begun in that order, then the others.

    Besides a node per step the server lists drivers (`train-driver`), each step's executor under the name `executor`,
    retries (`train(0)`), the graph (`root`), the workflow itself, and rows without a name. A step from the cache succeeds at
    once and its executor is SKIPPED; which executor belongs to which step is told by when it started.
    """
    nodes = [node for node in run.nodes if node.display_name]
    executors = [node for node in nodes if re.fullmatch(r"executor(\(\d+\))?", node.display_name)]
    pods = [child.pod_name for node in nodes for child in node.child_tasks]
    workflows = {pod[1] for each in pods if (pod := re.fullmatch(r"(.+)-\d+", each))}  # pods are named after theirs
    found: dict[str, StepState] = {}
    for node in nodes:
        name = node.display_name
        if not NO_STEP.fullmatch(name) and name not in workflows:
            found[name] = _step(node, [each for each in executors if each.start_time == node.start_time])
    for node in nodes:
        name = node.display_name.removesuffix(DRIVER)
        begun = name in found and found[name].state != NOT_BEGUN
        if name != node.display_name and not begun and STATES.get(node.state) == FAILED:
            found[name] = StepState(name, FAILED, node.start_time, node.end_time, node.error, by_driver=True)
    if state_of(run) == STOPPED:
        failed = {name: step for name, step in found.items() if step.state == FAILED}
        found |= {name: replace(step, state=STOPPED, by_driver=False) for name, step in failed.items()}
    return tuple(sorted(found.values(), key=_order))


def stopped_while_it_waited(run: Run) -> str:
    """The step whose pod had not begun to run when somebody stopped the run; empty where none is known to have waited."""
    if state_of(run) != STOPPED:
        return ""
    pods = [node for node in run.nodes if re.fullmatch(r"executor\(\d+\)", node.display_name)]
    moments = [
        node.start_time for node in pods if [each.state for each in node.state_history] == ["PENDING", node.state]
    ]
    return next((step.name for step in steps_of(run) if step.state == STOPPED and step.started_at in moments), "")


def _order(step: StepState) -> tuple[datetime, int]:
    never = datetime.max.replace(tzinfo=UTC)
    return step.started_at or never, STEPS.index(step.name) if step.name in STEPS else len(STEPS)


def nothing_new(steps: Sequence[StepState]) -> bool:
    """Whether every step but the first, which always runs, came from the cache."""
    others = [step for step in steps if step.name != NEVER_CACHED]
    return bool(others) and all(step.state == REUSED for step in others)


def _step(node: Node, executors: Sequence[Node]) -> StepState:
    state = STATES.get(node.state, node.state.lower())
    states = {each.state for each in executors}
    if state == DONE and node.start_time == node.end_time and "SKIPPED" in states:
        state = REUSED
    if state == RUNNING and "PENDING" in states:
        state = PENDING
    started = None if state == NOT_BEGUN else node.start_time
    return StepState(node.display_name, state, started, node.end_time if started else None, node.error)
