"""submit, schedule and runs against a server that answers as a real Kubeflow Pipelines 2.17.0 did."""

import datetime
import hashlib
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components import images
from laptop.cli import main
from laptop.compiling import compiled as compiled_of
from laptop.kubeflow import checks, connect, follow, retry
from laptop.kubeflow.answers import Run, read
from laptop.kubeflow.pods import Glance
from laptop.kubeflow.sql import open_metadata
from sightline.services.database.connection import connect as open_database
from sightline.services.database.models import StepRow
from sightline.services.database.runs import end_step, list_steps, start_step
from sightline.services.database.scores import write_evaluation, write_model
from sightline.services.database.versions import claim_version, publish_version
from tests.kfp_nodes import DONE, DRIVER, FAILED, PENDING, REUSED, RUNNING
from tests.kfp_server import Answer, KfpServer, Login, Request, serve
from tests.kube_api import write_kubeconfig
from tests.ports import closed_port, dripping_port, silent_port
from tests.workspace import REPOSITORY, find_run, run_pipeline

TOKEN = "canary-token-a91f"
COOKIE = "authservice_session=canary-cookie-77c0"
NOW = "2026-11-21T04:55:40Z"
OTHERS = ("KF_PIPELINES_", "KFP_", "SIGHTLINE_", "KUBE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


Command = Callable[..., Said]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    # In a process of its own: components take the images that are named when they are imported.
    done = run_pipeline("compile", "-o", str(path), environment={"SIGHTLINE_TAG": "v1"})
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with serve(KfpServer()) as running:
        yield running


@pytest.fixture
def command(
    server: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command as a user would, where the environment names the server and nothing else."""
    for name in [name for name in os.environ if name.startswith(OTHERS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "5")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.setattr(follow, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(retry, "LAG_SECONDS", 0.01)

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        try:
            status = main([*arguments, "--workspace", str(tmp_path / "workspace")])
        except SystemExit as stopped:  # argparse
            status = int(stopped.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        for secret in (TOKEN, COOKIE, COOKIE.partition("=")[2]):
            assert secret not in said.out + said.err
        return Said(status, said.out, said.err)

    return run


@pytest.fixture
def submit(command: Command, compiled: Path) -> Command:
    """Submit the compiled pipeline for the category desk."""
    return lambda *more: command("submit", "--pipeline", str(compiled), "--category", "desk", *more)


@pytest.fixture
def database_url(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database that the environment names."""
    url = f"sqlite:///{tmp_path / 'cluster.db'}"
    monkeypatch.setenv("SIGHTLINE_DATABASE_URL", url)
    open_database(url).migrate()
    return url


def only(items: Any) -> Any:
    (item,) = items.values() if isinstance(items, dict) else items
    return item


def kinds(server: KfpServer) -> list[str]:
    """What was asked, without ids."""
    return [re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", each) for each in server.asked()]


def changed(compiled: Path, folder: Path) -> Path:
    path = folder / "other.yaml"
    path.write_bytes(compiled.read_bytes() + b"# another comment\n")
    return path


# uploads, versions, experiments


def test_the_first_submit_makes_pipeline_experiment_and_run(server, submit, compiled):
    said = submit("--epochs", "2", "--set", "optim_wrapper.optimizer.lr=0.002", "--param", "train_memory=8Gi")
    assert said.status == 0, said.err
    assert kinds(server) == [
        "GET /pipelines",
        "POST /pipelines/upload",
        "GET /pipelines/ID/versions",
        "GET /experiments",
        "POST /experiments",
        "POST /runs",
    ]
    upload = next(each for each in server.requests if each.path.endswith("/upload"))
    assert upload.body == compiled.read_bytes()
    assert only(server.pipelines)["name"] == "sightline"
    run, version = only(server.runs), only(server.versions)
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert only(server.experiments)["display_name"] == "desk"
    assert run["experiment_id"] == only(server.experiments)["experiment_id"]
    assert f"{server.url}/#/runs/details/{run['run_id']}" in said.out


def test_every_parameter_is_passed_with_its_type(server, submit, compiled):
    submit(
        "--epochs", "2", "--set", "optim_wrapper.optimizer.lr=0.5", "--recipe", "seed=3", "--stratify", "--split", "val", "--candidate", "gs://b/m",
        "--score-threshold", "0.4", "--param", "train_cpu=4", "--param", 'pod_tolerations=[{"key": "gpu"}]',
    )  # fmt: skip
    spec = next(iter(yaml.safe_load_all(compiled.read_bytes())))
    parameters = only(server.runs)["runtime_config"]["parameters"]
    assert parameters.keys() == spec["root"]["inputDefinitions"]["parameters"].keys()
    given = {
        "category": "desk",
        "train_epochs": 2,
        "train_overrides": {"optim_wrapper.optimizer.lr": 0.5},
        "recipe": {"seed": 3, "stratify": True},
        "evaluate_split": "val",
        "evaluate_candidates": ["gs://b/m"],
        "test_score_threshold": 0.4,
        "train_cpu": "4",
        "pod_tolerations": [{"key": "gpu"}],
        "annotation_version": "",
        "train_config": "",
    }
    assert {name: parameters[name] for name in given} == given
    assert type(parameters["train_epochs"]) is int


def test_a_smoke_test_is_the_same_version_in_an_experiment_of_its_own(server, submit, command):
    assert submit("--config", "yolox_s").status == 0
    said = submit("--smoke", "--config", "yolox_s", "--param", "train_gpus=1")
    assert said.status == 0, said.err
    assert "it publishes as desk--smoke" in said.out
    assert len(server.versions) == 1
    real, smoke = (run["runtime_config"]["parameters"] for run in server.runs.values())
    differing = {name: smoke[name] for name in smoke if smoke[name] != real[name]}
    sizes = {f"{step}_cpu": "1" for step in ("record", "train", "evaluate", "test")} | {"record_memory": "1Gi"}
    assert differing == {"recipe": {"smoke": 20}, "train_epochs": 1, "train_gpus": "1", **sizes}
    assert {each["display_name"] for each in server.experiments.values()} == {"desk", "desk--smoke"}
    listed = json.loads(command("runs", "--json").out)
    assert sorted(row["category"] for row in listed) == ["desk", "desk--smoke"]


def test_a_smoke_test_asks_for_less_unless_it_is_given(server, submit):
    assert submit("--smoke", "--param", "test_cpu=3").status == 0
    asked = only(server.runs)["runtime_config"]["parameters"]
    assert [asked[f"{step}_cpu"] for step in ("record", "train", "evaluate", "test")] == ["1", "1", "1", "3"]
    assert (asked["record_memory"], asked["train_memory"], asked["train_gpus"]) == ("1Gi", "4Gi", "0")


def test_a_second_submit_of_the_same_pipeline_uploads_nothing(server, submit):
    submit()
    first, server.requests[:] = only(server.runs), []
    said = submit()
    assert kinds(server) == ["GET /pipelines", "GET /pipelines/ID/versions", "GET /experiments", "POST /runs"]
    assert "there already" in said.out
    second = [run for run in server.runs.values() if run is not first]
    assert only(second)["pipeline_version_reference"] == first["pipeline_version_reference"]
    assert len(server.experiments) == 1


def test_another_pipeline_becomes_a_version_and_each_is_found_again(server, submit, command, compiled, tmp_path):
    submit()
    other = changed(compiled, tmp_path)
    for _ in range(2):
        assert command("submit", "--pipeline", str(other), "--category", "desk").status == 0
    submit()
    uploads = [request for request in server.requests if "/upload" in request.path]
    assert [str(request) for request in uploads] == ["POST /pipelines/upload", "POST /pipelines/upload_version"]
    names = [version["name"] for version in server.versions.values()]
    assert names[0] == "sightline"
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d {digest[:8]}", names[1])
    used = [run["pipeline_version_reference"]["pipeline_version_id"] for run in server.runs.values()]
    ids = list(server.versions)
    assert used == [ids[0], ids[1], ids[1], ids[0]]


def test_a_version_that_an_older_release_named_by_its_digest_is_found(server, submit, command, compiled, tmp_path):
    command("submit", "--pipeline", str(changed(compiled, tmp_path)), "--category", "desk")
    name = f"digest-{hashlib.sha256(compiled.read_bytes()).hexdigest()[:12]}"
    pipeline = only(server.pipelines)["pipeline_id"]
    spec = only(server.versions)["pipeline_spec"]
    old = server.add_version({"pipeline_id": pipeline, "name": name, "display_name": name, "pipeline_spec": spec})
    said = submit()
    assert f"version {name}: there already" in said.out
    used = [run["pipeline_version_reference"]["pipeline_version_id"] for run in server.runs.values()]
    assert used[-1] == old["pipeline_version_id"]


def test_a_version_on_a_later_page_is_found(server, submit, command, compiled, tmp_path, monkeypatch):
    monkeypatch.setattr(connect, "PAGE", 2)
    command("submit", "--pipeline", str(changed(compiled, tmp_path)), "--category", "desk")
    pipeline = only(server.pipelines)["pipeline_id"]
    for number in range(6):
        name = f"v{number}"
        server.add_version({"pipeline_id": pipeline, "name": name, "display_name": name, "created_at": NOW})
    submit()
    submit()
    assert len(server.asked("POST /pipelines/upload_version")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["the pipeline", "the version"])
def test_what_somebody_else_uploads_in_between_is_used(server, submit, command, compiled, tmp_path, first):
    if not first:
        command("submit", "--pipeline", str(changed(compiled, tmp_path)), "--category", "desk")

    def somebody_is_faster(request: Request) -> None:
        if request.method == "POST" and "/upload" in request.path:
            server.before = lambda _: None
            server.answer(request)

    server.before = somebody_is_faster
    said = submit()
    assert said.status == 0, said.err
    assert len(server.pipelines) == 1
    assert len(server.versions) == (1 if first else 2)
    assert "there already" in said.out


def test_an_archived_experiment_is_named_before_a_run_starts(server, submit):
    submit()
    only(server.experiments)["storage_state"] = "ARCHIVED"
    said = submit()
    assert said.status == 1
    assert "The experiment desk is archived" in said.err
    assert len(server.runs) == 1
    assert submit("--experiment", "desk again").status == 0


@pytest.mark.slow
def test_steps_of_ones_own_are_a_pipeline_of_their_own(server, command, tmp_path):
    done = run_pipeline(
        *("submit", "--category", "desk", "--steps", "evaluate", "--model", "gs://b/m", "--dataset-version", "v0.1.0"),
        *("--registry", "eu.gcr.io/team", "--tag", "v1", "--workspace", str(tmp_path / "workspace")),
        environment={"KF_PIPELINES_ENDPOINT": server.url, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert only(server.pipelines)["name"] == "sightline-evaluate"
    parameters = only(server.runs)["runtime_config"]["parameters"]
    assert (parameters["evaluate_candidates"], parameters["dataset_version"]) == (["gs://b/m"], "v0.1.0")


@pytest.mark.parametrize(
    ("steps", "given", "sentence"),
    [
        (("test",), {}, "say which dataset version to use with --dataset-version"),
        (("train", "evaluate", "test"), {}, "say which dataset version to use with --dataset-version"),
        (("test",), {"dataset_version": "v0.1.0"}, "say which model to test with --model URI"),
        (("evaluate", "test"), {"dataset_version": "v0.1.0"}, "say which model to evaluate with --model URI"),
        (("test",), {"test_images": "gs://b/i", "test_model": "gs://b/m"}, ""),
        (("evaluate",), {"dataset_version": "v0.1.0", "evaluate_candidates": '["gs://b/m"]'}, ""),
        (("train", "evaluate", "test"), {"dataset_version": "v0.1.0"}, ""),
    ],
)
@pytest.mark.parametrize("verb", [("submit",), ("schedule", "--every", "6h")], ids=["submit", "schedule"])
def test_what_an_omitted_step_would_have_given_is_asked_for_before_anything_is_sent(
    server, command, tmp_path, verb, steps, given, sentence
):
    path = tmp_path / "some.yaml"
    path.write_bytes(compiled_of(steps).replace(b":latest", b":v1"))
    parameters = [word for name, value in given.items() for word in ("--param", f"{name}={value}")]
    said = command(*verb, "--category", "desk", "--pipeline", str(path), *parameters)
    assert (said.status, sentence in said.err) == (1 if sentence else 0, True), said.err
    assert bool(server.asked("POST")) is not bool(sentence)


# what is wrong is said before anything is sent

SUBMIT = ("submit", "--category", "desk")
SCHEDULE = ("schedule", "--category", "desk")
REFUSED = {
    "an unknown parameter": ((*SUBMIT, "--param", "train_memroy=8Gi"), "no parameter train_memroy. Did you mean train_memory?"),
    "nothing like it": ((*SUBMIT, "--param", "zzz=1"), "It has annotation_version, category, device, evaluate_candidates"),
    "a text for a number": ((*SUBMIT, "--param", "train_epochs=many"), 'The parameter train_epochs is a whole number, not "many".'),
    "a fraction for a whole number": ((*SUBMIT, "--param", "train_epochs=1.5"), "train_epochs is a whole number, not 1.5"),
    "true for a number": ((*SUBMIT, "--param", "train_epochs=true"), "train_epochs is a whole number, not true"),
    "a list for an object": ((*SUBMIT, "--param", "train_overrides=[1]"), "train_overrides is an object"),
    "an object for a list": ((*SUBMIT, "--param", "pod_tolerations={}"), "pod_tolerations is a list"),
    "no value": ((*SUBMIT, "--param", "train_epochs"), "is not NAME=VALUE"),
    "an old name of a schedule": ((*SCHEDULE, "--every", "6h", "--param", "tolerations=[]"), "is now called pod_tolerations"),
    "an option that this pipeline lacks": ((*SUBMIT, "--dataset-version", "v0.1.0"), "--dataset-version v0.1.0 is for runs without record"),
    "steps of a compiled file": ((*SUBMIT, "--steps", "train"), "--steps is for compiling, and --pipeline "),
    "images of a compiled file": ((*SUBMIT, "--tag", "v2"), "--tag is for compiling, and --pipeline "),
    "a schedule's steps": ((*SCHEDULE, "--every", "6h", "--steps", "train"), "--steps is for compiling, and --pipeline "),
    "no category": (("submit",), "--category desk"),
    "no pipeline": (("submit", "--category", "desk", "--pipeline", "README.md"), "is not a compiled pipeline"),
    "no file": (("submit", "--category", "desk", "--pipeline", "none.yaml"), "cannot be read: No such file"),
    "a size in words": ((*SUBMIT, "--param", "train_memory=lots"), "train_memory=lots is not an amount that Kubernetes can read"),
    "a byte size": ((*SUBMIT, "--param", "train_memory=8GB"), "Write it like 8Gi or 512Mi"),
    "half a GPU": ((*SUBMIT, "--param", "train_gpus=0.5"), "train_gpus=0.5 is not an amount"),
    "a size of a schedule": ((*SCHEDULE, "--every", "6h", "--param", "test_cpu=two"), "Write it like 2 or 500m"),
    "too much": ((*SUBMIT, "--set", f"a={'x' * 10_000}"), "Shorten train_overrides (10"),
    "less than no epochs": ((*SUBMIT, "--param", "train_epochs=-5"), "train_epochs is -5. Give 0 or more."),
    "what no JSON holds": ((*SUBMIT, "--param", 'train_overrides={"optim_wrapper.optimizer.lr": NaN}'), "holds NaN or an infinity"),
    "no time": (SCHEDULE, "Say when"),
    "words for cron": ((*SCHEDULE, "--cron", "every day"), "has 2 fields"),
    "a zone in cron": ((*SCHEDULE, "--cron", "CRON_TZ=Europe/Berlin 0 0 2 * * *"), "--time-zone"),
    "an hour 25": ((*SCHEDULE, "--cron", "0 25 * * *"), "'25' is no hour. It takes 0 to 23"),
    "Sunday as 7": ((*SCHEDULE, "--cron", "0 2 * * 7"), "'7' is no day of week. It takes 0 to 6, or SUN to SAT"),
    "a day that never comes": ((*SCHEDULE, "--cron", "0 2 31 2 *"), "never fires"),
    "no zone": ((*SCHEDULE, "--cron", "0 2 * * *", "--time-zone", "Berlin"), "Berlin is not a time zone"),
    "a zone for an interval": ((*SCHEDULE, "--every", "6h", "--time-zone", "UTC"), "has no time of day"),
    "an interval of nothing": ((*SCHEDULE, "--every", "10s"), "at least a minute"),
    "too many at once": ((*SCHEDULE, "--every", "6h", "--max-concurrency", "11"), "at most 10"),
    "an old annotation version": ((*SCHEDULE, "--every", "6h", "--annotation-version", "v0.1.0"), "the newest annotation"),
    "the same by parameter": ((*SCHEDULE, "--every", "6h", "--param", "annotation_version=v1"), "the newest annotation"),
    "which schedule": (("schedule", "pause"), "Say which"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_named_before_anything_is_sent(server, command, compiled, case):
    arguments, sentence = REFUSED[case]
    if "--pipeline" not in arguments and arguments[:2] != ("schedule", "pause"):
        arguments = (*arguments, "--pipeline", str(compiled))
    said = command(*arguments)
    assert said.status == 1
    assert sentence in said.err
    assert server.requests == []


def test_an_old_name_of_a_parameter_is_answered_with_the_new_one(server, submit):
    said = submit("--param", "epochs=3")
    assert said.status == 1
    assert "The parameter epochs is now called train_epochs. Write --param train_epochs=VALUE." in said.err
    assert server.requests == []


def test_a_pipeline_of_before_the_names_takes_them_by_param_and_says_so_of_an_option(
    server, command, compiled, tmp_path
):
    older = tmp_path / "older.yaml"
    older.write_text(compiled.read_text().replace("train_epochs", "epochs").replace("train_config", "config"))
    submit = ("submit", "--category", "desk", "--pipeline", str(older))
    said = command(*submit, "--epochs", "3")
    assert said.status == 1
    assert (
        "compiled when train_epochs was still called epochs. Compile it again, or write --param epochs=VALUE."
        in said.err
    )
    said = command(*submit, "--param", "config=yolox_m")
    assert "There is no config 'yolox_m'" in said.err
    assert command(*submit, "--param", "epochs=3").status == 0
    assert only(server.runs)["runtime_config"]["parameters"]["epochs"] == 3


def test_what_looks_wrong_is_sent_on_demand(server, submit):
    said = submit("--param", "train_memory=lots", "--config", "yolox_m", "--no-check")
    assert said.status == 0, said.err
    assert only(server.runs)["runtime_config"]["parameters"]["train_memory"] == "lots"


@pytest.mark.parametrize("size", ["8Gi", "500m", "0.5", "1e9", "2", "1.5Gi", "128M", ".5"])
def test_sizes_that_kubernetes_reads_pass(size):
    assert checks.wrong_quantity({"train_memory": size, "train_cpu": size}) == ""


def test_annotations_that_sql_does_not_know_are_named_before_anything_is_sent(server, submit, database_url):
    assert submit().status == 0  # an empty database knows nothing
    server.requests.clear()
    database = open_database(database_url)
    for category in ("desk", "plates"):
        claim = claim_version(database, category, "annotation", "v0.1.0", "me")
        publish_version(database, claim, tag=f"{category}_ann_v0.1.0", commit="c" * 40, digest="d" * 64)
    said = submit("--category", "plaets")
    assert said.status == 1
    assert "no annotation version of the category plaets. Did you mean 'plates'?" in said.err
    said = submit("--annotation-version", "v0.2.0")
    assert "There is no annotation version v0.2.0 of desk; the newest is v0.1.0." in said.err
    assert server.requests == []
    assert submit("--annotation-version", "v0.1.0").status == 0


# the images


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `make images` and `make push` leave, in place of this checkout's own."""
    monkeypatch.setattr(images, "REMEMBERED", tmp_path / "images.json")
    for name in [name for name in sys.modules if re.match(r"components\.(\w+\.component|wiring)$", name)]:
        monkeypatch.delitem(sys.modules, name)  # they name their images when they are imported
    return tmp_path / "images.json"


@pytest.mark.parametrize("verb", [("submit",), ("schedule", "--every", "6h")], ids=["submit", "schedule"])
def test_images_that_nobody_named_are_refused_with_the_line_to_type(server, command, remembered, verb):
    said = command(*verb, "--category", "desk")
    assert said.status == 1
    assert "Nothing says which images the cluster should run" in said.err
    assert "`make images REGISTRY=europe-docker.pkg.dev/project/repo TAG=v1`" in said.err
    assert server.requests == []


def test_compiling_without_images_warns(command, remembered, tmp_path):
    said = command("compile", "-o", str(tmp_path / "p.yaml"))
    assert said.status == 0
    assert "warning: nothing says where the images are" in said.err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "eu.gcr.io/team/sightline-train:v7@sha256:b"),
        (("--tag", "v8"), "eu.gcr.io/team/sightline-train:v8"),
        (("--registry", "elsewhere"), "elsewhere/sightline-train:v7"),
    ],
    ids=["as they were pushed", "another tag", "another registry"],
)
def test_the_images_that_were_made_last_are_used(server, command, remembered, options, expected):
    made = {"registry": "eu.gcr.io/team", "tag": "v7", "digests": {"data": "sha256:a", "train": "sha256:b"}}
    remembered.write_text(json.dumps(made))
    said = command("submit", "--category", "desk", *options)
    assert said.status == 0, said.err
    spec = only(server.versions)["pipeline_spec"]["pipeline_spec"]
    used = {each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()}
    assert expected in used
    assert len(used) == 2


SPOILT = {
    "nulls": '{"registry": null, "tag": null}',
    "no digest of train": '{"registry": "r.example/x", "tag": "v1", "digests": {"data": "sha256:a"}}',
    "digests that are none": '{"registry": "r.example/x", "tag": "v1", "digests": {"data": 5, "train": null}}',
    "no object": "[1]",
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_note_of_the_images_is_no_note(server, command, remembered, case):
    remembered.write_text(SPOILT[case])
    said = command("submit", "--category", "desk")
    assert (said.status, "Nothing says which images the cluster should run" in said.err) == (1, True)


def test_a_registry_whose_name_ends_like_ours_is_somebodys(server, command, remembered):
    said = command("submit", "--category", "desk", "--registry", "ghcr.io/acme/sightline")
    assert said.status == 0, said.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--registry", "https://r.example/team"), "'https://r.example/team' is not a registry's name"),
        (("--registry", "R.example/Team"), "'R.example/Team' is not a registry's name"),
        (("--registry", "r.example/team/"), "'r.example/team/' is not a registry's name"),
        (("--registry", "r.example/team", "--tag", ":v1"), "':v1' is not a tag"),
    ],
)
def test_what_no_image_can_be_called_is_refused(server, command, remembered, options, told):
    said = command("submit", "--category", "desk", *options)
    assert (said.status, told in said.err) == (1, True)
    assert server.requests == []


def test_a_pipeline_is_not_written_where_nothing_can_be_written(command, tmp_path):
    said = command("compile", "-o", str(tmp_path))
    assert (said.status, f"{tmp_path} cannot be written" in said.err) == (1, True)
    assert not list(tmp_path.parent.glob(f"{tmp_path.name}.new"))


def test_make_remembers_what_it_built_and_pushed(tmp_path):
    """With a docker that says what a registry would."""
    (tmp_path / "docker").write_text(
        '#!/bin/sh\ncase "$*" in\n*RepoDigests*) for word; do last=$word; done\n'
        'echo "${last%:*}@sha256:0123" ;;\n*Size*) echo 1000000 ;;\nesac\n'
    )
    (tmp_path / "docker").chmod(0o755)
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for target in ("images", "push"):
        line = ["make", target, "REGISTRY=eu.gcr.io/team", "TAG=v7"]
        subprocess.run(line, cwd=tmp_path, env=environment, check=True, capture_output=True)
        made = json.loads((tmp_path / images.REMEMBERED.name).read_text())
        assert (made["registry"], made["tag"]) == ("eu.gcr.io/team", "v7")
        assert made.get("digests") == ({"data": "sha256:0123", "train": "sha256:0123"} if target == "push" else None)
    ignored = subprocess.run(["git", "check-ignore", "-q", images.REMEMBERED.name], cwd=REPOSITORY, check=False)
    assert ignored.returncode == 0


# the connection


@pytest.mark.slow
@pytest.mark.parametrize("way", ["option", "file", "environment", "service account"])
def test_a_token_opens_the_server(server, submit, tmp_path, monkeypatch, way):
    server.login = Login(token=TOKEN)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    options = {"option": ("--token", TOKEN), "file": ("--token-file", str(file))}
    if way == "environment":
        monkeypatch.setenv("KF_PIPELINES_TOKEN", TOKEN)
    if way == "service account":
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    assert submit(*options.get(way, ())).status == 0
    assert len(server.runs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("way", ["value", "file", "a header's line in a file", "environment"])
def test_a_session_cookie_opens_the_server(server, submit, tmp_path, monkeypatch, way):
    server.login = Login(cookie=COOKIE, otherwise="page")
    file = tmp_path / "cookies"
    file.write_text(f"Cookie: other=1; {COOKIE}\n" if "line" in way else f"{COOKIE}\n")
    if way == "environment":
        monkeypatch.setenv("KF_PIPELINES_COOKIES", str(file))
    options = ("--cookies", COOKIE) if way == "value" else () if way == "environment" else ("--cookies", str(file))
    assert submit(*options).status == 0
    assert len(server.runs) == 1


WRONG = {
    "no login": (Login(token=TOKEN), (), "refuses the login (sent no token and no cookies). Log in with --cookies"),
    "an old token": (Login(token="new"), ("--token", TOKEN), "refuses the login (sent a token). It may have expired"),
    "a right that is missing": (Login("new", "", "403"), ("--token", TOKEN), "forbids this (refused Bearer ***"),
    "a cookie that ran out": (Login("", "new=1", "403"), ("--cookies", COOKIE), "forbids this (refused ***; sent cookies)"),
    "a login page": (Login("", "new=1", "page"), (), "answers with a web page, likely a login"),
    "on the way to a login page": (Login("", "new=1", "redirect"), ("--cookies", COOKIE), "likely a login"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_refused_login_gets_a_sentence_without_the_secret(server, submit, case):
    server.login, options, sentence = WRONG[case]
    said = submit(*options)
    assert said.status == 1
    assert said.err.count("error:") == 1
    assert sentence in said.err.replace(COOKIE.partition("=")[2], "***")
    assert server.runs == {}


def test_a_secret_is_not_shown_by_the_errors_of_its_option(command, tmp_path):
    two_lines = tmp_path / "token"
    two_lines.write_text(f"{TOKEN}\nsecond")
    for arguments, sentence in (
        (("--token-file", str(two_lines)), "more than one line"),
        (("--token-file", str(tmp_path / "none")), "not a file that can be read"),
        (("--cookies", TOKEN), "--cookies: what it names is not a file"),
        (("--cookies", f"{COOKIE}; {TOKEN}"), "not NAME=VALUE"),
    ):
        said = command("runs", *arguments)
        assert said.status == 1
        assert sentence in said.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "accepted"),
    [("unknown", True), ("2.17.0", True), ("v2.5.0", True), ("", True), ("2.4.1", False), ("1.8.5", False)],
)
def test_a_server_before_2_5_is_too_old(server, submit, tag, accepted):
    server.tag_name = tag
    said = submit()
    assert (said.status == 0) is accepted
    assert accepted or f"is version {tag}, too old: Sightline needs 2.5" in said.err


def test_a_server_of_version_1_or_another_address_is_told(server, submit):
    server.before = lambda _: Answer({"code": 5, "message": "Not Found"}, 404)
    said = submit()
    assert said.status == 1
    assert "There is no Kubeflow Pipelines 2 at" in said.err


def test_a_server_that_is_not_there(command, compiled, monkeypatch):
    with closed_port() as port:
        host = f"http://127.0.0.1:{port}"
        said = command("submit", "--category", "desk", "--pipeline", str(compiled), "--host", host)
    assert said.status == 1
    assert re.search(rf"{host} cannot be reached \(.*Connection refused.*\)\. Check the address", said.err)
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    said = command("submit", "--category", "desk", "--pipeline", str(compiled))
    assert "Nothing says where Kubeflow Pipelines is. Give --host" in said.err


def test_a_server_that_is_silent_is_given_up(submit, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "0.2")
    with silent_port() as port:
        said = submit("--host", f"http://127.0.0.1:{port}")
    assert said.status == 1
    assert "cannot be reached" in said.err
    assert "timed out" in said.err


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_would_like_one_to_wait_is_not_waited_for(server, submit, status):
    server.before = lambda _: Answer({"message": "later"}, status, headers={"Retry-After": "3600"})
    said = submit()
    assert said.status == 1
    assert f"refuses ({status}): later" in said.err


def test_an_answer_that_never_ends_is_given_up(submit, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "0.5")
    with dripping_port(seconds=0.1) as port:
        said = submit("--host", f"http://127.0.0.1:{port}")
    assert said.status == 1
    assert "no whole answer within 1.5 s" in said.err


def test_pages_that_lead_in_a_circle_are_asked_for_once(server, command):
    def circle(request: Request) -> Answer | None:
        if not request.path.endswith("/runs"):
            return None
        return Answer({"runs": [], "next_page_token": "B" if request.query.get("page_token") == "A" else "A"})

    server.before = circle
    assert command("runs").status == 0
    assert len(server.asked("GET /runs")) <= 4


def test_users_with_namespaces(server, submit):
    server.multi_user = True
    said = submit()
    assert said.status == 1
    assert "serves several users" in said.err
    assert "--kfp-namespace" in said.err
    said = submit("--kfp-namespace", "ann")
    assert said.status == 0, said.err
    assert only(server.pipelines)["namespace"] == "ann"
    assert only(server.experiments)["namespace"] == "ann"
    server.requests.clear()
    assert submit("--kfp-namespace", "ann").status == 0
    assert not server.asked("POST /pipelines")


@pytest.mark.slow
def test_kfps_own_configuration_is_used(server, compiled, tmp_path):
    """Read by kfp once, when it is imported: so in a process of its own."""
    server.multi_user, server.login = True, Login(cookie=COOKIE)
    place = tmp_path / ".config" / "kfp" / "context.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"namespace": "ann", "client_authentication_cookie": COOKIE}))
    command = [sys.executable, REPOSITORY / "pipeline.py", "submit", "--category", "desk", "--pipeline", compiled]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KF_PIPELINES_ENDPOINT": server.url}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert only(server.experiments)["namespace"] == "ann"
    place.write_text("{no")
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"Correct or remove {place}" in done.stderr


def test_a_server_below_a_path(server, command, compiled):
    server.root = "/pipeline"
    said = command(
        "submit", "--category", "desk", "--pipeline", str(compiled), "--host", f"{server.url}/pipeline/#/runs"
    )
    assert said.status == 0, said.err
    assert f"{server.url}/pipeline/#/runs/details/{only(server.runs)['run_id']}" in said.out


def test_without_a_host_kubectls_cluster_is_used(server, submit, tmp_path, monkeypatch):
    server.root = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    config = str(write_kubeconfig(tmp_path / "kubeconfig", server.url))
    monkeypatch.setenv("KUBECONFIG", config)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", config)
    said = submit()
    assert said.status == 0, said.err
    assert f"#/runs/details/{only(server.runs)['run_id']} in Kubeflow's UI" in said.out
    assert "https://ui/#/runs/details/" in submit("--ui", "https://ui").out


def test_nothing_warns_of_a_kubeconfig_that_checks_no_certificate(tmp_path):
    """Else each request of `--wait` would; in a process of its own, as pytest keeps warnings to itself."""
    server = KfpServer()
    server.root = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"
    with serve(server, make_authority(tmp_path)[1]):
        config = write_kubeconfig(tmp_path / "kubeconfig", server.url)
        text = config.read_text()
        config.write_text(text.replace("cluster:\n", "cluster:\n    insecure-skip-tls-verify: true\n", 1))
        command = [sys.executable, REPOSITORY / "pipeline.py", "runs"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(config)}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "no runs yet" in done.stdout, done.stderr
    assert done.stderr == "SQL is missing: SIGHTLINE_DATABASE_URL is not set\n"


def test_a_private_authority_is_trusted_when_it_is_named(command, compiled, tmp_path):
    authority, certificate = make_authority(tmp_path)
    arguments = ("submit", "--category", "desk", "--pipeline", str(compiled))
    with serve(KfpServer(), certificate) as server:
        said = command(*arguments, "--host", server.url)
        assert said.status == 1
        assert f"The TLS certificate of {server.url} is not trusted here" in said.err
        assert "--ca FILE" in said.err
        assert command(*arguments, "--host", server.url, "--ca", str(authority)).status == 0
        assert len(server.runs) == 1
    said = command(*arguments, "--ca", str(compiled))
    assert "is not a file with certificates" in said.err


def make_authority(folder: Path) -> tuple[Path, tuple[str, str]]:
    """A private authority's certificate, and a certificate with its key that it signed for localhost."""
    now = datetime.datetime.now(datetime.UTC)

    def certify(name: str, issuer: str, own: Any, signing: Any, is_authority: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            # Without these, Python 3.13 trusts no authority's certificate.
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        )
        if is_authority:
            uses = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment"), False)
            uses |= dict.fromkeys(("data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)
            usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, **uses)
            builder = builder.add_extension(usage, critical=True)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(signing, hashes.SHA256())

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    paths = [folder / name for name in ("authority.pem", "server.pem", "server.key")]
    paths[0].write_bytes(certify("us", "us", keys[0], keys[0], True).public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(certify("localhost", "us", keys[1], keys[0], False).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[2].write_bytes(keys[1].private_bytes(*form))
    return paths[0], (str(paths[1]), str(paths[2]))


# --wait


def test_a_run_is_followed_through_every_state(server, submit):
    server.plan = [
        None,
        (),
        (("snapshot", DRIVER),),
        (("snapshot", PENDING),),
        (("snapshot", RUNNING),),
        (("snapshot", DONE), ("record", DRIVER)),
        (("snapshot", DONE), ("record", REUSED), ("train", RUNNING)),
        (("snapshot", DONE), ("record", REUSED), ("train", RUNNING)),
        (("snapshot", DONE), ("record", REUSED), ("train", FAILED)),
    ]
    said = submit("--wait")
    assert said.status == 1
    assert [line.split()[:2] for line in said.out.splitlines() if line.startswith("  ")] == [
        ["snapshot", "pending"],
        ["snapshot", "running"],
        ["snapshot", "done"],
        ["record", "reused"],
        ["train", "running"],
        ["train", "failed"],
    ]
    assert re.search(r"snapshot   done +10 s", said.out)
    assert "error: the step train failed" in said.err
    assert "SIGHTLINE_DATABASE_URL is not set" in said.err
    assert f"/#/runs/details/{only(server.runs)['run_id']}" in said.err


def test_the_reason_of_a_failure_comes_from_sql(server, submit, database_url):
    server.plan = [(("snapshot", DONE),), (("snapshot", DONE), ("record", FAILED))]
    record_when_started(server, database_url, "record", "failed", "LabelmeError: a.json has no shapes")
    said = submit("--wait")
    assert said.status == 1
    assert "error: the step record failed: LabelmeError: a.json has no shapes" in said.err


def test_a_run_ends_with_its_scores_and_its_page(server, submit, database_url):
    server.plan = [[(step, DONE) for step in ("snapshot", "record", "train", "evaluate", "test")]]
    record_when_started(
        server, database_url, "evaluate", "done", scores={"bbox_mAP": 0.8125, "segm_mAP": None, "f1": 0.5}
    )
    said = submit("--wait")
    assert said.status == 0, said.err
    assert re.search(r"bbox_mAP\W+0\.812", said.out) and re.search(r"f1\W+0\.500", said.out)
    assert "segm_mAP" not in said.out
    assert said.out.splitlines()[-1] == f"{server.url}/#/runs/details/{only(server.runs)['run_id']}"


def test_a_run_with_nothing_new_says_so(server, submit, command):
    server.plan = [[("snapshot", DONE), *((step, REUSED) for step in ("record", "train", "evaluate", "test"))]]
    said = submit("--wait")
    assert said.status == 0
    assert "nothing new: every step was reused" in said.out
    assert "nothing new: every step reused" in command("runs").out
    server.plan = [[("snapshot", DONE), ("record", REUSED), ("train", DONE)]]
    assert "nothing new" not in submit("--wait").out


def test_a_run_that_somebody_stops_is_no_success(server, submit):
    server.plan = [(("snapshot", RUNNING),)] * 3

    def stop(request: Request) -> None:
        if server.runs and len(server.asked("GET /runs/")) == 2:
            run = only(server.runs)
            server.terminate_run(request, run["run_id"]) if run["state"] == "RUNNING" else None

    server.before = stop
    said = submit("--wait")
    assert said.status == 1
    assert "the run was stopped by somebody" in said.err


def test_a_server_that_restarts_is_waited_for(server, submit):
    server.plan = [(("snapshot", RUNNING),), (("snapshot", DONE), ("record", DONE))]
    silent = iter(range(3))

    def restarting(request: Request) -> Answer | None:
        if request.path.startswith("/apis/v2beta1/runs/") and next(silent, None) is not None:
            return Answer("<html>no healthy upstream</html>", 503, "text/html")
        return None

    server.before = restarting
    assert submit("--wait").status == 0


@pytest.mark.slow
def test_a_session_that_runs_out_ends_the_following_not_the_run(server, submit):
    server.login = Login(cookie=COOKIE, otherwise="page")
    server.plan = [(("snapshot", RUNNING),)] * 9

    def run_out(_: Request) -> None:
        if len(server.asked("GET /runs/")) == 3:
            server.login = Login(cookie="session=new", otherwise="page")

    server.before = run_out
    said = submit("--wait", "--cookies", COOKIE)
    assert said.status == 1
    assert "likely a login" in said.err
    assert f"The run {only(server.runs)['run_id']} goes on all the same" in said.err


def test_ctrl_c_leaves_the_run_running(server, submit, monkeypatch):
    server.plan = [(("snapshot", RUNNING),)] * 9

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.time, "sleep", interrupt)
    said = submit("--wait")
    assert said.status == 130
    assert "the run goes on" in said.err
    assert only(server.runs)["state"] == "RUNNING"
    assert not [request for request in server.requests if request.path.endswith(":terminate")]


def record_when_started(
    server: KfpServer, url: str, step: str, state: Any, reason: str = "", scores: dict[str, Any] | None = None
) -> None:
    """Write what a step of the run would, as soon as the server knows the run."""
    database = open_database(url)

    def record(request: Request) -> None:
        if server.runs and request.path.startswith("/apis/v2beta1/runs/"):
            server.before = lambda _: None
            run = only(server.runs)["run_id"]
            begin(url, run, step)
            if scores is not None:
                claim = claim_version(database, "desk", "dataset", "v0.1.0", "me")
                version = publish_version(database, claim, tag="desk_train_v0.1.0", commit="c" * 40, digest="d" * 64).id
                model = write_model(database, "gs://b/best", "0" * 64, "best", run_id=run)
                write_evaluation(
                    database,
                    run_id=run,
                    model_id=model.id,
                    version_id=version,
                    split="test",
                    selected=True,
                    overall=scores,
                )
            end_step(database, run, step, state, reason)

    server.before = record


def begin(url: str, run: str, step: str, category: str = "desk") -> None:
    start_step(
        open_database(url), run, step, category=category, code=f"{step}-0123", code_digest="0" * 64, parameters={}
    )


# schedule


def test_a_nightly_schedule_request_by_request(server, command, compiled):
    said = command(
        "schedule", "--pipeline", str(compiled), "--category", "desk", "--cron", "0 2 * * *", "--name", "nightly"
    )
    assert said.status == 0, said.err
    assert kinds(server) == [
        "GET /recurringruns",
        "GET /pipelines",
        "POST /pipelines/upload",
        "GET /pipelines/ID/versions",
        "GET /experiments",
        "POST /experiments",
        "POST /recurringruns",
    ]
    body = server.requests[-1].body
    assert body["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * *"}}
    assert (body["mode"], body["max_concurrency"], body["no_catchup"]) == ("ENABLE", 1, True)
    assert body["pipeline_version_reference"]["pipeline_version_id"] in server.versions
    assert body["experiment_id"] in server.experiments
    parameters = body["runtime_config"]["parameters"]
    assert parameters["annotation_version"] == ""  # the newest, at each firing
    assert parameters["category"] == "desk"
    assert "cron '0 0 2 * * *'" in said.out
    assert "02:00" in said.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--every", "6h"), {"periodic_schedule": {"interval_second": "21600"}}),
        (("--cron", "30 0 2 * * 1-5"), {"cron_schedule": {"cron": "30 0 2 * * 1-5"}}),
        (("--cron", "@daily"), {"cron_schedule": {"cron": "0 0 0 * * *"}}),
        (("--cron", "0 2 * * *", "--time-zone", "Asia/Kolkata"), {"cron_schedule": {"cron": "0 30 20 * * *"}}),
        (
            ("--cron", "0 2 * * *", "--time-zone", "Europe/Berlin", "--server-time-zone", "Europe/Berlin"),
            {"cron_schedule": {"cron": "0 0 2 * * *"}},
        ),
    ],
)
def test_what_a_trigger_becomes(server, command, compiled, options, expected):
    said = command("schedule", "--pipeline", str(compiled), "--category", "desk", *options)
    assert said.status == 0, said.err
    assert only(server.schedules)["trigger"] == expected
    assert said.err == ""


def test_a_zone_with_summer_time_is_warned_of(server, command, compiled):
    zone = ("--cron", "0 2 * * *", "--time-zone", "Europe/Berlin")
    said = command("schedule", "--pipeline", str(compiled), "--category", "desk", *zone)
    assert only(server.schedules)["trigger"]["cron_schedule"]["cron"] in ("0 0 1 * * *", "0 0 0 * * *")
    assert "02:00 Europe/Berlin" in said.out
    assert "fires at another time in Europe/Berlin" in said.err
    assert "--server-time-zone Europe/Berlin" in said.err


def test_a_line_that_fires_every_hour_is_sent_as_it_is_written(server, command, compiled):
    zone = ("--cron", "*/2 * * * *", "--time-zone", "Europe/Berlin")
    said = command("schedule", "--pipeline", str(compiled), "--category", "desk", *zone)
    assert only(server.schedules)["trigger"]["cron_schedule"]["cron"] == "0 */2 * * * *"
    assert said.err == ""


def test_catchup_and_concurrency(server, command, compiled):
    options = ("--every", "90m", "--catchup", "--max-concurrency", "3")
    assert command("schedule", "--pipeline", str(compiled), "--category", "desk", *options).status == 0
    schedule = only(server.schedules)
    assert schedule["max_concurrency"] == "3"
    assert "no_catchup" not in schedule


def test_a_schedule_of_the_same_name_is_replaced_only_on_demand(server, command, compiled):
    arguments = ("schedule", "--pipeline", str(compiled), "--category", "desk", "--every")
    command(*arguments, "6h")
    server.requests.clear()
    said = command(*arguments, "12h")
    assert said.status == 1
    assert "There is a schedule desk already (every 6h). Replace it with --replace" in said.err
    assert not server.asked("POST", "DELETE")
    assert command(*arguments, "12h", "--replace").status == 0
    assert only(server.schedules)["trigger"]["periodic_schedule"]["interval_second"] == "43200"
    assert [each.split()[0] for each in server.asked("POST", "DELETE")] == ["POST", "DELETE"]


def test_schedules_are_listed_paused_resumed_and_deleted(server, command, compiled):
    assert "no schedules yet" in command("schedule", "list").out
    for name, when in (("nightly", ("--cron", "0 2 * * *")), ("often", ("--every", "6h"))):
        command("schedule", "--pipeline", str(compiled), "--category", "desk", "--name", name, *when)
    assert command("schedule", "pause", "nightly").status == 0
    listed = command("schedule", "list").out.splitlines()
    assert listed[1].split()[:10] == ["nightly", "desk", "paused", "0", "2", "*", "*", "*", "UTC", "-"]
    assert listed[2].split()[:6] == ["often", "desk", "on", "every", "6h", "-"]
    assert command("schedule", "resume", "nightly").status == 0
    assert {each["status"] for each in server.schedules.values()} == {"ENABLED"}
    assert command("schedule", "delete", "nightly").status == 0
    assert only(server.schedules)["display_name"] == "often"
    said = command("schedule", "delete", "nightly")
    assert said.status == 1
    assert "There is no schedule nightly. Known: often." in said.err
    assert "There is no schedule oftn. Did you mean 'often'?" in command("schedule", "pause", "oftn").err


def test_a_listed_schedule_shows_what_was_typed_and_when_that_is_next(server, command, compiled):
    create = ("schedule", "--pipeline", str(compiled), "--category", "desk", "--cron", "0  2 * * *", "--retry", "3")
    assert command(*create, "--time-zone", "Europe/Berlin").status == 0
    schedule = only(server.schedules)
    assert "(retry=3)" in schedule["description"]
    line = command("schedule", "list").out.splitlines()[1]
    assert line.split()[:9] == ["desk", "desk", "on", "0", "2", "*", "*", "*", "Europe/Berlin"]
    now = datetime.datetime.now(ZoneInfo("Europe/Berlin"))
    tomorrow = now + datetime.timedelta(days=now.hour >= 2)
    assert f"{tomorrow:%Y-%m-%d} 02:00" in line or now.utcoffset() != tomorrow.utcoffset()
    schedule["trigger"] = {"cron_schedule": {"cron": "0 30 4 * * *"}}  # what it keeps is of another line
    line = command("schedule", "list").out.splitlines()[1]
    assert line.split()[:10] == ["desk", "desk", "on", "0", "30", "4", "*", "*", "*", "UTC"]
    assert " 04:30 " in line
    assert " Asia/Tokyo " in command("schedule", "list", "--server-time-zone", "Asia/Tokyo").out
    schedule["trigger"] = {"cron_schedule": {"cron": "@every 90m"}}
    assert "@every 90m UTC  -" in command("schedule", "list").out


def deleted_under_its_run(server: KfpServer, command: Command, compiled: Path, *how: str) -> tuple[str, Said]:
    """A schedule whose run is going is deleted, or replaced; the run."""
    command("schedule", "--pipeline", str(compiled), "--category", "desk", "--every", "6h")
    run = server.fire(only(server.schedules)["recurring_run_id"])
    server.requests.clear()
    again = ("--pipeline", str(compiled), "--category", "desk", "--every", "12h")
    return run, command("schedule", *(again if "--replace" in how else ()), *how)


@pytest.mark.parametrize("how", [("delete", "desk"), ("--replace",)], ids=["deleted", "replaced"])
def test_a_schedule_that_goes_leaves_its_run_to_end_by_itself(server, command, compiled, how):
    run, said = deleted_under_its_run(server, command, compiled, *how)
    assert said.status == 0, said.err
    (deletion,) = [each for each in server.requests if each.method == "DELETE"]
    assert deletion.query == {"propagation_policy": "ORPHAN"}
    name = server.runs[run]["display_name"]
    assert f"run {run}: {name} goes on and ends by itself (--stop-runs would have stopped it)" in said.out
    assert "without its schedule it cannot be retried" in said.out
    server.report(run, "SUCCEEDED")
    assert server.runs[run]["state"] == "SUCCEEDED"
    assert not server.asked(f"POST /runs/{run}:terminate")


def test_a_schedules_run_is_stopped_on_demand_before_the_schedule_goes(server, command, compiled):
    run, said = deleted_under_its_run(server, command, compiled, "delete", "desk", "--stop-runs")
    assert said.status == 0, said.err
    asked = [re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", each) for each in server.asked("POST", "DELETE")]
    assert asked == ["POST /recurringruns/ID:disable", "POST /runs/ID:terminate", "DELETE /recurringruns/ID"]
    assert f"run {run}: {server.runs[run]['display_name']} is being stopped" in said.out
    assert server.runs[run]["state"] == "CANCELING"
    assert "SQL themselves if they have the time (from here: SIGHTLINE_DATABASE_URL is not set)" in said.out


@pytest.mark.parametrize("how", [("delete", "desk"), ("--replace",)], ids=["deleted", "replaced"])
def test_a_schedules_run_that_is_stopped_says_so_in_sql(server, command, compiled, database_url, how):
    command("schedule", "--pipeline", str(compiled), "--category", "desk", "--every", "6h")
    run = server.fire(only(server.schedules)["recurring_run_id"])
    for step in ("record", "train"):
        begin(database_url, run, step)
    end_step(open_database(database_url), run, "record", "done")
    again = ("--pipeline", str(compiled), "--category", "desk", "--every", "12h")
    said = command("schedule", *(again if "--replace" in how else ()), *how, "--stop-runs")
    assert said.status == 0, said.err
    assert f"run {run}: {server.runs[run]['display_name']} is being stopped; stopped in SQL: train\n" in said.out
    database = open_database(database_url)
    assert [(step.step, step.state) for step in list_steps(database, run)] == [("record", "done"), ("train", "stopped")]
    found = find_run(database, run)
    assert found is not None and found.state == "stopped" and found.ended_at is not None


def test_a_schedule_goes_although_a_run_of_it_is_lost_already(server, command, compiled):
    command("schedule", "--pipeline", str(compiled), "--category", "desk", "--every", "6h")
    run = server.fire(only(server.schedules)["recurring_run_id"])
    server.runs[run]["_gone"] = True  # as after a deletion of its workflow: the server answers 500
    said = command("schedule", "delete", "desk", "--stop-runs")
    assert said.status == 0, said.err
    assert f"run {run}: {server.runs[run]['display_name']} was lost, with its workflow" in said.out
    assert not server.schedules


# retry

LOST = [(("snapshot", DONE), ("train", RUNNING)), (("snapshot", DONE), ("train", FAILED))]
WELL = [(("snapshot", DONE), ("train", DONE))]


def lose_pods(server: KfpServer, url: str, state: str = "running", reason: str = "") -> None:
    """Each run's train step is gone without a word, or with the reason that it wrote."""

    def write(request: Request) -> None:
        for run in server.runs.values():
            if request.method == "GET" and run["run_id"] in request.path and run["_plan"] and not run["_steps"]:
                begin(url, run["run_id"], "train")
                if state != "running":
                    end_step(open_database(url), run["run_id"], "train", state, reason)  # type: ignore[arg-type]

    server.before = write


def retries(server: KfpServer) -> list[str]:
    return [each for each in server.asked("POST /runs/") if each.endswith(":retry")]


def failed_run(server: KfpServer, submit: Command, url: str, *options: str, **how: str) -> str:
    server.plan = LOST
    submit(*options)
    lose_pods(server, url, **how)
    run = str(only(server.runs)["run_id"])
    for _ in LOST:
        server.answer(Request("GET", f"/apis/v2beta1/runs/{run}", {}, {}, None))
    server.requests.clear()
    return run


def events(url: str, run: str) -> list[tuple[str, str]]:
    return [(event.kind, event.message) for step in list_steps(open_database(url), run) for event in step.events]


def test_a_run_that_a_lost_pod_ended_is_retried_while_it_is_waited_for(server, submit, database_url):
    server.plan, server.retried = LOST, WELL
    lose_pods(server, database_url)
    said = submit("--wait", "--retry", "2")
    assert said.status == 0, said.err
    run = only(server.runs)
    assert retries(server) == [f"POST /runs/{run['run_id']}:retry"]
    assert "retry 1 of 2, since train: its pod is gone and wrote no reason" in said.out
    assert events(database_url, run["run_id"]) == [("retried", "1 of 2: train: its pod is gone and wrote no reason")]
    assert run["description"] == "Retried at most 2 times when a pod is lost (retry=2)"


def test_a_run_is_retried_so_often_and_no_more(server, submit, database_url):
    server.plan = server.retried = LOST
    lose_pods(server, database_url)
    write = server.before
    server.before = lambda request: Answer({}, 500) if len(retries(server)) > 2 else write(request)
    said = submit("--wait", "--retry", "2")
    assert said.status == 1
    assert len(retries(server)) == 2
    assert "not retried (it was retried 2 times already)" in said.err


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"state": "failed", "reason": "ConfigError: no such config"}, "error: ConfigError: no such config"),
        ({}, "SQL cannot be read (SIGHTLINE_DATABASE_URL is not set)"),
    ],
    ids=["an error of its own", "no SQL to tell"],
)
def test_what_may_be_a_users_error_is_not_retried(server, submit, database_url, monkeypatch, how, why):
    server.plan = LOST
    lose_pods(server, database_url, **how)
    if not how:
        monkeypatch.delenv("SIGHTLINE_DATABASE_URL")
    said = submit("--wait", "--retry", "2")
    assert said.status == 1
    assert retries(server) == []
    assert why in said.err


