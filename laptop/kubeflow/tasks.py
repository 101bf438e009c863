"""A run's steps, out of the many nodes that the server lists for it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

STATES = {
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "ERROR": "failed",
    "SYSTEM_ERROR": "failed",
    "RUNNING": "running",
    "PENDING": "pending",
    "SKIPPED": "skipped",
    "OMITTED": "skipped",
    "CANCELING": "canceling",
    "CANCELED": "canceled",
}
ENDED = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
"""States of a run that do not change any more."""
NEVER_CACHED = "snapshot"
NO_STEP = re.compile(r"root|executor|.*\(\d+\)|.*\.onExit|.*-driver|(exit-handler|condition|for-loop)-\d+")


@dataclass(frozen=True, slots=True)
class StepState:
    """A step as the server sees it: pending (no pod runs yet), running, done, reused (from the cache), failed, skipped."""

    name: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    message: str = ""

    def seconds(self, now: datetime | None = None) -> float:
        """How long it took, or has been going."""
        return max(0.0, ((self.ended_at or now or datetime.now(UTC)) - self.started_at).total_seconds())


def steps_of(run: Any) -> tuple[StepState, ...]:
    """The steps that have started, in that order.

    Besides a node per step the server lists drivers (`train-driver`), each step's executor under the name `executor`,
    retries (`train(0)`), the graph (`root`) and the workflow itself. A step from the cache succeeds at once and its
    executor is SKIPPED; which executor belongs to which step is told by when it started.
    """
    nodes = list(run.run_details.task_details or ()) if run.run_details else []
    executors = [node for node in nodes if re.fullmatch(r"executor(\(\d+\))?", node.display_name)]
    found: dict[str, StepState] = {}
    for node in nodes:
        name = node.display_name
        if not NO_STEP.fullmatch(name) and not _is_workflow(name, nodes):
            found[name] = _step(node, [each for each in executors if each.start_time == node.start_time])
    for node in nodes:
        name = node.display_name.removesuffix("-driver")
        if name != node.display_name and name not in found and STATES.get(node.state) == "failed":
            # What comes before a step failed: its inputs, or the cluster refused its pod.
            found[name] = StepState(name, "failed", node.start_time, _ended(node), _message(node))
    return tuple(sorted(found.values(), key=lambda step: step.started_at))


def nothing_new(steps: Sequence[StepState]) -> bool:
    """Whether every step but the first, which always runs, came from the cache."""
    others = [step for step in steps if step.name != NEVER_CACHED]
    return bool(others) and all(step.state == "reused" for step in others)


def _step(node: Any, executors: Sequence[Any]) -> StepState:
    state = STATES.get(node.state, str(node.state).lower())
    states = {each.state for each in executors}
    if state == "done" and node.start_time == node.end_time and "SKIPPED" in states:
        state = "reused"
    if state == "running" and "PENDING" in states:
        state = "pending"
    return StepState(node.display_name, state, node.start_time, _ended(node), _message(node))


def _is_workflow(name: str, nodes: Sequence[Any]) -> bool:
    """Pods and nodes are named after the workflow, which is among the nodes."""
    children = [child.pod_name or "" for node in nodes for child in node.child_tasks or ()]
    return any(re.fullmatch(re.escape(name) + r"-\d+", child) for child in children)


def _ended(node: Any) -> datetime | None:
    """The server says year 1 for a node that still runs."""
    return node.end_time if node.end_time and node.end_time.year > 1970 else None


def _message(node: Any) -> str:
    return str(node.error.message or "") if node.error else ""
