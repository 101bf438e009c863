"""The nodes that Kubeflow Pipelines 2.17.0 lists for a run in the middle of its way, as a recorded server did."""

import random
import uuid
from collections.abc import Sequence
from typing import Any

NEVER = "0001-01-01T00:00:00Z"
DRIVER, PENDING, RUNNING, DONE, REUSED, FAILED = "driver", "pending", "running", "done", "reused", "failed"
ROUND_SECONDS = 10  # between two looks of the workflow controller at its pods

STATES = {PENDING: "RUNNING", RUNNING: "RUNNING", DONE: "SUCCEEDED", REUSED: "SUCCEEDED", FAILED: "FAILED"}
EXECUTORS = {
    PENDING: ("RUNNING", "PENDING"),
    RUNNING: ("RUNNING", "RUNNING"),
    DONE: ("SUCCEEDED", "SUCCEEDED"),
    FAILED: ("FAILED", "FAILED"),
}
"""State of a step -> states of its executor and of the executor's attempt."""


def moment(seconds: int) -> str:
    return f"2026-11-21T{4 + seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}Z"


def nodes_of(
    run_id: str, workflow: str, steps: Sequence[tuple[str, str]], state: str, seen: dict[Any, Any]
) -> list[dict[str, Any]]:
    """All nodes of a run whose steps, each using all earlier ones, have come so far.

    Args:
        steps: name and state; a last one may be in the state `driver`.
        state: the run's own.
        seen: this run's nodes as listed before, which it keeps up.
    """
    nodes = _Nodes(run_id, workflow, seen)
    workflow_state = "RUNNING" if state == "CANCELING" else state
    for name in (workflow, f"{workflow}(0)"):
        nodes.add(name, workflow_state, 1, 0)
    started = bool(steps)
    nodes.driver("root", started, 0)
    if started:
        for name in ("root", "root(0)"):
            nodes.add(name, workflow_state, 1, ROUND_SECONDS)
    clock = ROUND_SECONDS
    for index, (name, reached) in enumerate(steps):
        clock += ROUND_SECONDS
        nodes.driver(name, reached != DRIVER, clock - ROUND_SECONDS)
        if reached != DRIVER:
            clock += ROUND_SECONDS
            nodes.step(name, reached, len(steps) - index - 1, clock)
            clock += 0 if reached == REUSED else ROUND_SECONDS
    return sorted(nodes.found, key=lambda node: str(node["task_id"]))


class _Nodes:
    def __init__(self, run_id: str, workflow: str, seen: dict[Any, Any]) -> None:
        self.found: list[dict[str, Any]] = []
        self._run_id, self._workflow, self._seen = run_id, workflow, seen

    def add(self, name: str, state: str, children: int, start: int, seconds: int = ROUND_SECONDS) -> None:
        ended = state not in ("RUNNING", "PENDING")
        before = self._seen.get((name, start), {"task_id": str(uuid.uuid4()), "state_history": [], "child_tasks": []})
        history, pods = before["state_history"], before["child_tasks"]
        if not history or history[-1]["state"] != state:
            history = [*history, {"update_time": moment(start + 1), "state": state}]
        pods = [*pods, *({"pod_name": f"{self._workflow}-{random.randrange(10**8, 10**9)}"} for _ in range(children))]
        node = {
            "run_id": self._run_id,
            "task_id": before["task_id"],
            "display_name": name,
            "create_time": moment(0),
            "start_time": moment(start),
            "end_time": moment(start + seconds) if ended else NEVER,
            "state": state,
            "state_history": history,
            "child_tasks": pods[:children],
        }
        self._seen[name, start] = node
        self.found.append({key: value for key, value in node.items() if value != []})

    def driver(self, name: str, ended: bool, start: int) -> None:
        self.add(f"{name}-driver", "SUCCEEDED" if ended else "RUNNING", 1, start)
        self.add(f"{name}-driver(0)", "SUCCEEDED" if ended else "PENDING", 1 if ended else 0, start, 3)

    def step(self, name: str, reached: str, later: int, start: int) -> None:
        seconds = 0 if reached == REUSED else ROUND_SECONDS
        self.add(name, STATES[reached], 1, start, seconds)
        self.add(f"{name}(0)", STATES[reached], 1 + later, start, seconds)
        if reached == REUSED:
            self.add("executor", "SKIPPED", 0, start, 0)
            return
        executor, attempt = EXECUTORS[reached]
        self.add("executor", executor, 1, start)
        self.add("executor(0)", attempt, 0, start, 5)
