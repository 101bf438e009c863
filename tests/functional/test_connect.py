"""`pipeline.py connect` against an API that answers as Kubernetes does; tests/cluster/test_connect.py has a real one."""

import base64
import contextlib
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_sync import wait_for
from tests.kube_api import write_kubeconfig
from tests.kube_tunnels import Cluster, pod, serve_cluster, service
from tests.ports import HOST, closed_port
from tests.workspace import REPOSITORY, run_pipeline

PASSWORD = "canary-p%40s/s?#"  # SQLAlchemy takes all but @ as it is
URL = f"mysql+pymysql://sightline:{PASSWORD}@sightline-mysql:3306/sightline?charset=utf8mb4"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """An installation whose database alone is inside the cluster, beside Kubeflow Pipelines."""
    objects = {
        "configmaps/sightline-config": {
            "data": {
                "SIGHTLINE_STORAGE": "gs://bucket/sightline",
                "SIGHTLINE_DATASET_REPO": "https://github.com/team/datasets.git",
                "SIGHTLINE_VOLUME": "/shared_volume",
                "GOOGLE_CLOUD_PROJECT": "project",
                "GOOGLE_APPLICATION_CREDENTIALS": "/var/secrets/gcs/key.json",
            }
        },
        "secrets/sightline-database": {"data": {"url": base64.b64encode(URL.encode()).decode()}},
        "services/sightline-mysql": service("sightline-mysql", 3306, "mysql"),
        "services/ml-pipeline-ui": service("ml-pipeline-ui", 80, 3000),
    }
    with serve_cluster(Cluster(objects, [pod()])) as here:
        yield here


@pytest.fixture
def first_port() -> int:
    """Of two that are free."""
    while True:
        with closed_port() as port, contextlib.suppress(OSError), socket.create_server((HOST, port + 1)):
            return port


@pytest.fixture
def line(cluster: Cluster, tmp_path: Path, first_port: int) -> list[str]:
    """The command, with a workspace of its own."""
    config = write_kubeconfig(tmp_path / "kubeconfig", cluster.url)
    workspace = ("--workspace", str(tmp_path / "workspace"))
    return ["connect", "--kubeconfig", str(config), *workspace, "--first-port", str(first_port)]


Start = Callable[..., Path]


