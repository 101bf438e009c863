"""Turn trained weights into bundles that need nothing else to run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config

from sightline.images.files import read_image
from sightline.models.bundle import write_bundle
from sightline.models.config import config_text
from sightline.services.database.scores import ModelKind
from sightline.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Moment:
    """Weights of one moment of the training."""

    name: ModelKind
    epoch: int
    weights: Mapping[str, torch.Tensor]


def write_moment(
    task: Task,
    folder: Path,
    moment: Moment,
    model: torch.nn.Module,
    config: Config,
    classes: Sequence[str],
    dataset_dir: Path,
    facts: Mapping[str, str],
) -> str:
    """Write a moment's bundle, with one validation image and what the model finds on it. Returns its sha256.

    Equal trainings give equal bundles: `facts` must say nothing of the run.
    """
    model.load_state_dict(moment.weights)
    sample = _sample_image(dataset_dir)
    predictions = None
    if sample is not None:
        predictions = task.predict.predictor_of(model, config, classes).results(read_image(sample), image_id=1)
    return write_bundle(
        folder,
        state_dict=moment.weights,
        config_text=config_text(config),
        classes=list(classes),
        sample_image=sample,
        sample_predictions=predictions,
        facts={**facts, "epoch": moment.epoch},
    )


def _sample_image(dataset_dir: Path) -> Path | None:
    for split in ("val", "train"):
        images = json.loads((dataset_dir / f"{split}.json").read_text())["images"]
        if images:
            return dataset_dir / "images" / images[0]["file_name"]
    return None
