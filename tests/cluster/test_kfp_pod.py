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
from laptop.smoke import smoke_values
from sightline.services.storage.access import open_storage
from sightline.steps.evaluate.start import evaluate_models
from sightline.steps.record.record import record_dataset
from tests.cluster.conftest import REGISTRY, TAG
from tests.cluster.deployed import Deployed, deployed
from tests.cluster.kfp_pod import CompiledPipeline, Outcome, run_task
from tests.live_code import Place, file_of
from tests.mariadb import PASSWORD, new_database
from tests.services import EMULATOR_SETTINGS, make_bucket
from tests.workspace import REPOSITORY

pytestmark = pytest.mark.slow

IMAGES = 24
RUN = str(uuid.uuid4())
PUBLISH = ("python", "/opt/sightline/pipeline.py", "publish", "/tmp/plates", "--category=plates", "--version=v0.1.0")


@pytest.fixture(scope="module")
def storage(gcs_emulator: str) -> str:
    """A storage root in the emulator, for the module."""
    return f"gs://{make_bucket(gcs_emulator)}/team"


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
    command = [sys.executable, "pipeline.py", "compile", "-o", str(path), f"--registry={REGISTRY}", f"--tag={TAG}"]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return CompiledPipeline.load(path, category="plates", recipe={"seed": 3}, train_epochs=1)


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
    assert not [text for text in shown if PASSWORD in text]
    found = installation.helper("grep", "-rlF", PASSWORD, "/shared_volume", check=False)
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


def test_the_steps_with_models_run_to_the_end_as_well(
    installation: Deployed, pipeline: CompiledPipeline, done: dict[str, Outcome], storage: str
) -> None:
    outcomes = dict(done)
    for task in ("train", "evaluate", "test"):
        outcomes[task] = run_task(installation.kube, pipeline, task, outcomes, RUN)
        assert outcomes[task].phase == "Succeeded", outcomes[task].log
    trained, selected = (
        json.loads(outcomes[task].parameters[name])
        for task, name in (("train", "model_reference"), ("evaluate", "selected_reference"))
    )
    kept = {item.key for item in open_storage(storage).list()}
    prefix = f"results/plates/{trained['dataset_version']}/{RUN}"
    assert trained["uri"] == f"{storage}/models/{trained['sha256']}"
    assert selected["uri"] == f"{storage}/models/{selected['sha256']}"
    assert {f"{prefix}/train/last.json", f"{prefix}/evaluate/selected.json"} <= kept
    assert {f"models/{trained['last_sha256']}/model.safetensors", f"models/{selected['sha256']}/manifest.json"} <= kept
    assert any(key.startswith(f"{prefix}/test/images/") for key in kept)
    for task, report in (("train", "training_report"), ("evaluate", "evaluation_report"), ("test", "test_report")):
        assert outcomes[task].artifacts[report].lstrip().lower().startswith(b"<!doctype html")
    scores = json.loads(outcomes["evaluate"].artifacts["scores"])
    statement = (
        "SELECT name, value FROM metric_values JOIN evaluations ON evaluations.id = evaluation_id "
        f"WHERE class_name = '' AND selected AND run_id = '{RUN}'"
    )
    stored = dict(rows(installation, statement))
    assert {name: stored[name] for name in ("bbox_mAP", "segm_mAP")} == pytest.approx(
        {name: scores[name] for name in ("bbox_mAP", "segm_mAP")}
    )
    states = rows(installation, f"SELECT step, state, attempt FROM steps WHERE run_id = '{RUN}' ORDER BY id")
    assert states == [(step, "done", 0) for step in ("record", "train", "evaluate", "test")]
    shared_memory = outcomes["train"].pod["spec"]["volumes"]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}} in shared_memory


