"""What annotation tools really write, published and recorded: every object arrives, on its own photograph, or a finding says why not."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.annotations.truth import read_truth
from sightline.errors import SightlineError
from sightline.images.files import read_image
from sightline.services.database.connection import connect
from sightline.services.versioning.shards import SPLITS
from sightline.steps.record.record import record_dataset
from tests.installed import Installed
from tests.workspace import run_pipeline

INPUTS = Path(__file__).parents[1] / "data" / "field_inputs"
CASES = {case["case"]: case for case in json.loads((INPUTS / "cases.json").read_text())}
ALL_TRAIN = {"fractions": {"train": 1, "val": 0, "test": 0}}
PIXELS = 1.0  # that a box may be off


@dataclass(frozen=True)
class Seen:
    """What a user saw of one folder: the dataset's images with their boxes, and every word on the way."""

    refused: bool
    words: str
    boxes: dict[str, list[list[Any]]]
    crowds: int
    pixels: dict[str, np.ndarray]


def publish_and_record(installed: Installed, case: dict[str, Any], folder: Path) -> Seen:
    """Publish a case's folder by the command line and record all of it in one split."""
    options = case.get("command_options", {}).get("publish", [])
    named = {name: value for name, value in os.environ.items() if name.startswith("SIGHTLINE_")}
    arguments = ["publish", str(folder), "--category", "desk", "--version", "v0.1.0", *options]
    done = run_pipeline(*arguments, environment=named)
    words = done.stdout + done.stderr
    assert "Traceback" not in words
    if done.returncode != 0:
        return Seen(True, words, {}, 0, {})
    row = next(row for row in installed.rows("versions")["versions"] if row["kind"] == "annotation")
    try:
        record_dataset("/nowhere/record-0", "desk", "v0.1.0", row["commit"], ALL_TRAIN)
    except SightlineError as error:
        return Seen(True, f"{words}{error}", {}, 0, {})
    dataset = next((installed.settings.volume / "datasets").rglob("train.json")).parent
    boxes: dict[str, list[list[Any]]] = {}
    crowds = 0
    for split in SPLITS:
        truth = read_truth(dataset / f"{split}.json")
        names = {image["id"]: image["file_name"] for image in truth["images"]}
        labels = {category["id"]: category["name"] for category in truth["categories"]}
        boxes |= {name: [] for name in names.values()}
        for one in truth["annotations"]:
            crowds += one["iscrowd"]
            if not one["iscrowd"]:
                boxes[names[one["image_id"]]].append([labels[one["category_id"]], *one["bbox"]])
    findings = (dataset / "findings.json").read_text()
    warnings = json.loads((dataset / "statistics.json").read_text())["warnings"]
    return Seen(
        refused=False,
        words="\n".join([words, *_texts(findings), *warnings]),
        boxes=boxes,
        crowds=crowds,
        pixels={name: read_image(dataset / "images" / name) for name in boxes},
    )


def wrong(seen: Seen, right: dict[str, Any]) -> list[str]:
    """What differs from what is right, a line each."""
    if "any_of" in right:
        found = [wrong(seen, one) for one in right["any_of"]]
        return [] if [] in found else [f"{number}: {line}" for number, lines in enumerate(found) for line in lines]
    lines = []
    if seen.refused != right.get("refused", False):
        lines.append(f"refused: {seen.refused}: {seen.words}")
    for word in right.get("message_says", ()):
        if not any(_says(seen.words, one) for one in ([word] if isinstance(word, str) else word)):
            lines.append(f"nothing says {word}: {seen.words}")
    lines += [f"says {word}: {seen.words}" for word in right.get("message_lacks", ()) if _says(seen.words, word)]
    if seen.refused:
        return lines
    wanted = right.get("images", {})
    lines += [f"{name} should be left out" for name in right.get("left_out", ()) if name in seen.boxes]
    lines += [f"{name} is there" for name in seen.boxes.keys() - wanted.keys() if wanted]
    for name, image in wanted.items():
        if name in seen.boxes:
            lines += _wrong_boxes(name, seen.boxes[name], image["boxes"])
            lines += _wrong_pixels(name, seen.pixels[name], image.get("pixels", {}))
        elif not image.get("or_left_out"):
            lines.append(f"{name} is not in the dataset: {seen.words}")
    if seen.crowds != right.get("crowds", seen.crowds):
        lines.append(f"{seen.crowds} crowds")
    return lines


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if "local" not in case.get("command_options", {})]
)
def test_what_tools_write_arrives_or_is_told(installed, tmp_path, name):
    case = CASES[name]
    folder = tmp_path / "copy"
    shutil.copytree(INPUTS / name, folder)
    for link, target in case.get("links", {}).items():
        (folder / link).parent.mkdir(parents=True, exist_ok=True)
        (folder / link).symlink_to(folder / target)
    seen = publish_and_record(installed, case, folder / case.get("folder", ""))
    assert wrong(seen, case["right"]) == []


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "local" in case.get("command_options", {})])
def test_values_are_read_on_the_command_line_as_the_readme_writes_them(tmp_path, name):
    case, workspace = CASES[name], tmp_path / "workspace"
    named = ("--workspace", str(workspace))
    for command in (
        ("publish", str(INPUTS / name), "--category", "desk", "--version", "v0.1.0"),
        ("local", "--category", "desk", "--steps", "snapshot,record", *case["command_options"]["local"]),
    ):
        done = run_pipeline(*named, *command)
        assert done.returncode == 0, done.stderr
    with connect(f"sqlite:///{workspace / 'sightline.db'}").engine.connect() as connection:
        recipes = [
            json.loads(row[0]) for row in connection.exec_driver_sql("select recipe from versions where kind='dataset'")
        ]
        images = connection.exec_driver_sql("select count(*) from images where split = 'train'").scalar()
    assert [{key: recipe[key] for key in case["right"]["recipe"]} for recipe in recipes] == [case["right"]["recipe"]]
    assert images == len(case["right"]["images"])


def _says(text: str, word: str) -> bool:
    exact = word.removeprefix("exact:")
    return exact in text if exact != word else word.lower() in text.lower()


def _wrong_boxes(name: str, found: list[list[Any]], wanted: list[list[Any]]) -> list[str]:
    rest = list(found)
    for label, *box in wanted:
        near = [one for one in rest if one[0] == label and np.abs(np.subtract(one[1:], box)).max() <= PIXELS]
        if not near:
            return [f"{name} has {found}, not {wanted}"]
        rest.remove(near[0])
    return [f"{name} also has {rest}"] if rest else []


def _wrong_pixels(name: str, image: np.ndarray, wanted: dict[str, int]) -> list[str]:
    grey = image.mean(axis=2)
    contrast = float(np.percentile(grey, 99) - np.percentile(grey, 1))
    levels = len(np.unique(grey.round()))
    good = contrast >= wanted.get("contrast", 0) and levels >= wanted.get("levels", 0)
    return [] if good else [f"{name} has a contrast of {contrast} and {levels} levels"]


def _texts(findings: str) -> list[str]:
    return [" ".join(str(value) for value in finding.values()) for finding in json.loads(findings)]
