"""Splits over a history of published versions: what is recorded later never moves what was recorded before."""

import json
import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from sightline.annotations.recipe import RecipeError
from sightline.publish.annotations import publish_annotations
from sightline.steps.record.record import Recorded, record_dataset
from tests.installed import BOTH, Installed
from tests.make_labelme import annotate, box, make_labelme
from tests.workspace import run_pipeline

OLD = [f"old/{number}.png" for number in range(24)]
NEW = [f"new/{number}.png" for number in range(12)]


@pytest.fixture
def code(tmp_path) -> Path:
    """A frozen release without a recipe."""
    release = tmp_path / "record-0123456789abcdef"
    (release / "configs" / "categories").mkdir(parents=True)
    return release


def published(installed: Installed, folder: Path, version: str) -> str:
    return str(publish_annotations(installed.settings, folder, "desk", version).publication.row.commit)


def record(installed: Installed, code: Path, version: str, **recipe) -> Recorded:
    commit = next(row["commit"] for row in installed.rows()["versions"] if row["tag"] == f"desk_ann_{version}")
    return record_dataset(str(code), "desk", version, commit, recipe)


def splits(installed: Installed, recorded: Recorded) -> dict[str, str]:
    """Name -> split, as the rows of a dataset version say."""
    rows = installed.rows()
    version = next(row["id"] for row in rows["versions"] if row["tag"] == recorded.dataset.tag)
    return {row["name"]: row["split"] for row in rows["images"] if row["version_id"] == version}


def findings(installed: Installed, recorded: Recorded) -> list[tuple[str, str]]:
    rows = installed.rows()
    version = next(row["id"] for row in rows["versions"] if row["tag"] == recorded.dataset.tag)
    return [(row["code"], row["file"]) for row in rows["findings"] if row["version_id"] == version]


def add_copies(folder: Path, names: list[str], target: Path | None = None) -> list[str]:
    """For each image one (in the folder itself or another) that looks the same and has other bytes; their names."""
    copies = []
    for name in names:
        copy = f"new/like {Path(name).name}"
        annotate(target or folder, copy, [box()])
        with Image.open(folder / name) as image:
            pixels = image.convert("RGB")
        red, green, blue = pixels.getpixel((0, 0))
        pixels.putpixel((0, 0), (red, green ^ 1, blue))
        pixels.save((target or folder) / copy)
        copies.append(copy)
    return copies


@BOTH
def test_what_was_recorded_keeps_its_split_when_more_is_published(installed, tmp_path, code):
    folder = make_labelme(tmp_path / "desk", OLD)
    published(installed, folder, "v0.1.0")
    first = splits(installed, record(installed, code, "v0.1.0"))
    assert set(first) == set(OLD)
    make_labelme(folder, NEW)
    copies = add_copies(folder, OLD[:8])
    for name in OLD[20:]:
        (folder / name).unlink()
        (folder / name).with_suffix(".json").unlink()
    published(installed, folder, "v0.2.0")
    recorded = record(installed, code, "v0.2.0")
    second = splits(installed, recorded)
    assert set(second) == {*OLD[:20], *NEW, *copies}
    assert {name: second[name] for name in OLD[:20]} == {name: first[name] for name in OLD[:20]}
    assert [second[name] for name in copies] == [first[name] for name in OLD[:8]]
    # What was taken out comes back to where it was, even beside something like it that came meanwhile.
    make_labelme(folder, OLD[20:])
    published(installed, folder, "v0.3.0")
    third = splits(installed, record(installed, code, "v0.3.0"))
    assert {name: third[name] for name in [*OLD, *NEW]} == {**first, **{name: second[name] for name in NEW}}


@pytest.mark.slow
def test_an_older_version_recorded_again_is_the_same_whatever_came_later(installed, tmp_path, code):
    folder = make_labelme(tmp_path / "desk", OLD)
    published(installed, folder, "v0.1.0")
    first = record(installed, code, "v0.1.0", stratify=True)
    make_labelme(folder, NEW)
    add_copies(folder, OLD[:4])
    published(installed, folder, "v0.2.0")
    record(installed, code, "v0.2.0", stratify=True)
    before = installed.tags()
    assert record(installed, code, "v0.1.0", stratify=True).dataset == first.dataset
    assert installed.tags() == before


