"""A smoke test fetches what it needs of an annotation version, and no more; what it makes is as if it had looked at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sightline.publish.annotations import publish_annotations
from sightline.services.versioning.datasets import pull_dataset
from sightline.steps.record import record as step
from sightline.steps.record.ahead import _document_of
from sightline.steps.record.record import Recorded, record_dataset
from tests.installed import Installed
from tests.make_labelme import annotate, box, make_labelme

IMAGES = 60
RARE, LARGE = "cup", 12  # pixels that every other box has
PLUGIN = "def transform(image, annotations):\n    return image, annotations\n"


class Smoke:
    """An installation with desk v0.1.0, sixty images, one of which shows a small cup."""

    def __init__(self, installed: Installed, folder: Path) -> None:
        self.installed, self.settings = installed, installed.settings
        self.code = folder / "record-0123456789abcdef"
        (self.code / "custom" / "recipes" / "desk").mkdir(parents=True)
        (self.code / "custom" / "recipes" / "desk" / "same.py").write_text(PLUGIN)
        photographs = folder / "desk"
        make_labelme(photographs, [f"room/{index}.png" for index in range(IMAGES)])
        annotate(photographs, "room/59.png", [box(RARE, 5, 5, 10, 10)])
        row = publish_annotations(self.settings, photographs, "desk", "v0.1.0").publication.row
        self.commit = str(row.commit)

    def record(self, **recipe: object) -> Recorded:
        """Record a smoke test on a volume that has fetched nothing yet."""
        shutil.rmtree(self.settings.volume)
        wanted = {"near_duplicates": "null", "smoke": 20, **recipe}
        return record_dataset(str(self.code), "desk", "v0.1.0", self.commit, wanted)

    def fetched(self) -> int:
        """How many photographs lie in the cache."""
        files = (self.settings.volume / "dvc-cache").rglob("*")
        return sum(path.is_file() and path.read_bytes().startswith(b"\x89PNG") for path in files)

    def made(self, recorded: Recorded) -> dict[str, Any]:
        """Image -> split, the classes, and what is said of the whole."""
        folder = pull_dataset(self.settings, recorded.dataset)
        split = {
            image["file_name"]: part
            for part in ("train", "val", "test")
            for image in json.loads((folder / f"{part}.json").read_bytes())["images"]
        }
        statistics = json.loads((folder / "statistics.json").read_bytes())
        classes = json.loads((folder / "dataset.json").read_bytes())["classes"]
        return {"split": split, "classes": classes, **{key: statistics[key] for key in ("warnings", "chosen_from")}}


@pytest.fixture
def smoke(installed: Installed, tmp_path: Path) -> Smoke:
    return Smoke(installed, tmp_path)


@pytest.mark.parametrize("recipe", [{}, {"stratify": True}, {"seed": 3, "label_map": {"cup": "mug"}}], ids=str)
def test_twenty_photographs_are_fetched_and_the_dataset_is_as_if_all_were(smoke, monkeypatch, recipe):
    ahead = smoke.made(smoke.record(**recipe))
    assert smoke.fetched() == len(ahead["split"]) == 20
    monkeypatch.setattr(step, "choose_ahead", lambda *_: None)
    assert smoke.made(smoke.record(**recipe)) == ahead
    assert smoke.fetched() == ahead["chosen_from"] == IMAGES
    assert "room/59.png" in ahead["split"] and ahead["classes"][0] in ("cup", "mug")


def test_the_splits_that_the_folder_came_with_hold(installed, tmp_path):
    smoke = Smoke(installed, tmp_path)
    names = [f"room/{index}.png" for index in range(IMAGES)]
    (tmp_path / "desk" / "splits.csv").write_text(
        "name,split\n" + "".join(f"{name},{'test' if index >= 30 else 'train'}\n" for index, name in enumerate(names))
    )
    row = publish_annotations(installed.settings, tmp_path / "desk", "desk", "v0.2.0").publication.row
    shutil.rmtree(installed.settings.volume)
    made = smoke.made(record_dataset(str(smoke.code), "desk", "v0.2.0", str(row.commit), {"smoke": 20}))
    assert smoke.fetched() == 20
    listed = {name: part for name, part in made["split"].items() if part != "val"}
    assert listed
    assert all((int(Path(name).stem) >= 30) == (part == "test") for name, part in listed.items())


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param({"min_side": LARGE, "empty_images": "drop"}, id="a chosen image is left out by its objects"),
        pytest.param({"plugin": {"file": "same.py"}}, id="a plug-in may change everything"),
        pytest.param({"policy": {"rare_label": "drop"}}, id="what is rare shows in all"),
        pytest.param({"smoke": 100}, id="all are wanted"),
    ],
)
def test_all_photographs_are_fetched_where_the_choice_takes_them(smoke, recipe):
    made = smoke.made(smoke.record(**recipe))
    assert smoke.fetched() == IMAGES
    assert len(made["split"]) == min(int(recipe.get("smoke", 20)), IMAGES)
    assert ("room/59.png" in made["split"]) == ("min_side" not in recipe)


@pytest.mark.parametrize(
    ("recipe", "images"),
    [({"classes": ["cup"], "other_labels": "drop"}, 1), ({"classes": ["switch"], "empty_images": "drop"}, 20)],
    ids=str,
)
def test_what_the_recipe_leaves_out_by_labels_is_not_fetched(smoke, recipe, images):
    made = smoke.made(smoke.record(fractions={"train": 1, "val": 0, "test": 0}, **recipe))
    assert smoke.fetched() == len(made["split"]) == images


def test_a_photographs_json_has_its_name_and_lies_beside_it_or_above():
    files = {"a.json", "a.png.json", "images/b.png", "b.json", "room/c.json", "c.json", "d.txt"}
    found = {name: _document_of(name, files) for name in ("a.png", "a.jpg", "images/b.png", "room/c.jpg", "d.png")}
    assert found == {
        "a.png": "a.png.json", "a.jpg": "a.json", "images/b.png": "b.json", "room/c.jpg": "room/c.json", "d.png": "",
    }  # fmt: skip