def test_a_smoke_test_runs_to_the_end_and_leaves_the_versions_of_the_real_runs_alone(
    installation: Deployed, pipeline: CompiledPipeline, done: dict[str, Outcome], storage: str
) -> None:
    run = str(uuid.uuid4())
    before = rows(installation, "SELECT tag, digest FROM versions WHERE category = 'plates' ORDER BY tag")
    arguments = {name: value for name, value in pipeline.arguments.items() if name != "train_epochs"}
    smoke = CompiledPipeline(
        pipeline.spec, pipeline.platform, pipeline.arguments | smoke_values(arguments, pipeline.arguments)
    )
    outcomes: dict[str, Outcome] = {}
    for task in ("snapshot", "record", "train", "evaluate", "test"):
        outcomes[task] = run_task(installation.kube, smoke, task, outcomes, run)
        assert outcomes[task].phase == "Succeeded", outcomes[task].log
    assert rows(installation, "SELECT tag, image_count FROM versions WHERE category = 'plates--smoke'") == [
        ("plates--smoke_train_v0.1.0", 20)
    ]
    assert rows(installation, "SELECT tag, digest FROM versions WHERE category = 'plates' ORDER BY tag") == before
    assert rows(installation, f"SELECT category FROM runs WHERE id = '{run}'") == [("plates--smoke",)]
    results = {item.key.split("/")[1] for item in open_storage(storage).list("results") if run in item.key}
    assert results == {"plates--smoke"}


# Live code. These edit what lies on the claim, so they come last.


def append(installation: Deployed, place: Place, text: str) -> None:
    """Add statements at the end of a file of the live copy where it lies, as a notebook that mounts the claim would."""
    script = "import sys; open(sys.argv[1], 'a').write(sys.argv[2])"
    installation.helper("python", "-c", script, f"/shared_volume/code/{file_of(place)}", f"\n{text}\n")


def hashed_inputs(pipeline: CompiledPipeline, task: str, outcomes: dict[str, Outcome]) -> str:
    """What KFP's cache key holds of a task that can change from run to run: every value that its executor is given."""
    return json.dumps(pipeline.inputs(task, outcomes), sort_keys=True)


@pytest.fixture(scope="module")
def after_an_edit_of_evaluate(installation: Deployed, pipeline: CompiledPipeline, done: dict[str, Outcome]) -> Outcome:
    append(installation, evaluate_models, "# edited on the claim")
    frozen = run_task(installation.kube, pipeline, "snapshot")
    assert frozen.phase == "Succeeded", frozen.log
    return frozen


def test_an_edit_on_the_claim_leaves_the_cache_keys_of_the_steps_that_it_does_not_touch(
    pipeline: CompiledPipeline, done: dict[str, Outcome], after_an_edit_of_evaluate: Outcome
) -> None:
    now = {**done, "snapshot": after_an_edit_of_evaluate}
    before, after = done["snapshot"].parameters, after_an_edit_of_evaluate.parameters
    assert before["code_digest"] != after["code_digest"]
    for task in ("record", "train"):
        # Record keeps its key, so KFP gives what it gave before, and train keeps its own.
        assert hashed_inputs(pipeline, task, done) == hashed_inputs(pipeline, task, now)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"code_digest", "evaluate_code"}


def test_an_edit_is_seen_by_the_next_run_and_not_by_one_that_goes_on(
    installation: Deployed, pipeline: CompiledPipeline, done: dict[str, Outcome], after_an_edit_of_evaluate: Outcome
) -> None:
    started = {"snapshot": after_an_edit_of_evaluate}
    append(installation, record_dataset, 'print("edited meanwhile", flush=True)')
    going_on = run_task(installation.kube, pipeline, "record", started)
    assert going_on.phase == "Succeeded", going_on.log
    assert "edited meanwhile" not in going_on.log
    later = {"snapshot": run_task(installation.kube, pipeline, "snapshot")}
    assert later["snapshot"].parameters["record_code"] != started["snapshot"].parameters["record_code"]
    seen = run_task(installation.kube, pipeline, "record", later)
    assert seen.phase == "Succeeded", seen.log
    assert "edited meanwhile" in seen.log
    # It gave the same dataset version again, so train, whose inputs are the same bytes, would not run again.
    assert hashed_inputs(pipeline, "train", {**later, "record": seen}) == hashed_inputs(pipeline, "train", done)


def test_a_syntax_error_on_the_claim_ends_snapshot_with_file_and_line(
    installation: Deployed, pipeline: CompiledPipeline, done: dict[str, Outcome]
) -> None:
    installation.helper("python", "-c", "open('/shared_volume/code/sightline/half.py', 'w').write('x = (\\n')")
    failed = run_task(installation.kube, pipeline, "snapshot")
    installation.helper("rm", "/shared_volume/code/sightline/half.py")
    assert failed.phase == "Failed"
    above, sentence, below = failed.log.strip().splitlines()[-3:]
    assert above == below == "-" * 80
    assert sentence.startswith("error: ") and "sightline/half.py, line 1" in sentence
