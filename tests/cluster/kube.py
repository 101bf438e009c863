"""A real one-node Kubernetes for the tests, and kubectl on it."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.services import find_tool, free_port

START_SECONDS = 600
"""Etcd, a compiler and kubectl may have to be installed first."""
NODE = "localhost"
CONTEXT = "test"
"""The context that the tool writes: a KUBECONFIG with another one is somebody's own cluster, and left alone."""
KUBELET_PORT = 10248


@dataclass(frozen=True, slots=True)
class Kube:
    """kubectl on one cluster.

    Attributes:
        config: the KUBECONFIG's path.
        namespace: where commands work that name none.
    """

    config: Path
    namespace: str = "default"

    def run(self, *arguments: str, given: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a kubectl command; `given` is its standard input."""
        command = ["kubectl", f"--kubeconfig={self.config}", f"--namespace={self.namespace}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=300)
        if check and done.returncode:
            pytest.fail(f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or update objects."""
        self.run("apply", "-f", "-", given=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object as it is now."""
        return json.loads(self.run("get", kind, name, "-o", "json").stdout)

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods with these labels, written name=value,name=value."""
        return json.loads(self.run("get", "pods", "-l", selector, "-o", "json").stdout)["items"]

    def logs(self, name: str, container: str = "") -> str:
        """What a pod, or a job's (`job/NAME`), has written so far."""
        which = ["-c", container] if container else ["--all-containers"]
        done = self.run("logs", name, *which, "--tail=-1", check=False)
        return done.stdout + done.stderr

    def wait_for_pod(self, name: str, seconds: float = 180) -> str:
        """The phase a pod ends in: Succeeded or Failed."""

        def ended() -> str:
            phase = self.get("pod", name)["status"]["phase"]
            return phase if phase in ("Succeeded", "Failed") else ""

        return self.wait(ended, seconds, f"pod {name}", lambda: self.describe("pod", name))

    def wait_for_job(self, name: str, seconds: float = 180) -> None:
        """Wait until a job has completed; fails with its logs when it does not."""

        def completed() -> bool:
            return bool(self.get("job", name)["status"].get("succeeded"))

        self.wait(completed, seconds, f"job {name}", lambda: self.describe("job", name) + self.logs(f"job/{name}"))

    def describe(self, kind: str, name: str) -> str:
        """For a failed test's message."""
        done = self.run("describe", kind, name, check=False)
        events = self.run("get", "events", "--sort-by=.lastTimestamp", check=False)
        return done.stdout + done.stderr + events.stdout[-3000:]

    def wait(self, condition: Callable[[], Any], seconds: float, what: str, tell: Callable[[], str] = str) -> Any:
        """The condition's first true value; fails after so many seconds, with what `tell` says."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := condition():
                return found
            time.sleep(0.3)
        pytest.fail(f"{what} was not ready after {seconds:g} s\n{tell()}")


@contextmanager
def new_namespace(config: Path) -> Iterator[Kube]:
    """A namespace of one's own, removed afterwards with its claims."""
    name = f"test-{os.urandom(4).hex()}"
    Kube(config).run("create", "namespace", name)
    try:
        yield Kube(config, name)
    finally:
        remove_namespace(config, name)


def remove_namespace(config: Path, name: str) -> None:
    """Delete a namespace and wait until all in it is gone, without the half minute that pods may take to end."""
    here = Kube(config, name)
    here.run("delete", "deployments,statefulsets,jobs", "--all", "--wait=false", check=False)
    here.run("delete", "pods", "--all", "--grace-period=1", check=False)
    here.run("delete", "namespace", name, "--ignore-not-found", "--timeout=120s", check=False)


@pytest.fixture(scope="session")
def cluster(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The KUBECONFIG of a real Kubernetes: the one that runs already, or one that ends with this session.

    To keep one between sessions: `eval "$(../shared/tools/kubernetes up DIR)"` before pytest.
    """
    given = Path(os.environ.get("KUBECONFIG", ""))
    if given.is_file() and _is_test_cluster(given):
        yield given
        return
    tool = find_tool("kubernetes")
    if os.geteuid() != 0:
        pytest.skip("a Kubernetes of our own needs root")
    if _listens(KUBELET_PORT):
        pytest.skip("another Kubernetes runs on this machine: export the KUBECONFIG that its tool printed")
    # Not pytest's folder: the kubelet's mounts must not be in the way when that is cleared away.
    folder = tempfile.mkdtemp(prefix="sightline-kubernetes-")
    environment = os.environ | {
        "DOCKER_HOST": engine or "unix:///var/run/docker.sock",
        "DOCKER_BUILDKIT": "0",
        "KUBERNETES_PORT": str(free_port()),
        "ETCD_PORT": str(free_port()),
    }
    log = tmp_path_factory.mktemp("kubernetes") / "up.log"
    try:
        # To a file: the servers that it starts would hold a pipe open.
        with log.open("w") as output:
            started = subprocess.run(
                [str(tool), "up", folder],
                env=environment,
                stdout=output,
                stderr=output,
                timeout=START_SECONDS,
                check=False,
            )
        if started.returncode:
            pytest.fail(f"Kubernetes does not start here: {log.read_text()[-2000:]}")
        yield Path(folder, "kubeconfig")
    finally:
        subprocess.run([str(tool), "down", folder], env=environment, capture_output=True, timeout=120, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def kube(cluster: Path) -> Iterator[Kube]:
    """kubectl in an empty namespace of one's own."""
    with new_namespace(cluster) as here:
        yield here


def _is_test_cluster(config: Path) -> bool:
    content = yaml.safe_load(config.read_text()) or {}
    if content.get("current-context") != CONTEXT:
        return False
    node = subprocess.run(
        ["kubectl", f"--kubeconfig={config}", "get", "node", NODE], capture_output=True, timeout=60, check=False
    )
    return node.returncode == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
