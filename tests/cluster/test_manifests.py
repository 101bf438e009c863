"""The manifests on a real Kubernetes: accepted, and doing what they say."""

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import yaml

from sightline.services.database.connection import HEAD
from tests.cluster.conftest import TAG
from tests.cluster.deployed import MANIFESTS, Deployed, database_secret, deployed, overlay_of_ours, require_kustomize
from tests.cluster.kube import Kube, new_namespace
from tests.mariadb import new_database

pytestmark = pytest.mark.slow

SEEDED = "copies/from-image"


@pytest.fixture(autouse=True, scope="module")
def kustomize(cluster: Path) -> None:
    """A kubectl that understands the manifests; the cluster's tool may have to install one first."""
    require_kustomize()


@pytest.fixture(scope="module")
def installation(
    cluster: Path, images: dict[str, str], mariadb_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """The overlay for one node, applied for real."""
    folder = tmp_path_factory.mktemp("overlay")
    with new_database(mariadb_server) as url, deployed(cluster, folder, url) as here:
        yield here


@pytest.mark.parametrize("overlay", ["kind", "gke"])
def test_the_server_accepts_an_overlay_as_it_is(kube: Kube, tmp_path: Path, overlay: str) -> None:
    """But for the namespace, which others may use at the same time."""
    place = str(moved(tmp_path, MANIFESTS / "overlays" / overlay, kube.namespace))
    done = kube.run("apply", "-k", place, "--server-side", "--dry-run=server")
    assert "job.batch/sightline-migrate serverside-applied" in done.stdout
    assert "deprecated" not in done.stderr.lower()


def test_the_server_accepts_the_cron_job_that_retries(kube: Kube, tmp_path: Path) -> None:
    text = kube.run("kustomize", str(moved(tmp_path, MANIFESTS / "retry", kube.namespace))).stdout
    (job,) = yaml.safe_load_all(text)
    served = kube.run("api-resources", "--api-group=batch", "--no-headers").stdout
    if "batch/v1 " not in next(line for line in served.splitlines() if line.startswith("cronjobs")):
        job["apiVersion"] = "batch/v1beta1"  # its form before Kubernetes 1.21, the same
    file = tmp_path / "cron-job.yaml"
    file.write_text(yaml.safe_dump(job))
    kube.run("apply", "-f", str(file))
    held = kube.get("cronjob", "sightline-retry")["spec"]
    (container,) = held["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][2:4] == ["runs", "--retry-lost"]
    assert (held["schedule"], held["concurrencyPolicy"], held["suspend"]) == ("*/5 * * * *", "Forbid", False)
    assert kube.run("diff", "-f", str(file)).stdout == ""


def test_the_administrators_patch_changes_argos_policy_and_nothing_else(kube: Kube, tmp_path: Path) -> None:
    """As the page has it, but for the namespace and the controller, of which there is none."""
    page = (MANIFESTS.parent / "docs" / "cluster.md").read_text()
    pasted = page.partition("    kubectl -n kubeflow get configmap workflow-controller")[2].partition(
        "kubectl -n kubeflow rollout"
    )
    before = "spec:\n  ttlStrategy:\n    secondsAfterCompletion: 3600\n  templateDefaults:\n    retryStrategy:\n      limit: '2'\n"
    data = {"workflowDefaults": f"{before}      retryPolicy: OnError\n", "artifactRepository": "archiveLogs: true\n"}
    kube.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "workflow-controller-configmap"}, "data": data}
    )
    lines = f"kubectl -n {kube.namespace} get configmap workflow-controller{pasted[0]}"
    environment = os.environ | {"KUBECONFIG": str(kube.config)}
    subprocess.run(
        ["bash", "-ec", lines.replace("; kubectl", " || kubectl")], env=environment, cwd=tmp_path, check=True
    )
    after = kube.get("configmap", "workflow-controller-configmap")["data"]
    assert after["artifactRepository"] == data["artifactRepository"]
    strategy = {
        "limit": "2",
        "retryPolicy": "Always",
        "expression": 'lastRetry.status == "Error" || asInt(lastRetry.exitCode) in [137, 143]',
    }
    assert yaml.safe_load(after["workflowDefaults"]) == {
        "spec": {"ttlStrategy": {"secondsAfterCompletion": 3600}, "templateDefaults": {"retryStrategy": strategy}}
    }


