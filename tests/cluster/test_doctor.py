"""`pipeline.py doctor --cluster` on a real Kubernetes: the helper's pod answers, a pod of both images runs and goes again."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from laptop.doctor.lines import Line
from tests.cluster.conftest import REGISTRY, TAG
from tests.cluster.deployed import Deployed, deployed
from tests.workspace import run_pipeline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installation(
    cluster: Path, images: dict[str, str], mariadb_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """The overlay for one node, ready to work; the repository on its volume, the storage too."""
    folder = tmp_path_factory.mktemp("doctor")
    config = {
        "SIGHTLINE_STORAGE": "file:///shared_volume/storage",
        "SIGHTLINE_DATASET_REPO": "/shared_volume/dataset.git",
    }
    with deployed(cluster, folder / "overlay", mariadb_server, config) as here:
        yield here


def doctor(installation: Deployed, folder: Path, tag: str) -> dict[str, list[Line]]:
    where = ("--kubeconfig", str(installation.kube.config), "--namespace", installation.kube.namespace)
    images = ("--registry", REGISTRY, "--tag", tag)
    environment = {"KUBECONFIG": os.devnull, "KF_PIPELINES_ENDPOINT": ""}
    done = run_pipeline(
        "--workspace", str(folder), "doctor", "--cluster", "--json", *where, *images, environment=environment
    )
    found: dict[str, list[Line]] = {}
    for entry in json.loads(done.stdout):
        line = Line.read(entry)
        found.setdefault(line.name, []).append(line)
    return found


def test_an_installation_is_looked_at_from_its_own_pods(installation: Deployed, tmp_path: Path) -> None:
    found = doctor(installation, tmp_path, TAG)
    for name in (
        "ConfigMap",
        "claim",
        "nodes",
        "pod: python",
        "pod: database",
        "pod: storage",
        "pod: volume",
        "pod: repository",
    ):
        assert [line.state for line in found[name]] == ["ok"], found
    assert [line.state for line in found["images"]] == ["ok", "ok"], found
    assert "tables are up to date" in found["pod: database"][0].found
    assert not [
        pod
        for pod in installation.kube.pods("app.kubernetes.io/part-of=sightline")
        if "doctor" in pod["metadata"]["name"]
    ]


def test_images_that_no_node_can_pull_are_named_with_what_to_do(installation: Deployed, tmp_path: Path) -> None:
    found = doctor(installation, tmp_path, "no-such-tag")
    assert {line.state for line in found["images"]} == {"fail"}
    assert "cannot be pulled" in found["images"][0].found and "make images push" in found["images"][0].do


def test_a_volume_that_lost_its_code_is_told_by_the_helpers_pod(installation: Deployed, tmp_path: Path) -> None:
    installation.helper("mv", "/shared_volume/code", "/shared_volume/gone")
    try:
        found = doctor(installation, tmp_path, "no-such-tag")
    finally:
        installation.helper("mv", "/shared_volume/gone", "/shared_volume/code")
    assert [(line.state, line.do) for line in found["pod: volume"]] == [("fail", "python pipeline.py sync")]
