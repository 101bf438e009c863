"""Why a step failed, or has not started: one sentence, from wherever it stands."""

import contextlib
import re
from typing import Any

from components.parameters import PARAMETERS
from laptop.kubeflow.answers import Run
from laptop.kubeflow.log_text import driver_reason_in, reason_in, sentence
from laptop.kubeflow.pod_state import Place, age_of, ended, failed, place_at, place_of, waits_for
from laptop.kubeflow.pods import Glance, Pods, RefusedError
from laptop.kubeflow.tasks import StepState

SHORT = 8  # characters of a run's id, enough to tell runs apart
QUANTITY = re.compile(r"[+-]?[0-9.]+([eEinumkKMGTP]*[-+]?[0-9]*)")
"""What Kubeflow's driver takes for an amount of memory or CPUs."""
SILENT = "it gave no sign of life for minutes: its pod is gone, or was killed"


def reason_of(
    name: str, run_id: str, run: Run | None, state: StepState | None, record: Any, glance: Glance, missing: str
) -> str:
    """Why a step failed: what it recorded itself, else what its pod or its driver's tells, else what Kubeflow says.

    Args:
        name: the step's.
        state: it, as Kubeflow sees it.
        record: its row in SQL, or None.
        missing: why SQL cannot be read; empty where it can.
    """
    by_driver = state is not None and state.by_driver
    if record is not None and record.state == "failed" and record.reason and not by_driver:
        return sentence(record.reason)
    told: str | None = _wrong_quantity(run, name) if run and by_driver else ""
    told = told or glance.ask(lambda pods: pod_reason(pods, run_id, name))
    told = told or sentence((state.message if state else "") or (run.error.message if run else ""))
    if told:
        return told
    if record is not None and record.state == "running":
        return SILENT
    what = f"no reason in Kubeflow, and SQL cannot be read ({missing})" if missing else "no reason in SQL or Kubeflow"
    return f"{what}; its log: python pipeline.py logs {run_id[:SHORT]} {name}"


def pod_reason(pods: Pods, run_id: str, step: str) -> str:
    """What the newest pod that failed of a step says, its own or its driver's; empty where none does."""
    ours = sorted((pod for pod in pods.of_run(run_id) if place_of(pod).step == step and failed(pod)), key=age_of)
    if not ours:
        return ""
    pod = ours[-1]
    if how := ended(pod):
        return how
    log = pods.end_of_log(pod.metadata.name)
    if not place_of(pod).driver:
        return reason_in(log)
    said = driver_reason_in(log)
    return f"Kubeflow could not prepare its pod: {said}" if said else ""


def waiting_of(pods: Pods, run_id: str) -> dict[str, str]:
    """Of a run's steps whose pod, or whose driver's, cannot start: why."""
    found: dict[str, str] = {}
    for pod in sorted(pods.of_run(run_id), key=age_of):
        place = place_of(pod)
        if pod.status.phase != "Pending":
            continue
        why = waits_for(pod) or waits_for(pod, pods.events(pod.metadata.name))
        if why:
            found[place.step or "snapshot"] = _of(place, why)
    if found:
        return found
    with contextlib.suppress(RefusedError):  # who may read pods need not be let read workflows
        for node in pods.unmade(run_id):
            place = place_at(node.name)
            found[place.step or "snapshot"] = _of(place, f"its pod cannot be made: {sentence(node.message)}")
    return found


def _of(place: Place, why: str) -> str:
    return f"the pod that prepares it: {why}" if place.driver else why


def _wrong_quantity(run: Run, step: str) -> str:
    """The parameter that no pod can be made of; with it the driver is sure to fail."""
    given = run.runtime_config.parameters
    for parameter in PARAMETERS:
        value = given.get(parameter.name)
        is_quantity = step in parameter.pod and parameter.kind is str
        if is_quantity and isinstance(value, str) and value and not QUANTITY.fullmatch(value):
            return f"{parameter.name}={value} is no amount as Kubernetes writes it, like {parameter.default}"
    return ""
