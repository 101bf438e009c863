"""The manifests of one node, applied to the test cluster in a namespace of their own."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import TAG, TARGETS
from tests.cluster.kube import Kube, new_namespace
from tests.workspace import REPOSITORY

MANIFESTS = REPOSITORY / "manifests"
HELPER = "deployment/sightline-helper"
OLDEST_KUBECTL = 21
"""Minor version; the first with kustomize 4, which knows components."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """An installation on the cluster."""

    kube: Kube
    database_url: str

    def helper(self, *command: str, check: bool = True) -> str:
        """What a command prints in the helper's pod."""
        return self.kube.run("exec", HELPER, "--", *command, check=check).stdout

    def helper_pod(self) -> str:
        """The name of the helper's pod, once it runs."""

        def running() -> str:
            pods = self.kube.pods("app.kubernetes.io/name=sightline-helper")
            return next((pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"), "")

        return self.kube.wait(running, 120, "the helper's pod")


def require_kustomize() -> None:
    """Skip where kubectl's kustomize is older than the manifests' syntax, as Debian's kubectl 1.20 is."""
    told = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, check=True).stdout
    version = json.loads(told)["clientVersion"]
    if int(re.sub(r"\D.*", "", version["minor"])) < OLDEST_KUBECTL:
        pytest.skip(
            f"kubectl {version['gitVersion']} cannot read the manifests: 1.{OLDEST_KUBECTL} is the oldest that can"
        )


def overlay_of_ours(
    folder: Path, namespace: str, overlay: str, config: Mapping[str, str] | None = None, idle: bool = False
) -> Path:
    """A kustomization on top of an overlay: our images, this namespace, and the machine's network for what needs a database.

    The tests' services listen on the machine itself, which has no service DNS; MySQL's image is in no reach, so its pod is
    left out.

    Args:
        folder: where the kustomization is written.
        namespace: where it is applied.
        overlay: kind or gke.
        config: keys of the ConfigMap that are added or replaced.
        idle: everything is there, MySQL too, but no pod is started.
    """
    require_kustomize()
    patches = _asleep(overlay) if idle else _at_work(overlay)
    if config is not None:
        data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sightline-config"}, "data": dict(config)}
        patches.append({"patch": yaml.safe_dump(data)})
    folder.mkdir(parents=True, exist_ok=True)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        # kustomize takes no absolute path, and follows no link on the way.
        "resources": [os.path.relpath(MANIFESTS / "overlays" / overlay, folder.resolve())],
        "images": [{"name": f"sightline/sightline-{target}", "newTag": TAG} for target in TARGETS],
        "patches": patches,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder


def _at_work(overlay: str) -> list[dict[str, Any]]:
    no_mysql = {
        "$patch": "delete",
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "sightline-mysql"},
    }
    return [
        _patch("Job", "/spec/template/spec/hostNetwork", True),
        _patch("Deployment", "/spec/template/spec/hostNetwork", True, "sightline-helper"),
        *([{"patch": yaml.safe_dump(no_mysql)}] if overlay == "kind" else []),
    ]


def _asleep(overlay: str) -> list[dict[str, Any]]:
    kinds = ("Deployment", "StatefulSet") if overlay == "kind" else ("Deployment",)
    return [_patch("Job", "/spec/parallelism", 0), *(_patch(kind, "/spec/replicas", 0) for kind in kinds)]


def _patch(kind: str, path: str, value: Any, name: str = "") -> dict[str, Any]:
    target = {"kind": kind, **({"name": name} if name else {})}
    return {"target": target, "patch": json.dumps([{"op": "add", "path": path, "value": value}])}


def database_secret(url: str) -> dict[str, Any]:
    """The Secret that a user makes by hand."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "sightline-database"},
        "stringData": {"url": url},
    }


@contextmanager
def deployed(
    cluster: Path, folder: Path, database_url: str, config: Mapping[str, str] | None = None, ready: bool = True
) -> Iterator[Deployed]:
    """The overlay for one node in a new namespace, ready to work: jobs completed, helper running.

    Args:
        cluster: the KUBECONFIG.
        folder: for the test's kustomization.
        database_url: goes into the Secret.
        config: keys of the ConfigMap that are added to or replaced in the overlay's.
        ready: whether to wait.
    """
    with new_namespace(cluster) as kube:
        kube.apply(database_secret(database_url))
        kube.run("apply", "-k", str(overlay_of_ours(folder, kube.namespace, "kind", config)))
        installation = Deployed(kube, database_url)
        if ready:
            kube.wait_for_job("sightline-init")
            kube.wait_for_job("sightline-migrate")
            installation.helper_pod()
        yield installation