def test_a_dead_driver_is_retried_but_not_one_that_could_not_read_its_pods_size(server, submit, database_url):
    recorded = json.loads((REPOSITORY / "tests/data/kfp_server/runs_of_sightline.json").read_text())
    dead = next(each["run"] for each in recorded if "API server restarted" in each["doing"])
    unread = next(each["run"] for each in recorded if "train_memory=lots" in each["doing"])
    records = open_metadata(Path("none"))
    assert retry.cause_of(read(Run, dead), records, Glance("")).kind == "lost"
    cause = retry.cause_of(read(Run, unread), records, Glance(""))
    assert cause.kind == "error"
    assert "train_memory=lots is not an amount that Kubernetes can read" in cause.why


def test_two_who_look_retry_a_lost_run_once(server, submit, command, database_url):
    run = failed_run(server, submit, database_url, "--retry", "1")
    server.retried = [WELL[0]] * 9

    def somebody_is_faster(request: Request) -> None:
        if request.path.endswith(":retry"):
            server.before = lambda _: None
            server.retry_run(request, run)

    server.before = somebody_is_faster
    said = command("runs", "--retry-lost")
    assert (said.status, said.err) == (0, "")
    assert [each["state"] for each in server.runs[run]["state_history"]].count("FAILED") == 1
    assert command("runs", "--retry-lost").status == 0
    assert len(retries(server)) == 1  # asked once, by the slower, and refused: 409


