"""A trial of the hyperparameter search, run by the very command of its manifest, and read as Katib's collector reads it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
import yaml

from sightline.steps.train.trial import best_validation, metric_lines
from tests.workspace import REPOSITORY, Installation

EXPERIMENT = yaml.safe_load((REPOSITORY / "manifests" / "katib" / "experiment.yaml").read_text())["spec"]
CHOSEN = {"lr": "1.2e-3", "drop-path-rate": "0.05", "window-size": "4", "mlp-ratio": "2"}
"""One draw of the search, written as Katib writes it."""
TINY = ("--epochs=1", "--set=num_workers=0", "--set=val_interval=1")


@pytest.fixture(scope="module")
def installation(recorded: Installation) -> Installation:
    """A recorded dataset, and this checkout as the volume's live code."""
    installation = recorded.with_fresh_volume("trials")
    (installation.volume / "code").symlink_to(REPOSITORY / "shared_volume")
    return installation


def trial_container(name: str, chosen: dict[str, str]) -> dict:
    """The trial's container with Katib's placeholders filled in."""
    values = {
        parameter["name"]: name if parameter["reference"] == "${trialSpec.Name}" else chosen[parameter["reference"]]
        for parameter in EXPERIMENT["trialTemplate"]["trialParameters"]
    }
    text = json.dumps(EXPERIMENT["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0])
    for parameter, value in values.items():
        text = text.replace(f"${{trialParameters.{parameter}}}", value)
    assert "${" not in text
    return json.loads(text)


def collected(log: str, pattern: str) -> dict[str, list[str]]:
    """What Katib's collector finds: of the lines that hold a wanted name, every match whose name is wanted.

    As pkg/metricscollector/v1beta1/file-metricscollector does it; Go's regular expressions and Python's agree on this one.
    """
    objective = EXPERIMENT["objective"]
    wanted = [objective["objectiveMetricName"], *objective["additionalMetricNames"]]
    found: dict[str, list[str]] = {}
    for line in log.split("\n"):
        if any(name in line for name in wanted):
            for match in re.finditer(pattern, line, re.ASCII):
                if match.group(1).strip() in wanted:
                    found.setdefault(match.group(1).strip(), []).append(match.group(2).strip())
    return found


def collector_pattern() -> str:
    (pattern,) = EXPERIMENT["metricsCollectorSpec"]["source"]["filter"]["metricsFormat"]
    return pattern


@pytest.mark.slow
def test_the_trials_command_trains_and_its_output_holds_the_objective(
    installation: Installation, tmp_path: Path
) -> None:
    container = trial_container("swin-x1", CHOSEN)
    environment = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    environment |= {"SIGHTLINE_VOLUME": str(installation.volume), "PYTHONPATH": str(installation.volume / "code")}
    # Katib joins the words by spaces and hands them to a shell, which writes all output to one file.
    words = [sys.executable, *container["command"][1:], *TINY]
    log = tmp_path / "metrics.log"
    done = subprocess.run(
        ["sh", "-c", " ".join([*words, f"1>{log} 2>&1"])],
        env=installation.environment() | environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, log.read_text()

    scores = collected(log.read_text(), collector_pattern())
    (best,) = scores["bbox_mAP"]
    assert 0 <= float(best) <= 1
    assert len(scores["segm_mAP"]) == 1
    (history,) = installation.folder.glob("storage/results/plates/*/swin-x1/train/logs/history.jsonl")
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert [line["bbox_mAP"] for line in lines if line["kind"] == "val"] == [float(best)]
    config = history.with_name("config.py").read_text()
    assert "'lr': 0.0012" in config and "'window_size': 4" in config and "'mlp_ratio': 2" in config
    assert "'drop_path_rate': 0.05" in config
    with sqlalchemy.create_engine(f"sqlite:///{installation.folder / 'sightline.db'}").connect() as connection:
        ((code,),) = connection.execute(sqlalchemy.text("SELECT code FROM steps WHERE run_id = 'swin-x1'")).all()
    assert code.startswith("trial-"), "a trial runs from a release, as the pipeline's steps do"
    assert (installation.volume / "releases" / code).is_dir()


@pytest.mark.parametrize(
    ("value", "read"),
    [(0.5, 0.5), (1.2e-05, 1.2e-05), (1e-07, 1e-07), (0.0, 0.0), (1.0, 1.0), (-0.25, -0.25), (1.5e22, 1.5e22)],
)
def test_a_number_is_read_as_it_was_printed(value: float, read: float) -> None:
    (found,) = collected(metric_lines({"bbox_mAP": value}), collector_pattern())["bbox_mAP"]
    assert float(found) == read


def test_what_is_no_number_is_not_printed() -> None:
    scores = {
        "kind": "val",
        "epoch": 2,
        "bbox_mAP": 0.25,
        "dv_mAP": float("nan"),
        "segm_mAP": None,
        "EIR": float("inf"),
    }
    assert metric_lines(scores) == "bbox_mAP=0.25"


def test_the_best_validation_counts_and_not_the_last() -> None:
    history = [
        {"kind": "train", "epoch": 1, "loss": 9.0},
        {"kind": "val", "epoch": 1, "bbox_mAP": 0.2, "segm_mAP": 0.9},
        {"kind": "val", "epoch": 2, "bbox_mAP": 0.4, "segm_mAP": 0.1},
        {"kind": "val", "epoch": 3, "bbox_mAP": None, "segm_mAP": 0.95},
    ]
    assert best_validation(history, "bbox_mAP")["epoch"] == 2
    assert best_validation(history, "segm_mAP")["epoch"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--config=nope"], "There is no config 'nope'"),
        (["--select-by=box_mAP"], "There is no metric 'box_mAP'"),
        (["--set=model.backbone.windowsize=4"], "no 'windowsize'"),
    ],
)
def test_what_cannot_be_tried_is_said_in_a_sentence(
    installation: Installation, tmp_path: Path, words: list[str], sentence: str
) -> None:
    command = [
        sys.executable,
        "-m",
        "sightline.entry",
        "trial",
        "--category=plates",
        "--config=mask_rcnn_swin_small",
        *words,
    ]
    done = subprocess.run(
        command, env=installation.environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
