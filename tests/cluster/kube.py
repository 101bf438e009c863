"""A real one-node Kubernetes for the tests, and kubectl on it."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

REMOVED: list[str] = []
"""Namespaces of this session that are being removed."""


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
    """A namespace of one's own, removed afterwards with its claims.

    Nobody waits for the removal, as names are never used again; `cluster` does at the session's end.
    """
    name = f"test-{os.urandom(4).hex()}"
    here = Kube(config, name)
    Kube(config).run("create", "namespace", name)
    try:
        yield here
    finally:
        here.run("delete", "deployments,statefulsets,jobs", "--all", "--wait=false", check=False)
        # Without the half minute that they may take to end.
        here.run("delete", "pods", "--all", "--wait=false", "--grace-period=1", check=False)
        here.run("delete", "namespace", name, "--wait=false", check=False)
        REMOVED.append(f"namespace/{name}")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """The KUBECONFIG of the Kubernetes that SIGHTLINE_TEST_KUBECONFIG names; it runs the images of the tests' engine.

    Whatever cluster the person at this machine works with is left alone.
    """
    given = os.environ.get("SIGHTLINE_TEST_KUBECONFIG", "")
    if not given:
        pytest.skip("no Kubernetes for tests: set SIGHTLINE_TEST_KUBECONFIG (docs/development.md)")
    if shutil.which("kubectl") is None:
        pytest.skip("the program kubectl is not installed")
    config = Path(given).resolve()
    command = ["kubectl", f"--kubeconfig={config}", "get", "nodes"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, f"SIGHTLINE_TEST_KUBECONFIG={given} does not answer: {answer.stderr}"
    yield config
    here = Kube(config)
    left = [name for name in here.run("get", "namespaces", "--output=name").stdout.split() if name in REMOVED]
    if left:
        here.run("wait", "--for=delete", *left, "--timeout=120s", check=False)


@pytest.fixture
def kube(cluster: Path) -> Iterator[Kube]:
    """kubectl in an empty namespace of one's own."""
    with new_namespace(cluster) as here:
        yield here