def test_runs_retries_what_its_schedule_allows(server, command, compiled, database_url):
    command("schedule", "--pipeline", str(compiled), "--category", "desk", "--every", "6h", "--retry", "3")
    assert only(server.schedules)["description"] == "Retried at most 3 times when a pod is lost (retry=3)"
    server.plan, server.retried = LOST, [WELL[0]] * 9
    run = server.fire(only(server.schedules)["recurring_run_id"])
    begin(database_url, run, "train")
    for _ in LOST:
        server.look(server.runs[run])
    said = command("runs", "--retry-lost")
    assert f"run {run}: retry 1 of 3" in said.out
    assert server.runs[run]["state"] == "RUNNING"


def test_a_run_without_leave_is_retried_by_nobody_but_a_person(server, submit, command, database_url):
    run = failed_run(server, submit, database_url)
    command("runs", "--retry-lost")
    assert retries(server) == []
    server.retried = WELL
    said = command("retry", run[:8], "--wait")
    assert said.status == 0, said.err
    assert f"run {run}: retried, for the first time; finished steps are not run again" in said.out
    assert events(database_url, run) == [("retried", "1 by hand: train: its pod is gone and wrote no reason")]


def test_retry_refuses_what_it_would_not_help(server, submit, command, compiled, database_url):
    run = failed_run(server, submit, database_url, state="failed", reason="ConfigError: no such config")
    said = command("retry", run)
    assert said.status == 1
    assert f"The step train of the run {run} failed by itself: ConfigError: no such config." in said.err
    assert retries(server) == []
    server.retried = WELL * 2
    assert command("retry", run, "--force").status == 0
    assert "has not ended (Kubeflow: running)" in command("retry", run).err
    assert "succeeded: there is nothing to retry" in command("retry", run).err
    assert len(retries(server)) == 1


