"""Training on a small recorded dataset, in processes that may be killed."""

import contextlib
import json
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sightline.models.bundle import read_bundle
from tests.workspace import Installation, finished

pytestmark = pytest.mark.slow

EPOCHS = 3

TRAIN = """
import json, sys
from sightline.services.versioning.datasets import find_dataset
from sightline.settings import read_settings
from sightline.steps.train.start import train_model
overrides = {"num_workers": 0, "val_interval": 1} | json.loads(sys.argv[1])
dataset = find_dataset(read_settings(), "plates", "").to_text()
result = train_model(sys.argv[2], dataset, "mask_rcnn_r18_small", overrides, int(sys.argv[3]))
print(json.dumps(result.model.to_json()))
"""


@pytest.fixture(scope="module")
def installation(recorded: Installation) -> Installation:
    return replace(recorded, prefix="training-")


@pytest.fixture(scope="module")
def unbroken(installation: Installation) -> tuple[Path, dict]:
    """Work folder and model reference of a training that nothing disturbed."""
    here = installation.with_fresh_volume("unbroken")
    reference = json.loads(finished(start(here)).splitlines()[-1])
    return work_folder(here), reference


def start(installation: Installation, overrides: dict | None = None, epochs: int = EPOCHS) -> subprocess.Popen[str]:
    code = Path(__file__).parents[2] / "shared_volume"
    return installation.python(TRAIN, json.dumps(overrides or {}), str(code), str(epochs))


def work_folder(installation: Installation) -> Path:
    (folder,) = (installation.volume / "work").glob("train-*")
    return folder


