"""Tasks in pods as Kubeflow Pipelines makes them, on a real Kubernetes, against a real database and an object store."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from laptop.samples import make_plates
from sightline.storage import open_storage
from tests.cluster.deployed import Deployed, deployed
from tests.cluster.kfp_pod import CompiledPipeline, Outcome, run_task
from tests.services import DATABASE_PASSWORD, EMULATOR_SETTINGS, make_bucket, new_database
from tests.workspace import REPOSITORY

IMAGES = 24
RUN = str(uuid.uuid4())
PUBLISH = ("python", "/opt/sightline/pipeline.py", "publish", "/tmp/plates", "--category=plates", "--version=v0.1.0")


@pytest.fixture(scope="module")
def storage(gcs_emulator: str) -> str:
    """A storage root in the emulator, for the module."""
    name = f"kfp-pod-{uuid.uuid4().hex[:8]}"
    make_bucket(gcs_emulator, name)
    return f"gs://{name}/team"


@pytest.fixture(scope="module")
def installation(
    cluster: Path,
    images: dict[str, str],
    mariadb_server: str,
    gcs_emulator: str,
    storage: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployed]:
    """The manifests of one node with a bucket for its objects, and one published annotation version."""
    folder = tmp_path_factory.mktemp("installation")
    config = {"SIGHTLINE_STORAGE": storage, "STORAGE_EMULATOR_HOST": gcs_emulator, **EMULATOR_SETTINGS}
    with new_database(mariadb_server) as url, deployed(cluster, folder / "overlay", url, config) as here:
        make_plates(folder / "plates", IMAGES, seed=7, labels="board", size=(320, 240))
        here.kube.run("cp", str(folder / "plates"), f"{here.helper_pod()}:/tmp/plates")
        here.helper(*PUBLISH)
        yield here


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> CompiledPipeline:
    """What a user uploads."""
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    command = [sys.executable, "pipeline.py", "compile", "-o", str(path), "--registry=sightline", "--tag=test"]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return CompiledPipeline.load(path, category="plates", recipe={"seed": 3})


@pytest.fixture(scope="module")
def done(installation: Deployed, pipeline: CompiledPipeline) -> dict[str, Outcome]:
    """Snapshot and record of one run, ended."""
    outcomes: dict[str, Outcome] = {}
    for task in ("snapshot", "record"):
        outcomes[task] = run_task(installation.kube, pipeline, task, outcomes, RUN)
        assert outcomes[task].phase == "Succeeded", outcomes[task].log
    return outcomes


def rows(installation: Deployed, statement: str) -> list[Any]:
    engine = sqlalchemy.create_engine(installation.database_url)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(sqlalchemy.text(statement))]
    engine.dispose()
    return found


def test_snapshot_freezes_the_code_that_the_init_job_put_there(
    installation: Deployed, done: dict[str, Outcome], storage: str
) -> None:
    frozen = done["snapshot"].parameters
    assert frozen["annotation_version"] == "v0.1.0"
    listed = installation.helper("ls", "/shared_volume/releases").split()
    steps = ("record", "train", "evaluate", "test")
    assert {Path(frozen[f"{step}_code"]).name for step in steps} == set(listed)
    assert {name.partition("-")[0] for name in listed} == set(steps)
    assert f"code/{frozen['code_digest']}.tar.gz" in {item.key for item in open_storage(storage).list()}


def test_record_publishes_a_dataset_version(installation: Deployed, done: dict[str, Outcome], storage: str) -> None:
    reference = json.loads(done["record"].parameters["dataset_reference"])
    assert (reference["category"], reference["kind"]) == ("plates", "dataset")
    tags = installation.helper("git", "ls-remote", "--tags", "/shared_volume/dataset.git")
    assert f"{reference['commit']}\trefs/tags/{reference['tag']}^{{}}" in tags.splitlines()
    statement = "SELECT kind, version, status, tag, digest FROM versions WHERE kind = 'dataset'"
    assert rows(installation, statement) == [
        ("dataset", reference["version"], "published", reference["tag"], reference["digest"])
    ]
    assert rows(
        installation, "SELECT COUNT(*) FROM images i JOIN versions v ON v.id = i.version_id AND v.kind = 'dataset'"
    ) == [(IMAGES,)]
    assert {item.key.split("/")[1] for item in open_storage(storage).list("dvc")} == {"annotations", "datasets"}


def test_the_artifacts_are_what_the_ui_shows(done: dict[str, Outcome]) -> None:
    record = done["record"]
    assert record.artifacts.keys() >= {"dataset", "data_report"}
    assert json.loads(record.artifacts["dataset"]) == json.loads(record.parameters["dataset_reference"])
    assert record.metadata["dataset"]["category"] == "plates"
    assert record.artifacts["data_report"].lstrip().lower().startswith(b"<!doctype html")


def test_the_run_is_known_by_the_id_in_the_pods_label(installation: Deployed, done: dict[str, Outcome]) -> None:
    assert done["record"].pod["metadata"]["labels"]["pipeline/runid"] == RUN
    assert rows(installation, "SELECT id, code_digest FROM runs WHERE id NOT LIKE 'unnamed%'") == [
        (RUN, done["snapshot"].parameters["code_digest"])
    ]
    ((step, state, code),) = rows(installation, f"SELECT step, state, code FROM steps WHERE run_id = '{RUN}'")
    assert (step, state, code) == ("record", "done", Path(done["snapshot"].parameters["record_code"]).name)


def test_what_the_pods_wrote_belongs_to_their_user(installation: Deployed, done: dict[str, Outcome]) -> None:
    for outcome in done.values():
        (main,) = outcome.pod["spec"]["containers"]
        assert main["securityContext"]["runAsNonRoot"] is True
        assert main["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    owners = installation.helper("find", "/shared_volume", "-printf", "%U:%G\n").split()
    assert set(owners) == {"1001:1001"}


def test_the_password_is_in_the_secret_and_nowhere_else(
    installation: Deployed, done: dict[str, Outcome], storage: str
) -> None:
    shown = [outcome.log + json.dumps(outcome.pod) for outcome in done.values()]
    shown += [json.dumps(outcome.parameters) + str(outcome.artifacts) for outcome in done.values()]
    assert not [text for text in shown if DATABASE_PASSWORD in text]
    found = installation.helper("grep", "-rlF", DATABASE_PASSWORD, "/shared_volume", check=False)
    assert found == ""
    # Kubernetes does know it: without the Secret these pods would not have started.
    assert installation.kube.get("secret", "sightline-database")["data"]["url"]


def test_a_second_run_finds_the_same_dataset_version_and_writes_nothing_new(
    installation: Deployed, pipeline: CompiledPipeline, done: dict[str, Outcome]
) -> None:
    again: dict[str, Outcome] = {}
    for task in ("snapshot", "record"):
        again[task] = run_task(installation.kube, pipeline, task, again)
        assert again[task].phase == "Succeeded", again[task].log
    # What KFP's cache compares: the same bytes, so it would not even have started record.
    assert again["snapshot"].parameters == done["snapshot"].parameters
    assert again["record"].parameters == done["record"].parameters
    assert rows(installation, "SELECT COUNT(*) FROM versions WHERE kind = 'dataset'") == [(1,)]


def test_a_step_that_fails_says_why_and_ends_in_failure(
    installation: Deployed, pipeline: CompiledPipeline, done: dict[str, Outcome]
) -> None:
    unknown = CompiledPipeline(pipeline.spec, pipeline.platform, pipeline.arguments | {"annotation_version": "v9.9.9"})
    failed = run_task(installation.kube, unknown, "snapshot")
    assert failed.phase == "Failed"
    assert "There is no annotation version v9.9.9 of plates. Published: v0.1.0." in failed.log
    assert failed.parameters == {}
