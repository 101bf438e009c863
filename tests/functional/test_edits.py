"""What an edit of the helper code re-runs: on a laptop, and by what KFP's cache is keyed with; docs/steps.md has the table."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sightline.annotations.check import Checked
from sightline.formats.coco import read_coco_folder
from sightline.references import DatasetReference
from sightline.reports.charts import bar_chart
from sightline.services.runs.freeze import freeze
from sightline.services.runs.homes import read_metrics
from sightline.steps.evaluate.report import render_evaluation_report
from sightline.steps.snapshot.start import names_of_parts
from sightline.steps.train.loop import ResumableTrainLoop
from sightline.steps.train.report import render_training_report
from sightline.steps.train.request import TrainingRequest
from sightline.tasks.classification import report as report_of_the_task
from sightline.tasks.classification import scoring
from tests.functional.test_classification import TINY, crops  # noqa: F401
from tests.functional.test_local import Laptop
from tests.live_code import Place, append
from tests.workspace import REPOSITORY, copy_checkout

STEPS = ("record", "train", "evaluate", "test")
CATEGORY, CONFIG = "edited", "classifier_small"
METRIC = """
def score(truth, results, outputs=()):
    return {"answers_given": float(len({one["image_id"] for one in results}))}
"""
SELECTING = """
from sightline.tasks.classification import scoring

def score(truth, results, outputs=()):
    return {"half": scoring.score(truth, results).values["accuracy"] / 2}
"""


@dataclass(frozen=True)
class Edit:
    """What is added to which file, by the name that its row of the table begins with."""

    name: str
    place: Place
    text: str = "_edited = True"
    select_by: str = ""
    """What selects in the run that is looked at."""


@dataclass(frozen=True)
class Cost:
    """What an edit costs: the steps that get another release, which are those that run, and whether training begins anew.

    The others find what they are given as it was: these edits change no result.
    """

    steps: set[str]
    trains: bool = False


RECIPE = f"custom/recipes/{CATEGORY}.yaml"
EDITS = {
    "no step": (
        Cost(set()),
        Edit("a format", read_coco_folder),
        Edit("a file in custom that nothing names", "custom/notes/mine.py"),
        Edit("a comment in the recipe", RECIPE, "# a remark"),
    ),
    "evaluate alone": (
        Cost({"evaluate"}),
        Edit("the evaluate report", render_evaluation_report),
        Edit("a task's report", report_of_the_task),
        Edit("a metric that nobody selects by", "custom/metrics/answers.py"),
        Edit("the recipe's metrics", RECIPE, "metrics: [answers, half]"),
    ),
    "record alone": (
        Cost({"record"}),
        Edit("how annotations are checked", Checked),
    ),
    "train, which finds its finished checkpoint": (
        Cost({"train"}),
        Edit("the train report", render_training_report),
    ),
    "all steps": (
        Cost(set(STEPS)),
        Edit("a chart", bar_chart),
    ),
    "train anew": (
        Cost({"train"}, trains=True),
        Edit("the loop", ResumableTrainLoop),
        Edit("the config that the run names", "configs/classifier_small.py", "# a remark"),
    ),
    "train anew by another number": (
        Cost({"train", "evaluate"}, trains=True),
        Edit("the task's own numbers, one of which selects", scoring),
        Edit("a metric that selects", "custom/metrics/half.py", select_by="half"),
    ),
}


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, crops: Path) -> Laptop:  # noqa: F811
    folder = tmp_path_factory.mktemp("edits")
    made = Laptop(copy_checkout(folder / "checkout"), folder / "workspace")
    append(made.code, "custom/metrics/answers.py", METRIC)
    append(made.code, "custom/metrics/half.py", SELECTING)
    append(made.code, f"custom/recipes/{CATEGORY}.yaml", "seed: 3\nmetrics: [answers]")
    done = made.pipeline("publish", str(crops), "--category", CATEGORY, "--version", "v0.1.0")
    assert done.returncode == 0, done.stderr
    run_local(made, [])
    return made


@pytest.fixture(scope="module")
def wiring(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Task -> its inputs, as the compiled pipeline wires them."""
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    subprocess.run([sys.executable, "pipeline.py", "compile", "-o", str(path)], cwd=REPOSITORY, check=True)
    tasks = next(yaml.safe_load_all(path.read_text()))["root"]["dag"]["tasks"]
    return {name: task.get("inputs", {}).get("parameters", {}) for name, task in tasks.items()}