@pytest.fixture
def start(line: list[str], tmp_path: Path) -> Iterator[Start]:
    """Start the command and wait until it is ready; what it prints is in the file."""
    started = []

    def run(*options: str) -> Path:
        log = tmp_path / "log"
        with log.open("w") as output:
            command = [sys.executable, str(REPOSITORY / "pipeline.py"), *line, *options]
            started.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
        wait_for(lambda: "Ctrl-C" in log.read_text() or started[0].poll() is not None, log.read_text(), 60)
        assert started[0].poll() is None, log.read_text()
        return log

    yield run
    for process in started:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def ending() -> dict[str, Any]:
    """A pod that goes on until its grace is over."""
    gone = pod()
    gone["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    return gone


def ask(port: int, text: bytes) -> bytes:
    with socket.create_connection((HOST, port), timeout=30) as connection:
        connection.sendall(text)
        return connection.recv(1 << 16)


def test_the_settings_lead_through_this_machines_ports_and_the_screen_has_no_password(
    cluster, start, tmp_path, first_port
):
    log = start()
    file = tmp_path / "workspace" / "cluster.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    done = subprocess.run(["sh", "-c", f". {file}; env"], capture_output=True, text=True, check=True, env={})
    settings = dict(
        each.split("=", 1) for each in done.stdout.splitlines() if not each.startswith(("PWD", "_", "SHLVL"))
    )
    assert settings == {
        "SIGHTLINE_DATABASE_URL": URL.replace("sightline-mysql:3306", f"{HOST}:{first_port}"),
        "SIGHTLINE_STORAGE": "gs://bucket/sightline",
        "SIGHTLINE_DATASET_REPO": "https://github.com/team/datasets.git",
        "GOOGLE_CLOUD_PROJECT": "project",
        "KF_PIPELINES_ENDPOINT": f"http://{HOST}:{first_port + 1}",
    }
    assert "sightline:***@" in log.read_text() and PASSWORD not in log.read_text()
    assert f"source {file}" in log.read_text()
    assert ask(first_port, b"hello") == b"HELLO"
    assert ask(first_port + 1, b"x" * 5000) == b"X" * 5000
    assert cluster.forwards[-2:] == ["33061", "3000"], "the database's port by its name in the pod"


def test_with_show_the_screen_has_all_and_no_file_is_written(start, tmp_path):
    log = start("--show")
    assert f"sightline:{PASSWORD}@" in log.read_text()
    assert not (tmp_path / "workspace" / "cluster.env").exists()


@pytest.mark.parametrize(
    ("meanwhile", "told"),
    [
        pytest.param([pod("Pending")], "The pod of the database a-pod is not running: ImagePullBackOff", id="starting"),
        pytest.param([ending()], "The pod of the database a-pod is being deleted, and there is no other", id="ending"),
        pytest.param([], "There is no pod of the database (label app=sightline-mysql)", id="between the two"),
    ],
)
def test_a_pod_that_is_being_replaced_is_waited_for_and_told_of(cluster, start, first_port, meanwhile, told):
    log = start()
    cluster.pods[:] = meanwhile
    with socket.create_connection((HOST, first_port), timeout=30) as connection:
        connection.sendall(b"hello")
        wait_for(lambda: f"database: {told}" in log.read_text())
        cluster.pods[:] = [pod()]
        assert connection.recv(100) == b"HELLO"
    wait_for(lambda: "database: reached again" in log.read_text())
    assert log.read_text().count(told) == 1


def test_a_port_that_nothing_listens_on_in_the_pod_is_told(cluster, start, first_port):
    log = start()
    cluster.complaint = "error forwarding port 33061 to pod: Connection refused"
    assert ask(first_port, b"hello") == b""
    wait_for(lambda: "database: error forwarding port 33061 to pod: Connection refused" in log.read_text())


def test_it_replaces_its_own_file_and_no_other(start, line, tmp_path):
    mine = tmp_path / "mine.env"
    mine.write_text("export OTHER=1\n")
    done = run_pipeline(*line, "--write", str(mine))
    assert done.returncode == 1 and "was not written by connect, and stays as it is" in done.stderr
    assert mine.read_text() == "export OTHER=1\n"
    own = tmp_path / "own.env"
    own.write_text(
        "# Written by `pipeline.py connect`, with passwords. It leads to the cluster while that runs.\nold\n"
    )
    start("--write", str(own))
    assert "SIGHTLINE_DATABASE_URL" in own.read_text() and "old" not in own.read_text()


def without(cluster: Cluster, *names: str) -> None:
    for name in names:
        del cluster.objects[name]


FAULTS: dict[str, tuple[Callable[[Cluster], None], str]] = {
    "no installation": (
        lambda cluster: without(cluster, "configmaps/sightline-config"),
        "There is no ConfigMap sightline-config in namespace kubeflow",
    ),
    "no secret": (
        lambda cluster: without(cluster, "secrets/sightline-database"),
        "There is no Secret sightline-database with the key url",
    ),
    "no right to read it": (
        lambda cluster: setattr(cluster, "refuses", ("secrets/",)),
        "does not allow it: secrets/sightline-database is forbidden. `connect` needs the Role sightline in kubeflow",
    ),
    "no right to forward": (
        lambda cluster: setattr(cluster, "refuses", ("pods/",)),
        "The database cannot be reached through the cluster: The cluster does not allow it",
    ),
    "no pod": (lambda cluster: cluster.pods.clear(), "There is no pod of the database (label app=sightline-mysql)"),
    "a pod that does not start": (
        lambda cluster: cluster.pods.__setitem__(0, pod("Pending")),
        "The pod of the database a-pod is not running: ImagePullBackOff",
    ),
    "nothing inside": (
        lambda cluster: without(cluster, "services/sightline-mysql", "services/ml-pipeline-ui"),
        "Nothing of the installation in namespace kubeflow lies inside the cluster",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_missing_is_told_in_a_sentence(cluster, line, tmp_path, fault):
    break_it, sentence = FAULTS[fault]
    break_it(cluster)
    done = run_pipeline(*line)
    assert done.returncode == 1
    assert sentence in done.stderr and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert PASSWORD not in done.stdout + done.stderr
    assert not (tmp_path / "workspace" / "cluster.env").exists()


def test_a_taken_port_no_kubeconfig_and_no_cluster_are_told(line, tmp_path, first_port):
    with socket.create_server((HOST, first_port)):
        done = run_pipeline(*line)
    assert f"The port {HOST}:{first_port} for the database cannot be taken (Address already in use):" in done.stderr
    assert "--first-port" in done.stderr
    nowhere = {"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}
    done = run_pipeline("connect", environment=nowhere)
    assert done.stderr.startswith("error: There is no kubeconfig") and "--volume" not in done.stderr
    with closed_port() as port:
        config = write_kubeconfig(tmp_path / "closed", f"http://{HOST}:{port}")
        began = time.monotonic()
        done = run_pipeline("connect", "--kubeconfig", str(config))
    assert re.search(rf"error: The cluster at http://{HOST}:{port} cannot be reached: .*refused", done.stderr)
    assert time.monotonic() - began < 60


SPOILT = {"no YAML": "[1,2", "no mapping": ": : {", "no address": "clusters: [{name: a, cluster: {server: 5}}]"}


@pytest.mark.parametrize("case", [*SPOILT, "a folder"])
@pytest.mark.parametrize("command", [("connect",), ("sync", "--status")], ids=["connect", "sync"])
def test_a_spoilt_kubeconfig_is_told_in_a_sentence(command, case, tmp_path):
    config = tmp_path / "config"
    contexts = "\ncontexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\nusers: [{name: a}]\n"
    config.mkdir() if case == "a folder" else config.write_text(SPOILT[case] + contexts)
    done = run_pipeline(*command, "--kubeconfig", str(config))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "kubeconfig" in done.stderr or "cannot be reached" in done.stderr


def test_where_the_storage_is_on_the_volume_no_command_stores_beside_it(tmp_path):
    settings = {"SIGHTLINE_CONNECTED": "team", "SIGHTLINE_STORAGE": (tmp_path / "storage").as_uri()}
    for command in (
        ("publish", "x", "--category", "desk", "--version", "v0.1.0"),
        ("local", "--category", "desk"),
        ("verify",),
    ):
        done = run_pipeline("--workspace", str(tmp_path / "workspace"), *command, environment=settings)
        assert done.returncode == 1 and "kubectl -n team exec -it deployment/sightline-helper" in done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing was written"
    done = run_pipeline("--workspace", str(tmp_path / "workspace"), "versions", environment=settings)
    assert done.returncode == 0, done.stderr
