"""The default model: its backbone, proposals from the coarse maps, and the schedule of freezing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from sightline.errors import ConfigError
from sightline.models.config import load_config, set_epochs
from sightline.tasks.detection.backbones import EfficientNetLite, SameConv2d
from sightline.tasks.detection.facts import CONFIG
from sightline.tasks.detection.fit import build_model, register
from sightline.tasks.detection.freezing import ThawHook
from tests import weight_names

CONFIGS = Path(__file__).resolve().parents[2] / "shared_volume" / "configs"
IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_tensors_are_those_of_timm_in_names_shapes_and_order():
    timm = weight_names.lite0_timm()
    ours = {name: tuple(tensor.shape) for name, tensor in EfficientNetLite().state_dict().items() if tensor.dim()}
    head = [name for name in timm if name.startswith(("conv_head", "bn2.", "classifier"))]
    assert list(ours) == [name for name in timm if name not in head]
    assert ours == {name: timm[name] for name in ours}


def test_maps_have_the_strides_and_channels_that_the_docstring_says():
    maps = EfficientNetLite(out_indices=range(7))(IMAGES)
    assert [(64 // each.shape[2], each.shape[1]) for each in maps] == [
        *((2, 16), (4, 24), (8, 40), (16, 80), (16, 112), (32, 192), (32, 320))
    ]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [32, 30])
def test_a_map_that_is_halved_is_padded_as_tensorflow_pads(kernel, size):
    """https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2: the total is what the last window lacks, the
    smaller half of it in front."""
    conv = SameConv2d(3, 4, kernel, 2)
    x = torch.rand(1, 3, size, size)
    total = (size // 2 - 1) * 2 + kernel - size
    padded = functional.pad(x, (total // 2, total - total // 2) * 2)
    assert torch.equal(conv(x), functional.conv2d(padded, conv.weight, stride=2))
    assert conv(x).shape[2:] == (size // 2, size // 2)


def test_frozen_stages_get_no_gradient_and_statistics_stay():
    backbone = EfficientNetLite(frozen_stages=2).train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    sum(each.sum() for each in backbone(IMAGES)).backward()
    without = {
        name.split(".")[0] + name.split(".")[1] for name, each in backbone.named_parameters() if each.grad is None
    }
    assert without == {"conv_stemweight", "bn1weight", "bn1bias", "blocks0", "blocks1"}
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


def test_statistics_follow_the_images_where_the_config_says_so():
    backbone = EfficientNetLite(norm_eval=False, frozen_stages=1).train()
    backbone(IMAGES)
    moved = {
        name for name, tensor in backbone.named_buffers() if name.endswith("running_mean") and tensor.abs().sum() > 0
    }
    assert "blocks.6.0.bn3.running_mean" in moved
    assert not {"bn1.running_mean", "blocks.0.0.bn1.running_mean"} & moved


@pytest.mark.parametrize("wrong", [{"out_indices": (7,)}, {"frozen_stages": 8}])
def test_a_stage_that_is_not_there_is_refused(wrong):
    with pytest.raises(ValueError, match="there are 7 stages"):
        EfficientNetLite(**wrong)


def test_proposals_come_from_strides_of_8_on_and_masks_are_cut_out_at_4():
    model = build_model(load_config(CONFIGS / f"{CONFIG}.py", {}, ("cup",)))
    maps = model.extract_feat(torch.rand(1, 3, 64, 64))
    scores, deltas = model.rpn_head(maps)
    assert [64 // each.shape[2] for each in maps] == [4, 8, 16, 32, 64]
    assert [64 // each.shape[2] for each in scores] == [64 // each.shape[2] for each in deltas] == [8, 16, 32, 64]
    assert model.rpn_head.prior_generator.strides[0] == (8, 8)
    assert model.roi_head.mask_roi_extractor.featmap_strides == [4, 8, 16, 32]


class Stub:
    """What a hook asks of mmengine's runner."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.epoch = model, 0


def train_an_epoch(runner: Stub, hook: ThawHook) -> set[str]:
    """Top modules whose tensors moved."""
    model: Any = runner.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hook.before_train_epoch(runner)
    model.train()
    hook.before_train_iter(runner, 0)
    model(IMAGES[:, :, :8, :8]).sum().backward()
    optimizer.step()
    runner.epoch += 1
    return {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def two_parts() -> torch.nn.Sequential:
    first = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
    return torch.nn.Sequential(first, torch.nn.Conv2d(4, 2, 3))


def test_modules_stay_as_they_began_until_their_epoch():
    runner, hook = Stub(two_parts()), ThawHook(["0"], begin_epoch=2)
    hook.before_train(runner)
    assert [train_an_epoch(runner, hook) for _ in range(3)] == [{"1"}, {"1"}, {"0", "1"}]


def test_a_schedule_of_freezing_freezes_for_an_epoch_at_least_however_few_there_are():
    config = load_config(
        CONFIGS / f"{CONFIG}.py",
        {"+custom_hooks": [{"type": "ThawHook", "modules": ["backbone"], "begin_epoch": 4}]},
        ("cup",),
    )
    set_epochs(config, 2)
    assert config.custom_hooks[0].begin_epoch == 1


def test_a_training_that_goes_on_after_the_thaw_is_thawed():
    runner, hook = Stub(two_parts()), ThawHook("0", begin_epoch=2)
    runner.epoch = 2
    hook.before_train(runner)
    assert train_an_epoch(runner, hook) == {"0", "1"}


def test_what_the_model_keeps_frozen_itself_is_not_thawed():
    model = two_parts()
    model[0][0].weight.requires_grad_(False)  # type: ignore[index]
    runner, hook = Stub(model), ThawHook("0", begin_epoch=0)
    hook.before_train(runner)
    before = model[0][0].weight.clone()  # type: ignore[index]
    train_an_epoch(runner, hook)
    assert torch.equal(model[0][0].weight, before)  # type: ignore[index]


def test_a_module_that_the_model_lacks_is_named():
    with pytest.raises(ConfigError, match="no module 'bakbone'. Did you mean 'backbone'"):
        ThawHook("bakbone", 1).before_train(Stub(build_model(load_config(CONFIGS / f"{CONFIG}.py", {}, ("cup",)))))


def test_a_config_may_name_the_schedule_of_freezing():
    register()
    from mmengine.registry import HOOKS

    assert HOOKS.build({"type": "ThawHook", "modules": ["backbone"], "begin_epoch": 3}).begin_epoch == 3


def test_the_default_begins_from_weights_that_a_package_brings():
    config = load_config(CONFIGS / f"{CONFIG}.py", {}, ("cup",))
    assert (CONFIG, config.load_from) == ("mask_rcnn_lite0", "lite0")
    assert json.dumps(config.model.data_preprocessor.mean) == "[127.0, 127.0, 127.0]"
