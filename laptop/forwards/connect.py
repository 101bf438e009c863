"""`pipeline.py connect`: what an installation keeps inside its cluster, on ports of this machine.

That is its database, its dataset repository and Kubeflow Pipelines. The settings that lead there are shell text: in a
file with the passwords, on the screen without.
"""

import argparse
import base64
import contextlib
import re
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from laptop.forwards.relay import HOST, Relay, Way, Wire
from laptop.volume.cluster import ANSWER_SECONDS, CONNECT_SECONDS, Cluster
from laptop.volume.doors import start_in_helper
from laptop.workspace import CONNECTED
from sightline.errors import SightlineError
from sightline.services.storage.base import replacing

FIRST_LINE = "# Written by `pipeline.py connect`, with passwords. It leads to the cluster while that runs."
SECRET, SECRET_KEY, CONFIG_MAP = "sightline-database", "url", "sightline-config"
PAGES = "ml-pipeline-ui"  # Kubeflow Pipelines' service of its pages; it hands the API on
DATABASE_URL, REPOSITORY, STORAGE = "SIGHTLINE_DATABASE_URL", "SIGHTLINE_DATASET_REPO", "SIGHTLINE_STORAGE"
OF_A_POD = ("SIGHTLINE_VOLUME", "SIGHTLINE_RUN")  # settings that mean nothing on a laptop
DEFAULT_PORTS = {"mysql": 3306, "mariadb": 3306, "postgresql": 5432}
GIT_SECONDS = "60"  # a Git that asks for nothing is given up


def connect(options: argparse.Namespace) -> int:
    """Open the ways, say how to use them, and keep them open until Ctrl-C. Returns the exit status."""
    file = None if options.show and not options.write else (options.write or options.workspace / "cluster.env")
    if file:
        _require_ours(file)
    cluster = Cluster.find(options.kubeconfig, options.context, options.namespace)
    settings = _settings_of(cluster)
    with _open(cluster, settings, options.first_port) as relays:
        if _path_on_volume(settings.get(STORAGE, "")):
            settings[CONNECTED] = cluster.namespace
        if file:
            _write_settings(file, settings)
        # A shell's `kill` ends it as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            for relay in relays:
                relay.start()
            print("\n".join(_told(cluster, settings, file, options.show)), flush=True)
            signal.pause()
    print("closed", flush=True)
    return 0


@contextlib.contextmanager
def _open(cluster: Cluster, settings: dict[str, str], first_port: int) -> Iterator[list[Relay]]:
    """Take a port for each way and try it; the settings lead there afterwards."""
    with contextlib.ExitStack() as opened:
        relays = []
        for way in _ways_into(cluster, settings, first_port):
            relay = Relay(way)
            opened.callback(relay.close)
            try:
                way.open().connection.close(timeout=1)
            except SightlineError as error:
                raise SightlineError(f"The {way.name} cannot be reached through the cluster: {error}") from None
            settings.update(way.settings)
            print(f"{way.name:<18}  {HOST}:{way.port} -> {way.where}", flush=True)
            relays.append(relay)
        if not relays:
            raise SightlineError(
                f"Nothing of the installation in namespace {cluster.namespace} lies inside the cluster: use its settings as "
                f"they stand: kubectl -n {cluster.namespace} get configmap sightline-config -o yaml."
            )
        yield relays


def _told(cluster: Cluster, settings: Mapping[str, str], file: Path | None, show: bool) -> Iterator[str]:
    if CONNECTED in settings:
        yield (
            f"{'storage':<18}  {settings[STORAGE]} is on the volume, which laptops cannot reach: what reads or writes it (publish, "
            "diff, verify, export) works in the helper's pod: "
            f"kubectl -n {cluster.namespace} exec deployment/sightline-helper -- python /opt/sightline/pipeline.py …"
        )
    yield f"\n{_as_exports(settings, hide=not show)}\n"
    if file:
        yield f"With the passwords, in another terminal: source {shlex.quote(str(file))}"
    yield "Open until Ctrl-C."


def _as_exports(settings: Mapping[str, str], hide: bool) -> str:
    """Lines for a shell, the passwords in URLs left out where they are to be hidden."""
    shown = {name: _without_password(value) if hide else value for name, value in settings.items()}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(shown.items()))


def _login_in(url: str) -> str:
    """`user:password@` of a URL as it is written: like SQLAlchemy's, a password may hold any character but @."""
    found = re.match(r"[\w+.-]+://([^:/?#@]*(?::[^@]*)?@)", url)
    return found[1] if found else ""


def _without_password(text: str) -> str:
    """A URL without the password in it; any other text as it is."""
    login = _login_in(text)
    user, sign, _ = login.partition(":")
    return text.replace(login, f"{user}:***@", 1) if sign else text


def _require_ours(file: Path) -> None:
    """Refuse to replace a file that holds something else."""
    try:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise SightlineError(f"{file} is not an ordinary file. Choose another with --write.")
        if file.exists() and not file.read_text(errors="replace").startswith(FIRST_LINE):
            raise SightlineError(
                f"{file} was not written by connect, and stays as it is. Choose another file with --write."
            )
    except OSError as error:
        raise SightlineError(f"{file} cannot be read: {error.strerror}. Choose another file with --write.") from None


def _write_settings(file: Path, settings: Mapping[str, str]) -> None:
    """Write the file. A reader finds the old one or the new one."""
    _require_ours(file)
    try:
        with replacing(file) as part:
            part.touch(0o600, exist_ok=False)  # its owner's alone
            part.write_text(f"{FIRST_LINE}\n{_as_exports(settings, hide=False)}\n")
    except OSError as error:
        raise SightlineError(f"{file} cannot be written: {error.strerror}. Choose another file with --write.") from None


def _settings_of(cluster: Cluster) -> dict[str, str]:
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


def _ways_into(cluster: Cluster, settings: Mapping[str, str], at: int) -> list[Way]:
    """The ways to what the settings name inside the cluster, from the port `at` of this machine on."""
    ways = []
    written = settings[DATABASE_URL]
    login = _login_in(written)
    address = urlsplit(written.replace(login, "", 1))
    port = address.port or DEFAULT_PORTS.get(address.scheme.partition("+")[0], 0)
    if address.hostname and port and (service := _service(cluster, address.hostname)):
        setting = {DATABASE_URL: address._replace(netloc=f"{login}{HOST}:{at}").geturl()}
        ways.append(_way_to(cluster, "database", service, port, at, setting))
        at += 1
    if path := _path_on_volume(settings.get(REPOSITORY, "")):
        push = not _path_on_volume(settings.get(STORAGE, ""))
        where = f"{path} in the helper's pod{'' if push else ', to read'}"
        setting = {REPOSITORY: f"git://{HOST}:{at}/{PurePosixPath(path).name}"}
        ways.append(Way("dataset repository", where, at, partial(_open_git, cluster, path, push), setting))
        at += 1
    if service := _service(cluster, PAGES):
        setting = {"KF_PIPELINES_ENDPOINT": f"http://{HOST}:{at}"}
        ways.append(_way_to(cluster, "Kubeflow Pipelines", service, service.spec.ports[0].port, at, setting))
    return ways


def _path_on_volume(location: str) -> str:
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
