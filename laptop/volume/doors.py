"""The ways to the volume: a process beside it that runs remote.py, and talks by its standard input and output.

It runs on this machine where the volume is mounted here, else in the helper pod, by the Kubernetes API alone.
"""

import contextlib
import inspect
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from laptop.forwards.relay import Wire, pump
from laptop.volume.cluster import ANSWER_SECONDS, Cluster, LostError
from sightline.errors import SightlineError, clause
from sightline.services.runs import live_files

# The program comes by the pipe: a command line has room for a few kB only on its way through proxies. The alarm ends
# a process that never gets it. -P: what lies in the pod's working folder is no library.
START = (
    "-P",
    "-c",
    "import signal, sys; signal.alarm(60); exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))",
)
SILENCE_SECONDS = 60.0
LABEL = "app.kubernetes.io/name=sightline-helper"
HOW_TO_START = "Start it with kubectl apply -k manifests/overlays/… (see docs/cluster.md), or choose another namespace with --namespace."
STDOUT = 1  # the channel of a program's output in an exec connection


class HeldError(SightlineError):
    """Somebody else is at it."""


class FolderDoor:
    """A volume that is mounted on this machine: what to call it, to a person, and where it is mounted."""

    def __init__(self, volume: Path) -> None:
        self.volume = str(volume.resolve())
        self.name = str(volume)

    @contextlib.contextmanager
    def open(self) -> Iterator["Channel"]:
        """Start remote.py beside the volume; it ends with the block."""
        ours, theirs = socket.socketpair()
        with ours, tempfile.TemporaryFile() as complaints:
            with theirs:
                end = theirs.fileno()
                process = subprocess.Popen(
                    [sys.executable, *START], stdin=end, stdout=end, stderr=complaints, start_new_session=True
                )
            try:
                with contextlib.closing(Channel(ours, lambda: _last_words(process, complaints))) as channel:
                    yield channel
            finally:
                try:
                    process.wait(SILENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


class PodDoor:
    """A claim that the helper pod mounts."""

    volume = "/shared_volume"

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
        instead = ", or the folder where the volume is mounted here with --volume"
        self.cluster = Cluster.find(kubeconfig, context, namespace, instead)
        self.name = f"the volume of namespace {self.cluster.namespace}"

    @contextlib.contextmanager
    def open(self) -> Iterator["Channel"]:
        """Start remote.py in the helper pod. It ends with the connection."""
        needs = f"Sync needs to list pods and to get and create pods/exec in {self.cluster.namespace}."
        with self.cluster.explained(needs):
            try:
                wire = start_in_helper(self.cluster, ["python3", *START])
            except LostError as error:
                raise LostError(f"{error} Sync again when it is.") from None
        ours, theirs = socket.socketpair()
        with ours, ThreadPoolExecutor(1) as carrier:
            carried = carrier.submit(_carry, theirs, wire)
            with contextlib.closing(Channel(ours, carried.result)) as channel:
                yield channel


class Channel:
    """Messages to and from remote.py."""

    def __init__(self, line: socket.socket, last_words: Callable[[], str]) -> None:
        """Send the program to a Python that runs START; `last_words` waits for its end, and says how it came to it."""
        line.settimeout(SILENCE_SECONDS)
        self._line, self._heard, self._last_words = line, line.makefile("rb"), last_words
        program = (inspect.getsource(live_files) + Path(__file__).with_name("remote.py").read_text("utf-8")).encode()
        self.write(b"%d\n" % len(program) + program)

    def say(self, message: object) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, data: bytes) -> None:
        with self._alive():
            self._line.sendall(data)

    def hear(self) -> dict[str, Any]:
        """The next message. Raises a HeldError when another sync is at work there, a LostError when nobody answers."""
        line = b"\n"
        while line == b"\n":  # a sign of life
            line = b""
            with self._alive():
                line = self._heard.readline()
        if not line.endswith(b"\n"):
            raise _lost(self._last_words())
        message = json.loads(line)
        if "held" in message:
            raise HeldError(
                f"The volume is being synced by {message['held']}. Nothing was sent: sync again when that has finished."
            )
        if "failed" in message:
            raise SightlineError(f"The volume cannot be synced: {clause(message['failed'])}.")
        return message

    def close(self) -> None:
        """Let the process end."""
        self._heard.close()
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        # A process that has ended is noticed at the next answer, which says more.
        with contextlib.suppress(ConnectionError):
            try:
                yield
            except TimeoutError:
                self.close()
                raise _lost(f"nothing was heard of it for {SILENCE_SECONDS:.0f} s") from None


def _lost(why: str) -> LostError:
    return LostError(
        f"The process beside the volume, or the connection to it, ended before it had answered{f' ({why})' if why else ''}. "
        "The live copy is whole, the old one or the new one: sync again."
    )


def _last_words(process: subprocess.Popen[bytes], complaints: Any) -> str:
    status = process.wait()
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else f"killed by signal {-status}" if status < 0 else f"exit {status}"


def start_in_helper(cluster: Cluster, command: list[str]) -> Wire:
    """Start a program in the helper pod; raises as `Cluster.running_pod`."""
    pod = cluster.running_pod(LABEL, "helper pod", HOW_TO_START).metadata.name
    how = {"container": "helper", "stdin": True, "stdout": True, "stderr": True, "tty": False}
    connection = cluster.connection("connect_get_namespaced_pod_exec", pod, command=command, **how)
    return Wire(connection, incoming=STDOUT, numbered=False)


def _carry(local: socket.socket, wire: Wire) -> str:
    """As `pump`."""
    wire.connection.sock.settimeout(ANSWER_SECONDS)
    try:
        with local:
            return pump(local, wire)
    finally:
        wire.connection.close(timeout=1)