@pytest.mark.parametrize("overlay", ["kind", "gke"])
def test_an_overlay_is_applied_and_applied_again(kube: Kube, tmp_path: Path, overlay: str) -> None:
    place = str(overlay_of_ours(tmp_path, kube.namespace, overlay, idle=True))
    kube.run("apply", "-k", place)
    account = kube.get("serviceaccount", "sightline")
    assert ("iam.gke.io/gcp-service-account" in account["metadata"]["annotations"]) == (overlay == "gke")
    claim = kube.get("pvc", "sightline-volume")["spec"]
    assert claim["accessModes"] == ["ReadWriteMany" if overlay == "gke" else "ReadWriteOnce"]
    assert kube.run("get", "statefulset", "sightline-mysql", check=False).returncode == (1 if overlay == "gke" else 0)
    kube.run("apply", "-k", place)
    assert kube.run("diff", "-k", place).stdout == ""


def test_the_claim_is_bound_and_the_jobs_have_done_their_work(installation: Deployed) -> None:
    kube = installation.kube
    assert kube.get("pvc", "sightline-volume")["status"]["phase"] == "Bound"
    assert installation.helper("stat", "-c", "%u:%g", "/shared_volume").strip() == "1001:1001"
    assert installation.helper("readlink", "/shared_volume/code").strip() == SEEDED
    image, live = "/opt/sightline/shared_volume", "/shared_volume/code/"
    assert installation.helper("diff", "-r", image, live) == ""
    engine = sqlalchemy.create_engine(installation.database_url)
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT version_num FROM alembic_version")) == HEAD
    engine.dispose()


def test_the_helper_writes_the_volume_and_tmp_and_nothing_else(installation: Deployed) -> None:
    installation.helper("sh", "-ec", "echo x > /shared_volume/probe; rm /shared_volume/probe; echo x > /tmp/probe")
    installation.helper("sh", "-c", "! touch /opt/probe 2>/dev/null && ! touch /probe 2>/dev/null")
    assert installation.helper("id", "-u").strip() == "1001"
    assert installation.helper("sh", "-c", "grep CapEff /proc/1/status").split()[1].strip("0") == ""
    assert installation.helper("sh", "-c", "ls /var/run/secrets/kubernetes.io 2>/dev/null | wc -l").strip() == "0"


def test_tensorboard_shows_a_training_that_is_on_the_volume(installation: Deployed) -> None:
    kube = installation.kube
    fetch = (
        "import json, sys, urllib.request\n"
        "print(json.dumps(json.load(urllib.request.urlopen('http://127.0.0.1:6006/data/runs', timeout=10))))\n"
    )
    make = (
        "import time; from torch.utils.tensorboard import SummaryWriter\n"
        "writer = SummaryWriter('/shared_volume/tensorboard/plates v0.1.0 mask_rcnn_r18_small 2026-11-25 23.10')\n"
        "writer.add_scalar('train/loss', 1.5, 1); writer.close()\n"
    )
    kube.apply(_pod("training", f"sightline/sightline-train:{TAG}", ["python", "-c", make]))
    assert kube.wait_for_pod("training") == "Succeeded", kube.logs("training")

    def runs() -> str:
        done = kube.run("exec", "deployment/sightline-tensorboard", "--", "python", "-c", fetch, check=False)
        return done.stdout if "plates" in done.stdout else ""

    assert kube.wait(runs, 90, "TensorBoard").strip() == '["plates v0.1.0 mask_rcnn_r18_small 2026-11-25 23.10"]'
    denied = kube.run("exec", "deployment/sightline-tensorboard", "--", "touch", "/shared_volume/probe", check=False)
    assert "Read-only file system" in denied.stderr


@pytest.mark.parametrize(
    ("verb", "what", "allowed"),
    [
        ("list", "pods", "yes"),
        ("get", "pods/log", "yes"),
        ("create", "pods/exec", "yes"),
        ("get", "pods/exec", "yes"),
        ("get", "secrets", "no"),
        ("list", "secrets", "no"),
        ("delete", "pods", "no"),
        ("create", "pods", "no"),
        ("create", "pods/portforward", "yes"),
        ("get", "services", "yes"),
        ("create", "pods/attach", "no"),
        ("get", "configmaps", "no"),
    ],
)
def test_the_service_account_may_do_what_the_commands_need_and_no_more(
    installation: Deployed, verb: str, what: str, allowed: str
) -> None:
    kube = installation.kube
    account = f"system:serviceaccount:{kube.namespace}:sightline"
    resource, _, part = what.partition("/")  # kubectl would take pods/exec for a pod of that name
    question = ("auth", "can-i", verb, resource, f"--subresource={part}", f"--as={account}")
    assert kube.run(*question, check=False).stdout.strip() == allowed


