"""What a pod's own state says: whose it is, why it has not started, how it ended."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from laptop.kubeflow.pod_answers import Container, Event, Pod, Terminated

NODE_NAME = "workflows.argoproj.io/node-name"
CONTAINER = "main"
DRIVER = "-driver"
BEING_MADE = ("PodInitializing", "ContainerCreating")
NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
TROUBLES = (
    "FailedScheduling", "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "Failed", "FailedCreate",
)  # fmt: skip
"""Events that say why a pod does not start."""
SCHEDULING = "FailedScheduling"
KILLED, ASKED_TO_END = 137, 143
TOO_LONG, NO_MEMORY = "DeadlineExceeded", "OOMKilled"
OWN_LIMIT = re.compile(r"exceed\w* .*\blimit\b")
"""What Kubernetes says of a pod that it evicts for what the pod itself used, like its disk."""
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PodRole:
    """Which step a pod belongs to; `driver` is the pod that Kubeflow starts before, to prepare the step's own."""

    step: str
    driver: bool


def role_of(pod: Pod) -> PodRole:
    """A pod's, from the name of its node."""
    return role_at(str(pod.annotations.get(NODE_NAME, "")))


def role_at(node: str) -> PodRole:
    """From a name like wf(0).root(0).train(0).executor(0) or wf(0).root(0).train-driver(0); no step where it is neither's."""
    names = [re.sub(r"\(\d+\)$", "", part) for part in node.split(".")]
    if len(names) > 2 and names[-1] == "executor":
        return PodRole(names[-2], driver=False)
    if len(names) > 1 and names[-1].endswith(DRIVER) and names[-1] != f"root{DRIVER}":
        return PodRole(names[-1].removesuffix(DRIVER), driver=True)
    return PodRole("", driver=names[-1].endswith(DRIVER))


def age_of(pod: Pod) -> tuple[datetime, str]:
    """To sort pods by when they were made."""
    return pod.created_at or LONG_AGO, pod.name


def waits_for(pod: Pod, events: Iterable[Event] = ()) -> str:
    """Why a pod has not started; empty while nothing is wrong."""
    for each in (*pod.init_statuses, *pod.statuses):
        reason = each.waiting_reason
        if reason and reason not in BEING_MADE:
            said = f"{reason}: {each.waiting_message}" if each.waiting_message else reason
            return f"the image {each.image} cannot be pulled ({said})" if reason in NO_IMAGE else said
    for condition in pod.conditions:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.message:
            return _unscheduled(condition.message, pod)
    troubles = [each for each in events if each.reason in TROUBLES and each.message]
    if not troubles:
        return ""
    newest = max(troubles, key=_when)
    if newest.reason == SCHEDULING:
        scheduled = any(each.type == "PodScheduled" and each.status == "True" for each in pod.conditions)
        return "" if scheduled else _unscheduled(newest.message, pod)
    return f"{newest.reason}: {newest.message}"


def _when(event: Event) -> datetime:
    """An event's newest moment; any of its fields may be null."""
    times = (event.repeated_at, event.last_timestamp, event.event_time, event.first_timestamp, event.created_at)
    return next(filter(None, times), LONG_AGO)


def _unscheduled(message: str, pod: Pod) -> str:
    container = _ordered(pod)
    asks = {**container.limits, **container.requests}
    told = ", ".join(f"{name} {amount}" for name, amount in sorted(asks.items()))
    return f"no node takes it: {message.rstrip('. ')}{f' (it asks for {told})' if told else ''}"


def ended(pod: Pod) -> str:
    """How a pod was ended from outside; empty where its own log tells why it ended, or where it goes on."""
    if pod.reason == TOO_LONG:
        return f"it took longer than its limit ({TOO_LONG})"
    if pod.reason and pod.phase == "Failed":
        return f"its pod was ended by Kubernetes: {pod.reason}{f', {pod.message}' if pod.message else ''}"
    over = terminated(pod)
    if over is None:
        return ""
    if over.exit_code == KILLED and over.reason == NO_MEMORY:
        return f"it was killed for memory (limit {_ordered(pod).limits.get('memory') or 'unknown'})"
    if over.exit_code == KILLED:
        return f"it was killed (exit code {KILLED}): its node was lost or its pod deleted by force"
    if over.exit_code == ASKED_TO_END:
        return f"its pod was deleted, evicted or its node drained (exit code {ASKED_TO_END})"
    return ""


def is_lost(pod: Pod) -> bool:
    """Whether what ended a pod from outside is nothing that it did itself, so that another may go on."""
    if pod.reason and pod.phase == "Failed":
        return pod.reason != TOO_LONG and not OWN_LIMIT.search(pod.message)
    over = terminated(pod)
    return over is not None and over.exit_code in (KILLED, ASKED_TO_END) and over.reason != NO_MEMORY


def terminated(pod: Pod) -> Terminated | None:
    """How the step's container ended, or None."""
    return next((each.terminated for each in pod.statuses if each.name == CONTAINER and each.terminated), None)


def failed(pod: Pod) -> bool:
    """Whether it failed; what Argo's container beside it says does not matter."""
    over = terminated(pod)
    return over.exit_code != 0 if over else pod.phase == "Failed"


def _ordered(pod: Pod) -> Container:
    """The step's container, as it was ordered."""
    return next((each for each in pod.containers if each.name == CONTAINER), Container())
