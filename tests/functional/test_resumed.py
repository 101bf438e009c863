"""A training that goes on from another run's: the same as one without a break where it should be, and what it says of the rest."""

import hashlib
import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sightline.models.bundle import read_bundle
from sightline.references import ModelReference
from sightline.services.database.connection import connect
from sightline.services.database.scores import find_model
from tests.workspace import REPOSITORY, Installation, finished

CODE = REPOSITORY / "shared_volume"
TRAIN = """
import json, sys
from sightline.services.runs.origins import bring_checkpoint, find_origin
from sightline.services.versioning.datasets import find_dataset
from sightline.settings import read_settings
from sightline.steps.train.start import train_model
code, overrides, epochs, run = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
dataset = find_dataset(read_settings(), "plates", "").to_text()
reference = bring_checkpoint(find_origin(read_settings(), run, "plates"), read_settings()).to_text() if run else ""
result = train_model(code, dataset, "mask_rcnn_r18_small", overrides, epochs, weights=reference)
print(json.dumps(result.model.to_json()))
"""
# Two batches an epoch, at one rate: a longer schedule is the same where they overlap.
STEADY = {"num_workers": 0, "val_interval": 1, "train_batch_size": 8, "param_scheduler": [], "checkpoint_seconds": 0}


@pytest.fixture(scope="module")
def installation(recorded: Installation) -> Installation:
    return replace(recorded, prefix="resumed-")


def start(here: Installation, epochs: int, run: str, origin: str = "", **overrides: object):
    arguments = json.dumps(STEADY | overrides), str(epochs), origin
    return here.python(TRAIN, str(CODE), *arguments, SIGHTLINE_RUN=run)


def outcome(output: str) -> ModelReference:
    return ModelReference.from_text(output.splitlines()[-1])


@pytest.fixture(scope="module")
def short(installation: Installation) -> Installation:
    """A volume on which the run `short` has trained two epochs."""
    here = installation.with_fresh_volume("short")
    finished(start(here, 2, "short"))
    return here


def folder_of(here: Installation, run: str) -> Path:
    return next(path.parent for path in here.volume.glob("work/train-*/runs.txt") if run in path.read_text().split())


def history(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_epochs_and_two_more_are_four(installation: Installation, short: Installation) -> None:
    before = contents(folder_of(short, "short"))
    whole = outcome(finished(start(installation.with_fresh_volume("whole"), 4, "whole")))
    resumed = outcome(finished(start(short, 4, "more", "short")))
    assert contents(folder_of(short, "short")) == before
    print(sorted(path.name for path in folder_of(short, "more").iterdir()))
    assert history(folder_of(short, "more")) == history(next(here.volume.glob("work/*")) if (here := replace(installation, volume=installation.folder / "resumed-whole")) else None)
    assert (resumed.sha256 == whole.sha256), (resumed, whole)
