"""The manifests as text: safe pods, no secret, and names and labels that agree with each other and with the pipeline."""

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_katib_api.models import V1beta1Experiment

from components.cluster import DATABASE_KEY, OPTIONAL_SETTINGS, SETTINGS, USER, VOLUME, Installation
from components.images import DEFAULT_REGISTRY, DEFAULT_TAG
from laptop.kubeflow.retry import CONFIG, LOOKS
from sightline.tasks.detection.scoring import score

REPOSITORY = Path(__file__).resolve().parents[2]
MANIFESTS = REPOSITORY / "manifests"
FILES = sorted(MANIFESTS.rglob("*.yaml"))
MANUAL = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md"))]
PAGES = [*FILES, *(page for page in MANUAL if "kubectl" in page.read_text())]
"""What tells people names of objects."""
ROOT = "sightline-init/owner"
"""The one container that may be root: it gives the claim to the images' user."""
NOT_OURS = {"mysql": 999, "metrics": 999}
"""Containers of other people's images -> the user they run as."""
DATABASE_CLIENT = "sightline-database-client"
API_VERSIONS = {"v1", "apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1"}
"""On Kubernetes 1.20 as on today's."""

Pod = tuple[str, dict[str, Any], dict[str, Any]]
"""A workload's name, and its pods' metadata and spec."""


def objects() -> Iterator[dict[str, Any]]:
    """Every Kubernetes object in the manifests."""
    for file in FILES:
        for each in yaml.safe_load_all(file.read_text()):
            if each["kind"] not in ("Kustomization", "Component"):
                yield each


