"""`--smoke`: what it asks a pipeline for, which images it chooses, and that nothing of it is taken for a real run's."""

import json
from collections import Counter

import pytest
from rich.console import Console

from components.parameters import PARAMETERS
from laptop import catalogue, local
from laptop.cli import main
from laptop.compiling import pipeline_of
from laptop.smoke import outlook, publishes_as, smoke_values
from sightline.annotations.recipe import RecipeError, read_recipe
from sightline.errors import SightlineError
from sightline.publish.annotations import publish_annotations
from sightline.services.versioning.datasets import find_dataset
from sightline.steps.record.few import choose_few
from sightline.steps.record.record import Recorded, record_dataset
from sightline.versions import BadNameError
from tests.installed import Installed
from tests.make_labelme import annotate, box, make_labelme

IMAGES = 60
RARE = "cup"  # on one image of the sixty


@pytest.fixture
def record(installed: Installed, tmp_path):
    """Record desk v0.1.0, published here, with these values of the recipe."""
    code = tmp_path / "record-0123456789abcdef"
    code.mkdir()
    folder = tmp_path / "desk"
    make_labelme(folder, [f"room/{index}.png" for index in range(IMAGES)])
    annotate(folder, "room/59.png", [box(RARE)])
    commit = str(publish_annotations(installed.settings, folder, "desk", "v0.1.0").publication.row.commit)

    def run(**recipe: object) -> Recorded:
        return record_dataset(str(code), "desk", "v0.1.0", commit, {"near_duplicates": "null", **recipe})

    return run


def splits(installed: Installed, recorded: Recorded) -> dict[str, str]:
    rows = installed.rows()
    (version,) = [row["id"] for row in rows["versions"] if row["tag"] == recorded.dataset.tag]
    return {row["name"]: row["split"] for row in rows["images"] if row["version_id"] == version}


@pytest.mark.parametrize("smoke_first", [True, False])
def test_a_smoke_test_takes_no_version_of_the_real_run_and_is_not_taken_for_one(installed, record, smoke_first):
    # KFP hands whole numbers on as floats.
    made = [record(smoke=20.0), record()] if smoke_first else [record(), record(smoke=20.0)]
    smoke, real = made if smoke_first else reversed(made)
    assert (real.dataset.tag, smoke.dataset.tag) == ("desk_train_v0.1.0", "desk--smoke_train_v0.1.0")
    assert find_dataset(installed.settings, "desk", "").tag == real.dataset.tag
    few, whole = splits(installed, smoke), splits(installed, real)
    assert (len(few), len(whole)) == (20, IMAGES)
    assert few.items() <= whole.items()
    assert set(few.values()) == {"train", "val", "test"}
    assert "room/59.png" in few
    assert "smoke test of 20 images" in smoke.report and "smoke" not in real.report
    told = {row["tag"]: row["recipe"] for row in installed.rows()["versions"]}
    assert "smoke" not in told[real.dataset.tag]
    assert told[real.dataset.tag]["classes"] == told[smoke.dataset.tag]["classes"]
    assert record(smoke=20).dataset == smoke.dataset
    assert [key for key in installed.stored() if key.startswith("results/desk--smoke/v0.1.0/")]


def test_versions_shows_smoke_tests_on_demand_only(installed, record, capsys):
    record(smoke=20)

    def shown(*asked: object) -> set[str]:
        assert catalogue.versions(*asked) == 0
        return {one["tag"] for one in json.loads(capsys.readouterr().out)}

    smoke, published = {"desk--smoke_train_v0.1.0"}, {"desk_ann_v0.1.0"}
    assert shown(None, True) == shown("desk", True) == published
    assert shown(None, True, True) == shown("desk", True, True) == published | smoke
    assert shown("desk--smoke", True) == smoke


def test_what_a_smoke_test_published_is_whole_and_names_the_annotation_version_it_is_made_of(installed, record, capsys):
    record(smoke=20)
    assert catalogue.verify(None, False, False, False) == 0, capsys.readouterr().out


def test_the_name_is_kept_for_smoke_tests(installed, tmp_path):
    make_labelme(tmp_path / "photos", ["a.png"])
    with pytest.raises(BadNameError, match="kept for what `--smoke` makes"):
        publish_annotations(installed.settings, tmp_path / "photos", "desk--smoke", "v0.1.0")


def test_no_recipe_file_makes_every_run_a_smoke_test(tmp_path):
    (tmp_path / "desk.yaml").write_text("smoke: 20\n")
    with pytest.raises(RecipeError, match="smoke is for a single run"):
        read_recipe(tmp_path / "desk.yaml")


def test_smoke_is_the_same_run_with_small_values(installed, tmp_path, monkeypatch):
    asked: list[local.Request] = []
    monkeypatch.setattr(local, "run_locally", lambda _, request, **__: asked.append(request) or 0)
    words = [
        "--workspace",
        str(tmp_path),
        "local",
        "--category",
        "desk",
        "--config",
        "yolox_s",
        "--stratify",
        "--smoke",
    ]
    assert main(words) == 0
    (request,) = asked
    assert local.arguments_of(pipeline_of(request.steps), request) == {
        "category": "desk", "train_config": "yolox_s", "recipe": {"stratify": True, "smoke": 20}, "train_epochs": 1,
        "record_cpu": "1", "train_cpu": "1", "evaluate_cpu": "1", "test_cpu": "1", "record_memory": "1Gi",
    }  # fmt: skip
    assert publishes_as(request.values) == "desk--smoke"


