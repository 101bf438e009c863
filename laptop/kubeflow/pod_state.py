"""What Kubernetes says of pods and what else concerns runs, read as tolerantly as a server's answers: whose a pod is, why it has not started, how it ended."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from laptop.kubeflow.answers import NEVER, Answer, Flag, Moment, Number, Part, Parts, Text, Values, at

NODE_NAME = "workflows.argoproj.io/node-name"
CONTAINER = "main"
BEING_MADE = ("PodInitializing", "ContainerCreating")
NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
SCHEDULING = "FailedScheduling"
# Events that say why a pod does not start.
TROUBLES = (SCHEDULING, "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "Failed", "FailedCreate")
KILLED, ASKED_TO_END = 137, 143
TOO_LONG, NO_MEMORY = "DeadlineExceeded", "OOMKilled"
OWN_LIMIT = re.compile(r"exceed\w* .*\blimit\b")  # said of a pod evicted for what it used itself, like its disk


@dataclass(frozen=True, slots=True)
class PodRole:
    """Which step a pod belongs to; `driver` is the pod that Kubeflow starts before, to prepare the step's own."""

    step: str
    driver: bool


def role_at(node: str) -> PodRole:
    """From a name like wf(0).root(0).train(0).executor(0) or wf(0).root(0).train-driver(0); no step where it is neither's."""
    *above, last = [re.sub(r"\(\d+\)$", "", part) for part in node.split(".")]
    if len(above) > 1 and last == "executor":
        return PodRole(above[-1], driver=False)
    step, driver = last.removesuffix("-driver"), last.endswith("-driver")
    return PodRole(step if above and driver and step != "root" else "", driver)


class Terminated(Answer):
    """How a container ended."""

    reason: Text = ""
    exit_code: Number = 0


class ContainerStatus(Answer):
    """A container as it is: it waits, is terminated, or neither while it runs."""

    name: Text = ""
    image: Text = ""
    waiting_reason: Text = at("state.waiting.reason")
    waiting_message: Text = at("state.waiting.message")
    terminated: Part[Terminated] | None = at("state.terminated", None)


class Condition(Answer):
    """Something that a pod has come to, or has not."""

    type: Text = ""
    status: Text = ""
    message: Text = ""


class Container(Answer):
    """A container as it was ordered."""

    name: Text = ""
    limits: Values = at("resources.limits", {})
    requests: Values = at("resources.requests", {})


class Pod(Answer):
    """A pod, as it was ordered and as it is."""

    name: Text = at("metadata.name")
    labels: Values = at("metadata.labels", {})
    annotations: Values = at("metadata.annotations", {})
    created_at: Moment = at("metadata.creation_timestamp", None)
    containers: Parts[Container] = at("spec.containers", [])
    phase: Text = at("status.phase")
    reason: Text = at("status.reason")
    message: Text = at("status.message")
    conditions: Parts[Condition] = at("status.conditions", [])
    init_statuses: Parts[ContainerStatus] = at("status.init_container_statuses", [])
    statuses: Parts[ContainerStatus] = at("status.container_statuses", [])

    @property
    def role(self) -> PodRole:
        """From the name of its node."""
        return role_at(str(self.annotations.get(NODE_NAME, "")))

    @property
    def main(self) -> Container:
        """The step's container, as it was ordered."""
        return next((each for each in self.containers if each.name == CONTAINER), Container())

    @property
    def terminated(self) -> Terminated | None:
        """How the step's container ended."""
        return next((each.terminated for each in self.statuses if each.name == CONTAINER and each.terminated), None)

    @property
    def failed(self) -> bool:
        """Whether it failed; what Argo's container beside it says does not matter."""
        return self.terminated.exit_code != 0 if self.terminated else self.phase == "Failed"


class Event(Answer):
    """Something that happened to a pod; of its times some are null."""

    reason: Text = ""
    message: Text = ""
    created_at: Moment = at("metadata.creation_timestamp", None)
    repeated_at: Moment = at("series.last_observed_time", None)
    event_time: Moment = None
    first_timestamp: Moment = None
    last_timestamp: Moment = None

    @property
    def newest(self) -> datetime:
        """Its newest moment."""
        times = (self.repeated_at, self.last_timestamp, self.event_time, self.first_timestamp, self.created_at)
        return next(filter(None, times), NEVER)


class WorkflowNode(Answer):
    """One of the nodes of Argo's workflow: a pod is one, also where it could not be made."""

    name: Text = ""
    type: Text = ""
    phase: Text = ""
    message: Text = ""


class Workflow(Answer):
    """Argo's record of a run, its nodes by their ids."""

    nodes: Values = at("status.nodes", {})


class ConfigMap(Answer):
    """Settings: texts by their names."""

    data: Values = {}


class CronJob(Answer):
    """What is started at certain times."""

    suspended: Flag = at("spec.suspend", False)


def age_of(pod: Pod) -> tuple[datetime, str]:
    """To sort pods by when they were made."""
    return pod.created_at or NEVER, pod.name


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
    newest = max(troubles, key=lambda each: each.newest)
    if newest.reason == SCHEDULING:
        scheduled = any(each.type == "PodScheduled" and each.status == "True" for each in pod.conditions)
        return "" if scheduled else _unscheduled(newest.message, pod)
    return f"{newest.reason}: {newest.message}"


def _unscheduled(message: str, pod: Pod) -> str:
    container = pod.main
    asks = {**container.limits, **container.requests}
    told = ", ".join(f"{name} {amount}" for name, amount in sorted(asks.items()))
    return f"no node takes it: {message.rstrip('. ')}{f' (it asks for {told})' if told else ''}"


def ended(pod: Pod) -> str:
    """How a pod was ended from outside; empty where its own log tells why it ended, or where it goes on."""
    if pod.reason == TOO_LONG:
        return f"it took longer than its limit ({TOO_LONG})"
    if pod.reason and pod.phase == "Failed":
        return f"its pod was ended by Kubernetes: {pod.reason}{f', {pod.message}' if pod.message else ''}"
    over = pod.terminated or Terminated()
    if over.exit_code == KILLED and over.reason == NO_MEMORY:
        return f"it was killed for memory (limit {pod.main.limits.get('memory') or 'unknown'})"
    if over.exit_code == KILLED:
        return f"it was killed (exit code {KILLED}): its node was lost or its pod deleted by force"
    if over.exit_code == ASKED_TO_END:
        return f"its pod was deleted, evicted or its node drained (exit code {ASKED_TO_END})"
    return ""


def is_lost(pod: Pod) -> bool:
    """Whether what ended a pod from outside is nothing that it did itself, so that another may go on."""
    if pod.reason and pod.phase == "Failed":
        return pod.reason != TOO_LONG and not OWN_LIMIT.search(pod.message)
    over = pod.terminated or Terminated()
    return over.exit_code in (KILLED, ASKED_TO_END) and over.reason != NO_MEMORY