def test_a_run_whose_schedule_is_gone_is_not_retried_since_it_would_be_lost(server, command, compiled, database_url):
    command("schedule", "--pipeline", str(compiled), "--category", "desk", "--every", "6h", "--retry", "3")
    server.plan = LOST
    run = server.fire(only(server.schedules)["recurring_run_id"])
    begin(database_url, run, "train")
    for _ in LOST:
        server.look(server.runs[run])
    command("schedule", "delete", "desk")
    said = command("retry", run)
    assert said.status == 1
    assert (
        f"The schedule that started the run {run} is deleted, and a retry of it would be lost: the server would say yes, and "
        "Kubernetes remove at once what belongs to a schedule that is gone. Start another, which goes on at the same "
        "checkpoint: python pipeline.py submit --category desk\n"
    ) in said.err
    command("runs", "--retry-lost")
    assert retries(server) == []


# runs


def test_runs_shows_kubeflow_and_sql_side_by_side(server, submit, command, database_url):
    server.plan = [(("snapshot", DONE), ("record", RUNNING))] * 2
    submit("--name", "first")
    run = only(server.runs)["run_id"]
    server.get_run(server.requests[-1], run)
    for step in ("snapshot", "record"):
        begin(database_url, run, step)
    end_step(open_database(database_url), run, "snapshot", "done")
    begin(database_url, "20261121-085810-9c93", "record", category="plates")
    end_step(open_database(database_url), "20261121-085810-9c93", "record", "failed", "LabelmeError: bad")

    rows = json.loads(command("runs", "--json").out)
    assert [row["id"] for row in rows] == ["20261121-085810-9c93", run]  # newest first
    assert (rows[1]["kubeflow"], rows[1]["sql"], rows[1]["name"]) == ("running", "running", "first")
    states = {step["name"]: (step["kubeflow"], step["sql"]) for step in rows[1]["steps"]}
    assert states == {"snapshot": ("done", "done"), "record": ("running", "running")}
    assert (rows[0]["kubeflow"], rows[0]["sql"]) == ("", "failed")

    stop_heart(database_url, run, "record")
    said = command("runs")
    assert said.err == ""
    assert re.search(rf"{run[:8]} +first +desk .* running +lost +snapshot done, record running / lost", said.out)
    assert "record: LabelmeError: bad" in said.out
    only_desk = json.loads(command("runs", "--category", "desk", "--json").out)
    assert [row["id"] for row in only_desk] == [run]
    assert len(json.loads(command("runs", "--limit", "1", "--json").out)) == 1


