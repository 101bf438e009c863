"""Part fit: mmdet's models and datasets, as mmengine's Runner trains and validates them."""

import contextlib
import copy
import importlib
import io
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from sightline.errors import ConfigError, clause
from sightline.tasks.detection.ops import supply_missing_ops
from sightline.tasks.task import Score

SCOPE = "mmdet"
PACKAGES = ("datasets", "engine", "evaluation", "models", "visualization")  # of mmdet


@cache
def register() -> None:
    """Make all that a config may name by `type` known, mmdet's and our own. Call before building anything from a config."""
    supply_missing_ops()
    # mmdet prints and warns about optional packages that no config of ours needs.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for package in PACKAGES:
            importlib.import_module(f"mmdet.{package}")
        from mmengine.registry import init_default_scope

        import sightline.tasks.detection.mixing
        import sightline.tasks.detection.modules  # noqa: F401

        init_default_scope("mmdet")


def build_model(config: Config) -> torch.nn.Module:
    """Build the config's model on the CPU; its weights are random until they are initialised or loaded.

    Raises:
        ConfigError: a part is unknown or does not fit; names it.
    """
    register()
    from mmdet.registry import MODELS

    try:
        return MODELS.build(copy.deepcopy(config.model))  # some models write into it while they are built
    except Exception as error:
        # mmengine raises whatever the failing part raised, with the part's name put before it.
        raise ConfigError(
            f"The model cannot be built from its config: {clause(error)}. Look at that part of `model`."
        ) from error


def training_dataset(config: Config, dataset_dir: Path, classes: Sequence[str]) -> Any:
    """The train split as the config's pipeline makes it."""
    # Images without objects stay, unless the config says otherwise: whoever keeps them wants the model to see what is no object.
    kept = config.get("filter_cfg") or {"filter_empty_gt": False}
    dataset = _coco_dataset(dataset_dir, "train", classes, config.train_pipeline, filter_cfg=kept)
    if not len(dataset):
        raise ConfigError(
            f"No image is left to train on: filter_cfg is {dict(kept)}, and leaves out images without objects, or small ones. "
            "Set train_dataloader.dataset.filter_cfg.filter_empty_gt=false."
        )
    from mmdet.registry import DATASETS

    from sightline.tasks.detection.mixing import bind_mixing

    bind_mixing(dataset)
    wrappers = config.get("train_dataset_wrapper") or []
    for wrapper in reversed([wrappers] if isinstance(wrappers, dict) else wrappers):
        dataset = DATASETS.build({**wrapper, "dataset": dataset})
    return dataset


def evaluation_dataset(config: Config, dataset_dir: Path, split: str, classes: Sequence[str]) -> Any:
    """A split, in order, as the config's test pipeline makes it."""
    return _coco_dataset(dataset_dir, split, classes, config.test_pipeline, test_mode=True)


def evaluator(dataset_dir: Path, split: str, score: Score) -> dict[str, Any]:
    """mmengine's config of what scores a validation."""
    return {"type": "SightlineCocoMetric", "ann_file": str(dataset_dir / f"{split}.json"), "score": score}


def _coco_dataset(dataset_dir: Path, split: str, classes: Sequence[str], pipeline: Any, **more: Any) -> Any:
    register()
    from mmdet.registry import DATASETS

    described = {
        "type": "CocoDataset",
        "ann_file": str(dataset_dir / f"{split}.json"),
        "data_prefix": {"img": str(dataset_dir / "images")},
        "metainfo": {"classes": tuple(classes)},
        "pipeline": pipeline,
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells that it reads a file
        return DATASETS.build(described | more)
