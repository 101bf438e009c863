"""Kubernetes as far as a run's pods go: asked aloud by `logs`, and in silence by those who can do without it."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from laptop.kubeflow.answers import entries, parse, read
from laptop.kubeflow.pod_state import CONTAINER, ConfigMap, CronJob, Event, Pod, Workflow, WorkflowNode
from laptop.volume.cluster import SPOILT
from sightline.errors import SightlineError, clause
from sightline.processes.deadline import deadline_seconds

RUN_LABEL = "pipeline/runid"
WORKFLOWS = {"group": "argoproj.io", "version": "v1alpha1", "plural": "workflows"}
TAIL = 400  # lines of a log in which a reason is looked for
GLANCE_SECONDS = (2.0, 8.0)  # to connect and to answer, where nobody waits for Kubernetes
SILENCE_SECONDS = 60.0  # for which a Kubernetes that did not answer is left alone
T = TypeVar("T")


class RefusedError(SightlineError):
    """Kubernetes answers, and does not let us; `status` is HTTP's."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Pods:
    """The pods of runs in a namespace; every method raises SightlineError where Kubernetes does not answer or refuses."""

    def __init__(self, cluster: Any, namespace: str, timeout: Any = None) -> None:
        self._cluster, self.namespace, self._timeout = cluster, namespace, timeout or deadline_seconds()

    def of_run(self, run_id: str) -> list[Pod]:
        """A run's pods, drivers' too."""
        return self._list(f"{RUN_LABEL}={run_id}")

    def runs(self) -> set[str]:
        """The runs of which there are pods."""
        return {str(pod.labels.get(RUN_LABEL)) for pod in self._list(RUN_LABEL)}

    def read(self, name: str) -> Pod:
        """A pod."""
        return read(Pod, self._ask(self._cluster.read_namespaced_pod, name=name))

    def lines(self, name: str, follow: bool) -> Iterator[str]:
        """What the step's container prints, as it comes."""
        with telling(self.namespace):
            for line in self._log(name, follow=follow):
                yield line.decode("utf-8", errors="replace")

    def end_of_log(self, name: str) -> str:
        """Its last lines."""
        with telling(self.namespace):
            answer = self._log(name, tail_lines=TAIL, _request_timeout=self._timeout)
            return bytes(answer.data).decode("utf-8", errors="replace")

    def _log(self, name: str, **values: Any) -> Any:
        ask = self._cluster.read_namespaced_pod_log
        return ask(name, self.namespace, container=CONTAINER, _preload_content=False, **values)

    def events(self, name: str) -> list[Event]:
        """What happened to a pod."""
        said = self._ask(self._cluster.list_namespaced_event, field_selector=f"involvedObject.name={name}")
        return entries(Event, said, "items")

    def unmade(self, run_id: str) -> list[WorkflowNode]:
        """The nodes of a run's workflow whose pod Kubernetes does not let be made, like beyond a quota."""
        from kubernetes import client

        ask = client.CustomObjectsApi(self._cluster.api_client).list_namespaced_custom_object
        said = self._ask(ask, **WORKFLOWS, label_selector=f"{RUN_LABEL}={run_id}")
        found = (read(WorkflowNode, each) for run in entries(Workflow, said, "items") for each in run.nodes.values())
        return [node for node in found if (node.type, node.phase) == ("Pod", "Pending") and node.message]

    def config(self, name: str) -> Mapping[str, Any]:
        """What a ConfigMap holds."""
        return read(ConfigMap, self._ask(self._cluster.read_namespaced_config_map, name=name)).data

    def cron_job(self, name: str) -> CronJob:
        """A CronJob."""
        from kubernetes import client

        return read(CronJob, self._ask(client.BatchV1Api(self._cluster.api_client).read_namespaced_cron_job, name=name))

    def _list(self, selector: str) -> list[Pod]:
        return entries(Pod, self._ask(self._cluster.list_namespaced_pod, label_selector=selector), "items")

    def _ask(self, method: Callable[..., Any], **values: Any) -> Mapping[str, Any]:
        with telling(self.namespace):
            values |= {"namespace": self.namespace, "_preload_content": False, "_request_timeout": self._timeout}
            said = parse(method(**values).data)
        if said is None:
            raise RefusedError("Kubernetes answered with something that is not JSON. Check the cluster of KUBECONFIG.")
        return said


def open_pods(namespace: str, timeout: Any = None) -> Pods:
    """Kubernetes, as kubectl would reach it; `timeout` is for those who want no answer after that, and no second try."""
    from kubernetes import client, config

    try:
        config.load_incluster_config() if "KUBERNETES_SERVICE_HOST" in os.environ else config.load_kube_config()
    except (config.ConfigException, OSError):
        raise SightlineError(
            "Logs come from the cluster's pods, and nothing here says how to reach it. Set KUBECONFIG, as for kubectl."
        ) from None
    except SPOILT as error:
        told = f"The kubeconfig cannot be read ({type(error).__name__}). kubectl config view shows it."
        raise SightlineError(told) from None
    configuration = client.Configuration.get_default_copy()
    if timeout is not None:
        configuration.retries = 0
    return Pods(client.CoreV1Api(client.ApiClient(configuration)), namespace, timeout)


class Glance:
    """The same for those who need no answer: a Kubernetes out of reach is None, and is not asked again for a minute."""

    def __init__(self, namespace: str, seconds: tuple[float, float] = GLANCE_SECONDS) -> None:
        """With an empty namespace nothing is asked: a run on a laptop has no pods. `seconds` to connect, and to answer."""
        self._namespace, self._seconds = namespace, seconds
        self._pods: Pods | None = None
        self._silent_until = 0.0

    def ask(self, question: Callable[[Pods], T]) -> T | None:
        """The answer, or None."""
        if not self._namespace or time.monotonic() < self._silent_until:
            return None
        try:
            if self._pods is None:
                self._pods = open_pods(self._namespace, self._seconds)
            return question(self._pods)
        except RefusedError:
            return None
        except Exception:  # noqa: BLE001  # a plug-in of kubectl's configuration may raise anything, and nobody asked
            self._silent_until = time.monotonic() + SILENCE_SECONDS
            return None


@contextlib.contextmanager
def telling(namespace: str) -> Iterator[None]:
    """One sentence for each way in which Kubernetes does not answer."""
    import urllib3
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        if error.status in (401, 403):
            raise RefusedError(
                f"Kubernetes does not let this account read pods and their logs in {namespace} ({error.status}). Log in as "
                "kubectl does, name the namespace with --kfp-namespace, or read the log in the UI.",
                error.status,
            ) from None
        raise RefusedError(f"Kubernetes refuses ({error.status}): {clause(error.reason)}.", error.status) from None
    except urllib3.exceptions.HTTPError as error:
        raise SightlineError(
            f"Kubernetes cannot be reached ({type(error).__name__}). Check the cluster that KUBECONFIG names."
        ) from None
