"""Classification through all steps, and a task of somebody's own in the folder custom."""

import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from tests.functional.test_local import Laptop
from tests.workspace import copy_checkout

TINY = [
    "--epochs",
    "1",
    "--set",
    "train_pipeline.size=32",
    "--set",
    "test_pipeline.size=32",
    "--set",
    "model.channels=[8,16]",
]
FACTS = """
from sightline.tasks.classification.facts import *
CONFIG = "toy"
SELECT_BY = "toy_score"
HEADLINES = ("toy_score",)
"""
SCORING = """
from sightline.tasks.classification import scoring
from sightline.tasks.task import Scores
def score(truth, results, outputs=()):
    found = scoring.score(truth, results)
    return Scores({"toy_score": found.values["accuracy"]}, {name: {} for name in found.per_class})
"""
SAME = ("data", "fit", "predict", "draw", "report")


@pytest.fixture(scope="module")
def crops(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photographs cut out by their boxes, a folder per class."""
    folder = tmp_path_factory.mktemp("crops")
    for file in sorted((data_dir / "desk").rglob("*.json")):
        document = json.loads(file.read_text())
        with Image.open(file.parent / document["imagePath"]) as image:
            for number, shape in enumerate(document["shapes"]):
                across, down = zip(*shape["points"], strict=True)
                crop = image.convert("RGB").crop((min(across), min(down), max(across), max(down)))
                target = folder / shape["label"] / f"{file.stem}_{number}.jpg"
                target.parent.mkdir(exist_ok=True)
                crop.resize((48, 48)).save(target)
    return folder


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    folder = tmp_path_factory.mktemp("classification")
    return Laptop(copy_checkout(folder / "checkout"), folder / "workspace")


def test_a_folder_per_class_becomes_a_scored_classifier(laptop, crops):
    published = laptop.pipeline("publish", str(crops), "--category", "parts", "--version", "v0.1.0")
    assert published.returncode == 0, published.stderr
    images = len(list(crops.rglob("*.jpg")))
    assert f"{images} images, {images} objects for classification" in published.stdout
    done = laptop.pipeline("local", "--category", "parts", *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    run = laptop.last_run()
    assert run["task"] == "classification"
    assert run["metrics"].keys() == {"accuracy", "macro_F1"}
    assert 0 <= run["metrics"]["accuracy"] <= 1
    assert f"│ accuracy │ {run['metrics']['accuracy']:.3f} │" in done.stdout
    (dataset,) = (laptop.workspace / "volume" / "datasets").iterdir()
    truth = {split: json.loads((dataset / f"{split}.json").read_text()) for split in ("train", "val", "test")}
    assert sum(len(one["annotations"]) for one in truth.values()) == images
    for one in truth.values():
        names = {image["id"]: image["file_name"] for image in one["images"]}
        classes = {category["id"]: category["name"] for category in one["categories"]}
        assert all(
            names[each["image_id"]].startswith(f"{classes[each['category_id']]}/") for each in one["annotations"]
        )
    with sqlite3.connect(laptop.workspace / "sightline.db") as database:
        rows = database.execute("SELECT kind, json_extract(recipe, '$.task') FROM versions ORDER BY kind").fetchall()
        metrics = {
            name for (name,) in database.execute("SELECT DISTINCT name FROM metric_values WHERE class_name = ''")
        }
    assert rows == [("annotation", "classification"), ("dataset", "classification")]
    assert metrics == {"accuracy", "macro_F1"}
    for report in run["reports"].values():
        assert "classification" in Path(report).read_text()


def test_a_version_for_classification_is_not_exported_as_boxes(laptop, crops, tmp_path):
    if not laptop.has_version("parts_ann_v0.1.0"):
        laptop.pipeline("publish", str(crops), "--category", "parts", "--version", "v0.1.0")
    done = laptop.pipeline("export", "parts_ann_v0.1.0", "--format", "coco", "--output", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "parts_ann_v0.1.0 is for classification" in done.stderr
    assert not (tmp_path / "out").exists()


def test_two_versions_differ_in_the_images_of_another_class(laptop, crops, tmp_path):
    shutil.copytree(crops, tmp_path / "moved")
    one, other = sorted(path for path in (tmp_path / "moved").iterdir())[:2]
    image = sorted(one.iterdir())[0]
    image.rename(other / image.name)
    for folder, version in ((crops, "v0.1.0"), (tmp_path / "moved", "v0.2.0")):
        assert laptop.pipeline("publish", str(folder), "--category", "diffs", "--version", version).returncode == 0
    done = laptop.pipeline("diff", "diffs_ann_v0.1.0", "diffs_ann_v0.2.0")
    assert done.returncode == 0, done.stderr
    assert f"{one.name}/{image.name}" in done.stdout and f"{other.name}/{image.name}" in done.stdout


def test_a_published_version_keeps_its_task(laptop, crops):
    for task, status in (("", 0), ("classification", 0), ("toy_of_nobody", 1), ("detection", 1)):
        done = laptop.pipeline("publish", str(crops), "--category", "kept", "--version", "v0.1.0", "--task", task)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr


def test_publishing_needs_no_torch(laptop, crops, tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    arguments = ("publish", str(crops), "--category", "light", "--version", "v0.1.0")
    done = laptop.pipeline(*arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_file_in_custom_that_nothing_names_re_runs_nothing(laptop, crops):
    laptop.pipeline("publish", str(crops), "--category", "still", "--version", "v0.1.0")
    assert laptop.pipeline("local", "--category", "still", *TINY).returncode == 0
    for name in ("tasks/other/facts.py", "configs/unused.py", "notes.txt", "tasks/classification_of_mine/fit.py"):
        path = laptop.code / "custom" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("X = 1\n")
    assert laptop.pipeline("local", "--category", "still", *TINY).returncode == 0
    states = {step: facts["state"] for step, facts in laptop.last_run()["steps"].items()}
    assert states == {"snapshot": "done"} | dict.fromkeys(("record", "train", "evaluate", "test"), "reused")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("task = (", r"line 1"),
        ("BASE = '../../configs/classifier_small.py'\n_base_ = BASE", r"write _base_ out as text"),
        ("_base_ = '../../configs/nowhere.py'", r"there is no such file in configs"),
    ],
)
def test_a_config_of_ones_own_that_cannot_be_read_is_told_in_a_sentence(laptop, crops, text, told):
    laptop.pipeline("publish", str(crops), "--category", "kept", "--version", "v0.1.0")
    path = laptop.code / "custom" / "configs" / "broken.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    try:
        done = laptop.pipeline("local", "--category", "kept", "--config", "broken")
    finally:
        path.unlink()
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert re.search(told, said) and "Traceback" not in said


def test_a_config_of_another_task_is_refused(laptop, crops):
    if not laptop.has_version("parts_ann_v0.1.0"):
        laptop.pipeline("publish", str(crops), "--category", "parts", "--version", "v0.1.0")
    done = laptop.pipeline("local", "--category", "parts", "--config", "yolox_s")
    assert done.returncode == 1
    assert (
        "yolox_s is for the task detection, and parts v0.1.0 is annotated for classification"
        in done.stdout + done.stderr
    )


def test_a_task_of_ones_own_runs_through_all_steps(laptop, crops, tmp_path):
    own = laptop.code / "custom" / "tasks" / "toy"
    own.mkdir(parents=True)
    for part, text in (("facts", FACTS), ("scoring", SCORING)):
        (own / f"{part}.py").write_text(text)
    for part in SAME:
        (own / f"{part}.py").write_text(f"from sightline.tasks.classification.{part} import *\n")
    configs = laptop.code / "custom" / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    (configs / "toy.py").write_text("_base_ = '../../configs/classifier_small.py'\ntask = 'toy'\n")
    published = laptop.pipeline("publish", str(crops), "--category", "toys", "--version", "v0.1.0", "--task", "toy")
    assert published.returncode == 0, published.stderr
    done = laptop.pipeline("local", "--category", "toys", *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    run = laptop.last_run()
    assert run["task"] == "toy"
    assert run["metrics"].keys() == {"toy_score"}
    releases = laptop.workspace / "volume" / "releases"
    held = {path.name.partition("-")[0] for path in releases.iterdir() if (path / "custom" / "tasks" / "toy").is_dir()}
    assert held == {"record", "train", "evaluate", "test"}
    shutil.rmtree(own)
