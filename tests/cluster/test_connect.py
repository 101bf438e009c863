"""`pipeline.py connect` on a real Kubernetes: a laptop reads the database and the repository that only pods see."""

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from laptop.samples import make_plates
from tests.cluster.deployed import Deployed, deployed
from tests.cluster.kube import Kube
from tests.cluster.test_sync import kubeconfig_of
from tests.functional.test_sync import wait_for
from tests.mariadb import PASSWORD
from tests.services import new_database
from tests.workspace import REPOSITORY, run_pipeline

pytestmark = pytest.mark.slow

INSIDE = "sightline-mysql:3306"
PIPELINE = ("python", "/opt/sightline/pipeline.py")
VERSION = ("--category", "plates", "--version", "v0.1.0")


@pytest.fixture(scope="module")
def installation(
    cluster: Path, images: dict[str, str], mariadb_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """The overlay for one node, with a published version, and a pod in MySQL's place that leads to the tests' server."""
    folder = tmp_path_factory.mktemp("connect")
    with new_database(mariadb_server) as url:
        server = urlsplit(url)
        inside = server._replace(netloc=f"{server.netloc.rpartition('@')[0]}@{INSIDE}").geturl()
        with deployed(cluster, folder / "overlay", inside, ready=False) as here:
            here.kube.apply(stand_in(images["data"], server.port or 0))
            here.kube.wait_for_job("sightline-init")
            make_plates(folder / "plates", 3, 0, "numbers")
            here.kube.run("cp", str(folder / "plates"), f"{here.helper_pod()}:/tmp/plates")
            # The machine, whose network the helper's pod has in the tests, knows no service's name.
            publish = ("env", f"SIGHTLINE_DATABASE_URL={url}", *PIPELINE, "publish", "/tmp/plates", *VERSION)
            told = here.helper(*publish)
            assert "published plates_ann_v0.1.0" in told
            assert "next, on your laptop: python pipeline.py submit --category plates" in told
            yield here


def stand_in(image: str, port: int) -> dict:
    """On the machine's own network the pod's port is the server's."""
    container = {
        "name": "mysql",
        "image": image,
        "command": ["sleep", "infinity"],
        "ports": [{"name": "mysql", "containerPort": port, "hostPort": port}],
    }
    labels = {"app.kubernetes.io/name": "sightline-mysql"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "mysql", "labels": labels},
        "spec": {"hostNetwork": True, "containers": [container]},
    }


@contextmanager
def connected(kube: Kube, log: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command at work, once it says so."""
    where = ("--kubeconfig", str(kube.config), "--namespace", kube.namespace, "--first-port", str(FIRST_PORT))
    command = [sys.executable, str(REPOSITORY / "pipeline.py"), "connect", *where, *options]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: "Open until Ctrl-C." in log.read_text() or process.poll() is not None, log.read_text(), 60)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


FIRST_PORT = 20000 + os.getpid() % 10000


def settings_in(file: Path) -> dict[str, str]:
    """What a shell has after `source`, and nothing that it had before."""
    done = subprocess.run(["sh", "-c", f". {file} && env"], capture_output=True, text=True, check=True, env={})
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith(("SIGHTLINE_", "KF_")))


def test_one_command_reaches_database_and_repository(installation: Deployed, tmp_path: Path) -> None:
    # With the rights that the manifests' Role gives, and no others.
    kube = Kube(kubeconfig_of(installation.kube, "sightline", tmp_path), installation.kube.namespace)
    file, log = tmp_path / "cluster.env", tmp_path / "log"
    with connected(kube, log, "--write", str(file)) as process:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert PASSWORD in file.read_text() and PASSWORD not in log.read_text()
        settings = settings_in(file)
        workspace = ("--workspace", str(tmp_path / "workspace"))
        listed = run_pipeline(*workspace, "versions", environment=settings)
        assert re.search(r"plates_ann_v0.1.0 +published +3 ", listed.stdout), listed.stdout + listed.stderr

        refused = run_pipeline(*workspace, "publish", str(tmp_path), *VERSION, environment=settings)
        assert refused.returncode == 1 and "laptops cannot reach" in refused.stderr
        assert f"kubectl -n {kube.namespace} exec -it deployment/sightline-helper" in refused.stderr

        pushed = git("push", settings["SIGHTLINE_DATASET_REPO"], "HEAD:refs/heads/mine")
        assert pushed.returncode != 0 and "service not enabled" in pushed.stderr

        # A pod that is replaced: the same port leads to the next one.
        installation.kube.run("delete", "pod", installation.helper_pod(), "--wait=false")
        tags = git("ls-remote", "--tags", settings["SIGHTLINE_DATASET_REPO"])
        assert "refs/tags/plates_ann_v0.1.0" in tags.stdout, tags.stderr + log.read_text()

        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert log.read_text().endswith("closed\n")
    assert installation.helper("sh", "-c", "grep -l '[d]aemon' /proc/[0-9]*/cmdline || true") == "", (
        "nothing goes on there"
    )


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=False, timeout=120
    )
