"""`pipeline.py logs`: what the steps of a run printed."""

import argparse
import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from laptop.kubeflow.access import access_of
from laptop.kubeflow.connect import Server, try_connect
from laptop.kubeflow.find import find_run_id
from laptop.kubeflow.sql import Records, open_records
from sightline.errors import SightlineError
from sightline.processes.deadline import deadline_seconds

SECONDS_BETWEEN_LOOKS = 2.0
NODE_NAME = "workflows.argoproj.io/node-name"
CONTAINER = "main"


def logs(options: argparse.Namespace) -> int:
    """Print the logs of a run's pods, or say where they are when the pods are gone. Returns the exit status."""
    access = access_of(options)
    server, problem = try_connect(access)
    records = open_records(options.workspace)
    run_id = find_run_id(options.which, server, records, problem)
    local = options.workspace / "logs" / f"{run_id}.log"
    if local.is_file():
        print(f"== the whole run on this laptop, {local}", file=sys.stderr)
        sys.stdout.write(local.read_text(encoding="utf-8", errors="replace"))
        return 0
    try:
        cluster = _cluster()
        pods = _pods(cluster, server.pods if server else access.namespace or "kubeflow", run_id, options.step)
    except SightlineError as error:
        return _elsewhere(str(error), run_id, options.step, server, records)
    if not pods:
        gone = f"The pods of run {run_id[:8]} are gone: Kubernetes removes them some time after the end."
        return _elsewhere(gone, run_id, options.step, server, records)
    for pod in pods:
        print(f"== {_step_of(pod)}: pod {pod.metadata.name}, {pod.status.phase}", file=sys.stderr)
        for line in _lines(cluster, pod, options.follow):
            sys.stdout.write(line)
            sys.stdout.flush()
    return 0


def _cluster() -> Any:
    """A client of the Kubernetes API, as kubectl would reach it.

    Raises:
        SightlineError: nothing says where it is.
    """
    from kubernetes import client, config

    try:
        in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ
        config.load_incluster_config() if in_cluster else config.load_kube_config()
    except (config.ConfigException, OSError):
        raise SightlineError(
            "Logs come from the cluster's pods, and nothing here says how to reach it. Set KUBECONFIG, as for kubectl."
        ) from None
    return client.CoreV1Api()


def _pods(cluster: Any, namespace: str, run_id: str, step: str | None) -> list[Any]:
    """The pods that ran our steps, in the order they were made; a step that was tried again has several."""
    with _telling(namespace):
        timeout = deadline_seconds()
        found = cluster.list_namespaced_pod(
            namespace, label_selector=f"pipeline/runid={run_id}", _request_timeout=timeout
        ).items
    steps = [pod for pod in found if _step_of(pod)]
    chosen = [pod for pod in steps if step in (None, _step_of(pod))]
    if step and steps and not chosen:
        names = ", ".join(dict.fromkeys(_step_of(pod) for pod in steps))
        print(f"no pod of {step} in this run; there are pods of {names}", file=sys.stderr)
    return sorted(chosen, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name))


@contextlib.contextmanager
def _telling(namespace: str) -> Iterator[None]:
    import urllib3
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        if error.status in (401, 403):
            raise SightlineError(
                f"Kubernetes does not let this account read pods and their logs in {namespace} ({error.status}). Log in as "
                "kubectl does, name the namespace with --kfp-namespace, or read the log in the UI."
            ) from None
        raise SightlineError(f"Kubernetes refuses ({error.status}): {error.reason}.") from None
    except urllib3.exceptions.HTTPError as error:
        raise SightlineError(
            f"Kubernetes cannot be reached ({type(error).__name__}). Check the cluster that KUBECONFIG names."
        ) from None


def _step_of(pod: Any) -> str:
    """The step of an executor's pod, from a node name like wf(0).root(0).train(0).executor(0); empty for a driver's."""
    names = [re.sub(r"\(\d+\)$", "", part) for part in (pod.metadata.annotations or {}).get(NODE_NAME, "").split(".")]
    return names[-2] if len(names) > 2 and names[-1] == "executor" else ""


def _lines(cluster: Any, pod: Any, follow: bool) -> Iterator[str]:
    """The log so far, or to the end of the pod."""
    name, namespace = pod.metadata.name, pod.metadata.namespace
    told = ""
    while pod.status.phase == "Pending":
        waits = _waits_for(pod)
        if waits != told:
            told = waits
            print(f"   waiting: {waits}", file=sys.stderr)
        if not follow:
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)
        with _telling(namespace):
            pod = cluster.read_namespaced_pod(name, namespace, _request_timeout=deadline_seconds())
    with _telling(namespace):
        answer = cluster.read_namespaced_pod_log(
            name, namespace, container=CONTAINER, follow=follow, _preload_content=False
        )
        for line in answer:
            yield line.decode("utf-8", errors="replace")


def _waits_for(pod: Any) -> str:
    """Why a pod has not started, in Kubernetes' words."""
    states = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
    for each in states:
        waiting = each.state.waiting if each.state else None
        if waiting and waiting.reason not in ("PodInitializing", "ContainerCreating"):
            return f"{waiting.reason}: {waiting.message or 'no message'}"
    for condition in pod.status.conditions or ():
        if condition.status == "False" and condition.message:
            return f"{condition.reason}: {condition.message}"
    return "its containers are being made"


def _elsewhere(why: str, run_id: str, step: str | None, server: Server | None, records: Records) -> int:
    """Say where the log is now, and the reason that SQL kept."""
    print(f"error: {why}", file=sys.stderr)
    where = server.link(run_id) if server else "the run's page in the UI"
    print(f"Kubeflow keeps each log as the step's artifact executor-logs: {where}", file=sys.stderr)
    if records.database is None:
        print(f"SQL could tell how the steps ended, but: {records.missing}", file=sys.stderr)
        return 1
    from sightline.services.database.runs import list_steps

    for each in list_steps(records.database, run_id):
        if step in (None, each.step):
            state = "lost" if each.lost() else each.state
            print(f"{each.step}: {state}{': ' + each.reason if each.reason else ''}")
    return 1
