"""A workspace that an earlier Sightline made is used as it is: tests/data/README.md says how it was made."""

import json
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.services.database.connection import Database, connect
from sightline.services.database.scores import find_model, list_evaluations
from tests.workspace import run_pipeline

MADE_AT = "/var/tmp/old/workspace"
RUN = "20261126-164301-45a5"
VERSIONS = {"plates_ann_v0.1.0", "plates_train_v0.1.0"}
RESULTS = Path("storage", "results", "plates", "v0.1.0")


@pytest.fixture
def workspace(tmp_path: Path, data_dir: Path) -> Path:
    """The old workspace, as if it had been made in this place. Git's DVC configuration names the old one, and stays."""
    with tarfile.open(data_dir / "old_workspace.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    place = tmp_path / "workspace"
    with sqlite3.connect(place / "sightline.db") as database:
        database.execute("UPDATE models SET uri = replace(uri, ?, ?)", (MADE_AT, str(place)))
    last_run = place / "last_run.json"
    last_run.write_text(last_run.read_text().replace(MADE_AT, str(place)))
    return place


@pytest.fixture
def database(workspace: Path) -> Iterator[Database]:
    opened = connect(f"sqlite:///{workspace / 'sightline.db'}")
    yield opened
    opened.close()


def typed(workspace: Path, *command: str) -> subprocess.CompletedProcess[str]:
    done = run_pipeline("--workspace", str(workspace), *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def versions(workspace: Path) -> dict[str, tuple[str, str]]:
    """State and commit of every version."""
    listed = json.loads(typed(workspace, "versions", "--json").stdout)
    return {version["tag"]: (version["state"], version["commit"]) for version in listed}


def test_every_byte_of_its_versions_is_there(workspace: Path) -> None:
    found = json.loads(typed(workspace, "verify", "--full", "--json").stdout)
    assert {version["tag"]: version["problems"] for version in found["versions"]} == dict.fromkeys(VERSIONS, [])
    assert found["ok"]


def test_its_versions_are_listed_as_published(workspace: Path) -> None:
    assert {tag: state for tag, (state, _) in versions(workspace).items()} == dict.fromkeys(VERSIONS, "published")


def test_its_runs_and_their_scores_can_be_read(workspace: Path, database: Database) -> None:
    (run,) = json.loads(typed(workspace, "runs", "--json").stdout)
    steps = {step["name"]: step["sql"] for step in run["steps"]}
    assert (run["id"], run["sql"]) == (RUN, "done")
    assert steps == dict.fromkeys(("record", "train", "evaluate", "test"), "done")
    best, last = list_evaluations(database, RUN)
    assert (best.selected, last.selected) == (True, False)
    assert {"bbox_mAP", "segm_mAP"} <= best.overall.keys()
    assert best.per_class.keys() == {"l_board", "r_board"}
    typed(workspace, "versions")  # brings the tables to the form of today, which has more columns
    assert find_model(database, (workspace / RESULTS / RUN / "train" / "best").as_uri()).id == best.model_id


@pytest.mark.slow
def test_a_dataset_version_of_it_is_exported(workspace: Path, tmp_path: Path) -> None:
    typed(workspace, "export", "plates_train_v0.1.0", "--format", "coco", "--output", str(tmp_path / "coco"))
    parts = [json.loads(file.read_bytes()) for file in (tmp_path / "coco" / "annotations").iterdir()]
    assert [sum(len(part[kind]) for part in parts) for kind in ("images", "annotations")] == [12, 16]


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["the volume as it was", "an empty volume"])
def test_its_model_finds_the_same_as_then(workspace: Path, database: Database, kept: str) -> None:
    if kept == "an empty volume":  # then the dataset and the bundle are fetched anew
        shutil.rmtree(workspace / "volume")
    bundle = workspace / RESULTS / RUN / "train" / "best"
    options = ("--dataset-version", "v0.1.0", "--model", bundle.as_uri())
    typed(workspace, "local", "--category", "plates", "--steps", "evaluate,test", *options)
    last_run = json.loads((workspace / "last_run.json").read_text())
    assert {step: facts["state"] for step, facts in last_run["steps"].items()} == dict.fromkeys(
        ("snapshot", "evaluate", "test"), "done"
    )
    for step in ("evaluate", "test"):
        old, new = scores(workspace, RUN, step), scores(workspace, last_run["run"], step)
        assert old and new == pytest.approx(old, abs=1e-3)
    (then, *_), (now,) = list_evaluations(database, RUN), list_evaluations(database, last_run["run"])
    assert now.overall == pytest.approx(then.overall, abs=1e-3, nan_ok=True)


def scores(workspace: Path, run: str, step: str) -> list[float]:
    """Those of everything that the selected model found, the best first."""
    found = json.loads((workspace / RESULTS / run / step / "predictions.json").read_bytes())
    return sorted((one["score"] for one in (found if isinstance(found, list) else found["annotations"])), reverse=True)


@pytest.mark.slow
def test_recording_it_again_gives_the_dataset_version_that_is_there(workspace: Path) -> None:
    before = versions(workspace)
    typed(workspace, "local", "--category", "plates", "--steps", "record")
    last_run = json.loads((workspace / "last_run.json").read_text())
    assert (last_run["dataset_version"], last_run["steps"]["record"]["state"]) == ("v0.1.0", "done")
    assert versions(workspace) == before
