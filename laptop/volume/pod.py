"""The way to the volume through the helper pod, by the Kubernetes API alone."""

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from laptop.forwards.relay import Wire, pump
from laptop.volume.cluster import ANSWER_SECONDS, Cluster
from laptop.volume.doors import START, Channel, LostError

LABEL = "app.kubernetes.io/name=sightline-helper"
CONTAINER = "helper"
MOUNT = "/shared_volume"
HOW_TO_START = "Start it with kubectl apply -k manifests/overlays/… (see docs/cluster.md), or choose another namespace with --namespace."
STDOUT = 1
"""The channel of a program's output in an exec connection: the first byte of its frames."""


class PodDoor:
    """A claim that the helper pod mounts."""

    volume = MOUNT

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
        """Through the cluster that `Cluster.find` takes; raises as that."""
        instead = ", or the folder where the volume is mounted here with --volume"
        self.cluster = Cluster.find(kubeconfig, context, namespace, instead)
        self.name = f"the volume of namespace {self.cluster.namespace}"

    @contextlib.contextmanager
    def open(self) -> Iterator[Channel]:
        """Start remote.py in the helper pod. It ends with the connection.

        Raises:
            LostError: the cluster cannot be reached, or the pod is not running just now.
            SightlineError: refused by the cluster, or there is no helper pod.
        """
        needs = f"Sync needs to list pods and to get and create pods/exec in {self.cluster.namespace}."
        with self.cluster.explained(needs):
            try:
                pod = helper_pod(self.cluster)
            except LostError as error:
                raise LostError(f"{error} Sync again when it is.") from None
            connection = open_exec(self.cluster, pod, ["python3", *START])
        ours, theirs = socket.socketpair()
        with ours, ThreadPoolExecutor(1) as carrier:
            carried = carrier.submit(_carry, theirs, connection)
            with contextlib.closing(Channel(ours, carried.result)) as channel:
                yield channel


def helper_pod(cluster: Cluster) -> str:
    """The name of the helper's pod; raises as `Cluster.running_pod`."""
    return str(cluster.running_pod(LABEL, "helper pod", HOW_TO_START).metadata.name)


def open_exec(cluster: Cluster, pod: str, command: list[str]) -> Any:
    """A connection to a program that it starts in the helper pod."""
    how = {"stdin": True, "stdout": True, "stderr": True, "tty": False}
    return cluster.connection("connect_get_namespaced_pod_exec", pod, container=CONTAINER, command=command, **how)


def _carry(local: socket.socket, connection: Any) -> str:
    """Returns what the process complained of, if it said nothing else."""
    connection.sock.settimeout(ANSWER_SECONDS)
    try:
        with local:
            return pump(local, Wire(connection, incoming=STDOUT, numbered=False))
    finally:
        connection.close(timeout=1)