def history(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def kill_in_mid_epoch(process: subprocess.Popen[str], installation: Installation, iteration: int) -> None:
    """kill -9 as soon as an iteration is on record."""
    wait_for(installation, process, iteration)
    process.send_signal(signal.SIGKILL)
    process.wait()


def assert_gone(installation: Installation) -> None:
    """No process is left that works on the volume: one that loads data would hold its training's lock."""
    volume = str(installation.volume)
    left: list[Path] = []
    for _ in range(100):
        left = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                left += [environment] if volume in environment.read_text() else []
        if not left:
            return
        time.sleep(0.1)
    pytest.fail(f"still running: {left}")


def wait_for(installation: Installation, process: subprocess.Popen[str], iteration: int) -> None:
    for _ in range(2400):
        written = [path for path in (installation.volume / "work").glob("train-*/history.jsonl") if path.is_file()]
        if written and written[0].read_text().count('"train"') >= iteration:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    pytest.fail("the training never reached that iteration")


def test_a_killed_training_resumes_within_the_epoch_and_ends_with_the_unbroken_losses(
    installation: Installation, unbroken: tuple[Path, dict]
) -> None:
    expected = history(unbroken[0])
    per_epoch = sum(line["kind"] == "train" and line["epoch"] == 1 for line in expected)
    assert per_epoch > 3
    here = installation.with_fresh_volume("killed")
    every_iteration = {"checkpoint_seconds": 0, "num_workers": 1}
    killed = start(here, every_iteration)
    kill_in_mid_epoch(killed, here, per_epoch + 2)
    assert_gone(here)

    output = finished(start(here, every_iteration))

    resumed_at = int(output.partition("resumed at iteration ")[2].split()[0])
    assert resumed_at > per_epoch
    assert resumed_at % per_epoch != 0
    assert history(work_folder(here)) == expected


def test_without_a_checkpoint_at_every_iteration_the_losses_are_the_same_too(
    installation: Installation, unbroken: tuple[Path, dict]
) -> None:
    here = installation.with_fresh_volume("light")
    process = start(here)
    wait_for(here, process, 2)
    while not list(here.volume.glob("work/train-*/checkpoints/light.pth")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert "resumed at iteration" in finished(start(here))
    assert history(work_folder(here)) == history(unbroken[0])
    (board,) = (here.volume / "tensorboard").iterdir()
    assert len(list(board.iterdir())) == 2, "two attempts went on in the same run of TensorBoard"
    curves = EventAccumulator(str(board))
    curves.Reload()
    drawn = [(point.step, pytest.approx(point.value)) for point in curves.Scalars("train/loss")]
    assert [(line["iter"], line["loss"]) for line in history(unbroken[0]) if line["kind"] == "train"] == drawn


def test_a_training_ends_when_the_program_that_started_it_is_killed(installation: Installation) -> None:
    here = installation.with_fresh_volume("orphan")
    parent = subprocess.Popen(["cat"], stdin=subprocess.PIPE)  # lives as long as somebody may write to it
    code = Path(__file__).parents[2] / "shared_volume"
    training = here.python(TRAIN, "{}", str(code), "100", SIGHTLINE_PARENT=str(parent.pid))
    wait_for(here, training, 1)
    parent.kill()
    parent.wait()
    training.communicate(timeout=60)
    assert training.returncode == -signal.SIGTERM, "asked first, so that it can record that it ends"


def test_a_damaged_checkpoint_is_passed_over(installation: Installation, unbroken: tuple[Path, dict]) -> None:
    here = installation.with_fresh_volume("damaged")
    every_iteration = {"checkpoint_seconds": 0}
    kill_in_mid_epoch(start(here, every_iteration), here, 3)
    checkpoints = sorted((work_folder(here) / "checkpoints").glob("*.pth"))
    assert 1 <= len(checkpoints) <= 2
    newest = checkpoints[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])

    output = finished(start(here, every_iteration))

    assert f"{newest.name} is damaged" in output
    assert history(work_folder(here)) == history(unbroken[0])


def test_one_seed_gives_the_same_losses_twice_and_another_seed_others(
    installation: Installation, unbroken: tuple[Path, dict]
) -> None:
    same, other = installation.with_fresh_volume("same"), installation.with_fresh_volume("other")
    finished(start(same, {"num_workers": 1}, epochs=1))
    finished(start(other, {"seed": 1}, epochs=1))
    first = [line["loss"] for line in history(work_folder(same)) if line["kind"] == "train"]
    assert first != [line["loss"] for line in history(work_folder(other)) if line["kind"] == "train"]
    repeated = installation.with_fresh_volume("repeated")
    finished(start(repeated, {"num_workers": 0}, epochs=1))
    assert first == [line["loss"] for line in history(work_folder(repeated)) if line["kind"] == "train"]


def test_best_and_last_are_bundles_in_the_storage(installation: Installation, unbroken: tuple[Path, dict]) -> None:
    _, reference = unbroken
    storage = installation.folder / "storage"
    results = storage / "results" / "plates" / "v0.1.0" / "training-unbroken" / "train"
    for name, sha256 in (("best", reference["sha256"]), ("last", reference["last_sha256"])):
        record = json.loads((results / f"{name}.json").read_text())
        assert (record["bundle"], record["run"]) == (f"models/{sha256}", "training-unbroken")
        bundle = read_bundle(storage / record["bundle"], sha256)
        assert bundle.facts.keys() == {"task", "category", "dataset_version", "config", "epoch"}, "nothing of the run"
        assert bundle.classes == ("l_board", "r_board")
        assert bundle.facts["dataset_version"] == "v0.1.0"
        assert bundle.sample_predictions is not None
    assert reference["metric_name"] == "bbox_mAP"
    (board,) = (results / "tensorboard").iterdir()
    assert re.fullmatch(r"plates v0\.1\.0 mask_rcnn_r18_small \d{4}-\d\d-\d\d \d\d\.\d\d", board.name)
    assert list(board.glob("events.out.tfevents.*"))
    assert (results / "logs" / "history.jsonl").read_text() == (unbroken[0] / "history.jsonl").read_text()
    assert "optim_wrapper" in (results / "logs" / "config.py").read_text()


def test_a_training_log_holds_what_we_say_and_nothing_else(installation: Installation) -> None:
    output = finished(start(installation.with_fresh_volume("quiet"), epochs=1))
    lines = [line for line in output.splitlines() if line.strip()]
    assert [line for line in lines[:-1] if not re.match(r"\d{4}-\d\d-\d\d [\d:,]+ train ", line)] == []


def test_a_repeated_training_is_not_done_twice(installation: Installation, unbroken: tuple[Path, dict]) -> None:
    here = replace(installation, volume=installation.folder / "training-unbroken")
    before = history(work_folder(here))
    output = finished(start(here))
    assert f"resumed at iteration {before[-1]['iter']}" in output
    assert history(work_folder(here)) == before


def test_training_stops_early_when_asked(installation: Installation) -> None:
    here = installation.with_fresh_volume("early")
    output = finished(start(here, {"early_stopping.patience": 1, "early_stopping.min_delta": 10.0}))
    assert "stopping early" in output
    assert {line["epoch"] for line in history(work_folder(here))} == {1, 2}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.roi_head.bbox_head.num_classes": 7}, "7"),
        ({"optim_wraper.optimizer.lr": 1.0}, "optim_wrapper"),
    ],
    ids=["head of another size", "misspelt key"],
)
def test_a_config_that_does_not_fit_fails_before_the_first_iteration(
    installation: Installation, overrides: dict, message: str, request: pytest.FixtureRequest
) -> None:
    here = installation.with_fresh_volume(f"bad-{request.node.callspec.id.replace(' ', '-')}")
    process = start(here, overrides)
    output, _ = process.communicate()
    assert process.returncode != 0
    assert message in output.splitlines()[-1]
    assert not list(here.volume.glob("work/train-*/history.jsonl"))
