"""The way to the volume through the helper pod, by the Kubernetes API alone."""

import contextlib
import json
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laptop.volume.doors import START, Channel, LostError
from sightline.errors import SightlineError

LABEL = "app.kubernetes.io/name=sightline-helper"
CONTAINER = "helper"
NAMESPACE = "kubeflow"  # where a Kubeflow Pipelines for one user runs its pods
MOUNT = "/shared_volume"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
STDIN, STDOUT, STDERR, STATUS = range(4)
"""The channels of an exec connection: every frame's first byte is one of them."""


class PodDoor:
    """A claim that the helper pod mounts."""

    volume = MOUNT

    def __init__(self, client: Any, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.name = f"the volume of namespace {namespace}"

    @classmethod
    def find(cls, kubeconfig: str | None, context: str | None, namespace: str | None) -> "PodDoor":
        """Take the cluster that kubectl would take, or the one that this pod runs in.

        Args:
            kubeconfig: None for $KUBECONFIG or ~/.kube/config.
            context: None for the kubeconfig's current one.
            namespace: None for the context's, or the pod's own.

        Raises:
            SightlineError: there is no kubeconfig, or no such context in it.
        """
        from kubernetes import client, config

        if kubeconfig is None and context is None and ACCOUNT.is_dir() and not _default_kubeconfig():
            configuration = client.Configuration()
            config.load_incluster_config(configuration)
            own = (ACCOUNT / "namespace").read_text().strip()
            return cls(client.ApiClient(configuration), namespace or own)
        if kubeconfig is None and not _default_kubeconfig():
            raise SightlineError(
                "There is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config. Name one with --kubeconfig, or the folder "
                "where the volume is mounted here with --volume."
            )
        try:
            contexts, current = config.list_kube_config_contexts(kubeconfig)
            chosen = next((each for each in contexts if each["name"] == context), None) if context else current
            if chosen is None:
                names = ", ".join(sorted(each["name"] for each in contexts))
                raise SightlineError(f"The kubeconfig has no context {context!r}. It has: {names}.")
            api = config.new_client_from_config(kubeconfig, chosen["name"])
        except config.ConfigException as error:
            raise SightlineError(f"The kubeconfig cannot be used: {error}. kubectl config view shows it.") from None
        return cls(api, namespace or chosen["context"].get("namespace") or NAMESPACE)

    @contextlib.contextmanager
    def open(self) -> Iterator[Channel]:
        """Start remote.py in the helper pod. It ends with the connection.

        Raises:
            LostError: the cluster cannot be reached, or the pod is not running just now.
            SightlineError: refused by the cluster, or there is no helper pod.
        """
        from kubernetes import client
        from kubernetes.stream import stream

        api = client.CoreV1Api(self._client)
        with self._explained():
            pod = self._pod(api)
            connection = stream(
                api.connect_get_namespaced_pod_exec,
                pod,
                self._namespace,
                container=CONTAINER,
                command=["python3", "-c", START],
                stdin=True,
                stdout=True,
                stderr=True,
                tty=False,
                binary=True,
                _preload_content=False,
            )
        try:
            with self._explained():
                yield Channel(_ExecPipe(connection.sock))
        finally:
            connection.close(timeout=1)

    def _pod(self, api: Any) -> str:
        found = api.list_namespaced_pod(
            self._namespace, label_selector=LABEL, _request_timeout=(CONNECT_SECONDS, ANSWER_SECONDS)
        ).items
        pods = [pod for pod in found if pod.metadata.deletion_timestamp is None]
        if not pods:
            raise SightlineError(
                f"There is no helper pod (label {LABEL}) in namespace {self._namespace}. Start it with kubectl apply -k "
                "manifests/overlays/… (see docs/cluster.md), or name another namespace with --namespace."
            )
        for pod in pods:
            if pod.status.phase == "Running" and all(each.ready for each in pod.status.container_statuses or ()):
                return pod.metadata.name
        raise LostError(
            f"The helper pod {pods[0].metadata.name} is not running: {_why(pods[0])}. Sync again when it is."
        )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the libraries raise into a sentence."""
        import urllib3
        import websocket
        from kubernetes.client import ApiException

        # A kubeconfig that leaves out the check of certificates has said so; kubectl is silent about it, too.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        host = self._client.configuration.host
        try:
            yield
        except ApiException as error:
            raise _refusal(error, host, self._namespace) from None
        except (urllib3.exceptions.HTTPError, websocket.WebSocketException, OSError) as error:
            reason = str(getattr(error, "reason", None) or error).rpartition(": ")[2].rstrip(".")
            raise LostError(f"The cluster at {host} cannot be reached: {reason}.") from None


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


def _default_kubeconfig() -> bool:
    from kubernetes.config import kube_config

    return any(
        Path(place).expanduser().is_file() for place in kube_config.KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep)
    )


def _refusal(error: Any, host: str, namespace: str) -> SightlineError:
    reason = _api_message(error)
    if error.status == 401 or "401" in reason:
        return SightlineError(f"The cluster at {host} does not accept this login: {reason}. Log in again and repeat.")
    if error.status == 403 or "403" in reason:
        return SightlineError(
            f"The cluster does not allow it: {reason}. Sync needs to list pods and to get and create pods/exec in {namespace}."
        )
    return LostError(f"The cluster at {host} did not do it: {reason}.")


def _api_message(error: Any) -> str:
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return json.loads(error.body)["message"]
    return str(error.reason).splitlines()[0][:300]


def _status_message(data: bytes) -> bytes:
    """What the cluster says of how the process ended; nothing when that was as usual."""
    with contextlib.suppress(ValueError, AttributeError):
        status = json.loads(data)
        return b"" if status.get("status") == "Success" else f"\n{status.get('message', '')}".encode()
    return b""


def _why(pod: Any) -> str:
    for each in pod.status.container_statuses or ():
        state = each.state.waiting or each.state.terminated
        if state:
            return f"{state.reason or 'waiting'}{': ' + state.message if state.message else ''}"
    for condition in pod.status.conditions or ():
        if condition.status == "False" and condition.message:
            return condition.message
    return pod.status.phase
