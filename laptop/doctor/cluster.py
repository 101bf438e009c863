"""What doctor looks at in a cluster: Kubeflow, settings, secrets, claim, nodes, helper pod, and images by a pod that goes again."""

import argparse
import contextlib
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from components.cluster import installation
from laptop.doctor.lines import Check, Line, as_told, look
from laptop.doctor.probe import MAY, REQUEST, look_into_images
from laptop.kubeflow.access import names_server
from laptop.volume.cluster import ANSWER_SECONDS, Cluster
from laptop.volume.doors import HOW_TO_START, LABEL
from sightline.errors import SightlineError

WANTED = ("SIGHTLINE_STORAGE", "SIGHTLINE_DATASET_REPO")
INSTALL = "docs/cluster.md, part 2: kubectl apply -k manifests/overlays/…"
PIPELINE = "/opt/sightline/pipeline.py"


def checks(options: argparse.Namespace) -> dict[str, Check]:
    """What can be looked at: Kubeflow Pipelines where a server is named, and with --cluster all of a namespace."""
    if not options.cluster:
        return {"kubeflow": lambda: check_kubeflow(options)}
    if names_server(options):
        return {"kubeflow": lambda: check_kubeflow(options), "cluster": lambda: check_cluster(options)}
    return {"cluster": lambda: check_cluster(options, {"kubeflow": lambda: check_kubeflow(options)})}


def check_cluster(options: argparse.Namespace, also: Mapping[str, Check] = MappingProxyType({})) -> list[Line]:
    """All of a namespace, and what `also` is reached through its cluster; of a cluster out of reach one reason."""
    each: dict[str, Callable[[Cluster], Line | list[Line]]] = {
        "ConfigMap": check_settings,
        "Secrets": check_secrets,
        "claim": check_claim,
        "nodes": check_nodes,
        "helper pod": check_helper,
        "images": check_images,
    }
    try:
        cluster = Cluster.find(options.kubeconfig, options.context, options.namespace)
        _require_answer(cluster)
    except SightlineError as error:
        names = ", ".join([*also, *each])
        unchecked = Line(
            "the rest",
            "skip",
            f"not checked, as the cluster cannot be used: {names}",
            "first the line above, then repeat",
        )
        return [as_told("cluster", str(error)), unchecked]
    return look({**also, **{name: _explained(cluster, check) for name, check in each.items()}})


def _require_answer(cluster: Cluster) -> None:
    """Raise a SightlineError where the cluster is out of reach, or knows no such login; what it forbids is each check's own matter."""
    from kubernetes.client import ApiException

    with cluster.explained(""):
        try:
            _there(cluster.api.read_namespaced_config_map, installation().config_map, cluster)
        except ApiException as error:
            if error.status == 401:
                raise


def _explained(cluster: Cluster, check: Callable[[Cluster], Line | list[Line]]) -> Check:
    def explained() -> Line | list[Line]:
        with cluster.explained(f"docs/cluster.md says which rights an installation in {cluster.namespace} needs."):
            return check(cluster)

    return explained


def check_kubeflow(options: argparse.Namespace) -> Line:
    """The server's version, and whether it lets us in."""
    from laptop.kubeflow.access import access_of
    from laptop.kubeflow.connect import connect

    server = connect(access_of(options))
    tag = server.ask("healthzs.healthz_service_get_healthz").get("tag_name") or "of an unknown version"
    space = f", your namespace is {server.namespace}" if server.namespace else ""
    return Line("kubeflow", "ok", f"Kubeflow Pipelines {tag} at {server.host}{space}")


def check_settings(cluster: Cluster) -> Line:
    """What every pod is told."""
    name = installation().config_map
    found = _there(cluster.api.read_namespaced_config_map, name, cluster)
    if found is None:
        return Line("ConfigMap", "fail", f"there is no {name} in namespace {cluster.namespace}", INSTALL)
    data = found.data or {}
    if missing := [each for each in WANTED if not data.get(each)]:
        return Line(
            "ConfigMap",
            "fail",
            f"{name} has no {' and no '.join(missing)}",
            "manifests/overlays/…/config.yaml, then kubectl apply -k",
        )
    return Line("ConfigMap", "ok", f"{name}: {', '.join(f'{each} {data[each]}' for each in WANTED)}")


