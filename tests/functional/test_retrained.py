"""A model of ours, trained further on a version with one more class and more photographs: by the commands that one types."""

import json
import sqlite3
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from sightline.models.bundle import read_bundle
from tests.workspace import run_pipeline

pytestmark = pytest.mark.slow

SMALL = [
    *("--set", "train_pipeline.2.scale=[96, 96]", "--set", "train_pipeline.3.crop_size=[96, 96]"),
    *("--set", "test_pipeline.1.scale=[96, 96]", "--set", "num_workers=0", "--epochs", "2"),
]
OLD, NEW = "v0.1.0", "v0.2.0"
CHILDREN = "SELECT child.uri, parent.uri FROM models child JOIN models parent ON parent.sha256 = child.parent_sha256"


def with_sign(photo: Path) -> None:
    """Paint a yellow square into a sample's photograph, and annotate it: a class that no sample has."""
    picture = Image.open(photo)
    x, y, size = picture.width // 10, picture.height // 10, min(picture.size) // 5
    ImageDraw.Draw(picture).rectangle((x, y, x + size, y + size), fill=(250, 220, 20))
    picture.save(photo)
    annotated = json.loads(photo.with_suffix(".json").read_text())
    corners = [[x, y], [x + size, y + size]]
    annotated["shapes"].append(
        {"label": "sign", "points": corners, "shape_type": "rectangle", "group_id": None, "flags": {}}
    )
    photo.with_suffix(".json").write_text(json.dumps(annotated))


def command(workspace: Path, *arguments: str) -> None:
    done = run_pipeline("--workspace", str(workspace), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def train(workspace: Path, *arguments: str) -> dict:
    command(workspace, "local", "--category", "plates", *SMALL, *arguments)
    return json.loads((workspace / "last_run.json").read_text())


def left(workspace: Path, run: dict, path: str) -> Path:
    """What a run left in storage."""
    return workspace / "storage/results/plates" / run["dataset_version"] / run["run"] / path


def first_loss(workspace: Path, run: dict) -> float:
    return json.loads(left(workspace, run, "train/logs/history.jsonl").read_text().splitlines()[0])["loss"]


def test_a_selected_model_is_trained_further_on_a_version_with_one_more_class(tmp_path: Path) -> None:
    workspace, plates = tmp_path / "workspace", tmp_path / "plates"
    command(workspace, "sample", str(plates), "--images", "24", "--labels", "board")
    command(workspace, "publish", str(plates), "--category", "plates", "--version", OLD)
    parent = train(workspace)

    command(workspace, "sample", str(plates / "later"), "--images", "20", "--labels", "board", "--seed", "5")
    for photo in (plates / "later").glob("*.jpg"):
        with_sign(photo)
    command(workspace, "publish", str(plates), "--category", "plates", "--version", NEW)
    child = train(workspace, "--pretrained", str(left(workspace, parent, "evaluate/selected.json")))

    assert {facts["state"] for facts in child["steps"].values()} == {"done"}
    assert (parent["dataset_version"], child["dataset_version"]) == (OLD, NEW)
    assert first_loss(workspace, child) < first_loss(workspace, parent)
    bundles = [workspace / "storage/models" / run["model"]["sha256"] for run in (parent, child)]
    old, new = map(read_bundle, bundles)
    assert set(new.classes) - set(old.classes) == {"sign"}
    assert new.facts["parent_sha256"] == old.sha256
    with sqlite3.connect(workspace / "sightline.db") as database:
        assert (child["model"]["uri"], parent["model"]["uri"]) in database.execute(CHILDREN).fetchall()
    page = Path(child["reports"]["train"]).read_text()
    assert f"began with values of the model that was trained on plates {OLD}" in page
    assert "New among its classes: sign." in page and str(bundles[0]) in page
    log = (workspace / "logs" / f"{child['run']}.log").read_text()
    assert f"train begins from {bundles[0]}" in log and "train new classes, random at first: sign" in log

    by_folder = train(workspace, "--pretrained", str(bundles[0]))
    assert by_folder["steps"]["train"]["state"] == "reused", "the same model, named by its folder"
