"""What submit and schedule refuse before anything is sent: names and keys, by the checks with which the run would begin."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.parameters import CONFIG, OVERRIDES
from laptop.kubeflow import checks
from sightline.services.database.connection import connect
from sightline.services.database.versions import claim_version, publish_version
from tests.functional.test_kubeflow import command, compiled, database_url, only, server, submit
from tests.ports import silent_port
from tests.workspace import REPOSITORY, run_pipeline

__all__ = ["command", "compiled", "database_url", "server", "submit"]
"""Fixtures, which pytest finds by being here."""

LEARNING_RATE = "optim_wrapper.optimizer.lr"


@pytest.mark.parametrize("verb", [("submit",), ("schedule", "--every", "6h")], ids=["submit", "schedule"])
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--config", "yolox_m"), "There is no config 'yolox_m' in the helper code's folder configs. Did you mean 'yolox_s'?"),
        (("--set", "optim_wraper.optimizer.lr=0.1"), "Did you mean 'optim_wrapper'"),
        (("--config", "yolox_s", "--set", "max_epoch=3"), "Did you mean 'max_epochs'"),
        (("--recipe", "near_duplicate=3"), "there is no key 'near_duplicate'. Did you mean 'near_duplicates'"),
        (("--select-by", "bbox_mAP50"), "no metric 'bbox_mAP50' to select by. Did you mean 'bbox_mAP_50'"),
        (("--config", "classifier_small", "--select-by", "acuracy"), "Did you mean 'accuracy'"),
        (("--param", "train_gpus=2"), "train_gpus is 2: a step can use one GPU at most"),
        (("--category", "../desk"), "'../desk'"),
        (("--device", "gpu"), "There is no device 'gpu'. Did you mean 'cuda'?"),
        (("--set", "train_batch_size=lots"), "train_batch_size is 'lots', and must be a whole number"),
        (("--images", "/nosuch"), "--images /nosuch is a folder on this machine, which pods cannot see"),
        (("--images", "s3://bucket"), "s3 is not a kind of storage"),
        (("--pretrained", "lite1"), "'lite1' names no weights. Did you mean 'lite0'?"),
        (("--pretrained", "/nosuch.pth"), "--pretrained /nosuch.pth is a file on this machine, which pods cannot see"),
        (("--pretrained", "lite0", "--resume-from", "latest"), "--pretrained lite0 and --resume-from latest exclude each other"),
        (("--pretrained", "auto"), "Choose a config mmdet::NAME"),
        (("--pretrained", "mmdet::rtmdet_tny_8xb32-300e_coco"), "Did you mean 'rtmdet_tiny_8xb32-300e_coco'?"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)  # fmt: skip
def test_what_is_misspelt_is_refused_before_anything_is_sent(server, command, compiled, verb, asked, told):
    said = command(*verb, "--pipeline", str(compiled), "--category", "desk", *asked)
    assert said.status == 1
    assert told in said.err and said.err.count("\n") == 1
    assert "--no-check sends it all the same." in said.err
    assert server.requests == [], "no pipeline, no experiment, no run"


def test_no_check_sends_all_of_it(server, submit):
    said = submit("--config", "yolox_m", "--set", "max_epoch=3", "--select-by", "acuracy", "--no-check")
    assert said.status == 0, said.err
    assert only(server.runs)["runtime_config"]["parameters"][OVERRIDES.name] == {"max_epoch": 3}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--config", "our_very_own", "--set", "own_key=3"), "There is no config 'our_very_own'"),
        (("--select-by", "our_own_number"), "There is no metric 'our_own_number'"),
    ],
    ids=["config", "metric"],
)
def test_what_may_lie_on_the_volume_alone_is_sent_with_a_warning(server, submit, asked, told):
    said = submit(*asked)
    assert said.status == 0, said.err
    (warning,) = said.err.splitlines()
    assert warning.startswith(f"warning: {told}") and "unless it lies on the volume" in warning
    assert len(server.runs) == 1


@pytest.mark.parametrize(
    "asked",
    [
        ("--set", f"{LEARNING_RATE}=0.002", "--recipe", "seed=3", "--param", "train_gpus=1"),
        ("--select-by", "accuracy"),
        ("--config", "classifier_small", "--select-by", "accuracy"),
        ("--select-by", "segm_mAP"),
        ("--images", "/shared_volume/photos", "--device", "cuda:0"),
        ("--images", "gs://bucket/photos"),
    ],
    ids=" ".join,
)
def test_what_some_task_takes_is_sent_where_the_task_cannot_be_told(server, submit, asked):
    said = submit(*asked)
    assert (said.status, said.err) == (0, "")
    assert len(server.runs) == 1


@pytest.fixture
def desk_by_sql(database_url: str) -> None:
    database = connect(database_url)
    claim = claim_version(database, "desk", "annotation", "v0.2.0", "me")
    publish_version(database, claim, tag="desk_ann_v0.2.0", commit="c" * 40, digest="d" * 64)


def test_with_sql_the_task_is_known_and_what_only_another_takes_is_refused(server, submit, desk_by_sql):
    said = submit("--config", "classifier_small")
    assert "is for the task classification, and desk v0.2.0 is annotated for detection" in said.err
    assert "no metric 'accuracy' to select by" in submit("--select-by", "accuracy").err
    assert [run["runtime_config"]["parameters"][CONFIG.name] for run in server.runs.values()] == [""]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset repository with tags of two categories, and one that people made for themselves."""
    bare = tmp_path / "dataset.git"
    for line in (
        ["git", "init", "--quiet", "--bare", str(bare)],
        ["git", "-C", str(bare), "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-m", "x", EMPTY_TREE],
    ):
        commit = subprocess.run(line, capture_output=True, text=True, check=True, input="").stdout.strip()
    for tag in ("desk_ann_v0.9.0", "desk_ann_v0.10.0", "plates_ann_v0.1.0", "desk_train_v0.1.0", "before-the-move"):
        subprocess.run(["git", "-C", str(bare), "tag", tag, commit], check=True)
    monkeypatch.setenv("SIGHTLINE_DATASET_REPO", str(bare))
    return bare


EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""Git's name of a folder without files, which every repository knows."""


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--category", "plaets"), "There is no annotation version of the category plaets. Did you mean 'plates'?"),
        (("--annotation-version", "v0.1.0"), "There is no annotation version v0.1.0 of desk; the newest is v0.10.0."),
    ],
    ids=["category", "version"],
)
def test_without_sql_the_repository_tells_category_and_version(
    server, submit, command, repository, monkeypatch, asked, told
):
    monkeypatch.setenv("SIGHTLINE_DATABASE_URL", "mysql+pymysql://me:secret@127.0.0.1:1/none")
    said = submit(*asked)
    assert said.status == 1 and told in said.err
    assert server.requests == []
    assert submit("--annotation-version", "v0.9.0").status == 0


def test_without_record_the_dataset_version_is_looked_up(server, command, repository, tmp_path):
    path = str(tmp_path / "pipeline.yaml")
    # In a process of its own: components take the images that are named when they are imported.
    done = run_pipeline("compile", "--steps", "train,evaluate", "-o", path, environment={"SIGHTLINE_TAG": "v1"})
    assert done.returncode == 0, done.stderr
    said = command("submit", "--pipeline", path, "--category", "desk", "--dataset-version", "v0.9.0")
    assert "There is no dataset version v0.9.0 of desk; the newest is v0.1.0." in said.err
    assert server.requests == []


def test_a_repository_that_does_not_answer_holds_nobody_up(server, submit, monkeypatch):
    monkeypatch.setattr(checks, "GIT_SECONDS", 0.5)
    with silent_port() as port:
        monkeypatch.setenv("SIGHTLINE_DATASET_REPO", f"git://127.0.0.1:{port}/dataset.git")
        began = time.monotonic()
        said = submit("--category", "plaets")
    assert said.status == 0, said.err
    assert time.monotonic() - began < 30


ONLY_THE_LOCK = r"""
import importlib.metadata, re, sys
from pathlib import Path

def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()

lock = Path("docker/requirements/submit.txt").read_text()
locked = {plain(name) for name in re.findall(r"^([\w.-]+)==", lock, re.M)}
installed = importlib.metadata.packages_distributions()
missing = {module for module, owners in installed.items() if not {plain(owner) for owner in owners} & locked}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

assert {"numpy", "torch", "mmengine", "cv2"} <= missing
sys.meta_path.insert(0, Missing())
from laptop.kubeflow import checks
from laptop.kubeflow.checks import require_keys, require_names
from laptop.request import asked_of
from components.parameters import CONFIG, OVERRIDES, RECIPE, SELECT_BY
steps = ("snapshot", "record", "train", "evaluate", "test")
for row, value in ((OVERRIDES, {"max_epoch": 3}), (RECIPE, {"near_duplicate": 3}), (SELECT_BY, "acuracy"), (CONFIG, "yolox_m")):
    asked = asked_of({"category": "desk", row.name: value})
    try:
        require_keys(asked, steps)
        require_names(asked, steps, "", "desk")
    except checks.SightlineError as error:
        print(error)
"""


def test_it_needs_no_more_than_make_setup_submit_installs():
    done = subprocess.run([sys.executable, "-c", ONLY_THE_LOCK], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Did you mean") == 4, done.stdout
