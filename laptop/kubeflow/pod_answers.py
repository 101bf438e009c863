"""What Kubernetes says of pods, events and what else concerns runs, read as tolerantly as a server's answers: any field may be missing or null."""

from laptop.kubeflow.answers import Answer, Flag, Moment, Number, Part, Parts, Text, Values


class Metadata(Answer):
    """Name, labels and the like."""

    name: Text = ""
    labels: Values = {}
    annotations: Values = {}
    creation_timestamp: Moment = None


class Waiting(Answer):
    """Why a container has not started."""

    reason: Text = ""
    message: Text = ""


class Terminated(Answer):
    """How a container ended."""

    reason: Text = ""
    exit_code: Number = 0
    finished_at: Moment = None


class ContainerState(Answer):
    """One of the two, or neither while it runs."""

    waiting: Part[Waiting] = Waiting()
    terminated: Part[Terminated] | None = None


class ContainerStatus(Answer):
    """A container as it is."""

    name: Text = ""
    image: Text = ""
    state: Part[ContainerState] = ContainerState()


class Condition(Answer):
    """Something that a pod has come to, or has not."""

    type: Text = ""
    status: Text = ""
    reason: Text = ""
    message: Text = ""


class Status(Answer):
    """A pod as it is."""

    phase: Text = ""
    reason: Text = ""
    message: Text = ""
    conditions: Parts[Condition] = []
    init_container_statuses: Parts[ContainerStatus] = []
    container_statuses: Parts[ContainerStatus] = []


class Resources(Answer):
    """What a container asks for and may have."""

    limits: Values = {}
    requests: Values = {}


class Container(Answer):
    """A container as it was ordered."""

    name: Text = ""
    resources: Part[Resources] = Resources()


class PodSpec(Answer):
    """A pod as it was ordered."""

    containers: Parts[Container] = []


class Pod(Answer):
    """A pod."""

    metadata: Part[Metadata] = Metadata()
    spec: Part[PodSpec] = PodSpec()
    status: Part[Status] = Status()


class Series(Answer):
    """Of an event that repeats itself."""

    last_observed_time: Moment = None


class Event(Answer):
    """Something that happened to a pod; of its times some are null."""

    reason: Text = ""
    message: Text = ""
    metadata: Part[Metadata] = Metadata()
    series: Part[Series] = Series()
    event_time: Moment = None
    first_timestamp: Moment = None
    last_timestamp: Moment = None


class WorkflowNode(Answer):
    """One of the nodes of Argo's workflow: a pod is one, also where it could not be made."""

    name: Text = ""
    type: Text = ""
    phase: Text = ""
    message: Text = ""


class WorkflowStatus(Answer):
    """A workflow as it is; its nodes by their ids."""

    nodes: Values = {}


class Workflow(Answer):
    """Argo's record of a run."""

    status: Part[WorkflowStatus] = WorkflowStatus()


class ConfigMap(Answer):
    """Settings: texts by their names."""

    data: Values = {}


class CronJobSpec(Answer):
    """A CronJob as it was ordered."""

    suspend: Flag = False


class CronJob(Answer):
    """What is started at certain times."""

    spec: Part[CronJobSpec] = CronJobSpec()