@pytest.mark.slow
def test_a_lower_number_published_later_comes_later_in_history(installed, tmp_path, code):
    folder = make_labelme(tmp_path / "desk", OLD)
    published(installed, folder, "v0.2.0")
    first = splits(installed, record(installed, code, "v0.2.0"))
    other = make_labelme(tmp_path / "other", NEW)
    copies = add_copies(folder, OLD[:4], other)
    published(installed, other, "v0.1.1")
    second = splits(installed, record(installed, code, "v0.1.1"))
    assert [second[name] for name in copies] == [first[name] for name in OLD[:4]]


def test_a_split_file_in_the_categorys_folder_is_followed(installed, tmp_path, code):
    published(installed, make_labelme(tmp_path / "desk", OLD), "v0.1.0")
    place = code / "configs" / "categories" / "desk"
    place.mkdir()
    (place / "ours.csv").write_text("name,split\nold/3.png,test\nold/4.png,test\nnowhere.png,val\n")
    recorded = record(installed, code, "v0.1.0", split_file="ours.csv")
    found = splits(installed, recorded)
    assert found["old/3.png"] == found["old/4.png"] == "test"
    assert findings(installed, recorded) == [("listed_image_unknown", "nowhere.png")]


def test_values_of_the_run_stand_in_for_the_recipe_files(installed, tmp_path, code):
    published(installed, make_labelme(tmp_path / "desk", OLD), "v0.1.0")
    (code / "configs" / "categories" / "desk.yaml").write_text("seed: 3\ngroup_by: '^(nothing)'\n")
    # KFP hands whole numbers on as floats.
    recorded = record(installed, code, "v0.1.0", group_by=r"/(\d)", near_duplicates=4.0)
    found = splits(installed, recorded)
    by_key = {key: {found[name] for name in OLD if name[4] == key} for key in "123456789"}
    assert all(len(parts) == 1 for parts in by_key.values())
    recipe = next(row["recipe"] for row in installed.rows()["versions"] if row["tag"] == recorded.dataset.tag)
    assert {"seed": 3, "near_duplicates": 4, "group_by": r"/(\d)", "stratify": False}.items() <= recipe.items()
    assert isinstance(recipe["near_duplicates"], int)
    with pytest.raises(RecipeError, match=r"This run's recipe values: there is no key 'sead'. Did you mean 'seed'"):
        record(installed, code, "v0.1.0", sead=1)


@pytest.mark.slow
def test_options_of_local_reach_the_recipe(tmp_path):
    def pipeline(*arguments: str) -> None:
        done = run_pipeline("--workspace", str(tmp_path / "w"), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    pipeline("publish", str(make_labelme(tmp_path / "desk", OLD)), "--category", "desk", "--version", "v0.1.0")
    options = ("--group-by", r"/(\d)", "--stratify", "--recipe", "seed=3", "--recipe", "near_duplicates=null")
    pipeline("local", "--category", "desk", "--steps", "record", *options)
    with sqlite3.connect(tmp_path / "w" / "sightline.db") as database:
        (recipe,) = database.execute("SELECT recipe FROM versions WHERE kind = 'dataset'").fetchone()
        found = dict(database.execute("SELECT name, split FROM images WHERE split IS NOT NULL"))
        (run,) = database.execute("SELECT parameters FROM runs").fetchone()
    chosen = {"group_by": r"/(\d)", "stratify": True, "seed": 3, "near_duplicates": None}
    assert chosen.items() <= json.loads(recipe).items()
    assert json.loads(run)["recipe"].keys() == chosen.keys()
    assert set(found) == set(OLD)
    assert all(len({found[name] for name in OLD if name[4] == key}) == 1 for key in "123456789")
