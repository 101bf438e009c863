"""What an edit of the helper code re-runs: on a laptop, and by what KFP's cache is keyed with; docs/steps.md has the table."""

import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from sightline.annotations.check import Checked
from sightline.formats.coco import read_coco_folder
from sightline.reports.charts import bar_chart
from sightline.services.runs.freeze import freeze
from sightline.services.runs.recipe_keys import read_metrics
from sightline.steps.evaluate.report import render_evaluation_report
from sightline.steps.snapshot.start import names_of_parts
from sightline.steps.train.loop import ResumableTrainLoop
from sightline.steps.train.report import render_training_report
from sightline.tasks.classification import report as report_of_the_task
from sightline.tasks.classification import scoring
from tests.functional.test_classification import TINY, crops  # noqa: F401
from tests.functional.test_local import Laptop
from tests.live_code import Place, append
from tests.workspace import REPOSITORY, copy_checkout

shown_last: dict[Path, list[str]] = {}
"""Workspace -> the options of its last run, after which nothing was edited."""
STEPS = ("record", "train", "evaluate", "test")
CATEGORY = "edited"
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
    """What is added to which file, and what must run again."""

    place: Place
    text: str = "_edited = True"
    runs: tuple[str, ...] = ()
    trains: bool = False
    """From the start, in a work folder of its own; a training that runs otherwise finds its finished checkpoint."""
    options: list[str] = field(default_factory=list)


EDITS = {
    "the training's report": Edit(render_training_report, runs=("train", "evaluate", "test")),
    "the evaluation's report": Edit(render_evaluation_report, runs=("evaluate", "test")),
    "a task's report": Edit(report_of_the_task, runs=("evaluate", "test")),
    "a metric that nobody selects by": Edit("custom/metrics/answers.py", runs=("evaluate", "test")),
    "the task's own numbers, one of which selects": Edit(scoring, runs=("train", "evaluate", "test"), trains=True),
    "a metric that selects": Edit(
        "custom/metrics/half.py",
        runs=("train", "evaluate", "test"),
        trains=True,
        options=["--select-by", "half"],
    ),
    "the loop": Edit(ResumableTrainLoop, runs=("train", "evaluate", "test"), trains=True),
    "the config that the run names": Edit(
        "configs/classifier_small.py", runs=("train", "evaluate", "test"), trains=True
    ),
    "a chart": Edit(bar_chart, runs=STEPS),
    "how annotations are checked": Edit(Checked, runs=("record",)),
    "a format": Edit(read_coco_folder),
    "a file in custom that nothing names": Edit("custom/notes/mine.py"),
    "a comment in the recipe": Edit(f"custom/recipes/{CATEGORY}.yaml", "# a remark"),
    "the recipe's metrics": Edit(
        f"custom/recipes/{CATEGORY}.yaml", "metrics: [answers, half]", runs=("evaluate", "test")
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


def releases(laptop: Laptop, select_by: str = "") -> dict[str, str]:
    """Step -> the release that snapshot gives it; these names are the steps' inputs on a cluster, too."""
    metrics = read_metrics(laptop.code, CATEGORY)
    parts = {step: names_of_parts("classification", step, metrics, select_by) for step in STEPS}
    frozen = freeze(laptop.workspace / "volume", "classifier_small", CATEGORY, STEPS, parts, metrics)
    return {step: release.name for step, release in frozen.releases.items()}


def run_again_by_kfp(wiring: dict[str, dict], changed: set[str]) -> set[str]:
    """The tasks whose cache key changes: those with a changed input, and those that use what they give."""
    outputs = {("snapshot", f"{step}_code") for step in changed}
    again: set[str] = set()
    for _ in wiring:
        for task, inputs in wiring.items():
            for each in inputs.values():
                given = each.get("taskOutputParameter")
                if given and (
                    (given["producerTask"], given["outputParameterKey"]) in outputs or given["producerTask"] in again
                ):
                    again.add(task)
    return again


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_runs_again_what_the_page_says(laptop: Laptop, wiring: dict[str, dict], name: str) -> None:
    edit = EDITS[name]
    page = (REPOSITORY / "docs" / "steps.md").read_text()
    assert re.search(rf"^\| {re.escape(name)}\b", page, re.MULTILINE), "a row of the table"
    if shown_last.get(laptop.workspace) != edit.options:
        run_local(laptop, edit.options)
    shown_last.pop(laptop.workspace, None)
    old = releases(laptop, *edit.options[1:])
    work = laptop.workspace / "volume" / "work"
    folders = set(work.glob("train-*"))
    if edit.text.startswith("metrics:"):
        path = laptop.code / str(edit.place)
        path.write_text(path.read_text().replace("metrics: [answers]", ""))
    append(laptop.code, edit.place, edit.text)
    after = run_local(laptop, edit.options)
    ran = {step for step in STEPS if after["steps"][step]["state"] == "done"}
    assert ran == set(edit.runs)
    assert len(set(work.glob("train-*")) - folders) == edit.trains
    if "train" in ran:
        resumed = "resumed at iteration" in (laptop.workspace / "logs" / f"{after['run']}.log").read_text()
        assert resumed != edit.trains
    new = releases(laptop, *edit.options[1:])
    changed = {step for step in STEPS if old[step] != new[step]}
    again = run_again_by_kfp(wiring, changed)
    # Record gives the same version again, whose name is the others' input: by KFP's rule they keep their keys.
    assert again == ran or ("record" in changed and again >= ran)
    assert changed <= ran
    shown_last[laptop.workspace] = edit.options


def test_a_metric_of_ones_own_is_scored_and_selects(laptop: Laptop) -> None:
    run = run_local(laptop, ["--select-by", "half", "--recipe", "seed=4"])
    assert run["metrics"]["half"] == pytest.approx(run["metrics"]["accuracy"] / 2)
    assert run["metrics"]["answers_given"] > 0
    held = {
        step: {path.stem for path in (laptop.workspace / "volume/releases" / name / "custom/metrics").glob("*.py")}
        for step, name in releases(laptop, "half").items()
    }
    assert held == {"record": set(), "train": {"half"}, "evaluate": {"answers", "half"}, "test": set()}


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("custom/recipes/named.yaml", "metrics: [answer]", "'answer', and neither custom/metrics/answer.py"),
        ("custom/recipes/named.yaml", "metrics: answers", "is not a list of metrics' names"),
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
    path.write_text(text)
    done = laptop.pipeline("local", "--category", "named", *TINY)
    path.unlink()
    said = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert told in said and "step snapshot failed" in said