def pods() -> list[Pod]:
    found = []
    for each in objects():
        spec = each.get("spec", {})
        if each["kind"] == "Experiment":
            spec = spec["trialTemplate"]["trialSpec"]["spec"]
        if each["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            found.append((each["metadata"]["name"], spec["template"]["metadata"], spec["template"]["spec"]))
    return found


def containers() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Workload/container, the container, and its effective security context."""
    return [
        (f"{name}/{each['name']}", each, spec.get("securityContext", {}) | each["securityContext"])
        for name, _, spec in pods()
        for each in [*spec.get("initContainers", []), *spec["containers"]]
    ]


def one(kind: str, name: str = "") -> dict[str, Any]:
    (found,) = (each for each in objects() if each["kind"] == kind and name in ("", each["metadata"]["name"]))
    return found


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in container.get("env", [])}


def test_the_workloads_are_the_ones_that_are_checked_here():
    assert [name for name, _, _ in pods()] == [
        "sightline-helper",
        "sightline-init",
        "sightline-migrate",
        "sightline-tensorboard",
        "sightline-swin",
        "sightline-mysql",
        "sightline-retry",
    ]


def test_every_object_is_of_a_version_that_old_and_new_clusters_know_and_is_found_by_its_label():
    for each in objects():
        assert each["apiVersion"] in API_VERSIONS | {"kubeflow.org/v1beta1"}, each["metadata"]
        if each["metadata"].get("annotations", {}).keys() != {"iam.gke.io/gcp-service-account"}:
            assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "sightline", each["metadata"]


def test_the_namespace_is_not_ours():
    """It is Kubeflow's: applied by us it would lose Kubeflow's labels, and `kubectl delete -k` would remove it."""
    assert [each for each in objects() if each["kind"] == "Namespace"] == []


@pytest.mark.parametrize(("name", "container", "security"), containers(), ids=[name for name, _, _ in containers()])
def test_a_container_has_the_rights_it_needs_and_no_more(name: str, container: dict, security: dict):
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert "privileged" not in security
    assert security["capabilities"] == ({"drop": ["ALL"], "add": ["CHOWN"]} if name == ROOT else {"drop": ["ALL"]})
    user = 0 if name == ROOT else NOT_OURS.get(container["name"], USER)
    assert (security["runAsUser"], security["runAsGroup"]) == (user, user)
    assert security["runAsNonRoot"] is (name != ROOT)
    assert container["imagePullPolicy"] == "IfNotPresent"
    for kind in ("requests", "limits"):
        assert container["resources"][kind].keys() == {"cpu", "memory"}


@pytest.mark.parametrize(("name", "metadata", "spec"), pods(), ids=[name for name, _, _ in pods()])
def test_a_pod_stays_within_itself(name: str, metadata: dict, spec: dict):
    assert spec["serviceAccountName"] == "sightline"
    assert spec["automountServiceAccountToken"] is False
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        assert key not in spec
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert not [each for each in volumes.values() if "hostPath" in each]
    mounted = {each["name"] for c in spec["containers"] for each in c.get("volumeMounts", [])}
    assert volumes.keys() <= mounted | {"volume"}
    for each in volumes.values():
        if "persistentVolumeClaim" in each:
            assert each["persistentVolumeClaim"]["claimName"] == Installation().claim
        if "secret" in each:
            assert each["secret"]["optional"] is True
            assert each["secret"]["secretName"] in (Installation().git_secret, Installation().storage_secret)


def test_our_images_are_named_as_the_pipeline_names_them_and_their_tag_stands_in_one_place():
    ours = {each["image"] for _, each, _ in containers() if each["name"] not in NOT_OURS}
    assert ours == {f"{DEFAULT_REGISTRY}/sightline-data", f"{DEFAULT_REGISTRY}/sightline-train"}
    component = yaml.safe_load((MANIFESTS / "images" / "kustomization.yaml").read_text())
    assert {(each["name"], each["newName"], each["newTag"]) for each in component["images"]} == {
        (image, image, DEFAULT_TAG) for image in ours
    }
    using = [file.parent.name for file in FILES if file.name == "kustomization.yaml" and "images" in file.read_text()]
    assert {"kind", "gke", "katib"} <= set(using)
    for _, each, _ in containers():
        if each["name"] in NOT_OURS:
            assert each["image"].partition(":")[2] not in ("", "latest")


def test_there_is_no_secret_and_the_files_that_become_one_are_ignored_by_git():
    assert not [each for each in objects() if each["kind"] == "Secret"]
    secrets = MANIFESTS / "secrets"
    (generator,) = yaml.safe_load((secrets / "kustomization.yaml").read_text())["secretGenerator"]
    assert generator == {"name": Installation().database_secret, "files": [f"{DATABASE_KEY}=values/database-url"]}
    # The others stand there as comments, to be switched on, under the names that the pipeline knows.
    offered = re.findall(r"^[# ]*- name: (\S+)$", (secrets / "kustomization.yaml").read_text(), re.MULTILINE)
    assert sorted(offered) == sorted(
        [Installation().database_secret, Installation().git_secret, Installation().storage_secret]
    )
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", str(secrets / "values" / "database-url")], cwd=REPOSITORY, check=False
    )
    assert ignored.returncode in (0, 128)  # 128: not a Git checkout


def test_a_password_comes_from_the_secret_only():
    for name, container, _ in containers():
        for variable, each in environment(container).items():
            if "PASSWORD" in variable or variable == "SIGHTLINE_DATABASE_URL":
                assert each["valueFrom"]["secretKeyRef"]["name"] == Installation().database_secret, name
            if variable == "SIGHTLINE_DATABASE_URL":
                assert each["valueFrom"]["secretKeyRef"]["key"] == DATABASE_KEY


@pytest.mark.parametrize("overlay", ["kind", "gke"])
def test_an_overlays_config_map_holds_what_the_tasks_ask_for(overlay: str):
    config = yaml.safe_load((MANIFESTS / "overlays" / overlay / "config.yaml").read_text())
    assert config["metadata"]["name"] == Installation().config_map
    assert set(SETTINGS) <= config["data"].keys() <= set(SETTINGS) | set(OPTIONAL_SETTINGS)


def test_claims_are_named_as_the_pipeline_mounts_them():
    claims = [each for each in objects() if each["kind"] == "PersistentVolumeClaim"]
    assert {each["metadata"]["name"] for each in claims} == {Installation().claim}
    assert sorted(each["spec"]["accessModes"][0] for each in claims) == ["ReadWriteMany", "ReadWriteOnce"]
    for name, container, _ in containers():
        for mount in container.get("volumeMounts", []):
            if mount["name"] == "volume":
                assert mount["mountPath"] == VOLUME
                assert mount.get("readOnly", False) is (container["name"] == "tensorboard"), name


def test_a_service_leads_to_a_port_of_a_pod():
    for service in (each for each in objects() if each["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        ((_, _, spec),) = (pod for pod in pods() if selector <= pod[1]["labels"].items())
        ports = {port["name"]: port["containerPort"] for c in spec["containers"] for port in c.get("ports", [])}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]


def test_what_is_scraped_listens_and_nothing_else_says_so():
    for name, metadata, spec in pods():
        notes = {
            key: value for key, value in metadata.get("annotations", {}).items() if key.startswith("prometheus.io/")
        }
        ports = {
            str(port["containerPort"])
            for c in spec["containers"]
            for port in c.get("ports", [])
            if port["name"] == "metrics"
        }
        assert notes == (
            {"prometheus.io/scrape": "true", "prometheus.io/port": ports.pop(), "prometheus.io/path": "/metrics"}
            if ports
            else {}
        ), name


def test_who_uses_the_database_is_let_in_and_nobody_else():
    policy = one("NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    clients, metrics = policy["spec"]["ingress"]
    allowed = [each["podSelector"]["matchLabels"] for each in clients["from"]]
    assert allowed == [{"pipelines.kubeflow.org/v2_component": "true"}, {DATABASE_CLIENT: "true"}]
    ((_, _, mysql),) = (
        p for p in pods() if policy["spec"]["podSelector"]["matchLabels"].items() <= p[1]["labels"].items()
    )
    ports = {port["name"]: port["containerPort"] for c in mysql["containers"] for port in c["ports"]}
    assert [each["port"] for each in clients["ports"]] == [ports["mysql"]]
    assert [each["port"] for each in metrics["ports"]] == [ports["metrics"]]
    for name, metadata, spec in pods():
        uses = any("SIGHTLINE_DATABASE_URL" in environment(each) for each in spec["containers"])
        assert (metadata["labels"].get(DATABASE_CLIENT) == "true") is uses, name


def test_the_role_is_what_sync_logs_submit_and_connect_need():
    rules: dict[str, set[str]] = {}
    named: dict[str, list[str]] = {}
    for rule in one("Role")["rules"]:
        for resource in rule["resources"]:
            rules.setdefault(resource, set()).update(rule["verbs"])
            if "resourceNames" in rule:
                named.setdefault(resource, []).extend(rule["resourceNames"])
    read, both = {"get"}, {"get", "create"}
    assert rules == {
        **{"pods": {"get", "list"}, "pods/log": read, "pods/exec": both, "pods/portforward": both},
        **{"services": read, "configmaps": read, "secrets": read, "cronjobs": read},
    }
    assert named == {
        "configmaps": [CONFIG, "sightline-config"],
        "secrets": ["sightline-database"],
        "cronjobs": [LOOKS],
    }
    assert one("CronJob")["metadata"]["name"] == LOOKS


def test_katibs_own_models_know_every_field_of_the_experiment():
    written = one("Experiment")
    read = V1beta1Experiment.from_dict(written)
    assert read is not None
    assert read.to_dict() == written


def test_a_field_that_katib_does_not_know_would_be_seen():
    written = one("Experiment")
    written["spec"]["maxTrialsCount"] = 3
    assert V1beta1Experiment.from_dict(written).to_dict() != written  # type: ignore[union-attr]


def test_the_trial_uses_every_parameter_of_the_search_and_sets_keys_that_the_config_has():
    from sightline.models.config import load_config

    spec = one("Experiment")["spec"]
    template = spec["trialTemplate"]
    named = {each["name"]: each["reference"] for each in template["trialParameters"]}
    assert set(named.values()) == {each["name"] for each in spec["parameters"]} | {"${trialSpec.Name}"}
    (container,) = template["trialSpec"]["spec"]["template"]["spec"]["containers"]
    assert container["name"] == template["primaryContainerName"]
    words = container["command"]
    assert not [word for word in words if set(word) & set(" \"'`()&|;<>*?")], "Katib hands them to a shell unquoted"
    bounds = {each["name"]: each["feasibleSpace"] for each in spec["parameters"]}
    for end in ("min", "max"):
        overrides = {}
        for word in (each for each in words if each.startswith("--set=")):
            key, _, value = word.removeprefix("--set=").partition("=")
            drawn = float(bounds[named[value.removeprefix("${trialParameters.").removesuffix("}")]][end])
            overrides[key] = drawn
        config = load_config(REPOSITORY / "shared_volume" / "configs" / "mask_rcnn_swin_small.py", overrides, ("a",))
        assert config.model.backbone.window_size == overrides["model.backbone.window_size"]
        assert config.optim_wrapper.optimizer.lr == overrides["optim_wrapper.optimizer.lr"]


def test_the_objective_is_a_metric_that_a_validation_gives():
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    assert one("Experiment")["spec"]["objective"]["objectiveMetricName"] in score(truth, []).values


def strings(value: Any) -> Iterator[str]:
    """Every text in a manifest, the keys included."""
    if isinstance(value, dict):
        yield from strings([*value, *value.values()])
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_name_of_ours_in_a_page_or_in_a_comment_is_that_of_something(page: Path):
    """As the Service that is the database's host, the Jobs to wait for, the Secrets to make."""
    ours = re.compile(r"(?<![\w.-])sightline-[a-z-]*[a-z]\b")
    held = "\n".join(text for file in FILES for each in yaml.safe_load_all(file.read_text()) for text in strings(each))
    known = {*ours.findall(held), *map(str, dataclasses.astuple(Installation()))}
    assert set(ours.findall(page.read_text())) <= known
