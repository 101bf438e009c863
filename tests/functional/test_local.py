"""`pipeline.py local` from photographs to reports: what it writes, and what a second run does again."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightline.steps.evaluate.report import render_evaluation_report
from sightline.steps.train.loop import ResumableTrainLoop
from sightline.steps.train.report import render_training_report
from tests.installed import run
from tests.live_code import LIVE, append
from tests.workspace import REPOSITORY, copy_checkout

CONFIG = "mask_rcnn_lite0"
"""The default."""
SMALL = [
    *("--set", "train_pipeline.2.scale=[96, 96]", "--set", "train_pipeline.3.crop_size=[96, 96]"),
    *("--set", "test_pipeline.1.scale=[96, 96]"),
]
"""Images of 96 pixels: what a run does and leaves is the same, and takes less."""


@dataclass(frozen=True)
class Laptop:
    """A checkout whose files a test may edit, and its workspace."""

    checkout: Path
    workspace: Path

    def pipeline(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
        return subprocess.run(
            [sys.executable, "pipeline.py", "--workspace", str(self.workspace), *arguments],
            cwd=self.checkout,
            env=clean | settings,
            capture_output=True,
            text=True,
            check=False,
        )

    def local(self, *arguments: str, **settings: str) -> dict:
        done = self.pipeline("local", "--category", "plates", "--epochs", "1", *SMALL, *arguments, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.last_run()

    def last_run(self) -> dict:
        return json.loads((self.workspace / "last_run.json").read_text())

    def trainings(self, state: str) -> set[str]:
        """The runs whose training is in this state."""
        with contextlib.closing(sqlite3.connect(self.workspace / "sightline.db")) as database:
            found = database.execute("SELECT run_id FROM steps WHERE step = 'train' AND state = ?", (state,))
            return {run_id for (run_id,) in found}

    def has_version(self, tag: str) -> bool:
        """Whether a version is published."""
        return (self.workspace / "dataset.git").is_dir() and tag in run(
            "git", "-C", str(self.workspace / "dataset.git"), "tag"
        )

    @property
    def code(self) -> Path:
        """The helper code that the next run uses."""
        return self.checkout / LIVE.relative_to(REPOSITORY)

    def everything_kept(self) -> dict[str, object]:
        """All stored files with their times, all tags, and the number of rows in every table."""
        storage = {
            str(path.relative_to(self.workspace)): path.stat().st_mtime_ns
            for folder in (
                "storage",
                "dataset.git",
                "volume/releases",
                "volume/datasets",
                "volume/models",
                "volume/runs",
            )
            for path in (self.workspace / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        with sqlite3.connect(self.workspace / "sightline.db") as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {name: database.execute(f'SELECT COUNT(*) FROM "{name}"').fetchone()[0] for name in tables}
        return {"files": storage, "rows": rows}


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    folder = tmp_path_factory.mktemp("laptop")
    made = Laptop(copy_checkout(folder / "checkout"), folder / "workspace")
    for arguments in (
        ("sample", str(folder / "plates"), "--images", "24", "--labels", "board"),
        ("publish", str(folder / "plates"), "--category", "plates", "--version", "v0.1.0"),
    ):
        done = made.pipeline(*arguments)
        assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def first(laptop: Laptop) -> dict:
    return laptop.local()


def states(run: dict) -> dict[str, str]:
    return {step: facts["state"] for step, facts in run["steps"].items()}


def test_a_run_ends_with_a_scored_model_and_four_reports(laptop: Laptop, first: dict) -> None:
    assert states(first) == dict.fromkeys(("snapshot", "record", "train", "evaluate", "test"), "done")
    assert (first["annotation_version"], first["dataset_version"]) == ("v0.1.0", "v0.1.0")
    assert {"bbox_mAP", "bbox_mAP_50", "segm_mAP"} <= first["metrics"].keys()
    assert all(0 <= value <= 1 for value in first["metrics"].values())
    assert first["reports"].keys() == {"record", "train", "evaluate", "test"}
    (statistics,) = (laptop.workspace / "volume" / "datasets").glob("plates-v0.1.0-*/statistics.json")
    assert (first["findings"], first["warnings"]) == ({}, json.loads(statistics.read_text())["warnings"])
    assert all(warning.startswith("No object of") for warning in first["warnings"])  # so few images, so many classes
    for path in first["reports"].values():
        assert Path(path).read_text().startswith("<!")
    selected = Path(first["model"]["uri"].removeprefix("file://"))
    assert (selected / "model.safetensors").is_file()
    with sqlite3.connect(laptop.workspace / "sightline.db") as database:
        stored = dict(
            database.execute(
                "SELECT name, value FROM metric_values JOIN evaluations ON evaluations.id = evaluation_id "
                "WHERE class_name = '' AND selected AND run_id = ?",
                (first["run"],),
            )
        )
        assert {name: stored[name] for name in first["metrics"]} == pytest.approx(first["metrics"])
        (digest,) = database.execute("SELECT code_digest FROM runs WHERE id = ?", (first["run"],)).fetchone()
        assert digest == first["code_digest"]
        ended = database.execute("SELECT step, state FROM steps WHERE run_id = ?", (first["run"],)).fetchall()
    assert sorted(ended) == [(step, "done") for step in ("evaluate", "record", "test", "train")]
    assert (laptop.workspace / "storage" / "code" / f"{digest}.tar.gz").is_file()


def test_a_second_run_with_nothing_changed_writes_nothing_new(laptop: Laptop, first: dict) -> None:
    before = laptop.everything_kept()
    second = laptop.local()
    assert states(second) == {"snapshot": "done"} | dict.fromkeys(("record", "train", "evaluate", "test"), "reused")
    assert laptop.everything_kept() == before
    for same in ("code_digest", "model", "metrics", "reports"):
        assert second[same] == first[same]


def test_an_edit_reaches_the_next_run_and_costs_only_what_it_touches(laptop: Laptop, first: dict) -> None:
    append(laptop.code, render_evaluation_report, 'print("edited on the volume", flush=True)')
    run = laptop.local()
    assert states(run) == {
        "snapshot": "done",
        "record": "reused",
        "train": "reused",
        "evaluate": "done",
        "test": "reused",
    }
    assert run["model"] == first["model"], "the same bytes, the same reference"
    assert run["code_digest"] != first["code_digest"]
    assert run["metrics"] == first["metrics"]
    assert "edited on the volume" in (laptop.workspace / "logs" / f"{run['run']}.log").read_text()


@pytest.mark.slow
def test_a_file_that_no_step_imports_re_runs_nothing(laptop: Laptop, first: dict) -> None:
    laptop.local()
    append(laptop.code, "sightline/nobody_imports_this.py", "ANSWER = 42")
    run = laptop.local()
    assert set(states(run).values()) == {"done", "reused"}
    assert [step for step, state in states(run).items() if state == "done"] == ["snapshot"]


@pytest.mark.slow
def test_an_edit_of_the_trainings_report_trains_nothing_anew(laptop: Laptop, first: dict) -> None:
    before = laptop.local()
    work = laptop.workspace / "volume" / "work"
    trained = {path: path.stat().st_mtime_ns for path in work.rglob("iter_*.pth")}
    append(laptop.code, render_training_report, "_edited = True")
    run = laptop.local()
    reused = dict.fromkeys(("record", "evaluate", "test"), "reused")
    assert states(run) == {"snapshot": "done", "train": "done", **reused}
    assert {path: path.stat().st_mtime_ns for path in work.rglob("iter_*.pth")} == trained
    assert "resumed at iteration" in (laptop.workspace / "logs" / f"{run['run']}.log").read_text()
    assert run["metrics"] == before["metrics"]


@pytest.mark.slow
def test_an_edit_of_the_loop_trains_again(laptop: Laptop, first: dict) -> None:
    laptop.local()
    append(laptop.code, ResumableTrainLoop, "_edited = True")
    work = laptop.workspace / "volume" / "work"
    before = set(work.glob("train-*"))
    assert states(laptop.local())["train"] == "done"
    assert len(set(work.glob("train-*")) - before) == 1, "a work folder of its own"


@pytest.mark.slow
def test_a_changed_config_value_trains_again(laptop: Laptop, first: dict) -> None:
    append(laptop.code, f"configs/{CONFIG}.py", "optim_wrapper = dict(optimizer=dict(lr=2e-3))")
    run = laptop.local()
    assert states(run)["record"] == "reused"
    assert states(run)["train"] == "done"
    assert run["model"]["sha256"] != first["model"]["sha256"]


@pytest.fixture
def unseen(laptop: Laptop, tmp_path: Path) -> Path:
    """A folder of two images without annotations."""
    folder = tmp_path / "unseen"
    folder.mkdir()
    for path in sorted((laptop.checkout.parent / "plates").glob("*.jpg"))[:2]:
        shutil.copy(path, folder)
    return folder


def try_on(laptop: Laptop, first: dict, images: Path) -> dict:
    """A run of the step test alone."""
    model = first["model"]["uri"]
    done = laptop.pipeline(
        "local", "--category", "plates", "--steps", "test", "--model", model, "--images", str(images)
    )
    assert done.returncode == 0, done.stderr
    return laptop.last_run()


def test_a_model_is_tried_on_images_of_ones_own(laptop: Laptop, first: dict, unseen: Path) -> None:
    run = try_on(laptop, first, unseen)
    assert states(run) == {"snapshot": "done", "test": "done"}
    drawn = list((laptop.workspace / "storage" / "results").glob(f"plates/*/{run['run']}/test/images/*.jpg"))
    assert len(drawn) == 2


@pytest.mark.slow
def test_images_that_were_added_are_tried_too(laptop: Laptop, first: dict, unseen: Path) -> None:
    try_on(laptop, first, unseen)
    shutil.copy(sorted((laptop.checkout.parent / "plates").glob("*.jpg"))[2], unseen)
    assert states(try_on(laptop, first, unseen))["test"] == "done"


@pytest.mark.slow
def test_a_model_of_ones_own_is_evaluated_alone(laptop: Laptop, first: dict) -> None:
    given = ("--dataset-version", "v0.1.0", "--candidate", first["model"]["uri"])
    done = laptop.pipeline("local", "--category", "plates", "--steps", "evaluate", *given)
    assert done.returncode == 0, done.stderr
    assert laptop.last_run()["metrics"] == pytest.approx(first["metrics"])


@pytest.mark.slow
def test_a_step_that_fails_is_named_with_its_reason(laptop: Laptop, first: dict) -> None:
    done = laptop.pipeline("local", "--category", "plates", "--set", "model.backbone.type=NoSuchNet")
    assert done.returncode == 1
    assert "the step train failed" in done.stderr
    assert "NoSuchNet" in done.stderr
    assert "Traceback" not in done.stderr
    assert states(laptop.last_run())["train"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [True, False], ids=["Ctrl-C", "kill of pipeline.py"])
def test_a_run_that_is_asked_to_end_says_stopped_in_sql(laptop: Laptop, first: dict, whole_group: bool) -> None:
    epochs = "60" if whole_group else "61"
    command = [sys.executable, "pipeline.py", "--workspace", str(laptop.workspace), "local", "--category", "plates"]
    process = subprocess.Popen(
        [*command, "--epochs", epochs, *SMALL],
        cwd=laptop.checkout,
        env={name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: laptop.trainings("running"), 120)
        (run_id,) = laptop.trainings("running")
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.terminate()
        process.wait(60)
        until(lambda: run_id not in laptop.trainings("running"), 30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert run_id in laptop.trainings("stopped")


def until(happens: Callable[[], object], seconds: float) -> None:
    began = time.monotonic()
    while not happens():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)


def test_a_syntax_error_in_the_live_code_fails_the_snapshot(laptop: Laptop, first: dict) -> None:
    broken = laptop.code / "sightline" / "broken.py"
    broken.write_text("def half(:\n")
    try:
        done = laptop.pipeline("local", "--category", "plates")
    finally:
        broken.unlink()
    (log,) = [
        path
        for path in (laptop.workspace / "logs").glob("*.log")
        if "half(" in path.read_text() or "broken.py" in path.read_text()
    ]
    lines = [line.strip() for line in log.read_text().splitlines()]
    assert "Traceback (most recent call last):" not in lines
    assert done.returncode == 1
    assert "the step snapshot failed" in done.stderr
    assert "sightline/broken.py, line 1" in done.stderr
    assert str(laptop.workspace / "logs" / f"{laptop.last_run()['run']}.log") in done.stderr


@pytest.mark.slow
def test_mariadb_and_cloud_storage_give_the_same_scores(
    laptop: Laptop, first: dict, tmp_path: Path, mariadb_url: str, bucket: str
) -> None:
    pytest.importorskip("gcsfs")
    elsewhere = Laptop(REPOSITORY, tmp_path / "workspace")
    settings = {
        "SIGHTLINE_STORAGE": f"gs://{bucket}",
        "SIGHTLINE_DATABASE_URL": mariadb_url,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    plates = laptop.checkout.parent / "plates"
    done = elsewhere.pipeline("publish", str(plates), "--category", "plates", "--version", "v0.1.0", **settings)
    assert done.returncode == 0, done.stderr
    run = elsewhere.local(**settings)
    assert run["metrics"] == pytest.approx(first["metrics"], abs=1e-9)
    assert run["model"]["uri"].startswith("gs://")
