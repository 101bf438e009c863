"""Which cluster and namespace `sync` takes, in kubectl's order; what it says to a cluster is tried on a real one."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from laptop.volume import pod
from laptop.volume.pod import PodDoor
from sightline.errors import SightlineError

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def kubeconfig(file: Path, **namespaces: str) -> str:
    """A kubeconfig with a cluster and a context for each name; the first is the current one."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.test"}} for name in namespaces],
        "users": [{"name": "ann", "user": {"token": "secret"}}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": "ann", **({"namespace": space} if space else {})}}
            for name, space in namespaces.items()
        ],
        "current-context": next(iter(namespaces)),
    }
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.fixture(autouse=True)
def account(tmp_path, monkeypatch) -> Path:
    """The account that Kubernetes mounts into a pod, and no kubeconfig at the usual place."""
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "namespace").write_text("team\n")
    monkeypatch.setattr(pod, "ACCOUNT", folder)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


def server(door: PodDoor) -> str:
    """The address that kubectl talks to when it is called as this door calls it."""
    command = [*door.kubectl, "config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_kubectl
@pytest.mark.parametrize(
    ("namespaces", "context", "namespace", "expected"),
    [
        pytest.param({"one": "", "two": ""}, None, None, ("https://one.test", "kubeflow"), id="the current context"),
        pytest.param({"one": "mine"}, None, None, ("https://one.test", "mine"), id="the context's namespace"),
        pytest.param({"one": "mine"}, None, "x", ("https://one.test", "x"), id="the option before the context's"),
        pytest.param({"one": "", "two": "b"}, "two", None, ("https://two.test", "b"), id="another context"),
    ],
)
def test_which_cluster_and_namespace_a_kubeconfig_leads_to(tmp_path, namespaces, context, namespace, expected):
    file = kubeconfig(tmp_path / "given", **namespaces)
    door = PodDoor.find(file, context, namespace)
    assert (server(door), door.namespace) == expected


@needs_kubectl
@pytest.mark.parametrize(("namespace", "expected"), [(None, "team"), ("other", "other")])
def test_a_pod_without_kubeconfig_takes_its_own_cluster_account_and_namespace(namespace, expected):
    """Cluster and account are kubectl's own choice when it is told of none."""
    door = PodDoor.find(None, None, namespace)
    assert door.kubectl == ("kubectl", f"--namespace={expected}")


@needs_kubectl
def test_a_kubeconfig_at_the_usual_place_comes_before_the_pods_own_account(tmp_path):
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config", home="")
    assert server(PodDoor.find(None, None, None)) == "https://home.test"


@needs_kubectl
def test_without_any_access_the_error_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(pod, "ACCOUNT", tmp_path / "none")
    with pytest.raises(SightlineError, match=r"neither \$KUBECONFIG nor ~/\.kube/config.*--volume"):
        PodDoor.find(None, None, None)


@needs_kubectl
def test_a_kubeconfig_without_a_current_context_is_told_with_the_contexts_it_has(tmp_path):
    file = tmp_path / "given"
    kubeconfig(file, one="", two="")
    file.write_text(file.read_text().replace("current-context: one", "current-context: ''"))
    with pytest.raises(SightlineError, match=r"no current context\. It has: one, two\. Name one with --context"):
        PodDoor.find(str(file), None, None)


def test_without_kubectl_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SightlineError, match=r"no kubectl here.*Install it.*--volume"):
        PodDoor.find(None, None, None)
