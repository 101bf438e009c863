"""What an installation keeps inside its cluster, and the ways there: ports of its services, Git in the helper's pod."""

import base64
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from laptop.forwards.relay import HOST, Way, Wire
from laptop.volume.cluster import ANSWER_SECONDS, CONNECT_SECONDS, Cluster
from laptop.volume.doors import start_in_helper
from sightline.errors import SightlineError

SECRET, SECRET_KEY, CONFIG_MAP = "sightline-database", "url", "sightline-config"
PAGES = "ml-pipeline-ui"  # Kubeflow Pipelines' service of its pages; it hands the API on
DATABASE_URL, REPOSITORY, STORAGE = "SIGHTLINE_DATABASE_URL", "SIGHTLINE_DATASET_REPO", "SIGHTLINE_STORAGE"
OF_A_POD = ("SIGHTLINE_VOLUME", "SIGHTLINE_RUN")  # settings that mean nothing on a laptop
DEFAULT_PORTS = {"mysql": 3306, "mariadb": 3306, "postgresql": 5432}
GIT_SECONDS = "60"  # a Git that asks for nothing is given up


def settings_of(cluster: Cluster) -> dict[str, str]:
    """What the installation's pods are told, as far as it means something on a laptop."""
    told = _ask(cluster, cluster.api.read_namespaced_config_map, CONFIG_MAP)
    if told is None:
        raise SightlineError(
            f"There is no ConfigMap {CONFIG_MAP} in namespace {cluster.namespace}, so Sightline is not installed there. "
            "Choose another namespace with --namespace, or install it: docs/cluster.md."
        )
    secret = _ask(cluster, cluster.api.read_namespaced_secret, SECRET)
    if secret is None or SECRET_KEY not in (secret.data or {}):
        raise SightlineError(
            f"There is no Secret {SECRET} with the key {SECRET_KEY} in namespace {cluster.namespace}. "
            "docs/cluster.md, part 2, says how to make it."
        )
    kept = {
        name: str(value)
        for name, value in sorted((told.data or {}).items())
        if (name.startswith("SIGHTLINE_") and name not in OF_A_POD) or name == "GOOGLE_CLOUD_PROJECT"
    }
    return {**kept, DATABASE_URL: base64.b64decode(secret.data[SECRET_KEY]).decode().strip()}


def ways_into(cluster: Cluster, settings: Mapping[str, str], at: int) -> list[Way]:
    """The ways to what the settings name inside the cluster, from the port `at` of this machine on."""
    ways = []
    written = settings[DATABASE_URL]
    login = login_in(written)
    address = urlsplit(written.replace(login, "", 1))
    port = address.port or DEFAULT_PORTS.get(address.scheme.partition("+")[0], 0)
    if address.hostname and port and (service := _service(cluster, address.hostname)):
        setting = {DATABASE_URL: address._replace(netloc=f"{login}{HOST}:{at}").geturl()}
        ways.append(_way_to(cluster, "database", service, port, at, setting))
        at += 1
    if path := path_on_volume(settings.get(REPOSITORY, "")):
        push = not path_on_volume(settings.get(STORAGE, ""))
        where = f"{path} in the helper's pod{'' if push else ', to read'}"
        setting = {REPOSITORY: f"git://{HOST}:{at}/{PurePosixPath(path).name}"}
        ways.append(Way("dataset repository", where, at, partial(_open_git, cluster, path, push), setting))
        at += 1
    if service := _service(cluster, PAGES):
        setting = {"KF_PIPELINES_ENDPOINT": f"http://{HOST}:{at}"}
        ways.append(_way_to(cluster, "Kubeflow Pipelines", service, service.spec.ports[0].port, at, setting))
    return ways


def login_in(url: str) -> str:
    """`user:password@` of a URL as it is written: like SQLAlchemy's, a password may hold any character but @."""
    found = re.match(r"[\w+.-]+://([^:/?#@]*(?::[^@]*)?@)", url)
    return found[1] if found else ""


def path_on_volume(location: str) -> str:
    """The path of storage or repository where it is one of the pods' own; empty where it is an address."""
    if location.startswith("file://"):
        return urlsplit(location).path
    return location if location.startswith("/") else ""


def _way_to(cluster: Cluster, name: str, service: Any, port: int, at: int, settings: Mapping[str, str]) -> Way:
    found = next((each for each in service.spec.ports if each.port == port), service.spec.ports[0])
    where = f"{service.metadata.name}:{port} in {cluster.namespace}"
    return Way(name, where, at, partial(_open_port, cluster, service, found, name), settings)


def _service(cluster: Cluster, host: str) -> Any:
    """The service of the namespace that a pod reaches by this host name; None for a machine elsewhere."""
    name, _, rest = host.partition(".")
    if rest and rest.split(".")[0] != cluster.namespace:
        return None
    return _ask(cluster, cluster.api.read_namespaced_service, name)


def _ask(cluster: Cluster, method: Callable[..., Any], name: str) -> Any:
    """An object; None where there is none."""
    from kubernetes.client import ApiException

    with cluster.explained(_needs(cluster)):
        try:
            return method(name, cluster.namespace, _request_timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
        except ApiException as error:
            if error.status == 404:
                return None
            raise


def _needs(cluster: Cluster) -> str:
    return (
        f"`connect` needs the Role sightline in {cluster.namespace}; who administers it may type: kubectl -n "
        f"{cluster.namespace} create rolebinding sightline-NAME --role=sightline --user=NAME."
    )


def _open_port(cluster: Cluster, service: Any, port: Any, name: str) -> Wire:
    selector = ",".join(f"{key}={value}" for key, value in sorted((service.spec.selector or {}).items()))
    with cluster.explained(_needs(cluster)):
        pod = cluster.running_pod(selector, f"pod of the {name}", "Look there: kubectl get pods.")
        connection = cluster.connection(
            "connect_get_namespaced_pod_portforward", pod.metadata.name, ports=_number(pod, port)
        )
    return Wire(connection, incoming=0, numbered=True)


def _number(pod: Any, port: Any) -> int:
    """The pod's port that a service's port leads to, which may be given by its name in the pod."""
    target = port.target_port or port.port
    named = {each.name: each.container_port for container in pod.spec.containers for each in container.ports or ()}
    return int(named.get(target, port.port if not str(target).isdecimal() else target))


def _open_git(cluster: Cluster, path: str, push: bool) -> Wire:
    """Git's own server for one connection, which ends with it: nothing listens in the pod."""
    command = [
        *("git", "daemon", "--inetd", "--export-all", "--informative-errors", f"--timeout={GIT_SECONDS}"),
        *(f"--base-path={PurePosixPath(path).parent}", "--log-destination=none"),
        *(["--enable=receive-pack"] if push else []),
        path,
    ]
    with cluster.explained(_needs(cluster)):
        return start_in_helper(cluster, command)
