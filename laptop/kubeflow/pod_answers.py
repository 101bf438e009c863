"""What Kubernetes says of pods, events and what else concerns runs, read as tolerantly as a server's answers: any field may be missing or null."""

from laptop.kubeflow.answers import Answer, Flag, Moment, Number, Part, Parts, Text, Values, at


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


class Event(Answer):
    """Something that happened to a pod; of its times some are null."""

    reason: Text = ""
    message: Text = ""
    created_at: Moment = at("metadata.creation_timestamp", None)
    repeated_at: Moment = at("series.last_observed_time", None)
    event_time: Moment = None
    first_timestamp: Moment = None
    last_timestamp: Moment = None


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