def check_secrets(cluster: Cluster) -> list[Line]:
    """The database's URL, and the secrets that an installation may do without."""
    names = installation()
    optional = {
        names.git_secret: "the dataset repository's login",
        names.storage_secret: "a service account's key for the storage",
    }
    needed = _there(cluster.api.read_namespaced_secret, names.database_secret, cluster)
    if needed is None or "url" not in (needed.data or {}):
        what = "there is no Secret" if needed is None else "there is no key url in the Secret"
        lines = [
            Line(
                "Secrets",
                "fail",
                f"{what} {names.database_secret} in namespace {cluster.namespace}",
                "docs/cluster.md, part 2, says how to make it",
            )
        ]
    else:
        lines = [Line("Secrets", "ok", f"{names.database_secret} has the database's URL")]
    lacking = [
        f"{name} ({what})"
        for name, what in optional.items()
        if not _there(cluster.api.read_namespaced_secret, name, cluster)
    ]
    if lacking:
        lines.append(Line("Secrets", "note", f"not there: {', '.join(lacking)}", "nothing, where none is needed"))
    return lines


def check_claim(cluster: Cluster) -> Line:
    """Whether the volume is bound, and how many nodes may write it."""
    name = installation().claim
    claim = _there(cluster.api.read_namespaced_persistent_volume_claim, name, cluster)
    if claim is None:
        return Line("claim", "fail", f"there is no claim {name} in namespace {cluster.namespace}", INSTALL)
    phase, modes = claim.status.phase, claim.status.access_modes or claim.spec.access_modes or []
    if phase != "Bound":
        return Line(
            "claim",
            "fail",
            f"{name} is {phase}",
            f"kubectl -n {cluster.namespace} describe pvc {name}: no storage class may fit, or no pod has asked for it yet",
        )
    size = (claim.status.capacity or {}).get("storage", "")
    one = (
        ""
        if "ReadWriteMany" in modes
        else "; the pods of a run have to share a node, since one node alone may write it"
    )
    return Line("claim", "ok", f"{name} is bound, {size}, {' and '.join(modes)}{one}")


def check_nodes(cluster: Cluster) -> Line:
    """The GPUs that pods can ask for."""
    from kubernetes.client import ApiException

    try:
        nodes = cluster.api.list_node(_request_timeout=REQUEST).items
    except ApiException as error:
        if error.status != 403:
            raise
        return Line("nodes", "skip", "this account may not list nodes, so nothing is known of GPUs", MAY)
    gpus = sum(int((node.status.allocatable or {}).get("nvidia.com/gpu", 0)) for node in nodes)
    return Line("nodes", "ok", f"{len(nodes)}, with {gpus or 'no'} GPU{'' if gpus == 1 else 's'} that pods can ask for")


def check_helper(cluster: Cluster) -> list[Line]:
    """What a doctor in the helper's pod says: it has a step's settings, secrets and volume."""
    from kubernetes.stream import stream

    pod = cluster.running_pod(LABEL, "helper pod", HOW_TO_START).metadata.name
    # `stream` changes the client that it is given.
    own = Cluster(type(cluster.client)(cluster.client.configuration), cluster.namespace)
    command = ["env", "SIGHTLINE_TIMEOUT=10", "python", PIPELINE, "doctor", "--json"]
    said = stream(
        own.api.connect_get_namespaced_pod_exec, pod, own.namespace, container="helper", command=command,
        stdin=False, stdout=True, stderr=True, tty=False, _request_timeout=ANSWER_SECONDS, _preload_content=False,
    )  # fmt: skip
    said.run_forever(timeout=ANSWER_SECONDS)
    text, complaint = said.read_stdout(timeout=0) or "", said.read_stderr(timeout=0) or ""
    with contextlib.suppress(ValueError):
        entries = [
            entry
            for entry in json.loads(text.strip().splitlines()[-1] if text.strip() else "[]")
            if isinstance(entry, dict)
        ]
        if entries:
            lines = [Line.read(entry) for entry in entries]
            return [Line(f"pod: {line.name}", line.state, line.found, line.do) for line in lines]
    last = (complaint.strip() or text.strip() or "nothing was said").splitlines()[-1][:300]
    return [
        Line(
            "helper pod",
            "fail",
            f"{pod} runs, and its doctor did not answer: {last}",
            "an older image has none: make images push, then kubectl apply -k",
        )
    ]


def check_images(cluster: Cluster) -> list[Line]:
    """Pull both images into a pod of a step's kind, where there is a volume for it."""
    if _there(cluster.api.read_namespaced_persistent_volume_claim, installation().claim, cluster) is None:
        return [Line("images", "skip", "without its claim no pod runs", "make the claim first")]
    return look_into_images(cluster)


def _there(method: Callable[..., Any], name: str, cluster: Cluster) -> Any:
    """An object of the namespace; None where there is none."""
    from kubernetes.client import ApiException

    try:
        return method(name, cluster.namespace, _request_timeout=REQUEST)
    except ApiException as error:
        if error.status == 404:
            return None
        raise
