"""The way to the volume through the helper pod, by kubectl."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from laptop.kubeflow.answers import entries, read_all
from laptop.kubeflow.pod_answers import Pod
from laptop.kubeflow.pod_state import waits_for
from laptop.volume.doors import Door, LostError
from sightline.errors import SightlineError

LABEL = "app.kubernetes.io/name=sightline-helper"
CONTAINER = "helper"
NAMESPACE = "kubeflow"  # where a Kubeflow Pipelines for one user runs its pods
MOUNT = "/shared_volume"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class PodDoor(Door):
    """A claim that the helper pod mounts."""

    volume = MOUNT

    def __init__(self, options: Sequence[str], namespace: str) -> None:
        self.kubectl = ("kubectl", *options, f"--namespace={namespace}")
        self.namespace = namespace
        self.name = f"the volume of namespace {namespace}"

    @classmethod
    def find(cls, kubeconfig: str | None, context: str | None, namespace: str | None) -> "PodDoor":
        """Take the cluster that kubectl would take, or the one that this pod runs in.

        Args:
            kubeconfig: None for $KUBECONFIG or ~/.kube/config.
            context: None for the kubeconfig's current one.
            namespace: None for the context's, or the pod's own.

        Raises:
            SightlineError: there is no kubectl, no kubeconfig, or no such context in it.
        """
        file = [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
        done = _run("kubectl", *file, "config", "view", "--output=json")
        config = json.loads(done.stdout) if done.returncode == 0 else {}
        contexts = {each["name"]: each["context"] for each in config.get("contexts") or ()}
        if contexts:
            name = context or config.get("current-context")
            if name not in contexts:
                names = ", ".join(sorted(contexts))
                what = f"context {name!r}" if name else "current context"
                raise SightlineError(f"The kubeconfig has no {what}. It has: {names}. Name one with --context.")
            return cls([*file, f"--context={name}"], namespace or contexts[name].get("namespace") or NAMESPACE)
        if kubeconfig or done.returncode:
            reason = _last_line(done.stderr) or "it names no context"
            raise SightlineError(f"The kubeconfig cannot be used: {reason}. kubectl config view shows it.")
        if context or not ACCOUNT.is_dir():
            raise SightlineError(
                "There is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config. Name one with --kubeconfig, or the folder "
                "where the volume is mounted here with --volume."
            )
        return cls([], namespace or (ACCOUNT / "namespace").read_text().strip())

    def python(self) -> Sequence[str]:
        """Python in the helper pod. It ends with the connection.

        Raises:
            LostError: the cluster cannot be reached, or the pod is not running just now.
            SightlineError: refused by the cluster, or there is no helper pod.
        """
        return [*self.kubectl, "exec", "--stdin", f"--container={CONTAINER}", self._pod(), "--", "python3"]

    def explain(self, complaint: str) -> None:
        """Raise what kubectl's complaint means, where trying again does not help."""
        reason = _last_line(complaint)
        if "Unauthorized" in reason:
            raise SightlineError(f"The cluster does not accept this login: {reason}. Log in again and repeat.")
        if "forbidden" in reason:
            raise SightlineError(
                f"The cluster does not allow it: {reason}. Sync needs to list pods and to get and create pods/exec in "
                f"{self.namespace}."
            )

    def _pod(self) -> str:
        done = _run(*self.kubectl, "get", "pods", "--request-timeout=60s", f"--selector={LABEL}", "--output=json")
        if done.returncode:
            self.explain(done.stderr)
            raise LostError(f"The cluster cannot be reached: {_last_line(done.stderr)}.")
        found = entries(json.loads(done.stdout), "items")
        pods = read_all(Pod, [each for each in found if not each["metadata"].get("deletionTimestamp")])
        if not pods:
            raise SightlineError(
                f"There is no helper pod (label {LABEL}) in namespace {self.namespace}. Start it with kubectl apply -k "
                "manifests/overlays/… (see docs/cluster.md), or name another namespace with --namespace."
            )
        for pod in pods:
            if any((each.type, each.status) == ("Ready", "True") for each in pod.status.conditions):
                return pod.metadata.name
        raise LostError(
            f"The helper pod {pods[0].metadata.name} is not running: {waits_for(pods[0]) or pods[0].status.phase}. "
            "Sync again when it is."
        )


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SightlineError(
            "There is no kubectl here, by which sync reaches the cluster. Install it, or name the folder where the volume "
            "is mounted here with --volume."
        ) from None


def _last_line(complaint: str) -> str:
    """What kubectl says at last, without its introduction and full stop."""
    last = complaint.strip().rpartition("\n")[2]
    return last.removeprefix("error: ").removeprefix("Error from server (Forbidden): ").rstrip(".")