def run_local(laptop: Laptop, options: list[str]) -> dict:
    done = laptop.pipeline("local", "--category", CATEGORY, *TINY, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return laptop.last_run()


def freeze_live(laptop: Laptop, select_by: str) -> dict[str, Path]:
    """Step -> the release that snapshot gives it; their names are the steps' inputs on a cluster, too."""
    metrics = read_metrics(laptop.code, CATEGORY)
    parts = {step: names_of_parts("classification", step, metrics, select_by) for step in STEPS}
    return dict(freeze(laptop.workspace / "volume", CONFIG, CATEGORY, STEPS, parts, metrics).releases)


def work_of(release: Path, select_by: str) -> str:
    """The name of the work folder that a release trains in."""
    dataset = DatasetReference(CATEGORY, "v0.1.0", "tag", "0" * 40, "digest", "classification")
    return TrainingRequest(release, dataset, CONFIG, {}, 1, select_by or "accuracy").key()


def run_again_by_kfp(wiring: dict[str, dict], changed: set[str]) -> set[str]:
    """The tasks whose cache key changes when these steps get another release and every step gives what it gave before."""
    outputs = {("snapshot", f"{step}_code") for step in changed}
    given = {task: [each.get("taskOutputParameter") for each in inputs.values()] for task, inputs in wiring.items()}
    return {
        task
        for task, inputs in given.items()
        if outputs & {(one["producerTask"], one["outputParameterKey"]) for one in inputs if one}
    }


@pytest.mark.slow
@pytest.mark.parametrize("cost", EDITS)
def test_an_edit_runs_again_what_the_page_says(laptop: Laptop, wiring: dict[str, dict], cost: str) -> None:
    expected, *edits = EDITS[cost]
    page = (REPOSITORY / "docs" / "steps.md").read_text()
    for edit in edits:
        assert re.search(rf"^\| {re.escape(edit.name)}\b", page, re.MULTILINE), "a row of the table"
        old = freeze_live(laptop, edit.select_by)
        path = append(laptop.code, edit.place, edit.text)
        if edit.text.startswith("metrics:"):
            path.write_text(path.read_text().replace("metrics: [answers]\n", ""))
        new = freeze_live(laptop, edit.select_by)
        assert {step for step in STEPS if old[step].name != new[step].name} == expected.steps, edit.name
        anew = work_of(old["train"], edit.select_by) != work_of(new["train"], edit.select_by)
        assert anew == expected.trains, edit.name
    assert run_again_by_kfp(wiring, expected.steps) == expected.steps
    before = json.loads((laptop.workspace / "last_run.json").read_text())
    work = laptop.workspace / "volume" / "work"
    folders = set(work.glob("train-*"))
    models = len(list((laptop.workspace / "storage" / "models").iterdir()))
    after = run_local(laptop, [])
    assert {step for step in STEPS if after["steps"][step]["state"] == "done"} == expected.steps
    assert after["model"] == before["model"], "the same bytes, the same reference"
    assert len(list((laptop.workspace / "storage" / "models").iterdir())) == models
    assert len(set(work.glob("train-*")) - folders) == expected.trains
    if "train" in expected.steps:
        log = (laptop.workspace / "logs" / f"{after['run']}.log").read_text()
        assert ("resumed at iteration" in log) != expected.trains


def test_a_metric_of_ones_own_is_scored_and_selects(laptop: Laptop) -> None:
    run = run_local(laptop, ["--select-by", "half", "--recipe", "seed=4"])
    assert run["metrics"]["half"] == pytest.approx(run["metrics"]["accuracy"] / 2)
    assert run["metrics"]["answers_given"] > 0
    held = {
        step: {path.stem for path in (release / "custom" / "metrics").glob("*.py")}
        for step, release in freeze_live(laptop, "half").items()
    }
    assert held == {"record": set(), "train": {"half"}, "evaluate": {"answers", "half"}, "test": set()}


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("custom/recipes/named.yaml", "metrics: [answer]", "'answer', and neither custom/metrics/answer.py"),
        ("custom/recipes/named.yaml", "metrics: answers", "is not a list of metric names"),
        (
            "configs/categories/named.yml",
            "metrics: [answers]",
            "counts only in the category's recipe, custom/recipes/named.yaml",
        ),
    ],
)
def test_a_metric_that_is_not_there_is_told_before_anything_runs(
    laptop: Laptop,
    crops: Path,  # noqa: F811
    file: str,
    text: str,
    told: str,
) -> None:
    laptop.pipeline("publish", str(crops), "--category", "named", "--version", "v0.1.0")
    path = laptop.code / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    done = laptop.pipeline("local", "--category", "named", *TINY)
    path.unlink()
    said = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert told in said
