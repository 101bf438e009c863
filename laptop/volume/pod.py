"""The way to the volume through the helper pod, by the Kubernetes API alone."""

import contextlib
import json
import select
from collections.abc import Iterator
from typing import Any

from laptop.volume.cluster import ANSWER_SECONDS, Cluster
from laptop.volume.doors import START, Channel, LostError

LABEL = "app.kubernetes.io/name=sightline-helper"
CONTAINER = "helper"
MOUNT = "/shared_volume"
HOW_TO_START = "Start it with kubectl apply -k manifests/overlays/… (see docs/cluster.md), or name another namespace with --namespace."
STDIN, STDOUT, STDERR, STATUS = range(4)
"""The channels of an exec connection: every frame's first byte is one of them."""


class PodDoor:
    """A claim that the helper pod mounts."""

    volume = MOUNT

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = f"the volume of namespace {cluster.namespace}"

    @classmethod
    def find(cls, kubeconfig: str | None, context: str | None, namespace: str | None) -> "PodDoor":
        """Through the cluster that `Cluster.find` takes.

        Raises:
            SightlineError: there is no kubeconfig, or no such context in it.
        """
        return cls(
            Cluster.find(
                kubeconfig, context, namespace, ", or the folder where the volume is mounted here with --volume"
            )
        )

    @contextlib.contextmanager
    def open(self) -> Iterator[Channel]:
        """Start remote.py in the helper pod. It ends with the connection.

        Raises:
            LostError: the cluster cannot be reached, or the pod is not running just now.
            SightlineError: refused by the cluster, or there is no helper pod.
        """
        needs = f"Sync needs to list pods and to get and create pods/exec in {self.cluster.namespace}."
        with self.cluster.explained(needs):
            connection = open_exec(self.cluster, self._pod(), ["python3", "-c", START])
        try:
            with self.cluster.explained(needs):
                yield Channel(_ExecPipe(connection.sock))
        finally:
            connection.close(timeout=1)

    def _pod(self) -> str:
        try:
            return helper_pod(self.cluster)
        except LostError as error:
            raise LostError(f"{error} Sync again when it is.") from None


def helper_pod(cluster: Cluster) -> str:
    """The name of the helper's pod; raises as `Cluster.running_pod`."""
    return str(cluster.running_pod(LABEL, "helper pod", HOW_TO_START).metadata.name)


def open_exec(cluster: Cluster, pod: str, command: list[str]) -> Any:
    """A connection to a program that it starts in the helper pod; `sock` is its WebSocket."""
    from kubernetes import client
    from kubernetes.stream import stream

    return stream(
        client.CoreV1Api(cluster.fresh_client()).connect_get_namespaced_pod_exec,
        pod,
        cluster.namespace,
        container=CONTAINER,
        command=command,
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        binary=True,
        _preload_content=False,
    )


class _ExecPipe:
    """The frames of an exec connection.

    The library's own reader waits for the network while frames lie in the TLS layer already, so we read the socket.
    """

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._socket.settimeout(ANSWER_SECONDS)
        self._output = b""
        self._complaints = b""
        self._ended = False

    def send(self, data: bytes) -> None:
        from websocket import WebSocketConnectionClosedException

        # A process that has given up has said why: that is heard next, so what it will not read is not sent.
        while not self._ended and self._has_frames():
            self._take_frame()
        if not self._ended:
            try:
                self._socket.send_binary(bytes([STDIN]) + data)
            except (WebSocketConnectionClosedException, ConnectionError):
                self._ended = True

    def receive(self) -> bytes:
        while not self._output and not self._ended:
            self._take_frame()
        output, self._output = self._output, b""
        return output

    def _has_frames(self) -> bool:
        raw = self._socket.sock
        pending = getattr(raw, "pending", None)  # a TLS socket's
        return bool(pending and pending()) or bool(select.select([raw], [], [], 0)[0])

    def _take_frame(self) -> None:
        from websocket import ABNF, WebSocketConnectionClosedException

        try:
            code, frame = self._socket.recv_data_frame(True)
        except (WebSocketConnectionClosedException, ConnectionError):
            code, frame = ABNF.OPCODE_CLOSE, None
        if code == ABNF.OPCODE_CLOSE:
            self._ended = True
        elif code in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and frame.data:
            channel, data = frame.data[0], frame.data[1:]
            if channel == STDOUT:
                self._output += data
            elif channel == STDERR:
                self._complaints += data
            elif channel == STATUS:
                self._complaints += _status_message(data)

    def last_words(self) -> str:
        lines = self._complaints.decode(errors="replace").strip().splitlines()
        return f" ({lines[-1]})" if lines else ""


def _status_message(data: bytes) -> bytes:
    """What the cluster says of how the process ended; nothing when that was as usual."""
    with contextlib.suppress(ValueError, AttributeError):
        status = json.loads(data)
        return b"" if status.get("status") == "Success" else f"\n{status.get('message', '')}".encode()
    return b""