SEEDING = {
    "a claim that root made": ("mkdir old && echo x > old/file", SEEDED, "test -e code/sightline/__init__.py"),
    "killed while it gave away": (
        "mkdir -p old/closed && echo x > old/closed/file && chown -R 1001:1001 old/closed && chmod 700 old/closed",
        SEEDED,
        "test -e code/sightline/__init__.py",
    ),
    "killed while it copied": (
        "mkdir -p copies/.from-image/sightline && chown -R 1001:1001 copies",
        SEEDED,
        "test -e code/sightline/__init__.py && test ! -e copies/.from-image",
    ),
    "killed before the link": (
        "mkdir -p copies/from-image/sightline && touch copies/from-image/sightline/__init__.py && chown -R 1001:1001 copies",
        SEEDED,
        "test ! -e code/sightline/errors.py",  # what was copied whole is taken as it is
    ),
    "code that a sync brought": (
        "mkdir -p copies/mine && echo mine > copies/mine/note && ln -s copies/mine code",
        "copies/mine",
        "grep -q mine code/note && test ! -e copies/from-image",
    ),
    "code in a real folder": ("mkdir code && echo mine > code/note", "", "grep -q mine code/note && test ! -e copies"),
}
"""What is on the claim -> where `code` then leads, and what holds."""


@pytest.mark.parametrize(("before", "leads_to", "holds"), SEEDING.values(), ids=SEEDING)
def test_the_init_job_makes_a_claim_of_roots_writable_and_never_replaces_code(
    kube: Kube, images: dict[str, str], tmp_path: Path, before: str, leads_to: str, holds: str
) -> None:
    init = _objects_of(tmp_path, kube, {"sightline-volume", "sightline-init", "sightline"})
    (job,) = (each for each in init if each["kind"] == "Job")
    kube.apply(*(each for each in init if each["kind"] != "Job"))
    as_root = {"runAsUser": 0, "runAsNonRoot": False}
    kube.apply(_pod("before", images["data"], ["sh", "-ec", f"cd /shared_volume; {before}"], as_root))
    assert kube.wait_for_pod("before") == "Succeeded", kube.logs("before")
    write = "cd /shared_volume; touch probe; for file in $(find . -type f); do echo more >> $file; done; rm probe"
    kube.apply(_pod("too-early", images["data"], ["sh", "-ec", write]))
    assert kube.wait_for_pod("too-early") == "Failed"

    kube.apply(job)
    kube.wait_for_job("sightline-init")

    after = f'cd /shared_volume; test "$(readlink code)" = "{leads_to}"; {holds}; {write}'
    kube.apply(_pod("after", images["data"], ["sh", "-exc", after]))
    assert kube.wait_for_pod("after") == "Succeeded", kube.logs("after")
    # And once more: nothing is left to do.
    kube.run("delete", "job", "sightline-init")
    kube.apply(job)
    kube.wait_for_job("sightline-init")
    assert "code is there already and stays as it is" in kube.logs("job/sightline-init")


def test_secrets_are_made_from_files_and_never_overwritten_by_nothing(cluster: Path, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    shutil.copytree(MANIFESTS / "secrets", folder, ignore=shutil.ignore_patterns("values"))
    with new_namespace(cluster) as kube:
        place = str(moved(tmp_path / "moved", folder, kube.namespace))
        kube.apply(database_secret("mysql://in-use"))
        refused = kube.run("apply", "-k", place, check=False)
        assert refused.returncode == 1
        assert "values/database-url" in refused.stderr
        kube.run("apply", "-k", str(overlay_of_ours(tmp_path / "overlay", kube.namespace, "kind", idle=True)))
        assert _secret(kube, "sightline-database") == {"url": "mysql://in-use"}

        (folder / "values").mkdir()
        (folder / "values" / "database-url").write_text("mysql://new")
        kube.run("apply", "-k", place)
        assert _secret(kube, "sightline-database") == {"url": "mysql://new"}


def moved(folder: Path, resources: Path, namespace: str) -> Path:
    """A kustomization of the same objects in another namespace."""
    folder.mkdir(exist_ok=True)
    # kustomize takes no absolute path, and follows no link on the way.
    content = {"namespace": namespace, "resources": [os.path.relpath(resources, folder.resolve())]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


def _secret(kube: Kube, name: str) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in kube.get("secret", name)["data"].items()}


def _objects_of(folder: Path, kube: Kube, names: set[str]) -> list[dict[str, Any]]:
    """Some objects of the overlay for one node."""
    text = kube.run("kustomize", str(overlay_of_ours(folder, kube.namespace, "kind"))).stdout
    return [each for each in yaml.safe_load_all(text) if each["metadata"]["name"] in names]


def _pod(name: str, image: str, command: list[str], user: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A pod on the claim, as the images' user unless another is named."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": dict(user or {"runAsUser": 1001, "runAsGroup": 1001}),
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "command": command,
                    "volumeMounts": [{"name": "volume", "mountPath": "/shared_volume"}],
                }
            ],
            "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": "sightline-volume"}}],
        },
    }
