"""Training from trained weights: what it leaves, and that a kill changes nothing of it."""

import json
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline.models.bundle import read_bundle
from sightline.models.config import load_config
from sightline.references import ModelReference
from sightline.services.database.connection import connect
from sightline.services.database.scores import find_model
from sightline.tasks.detection.fit import build_model
from tests.workspace import REPOSITORY, Installation, finished

pytestmark = pytest.mark.slow

CODE = REPOSITORY / "shared_volume"
CONFIG = "mask_rcnn_r18_small"
BOARD = "l_board"
TRAIN = """
import json, sys
from pathlib import Path
from sightline.models.weights.chosen import bring_weights, find_weights
from sightline.references import WeightsReference
from sightline.services.versioning.datasets import find_dataset
from sightline.settings import read_settings
from sightline.steps.train.start import train_model
code, words, reference = sys.argv[2:5]
overrides = {"num_workers": 0, "val_interval": 1} | json.loads(sys.argv[1])
dataset = find_dataset(read_settings(), "plates", "").to_text()
if words:
    reference = bring_weights(find_weights(Path(code), "mask_rcnn_r18_small", {}, words), read_settings()).to_text()
    print("reference", reference, flush=True)
result = train_model(code, dataset, "mask_rcnn_r18_small", overrides, 1, weights=reference)
print(json.dumps(result.model.to_json()))
"""
STILL = {"optim_wrapper.optimizer.lr": 0.0, "optim_wrapper.optimizer.weight_decay": 0.0}
EVERY_ITERATION = {"checkpoint_seconds": 0}


class Photos(torch.utils.data.Dataset):
    """What mmengine's Runner wants for its training."""

    METAINFO = metainfo = {"classes": (BOARD, "cup")}

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.zeros(1)


@pytest.fixture(scope="module")
def installation(recorded: Installation) -> Installation:
    return replace(recorded, prefix="pretrained-")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as mmengine's own CheckpointHook leaves it, of a detector with two classes, of which one is called as ours."""
    from mmengine.runner import Runner

    config = load_config(CODE / "configs" / f"{CONFIG}.py", {}, (BOARD, "cup"))
    folder = tmp_path_factory.mktemp("mmengine")
    torch.manual_seed(5)
    detector = build_model(config)
    detector.train_step = lambda data, optim_wrapper: {
        "loss": torch.zeros(())
    }  # it learns nothing: its file is of interest
    runner = Runner(
        model=detector,
        work_dir=str(folder),
        train_dataloader={
            "batch_size": 1,
            "dataset": Photos(),
            "sampler": {"type": "DefaultSampler", "shuffle": False},
        },
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 1}, "logger": None},
        default_scope="mmdet",
        log_level="ERROR",
        experiment_name=folder.name,
    )
    runner.train()
    return folder / "epoch_1.pth"


def start(here: Installation, words: str = "", reference: str = "", **overrides: object):
    return here.python(TRAIN, json.dumps(overrides.get("overrides", {})), str(CODE), words, reference)


def outcome(output: str) -> ModelReference:
    return ModelReference.from_text(output.splitlines()[-1])


def bundle(here: Installation, reference: ModelReference) -> Path:
    return here.folder / "storage" / "models" / reference.sha256


def reached(here: Installation, pattern: str, process) -> None:
    for _ in range(2400):
        if list(here.volume.glob(pattern)):
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    pytest.fail(f"no {pattern}")


def test_a_model_begins_with_the_files_values_and_says_so_everywhere(installation: Installation, trained: Path) -> None:
    """Trained at a rate of 0, its parameters are still those of the file, but for what does not fit."""
    here = installation.with_fresh_volume("said")
    output = finished(start(here, str(trained), overrides=STILL))
    reference = outcome(output)
    ours = load_file(bundle(here, reference) / "model.safetensors")
    theirs = torch.load(trained, weights_only=False)["state_dict"]
    classes = read_bundle(bundle(here, reference)).classes
    for name in (
        "backbone.layer3.0.conv1.weight",
        "rpn_head.rpn_conv.weight",
        "roi_head.bbox_head.shared_fcs.0.weight",
    ):
        assert torch.equal(ours[name], theirs[name])
    row = classes.index(BOARD)
    assert torch.equal(ours["roi_head.bbox_head.fc_cls.weight"][row], theirs["roi_head.bbox_head.fc_cls.weight"][0])
    facts = read_bundle(bundle(here, reference)).facts
    assert facts["weights_origin"] == reference.weights_origin == str(trained)
    assert facts["weights_sha256"] == reference.weights_sha256
    database = connect(here.environment()["SIGHTLINE_DATABASE_URL"])
    model = find_model(database, reference.uri)
    assert model is not None and (model.weights_sha256, model.parent_sha256) == (reference.weights_sha256, None)
    (report,) = here.folder.glob(f"storage/results/plates/*/{here.volume.name}/train/report.html")
    assert "Began from" in report.read_text() and "epoch_1.pth" in report.read_text()
    assert "parameters" in output and "reshaped: roi_head.bbox_head.fc_cls.weight" in output


@pytest.mark.parametrize("after", ["work/train-*/began_from.json", "work/train-*/checkpoints/iter_*2.pth"])
def test_killed_and_begun_again_it_is_the_same_model_to_the_bit(
    installation: Installation, trained: Path, after: str
) -> None:
    name = Path(after).name.partition(".")[0].strip("*_")
    unbroken = outcome(
        finished(start(installation.with_fresh_volume(f"whole-{name}"), str(trained), overrides=EVERY_ITERATION))
    )
    here = installation.with_fresh_volume(f"killed-{name}")
    process = start(here, str(trained), overrides=EVERY_ITERATION)
    reached(here, after, process)
    process.send_signal(signal.SIGKILL)
    output = process.communicate()[0]
    handed_on = next(line for line in output.splitlines() if line.startswith("reference")).removeprefix("reference ")
    time.sleep(3)  # its child ends with it
    if "checkpoints" in after:
        shutil.rmtree(here.volume / "weights")  # a checkpoint needs no weights
    output = finished(start(here, reference=handed_on, overrides=EVERY_ITERATION))
    assert ("resumed at iteration" in output) == ("checkpoints" in after)
    again = outcome(output)
    assert again.sha256 == unbroken.sha256
    assert again.weights_sha256 == unbroken.weights_sha256


def test_the_model_of_an_earlier_training_is_the_parent(installation: Installation, trained: Path) -> None:
    here = installation.with_fresh_volume("parent")
    parent = outcome(finished(start(here, str(trained), overrides=STILL)))
    child = outcome(finished(start(here, parent.uri, overrides={"seed": 4})))
    assert child.parent_sha256 == parent.sha256 != child.sha256
    row = find_model(connect(here.environment()["SIGHTLINE_DATABASE_URL"]), child.uri)
    assert row is not None and row.parent_sha256 == parent.sha256
    assert read_bundle(bundle(here, child)).facts["parent_sha256"] == parent.sha256