DEFAULTS = {each.name: each.default for each in PARAMETERS}


def test_what_is_given_stays_and_older_pipelines_get_their_own_names():
    known = {each.was or each.name: each.default for each in PARAMETERS}
    given = smoke_values({"category": "desk", "epochs": 2, "train_cpu": "4", "recipe": {"smoke": 5}}, known)
    assert (given["epochs"], given["train_cpu"], given["recipe"]) == (2, "4", {"smoke": 5})
    assert "train_epochs" not in given
    assert smoke_values({}, known)["epochs"] == 1


def test_pods_never_get_more_than_the_pipeline_gives_them():
    own = {"train_cpu": "500m", "evaluate_cpu": "as it likes", "record_memory": "512Mi", "evaluate_gpus": "1"}
    made = smoke_values({}, DEFAULTS | own | {"test_gpus": "4"})
    assert own.keys().isdisjoint(made)
    assert {"test_gpus": "1", "test_cpu": "1", "record_cpu": "1"}.items() <= made.items()


def test_pods_of_models_keep_their_memory_which_does_not_depend_on_how_many_images_there_are():
    made = smoke_values({"record_memory": "3Gi"}, DEFAULTS)
    assert {name: made[name] for name in made if name.endswith("_memory")} == {"record_memory": "3Gi"}


def test_a_run_without_record_is_no_smoke_test(installed, tmp_path):
    request = local.Request(("test",), smoke_values({"category": "desk", "test_model": "m"}, {"test_cpu": "2"}))
    with pytest.raises(SightlineError, match="needs the step record"):
        local.require_sense(request, in_containers=False)


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        pytest.param({"train": 70, "val": 20, "test": 10}, 20, {"train": 14, "val": 4, "test": 2}, id="by share"),
        pytest.param({"train": 990, "val": 5, "test": 5}, 20, {"train": 18, "val": 1, "test": 1}, id="one of each"),
        pytest.param(
            {"train": 5, "val": 100, "test": 100}, 20, {"train": 2, "val": 9, "test": 9}, id="little to train on"
        ),
        pytest.param(
            {"train": 6, "val": 2, "test": 1}, 20, {"train": 6, "val": 2, "test": 1}, id="fewer than asked for"
        ),
        pytest.param({"train": 30, "val": 0, "test": 0}, 20, {"train": 20}, id="one split"),
    ],
)
def test_every_split_gives_some(sizes, most, expected):
    split = {part: [f"{part}{index}" for index in range(size)] for part, size in sizes.items()}
    few = choose_few(split, {}, most)
    assert Counter(name.rstrip("0123456789") for name in few) == expected


def test_images_that_show_the_most_classes_come_first_and_backgrounds_last():
    labels = {"a": [], "b": ["cup"], "c": ["cup"], "d": ["cup", "lamp"], "e": ["fork"]}
    split = {"train": list(labels), "val": [], "test": []}
    assert choose_few(split, labels, 2) == {"d", "e"}
    assert choose_few(split, labels, 4) == {"b", "c", "d", "e"}


def test_what_is_said_of_the_real_run_is_in_proportion():
    first, second = outlook(
        {"images_of": [20, 120], "steps": {"snapshot": {}, "train": {"state": "done", "seconds": 40.0}}}
    )
    assert (
        "smoke test passed: snapshot and train work; not tried: record, evaluate and test." in first
        and "about 4 minutes" in second
        and "20 of 120 images" in second
    )


@pytest.mark.parametrize(
    ("ran", "told"),
    [
        (("snapshot", "record", "train", "evaluate", "test"), "smoke test passed: every step works."),
        (("snapshot", "record"), "smoke test passed: snapshot and record work; not tried: train, evaluate and test."),
        (("snapshot", "record", "train", "evaluate"), "snapshot, record, train and evaluate work; not tried: test."),
    ],
)
def test_a_smoke_test_claims_the_steps_that_ran(ran, told):
    (said,) = outlook({"steps": {step: {"state": "reused"} for step in ran}})
    assert told in said


@pytest.mark.parametrize(("category", "advice"), [("desk--smoke", 0), ("desk", 1)])
def test_a_smoke_test_without_scores_is_not_advised_to_train_longer(tmp_path, capsys, category, advice):
    """Its scores say nothing, as the next line says."""
    metrics, model = {"box_mAP": 0.0, "box_mAP_50": 0.0}, {"uri": ""}
    result = {
        "category": category,
        "dataset_version": "v0.1.0",
        "task": "detection",
        "metrics": metrics,
        "model": model,
    }
    local._print_result(Console(), tmp_path, {**result, "warnings": [], "findings": {}, "reports": {}})
    assert capsys.readouterr().out.count("train longer with --epochs") == advice
