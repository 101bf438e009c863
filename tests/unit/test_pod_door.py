"""Which cluster and namespace `sync` takes, in kubectl's order; what it says to a cluster is tried on a real one."""

from pathlib import Path

import pytest
import yaml
from kubernetes.config import incluster_config, kube_config

from laptop.volume import cluster
from laptop.volume.doors import PodDoor
from sightline.errors import SightlineError


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
def own_account(tmp_path, monkeypatch):
    """The account that Kubernetes mounts into a pod, and no kubeconfig at the usual place."""
    account = tmp_path / "account"
    account.mkdir()
    (account / "namespace").write_text("team\n")
    (account / "token").write_text("pods-own")
    (account / "ca.crt").write_text("a certificate")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(account / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(account / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(cluster, "ACCOUNT", account)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "usual"))


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
    door = PodDoor(file, context, namespace)
    assert (door.cluster.client.configuration.host, door.cluster.namespace) == expected


@pytest.mark.parametrize(("namespace", "expected"), [(None, "team"), ("other", "other")])
def test_a_pod_without_kubeconfig_takes_its_own_cluster_account_and_namespace(namespace, expected):
    door = PodDoor(None, None, namespace)
    configuration = door.cluster.client.configuration
    assert (configuration.host, door.cluster.namespace) == ("https://10.0.0.1:443", expected)
    assert configuration.api_key["authorization"] == "bearer pods-own"


def test_a_kubeconfig_at_the_usual_place_comes_before_the_pods_own_account(tmp_path):
    kubeconfig(tmp_path / "usual", home="")
    assert PodDoor(None, None, None).cluster.client.configuration.host == "https://home.test"


def test_without_any_access_the_error_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ACCOUNT", tmp_path / "none")
    with pytest.raises(SightlineError, match=r"neither \$KUBECONFIG nor ~/\.kube/config.*--volume"):
        PodDoor(None, None, None)