@pytest.mark.slow
def test_runs_works_with_one_of_the_two_and_says_which_is_missing(server, submit, command, database_url, monkeypatch):
    submit()
    run = only(server.runs)["run_id"]
    begin(database_url, run, "snapshot")
    with closed_port() as port:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"http://127.0.0.1:{port}")
        said = command("runs")
    assert said.status == 0
    assert f"Kubeflow is missing: Kubeflow Pipelines at http://127.0.0.1:{port} cannot be reached" in said.err
    assert run[:8] in said.out
    monkeypatch.delenv("SIGHTLINE_DATABASE_URL")
    said = command("runs")
    assert said.status == 1
    assert "SQL is missing" in said.err
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "1")
    with closed_port() as port:
        monkeypatch.setenv("SIGHTLINE_DATABASE_URL", f"mysql+pymysql://me:{TOKEN}@127.0.0.1:{port}/sightline")
        said = command("runs")
    assert said.status == 0
    assert f"SQL is missing: mysql at 127.0.0.1:{port}/sightline could not be reached" in said.err
    assert run[:8] in said.out


def stop_heart(url: str, run: str, step: str) -> None:
    """The step's last sign of life was long ago."""
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    open_database(url).write(
        lambda session: session.query(StepRow).filter_by(run_id=run, step=step).update({"heartbeat_at": long_ago})
    )
