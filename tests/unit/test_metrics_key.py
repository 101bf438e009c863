"""The recipe's key `metrics`: it counts in the file of the category's recipe, and is refused elsewhere."""

from pathlib import Path

import pytest

from sightline.annotations.recipe import RecipeError, read_recipe
from sightline.services.runs.homes import RecipeKeyError, read_metrics

OWN, OURS = "custom/recipes/desk.yaml", "configs/categories/desk.yaml"


def write(code: Path, **files: str) -> Path:
    for name, text in files.items():
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(text)
    return code


@pytest.mark.parametrize("file", [OWN, OURS])
def test_the_recipes_own_counts(tmp_path, file):
    assert read_metrics(write(tmp_path, **{file: "metrics: [f1]"}), "desk") == ("f1",)


@pytest.mark.parametrize(
    "other", [OURS, "custom/recipes/desk.yml", "configs/categories/desk.yml", "custom/recipes/desk.json"]
)
def test_another_file_of_the_category_is_refused(tmp_path, other):
    write(tmp_path, **{OWN: "seed: 1", other: "{metrics: [f1]}"})
    with pytest.raises(RecipeKeyError) as caught:
        read_metrics(tmp_path, "desk")
    assert str(caught.value).startswith(f"{other}: metrics counts only in the category's recipe, {OWN}")


def test_a_file_without_the_key_is_nobodys_business(tmp_path):
    write(tmp_path, **{OWN: "metrics: [f1]", OURS: "seed: 1", "custom/recipes/desk.yml": "{"})
    assert read_metrics(tmp_path, "desk") == ("f1",)


def test_a_run_cannot_name_metrics():
    with pytest.raises(
        RecipeError, match=r"'metrics' counts only in the file of the category's recipe, custom/recipes/"
    ):
        read_recipe(None, {"metrics": ["f1"]})
