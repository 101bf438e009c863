"""A type that mmengine does not know ends a training in a sentence, whatever mmengine itself would raise."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS

from sightline.errors import ConfigError
from sightline.models.config import load_config
from sightline.steps.train.types import types_known
from sightline.tasks.detection.fit import register
from tests.workspace import REPOSITORY

CONFIG = REPOSITORY / "shared_volume" / "configs" / "mask_rcnn_r18_small.py"


def build(overrides: dict[str, Any]) -> None:
    """What a training builds before it begins, with mmengine's own errors."""
    register()
    config: Config = load_config(Path(CONFIG), overrides, ("plate",))
    with types_known(config, "mmdet"):
        MODELS.build(config.model)
        for step in config.train_pipeline:
            TRANSFORMS.build(step)


@pytest.mark.parametrize(
    ("key", "name", "hint"),
    [
        ("optim_wrapper.type", "Nothing", ""),
        ("optim_wrapper.optimizer.type", "Nothing", ""),
        ("optim_wrapper.optimizer.type", "AdamV", "Did you mean 'Adam'?"),
        ("optim_wrapper.optimizer.type", "ResNet", ""),  # registered, as something else
        ("param_scheduler.1.type", "CosineAnnealingRL", "Did you mean 'CosineAnnealingLR'?"),
        ("model.type", "MaskRCN", "Did you mean 'MaskRCNN'?"),
        ("model.backbone.type", "Nothing", ""),
        ("model.backbone.type", "Resize", "Did you mean"),  # registered, as something else
        ("model.rpn_head.anchor_generator.type", "AnchorGenerater", "Did you mean 'AnchorGenerator'?"),
        ("train_pipeline.2.type", "Nothing", ""),
    ],
)
def test_an_unknown_type_is_named_with_its_key_and_the_nearest(key: str, name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is '{name}', and nothing that fits there is registered") as told:
        build({key: name})
    assert hint in str(told.value)
    assert hint or "Did you mean" not in str(told.value)


def test_what_is_known_is_built_and_other_errors_stay_what_they_are() -> None:
    build({})
    build({"optim_wrapper.optimizer.type": "torch.optim.NAdam"})  # imported from where it says
    with pytest.raises(TypeError, match="no_such_option"):
        build({"+model.backbone.no_such_option": 1})
