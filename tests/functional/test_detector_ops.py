"""The operators on plain PyTorch against the compiled ones, and by themselves where those are not to be had."""

import importlib
import itertools
import os
import zipfile
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from sightline.errors import SightlineError
from sightline.models.config import load_config
from sightline.tasks.detection import ops
from sightline.tasks.detection.fit import build_model
from sightline.tasks.detection.predict import predictor_of

WHEELS = Path(os.environ.get("SIGHTLINE_TEST_WHEELS", "/nowhere"))
CONFIGS = Path(__file__).resolve().parents[2] / "shared_volume" / "configs"
TOLERANCE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def supplied():
    """Whether mmcv's operators are ours. Without them `mmcv.ops` cannot be imported, whichever test runs first."""
    return ops.supply_missing_ops()


@pytest.fixture(scope="module")
def compiled(supplied, tmp_path_factory):
    """mmcv's compiled operators: the installed ones, or those of a wheel in SIGHTLINE_TEST_WHEELS."""
    if not supplied:
        return importlib.import_module("mmcv._ext")
    wheel = next(WHEELS.glob("onedl_mmcv-*.whl"), None)
    if wheel is None:
        pytest.skip(
            "no mmcv with compiled ops: set SIGHTLINE_TEST_WHEELS to a folder with its wheel (docs/development.md)"
        )
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.startswith("mmcv/_ext"))
        path = archive.extract(name, tmp_path_factory.mktemp("ext"))
    loader = ExtensionFileLoader("_ext", path)
    module = module_from_spec(spec_from_loader("_ext", loader))
    loader.exec_module(module)
    return module


def use_ops(monkeypatch, module):
    """Let mmcv's Python call the operators of `module`."""
    for user in ("mmcv.ops.nms", "mmcv.ops.roi_align"):
        monkeypatch.setattr(importlib.import_module(user), "ext_module", module)


def random_boxes(generator, count, extent=300.0, largest=80.0):
    corner = torch.rand(count, 2, generator=generator) * extent
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * largest], 1)


def tied(generator, count, levels=20):
    return (torch.rand(count, generator=generator) * levels).round() / levels


@pytest.mark.parametrize("count", [0, 1, 7, 300, 1500])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_nms_keeps_the_same_boxes_in_the_same_order_as_the_compiled_one(compiled, count, offset, threshold):
    generator = torch.Generator().manual_seed(count)
    boxes, scores = random_boxes(generator, count), tied(generator, count)
    if offset:
        boxes = boxes.round()  # many overlaps of exactly the threshold
    boxes[10:20] = boxes[:1]
    expected = compiled.nms(boxes, scores, iou_threshold=threshold, offset=offset)
    assert torch.equal(ops.nms(boxes, scores, threshold, offset), expected)


def test_boxes_without_area_are_kept_like_the_compiled_nms_keeps_them(compiled):
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10], [8, 8, 3, 3], [0, 0, 10, 10]])
    scores = torch.tensor([0.5, 0.5, 0.9, 0.1, 0.9])
    assert torch.equal(ops.nms(boxes, scores, 0.5, 0), compiled.nms(boxes, scores, iou_threshold=0.5, offset=0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nms_suppresses_by_overlap_and_prefers_the_earlier_of_equal_scores(dtype):
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [0, 0, 10, 10]], dtype=dtype)
    scores = torch.tensor([0.5, 0.25, 0.75, 0.5], dtype=dtype)
    assert ops.nms(boxes, scores, 0.5, 0).tolist() == [2, 0]
    assert ops.nms(boxes, scores, 0.95, 0).tolist() == [2, 0, 1]


@pytest.mark.parametrize("block", [1, 128])
def test_an_overlap_of_exactly_the_threshold_is_kept(compiled, monkeypatch, block):
    monkeypatch.setattr(ops, "NMS_BLOCK", block)
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10], [20, 0, 30, 5.01]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert ops.nms(boxes, scores, 0.5, 0).tolist() == [0, 1, 2]
    assert compiled.nms(boxes, scores, iou_threshold=0.5, offset=0).tolist() == [0, 1, 2]


@pytest.mark.parametrize("options", [{}, {"class_agnostic": True}, {"split_thr": 100}, {"max_num": 17}])
def test_batched_nms_is_class_wise_like_with_the_compiled_ops(compiled, monkeypatch, options):
    from mmcv.ops import batched_nms

    generator = torch.Generator().manual_seed(5)
    boxes, scores = random_boxes(generator, 400), tied(generator, 400)
    classes = torch.randint(0, 4, (400,), generator=generator)
    results = []
    for module in (compiled, ops):
        use_ops(monkeypatch, module)
        results.append(batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": 0.5, **options}))
    (expected, expected_kept), (found, kept) = results
    assert torch.equal(kept, expected_kept)
    assert torch.equal(found, expected)


def awkward_rois(generator, dtype):
    """RoIs of two images on a 40 x 50 map of stride 8: ordinary, empty, tiny, outside, across the border, huge."""
    special = torch.tensor(
        [
            [0.0, 0, 0, 0],
            [100, 100, 100.5, 100.2],
            [-500, -500, -400, -400],
            [900, 900, 1000, 1000],
            [-30, -30, 60, 60],
            [350, 280, 460, 380],
            [-1000, -1000, 2000, 2000],
            [-8, -8, -4, 328],
        ]
    )
    boxes = torch.cat([special, random_boxes(generator, 40, 400, 250) - 50])
    image = torch.randint(0, 2, (len(boxes), 1), generator=generator)
    return torch.cat([image, boxes], 1).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("sampling_ratio", "aligned", "pool_mode"), list(itertools.product([0, 2], [True, False], ["avg", "max"]))
)
def test_roi_align_equals_the_compiled_one_forward_and_backward(
    compiled, monkeypatch, dtype, sampling_ratio, aligned, pool_mode
):
    from mmcv.ops import roi_align

    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 6, 40, 50, dtype=dtype, generator=generator)
    rois = awkward_rois(generator, dtype)
    gradient = torch.randn(len(rois), 6, 7, 5, dtype=dtype, generator=generator)
    pooled, gradients = [], []
    for module in (compiled, ops):
        use_ops(monkeypatch, module)
        leaf = features.clone().requires_grad_()
        pooled.append(roi_align(leaf, rois, (7, 5), 1 / 8, sampling_ratio, pool_mode, aligned))
        gradients.append(torch.autograd.grad(pooled[-1], leaf, gradient)[0])
    torch.testing.assert_close(pooled[1], pooled[0], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=TOLERANCE)


def test_samples_that_rounding_lifts_onto_the_next_pixel_are_read_right(compiled, monkeypatch):
    from mmcv.ops import roi_align

    whole = torch.arange(1.0, 40.0)
    start = whole.nextafter(torch.tensor(0.0))  # samples a whole pixel apart, the first one just below a pixel
    rois = torch.stack([torch.zeros_like(start), start, start, whole + 14, whole + 21], 1)
    features = torch.randn(1, 4, 64, 60, generator=torch.Generator().manual_seed(0))
    pooled = []
    for module in (compiled, ops):
        use_ops(monkeypatch, module)
        pooled.append(roi_align(features, rois, 7, 1.0, 0, "avg", True))
    torch.testing.assert_close(pooled[1], pooled[0], rtol=0, atol=TOLERANCE)


def test_roi_align_in_small_pieces_gives_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(4)
    rois = awkward_rois(generator, torch.float64)
    features = torch.randn(2, 3, 40, 50, dtype=torch.float64, generator=generator)
    whole = pool_and_gradient(monkeypatch, features, rois)
    monkeypatch.setattr(ops, "MAX_READS", 1000)
    for expected, found in zip(whole, pool_and_gradient(monkeypatch, features, rois), strict=True):
        torch.testing.assert_close(found, expected)


def pool_and_gradient(monkeypatch, features, rois):
    from mmcv.ops import roi_align

    use_ops(monkeypatch, ops)
    leaf = features.clone().requires_grad_()
    pooled = roi_align(leaf, rois, 7, 1 / 8, 0, "avg", True)
    return pooled.detach(), torch.autograd.grad(pooled.square().sum(), leaf)[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_roi_align_of_a_ramp_gives_the_middle_of_each_bin(monkeypatch, dtype):
    from mmcv.ops import roi_align

    use_ops(monkeypatch, ops)
    ramp = torch.arange(32.0).expand(1, 1, 24, 32).to(dtype)
    pooled = roi_align(ramp, torch.tensor([[0, 8.5, 4.5, 16.5, 12.5]], dtype=dtype), 4, 1.0, 0, "avg", True)
    assert pooled[0, 0].tolist() == [[9.0, 11.0, 13.0, 15.0]] * 4


@pytest.mark.slow
@pytest.mark.parametrize("pool_mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_aligns_gradient_is_that_of_its_output(monkeypatch, pool_mode, sampling_ratio):
    from mmcv.ops import RoIAlign

    use_ops(monkeypatch, ops)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 2, 8, 9, dtype=torch.float64, generator=generator, requires_grad=True)
    rois = torch.tensor([[0, 1.3, 0.7, 6.1, 7.9], [0, -3, -2, 4, 3], [0, 2, 2, 2.4, 2.1]], dtype=torch.float64)
    pool = RoIAlign((3, 2), 0.9, sampling_ratio, pool_mode, aligned=True)
    assert torch.autograd.gradcheck(lambda tensor: pool(tensor, rois), (features,), fast_mode=False)


@pytest.mark.parametrize("box", [[5.0, 5, 2, 9], [float("nan")] * 4])
def test_boxes_of_a_diverged_training_are_named(box):
    rois = torch.tensor([[0.0, *box]])
    out = torch.zeros(1, 1, 2, 2)
    pooling = {"aligned_height": 2, "aligned_width": 2, "spatial_scale": 1.0, "sampling_ratio": 0, "pool_mode": 1}
    with pytest.raises(SightlineError, match="losses diverged"):
        ops.roi_align_forward(torch.zeros(1, 1, 9, 9), rois, out, out, out, aligned=True, **pooling)


def test_an_op_that_is_not_supplied_says_what_is_needed(supplied):
    if not supplied:
        pytest.skip("this mmcv has compiled ops")
    from mmcv.ops import soft_nms

    with pytest.raises(SightlineError, match=r"'softnms'.*compiled"):
        soft_nms(torch.rand(3, 4), torch.rand(3))


@pytest.mark.slow
def test_a_whole_mask_rcnn_predicts_the_same_with_both_sets_of_ops(compiled, monkeypatch):
    torch.manual_seed(0)
    # Low thresholds: an untrained model then finds many things, with masks that are not empty.
    low = {"score_thr": 0.0, "mask_thr_binary": 0.2}
    config = load_config(CONFIGS / "mask_rcnn_r18_small.py", {"model.test_cfg.rcnn": low}, ["circle", "square"])
    model = build_model(config)
    model.init_weights()
    # Larger weights than a trained model's would only magnify the rounding of float32.
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    detector = predictor_of(model, config, ["circle", "square"])
    image = np.random.default_rng(0).integers(0, 255, (200, 320, 3), dtype=np.uint8)
    found = []
    for module in (compiled, ops):
        use_ops(monkeypatch, module)
        found.append(detector.results(image, 1))
    assert len(found[0]) > 20
    labels, boxes, scores = (
        [[one[key] for one in results] for results in found] for key in ("category_id", "bbox", "score")
    )
    np.testing.assert_array_equal(labels[1], labels[0])
    np.testing.assert_allclose(boxes[1], boxes[0], atol=TOLERANCE)
    np.testing.assert_allclose(scores[1], scores[0], atol=TOLERANCE)
    masks = [coco_mask.decode([one["segmentation"] for one in results]).astype(np.int64) for results in found]
    assert masks[0].any()
    # A pixel on the threshold may fall to either side.
    assert np.abs(masks[1] - masks[0]).mean() < TOLERANCE


def test_deformable_attention_of_a_gpu_gives_what_that_of_a_cpu_gives(supplied):
    """mmcv calls the operator on a GPU only; here it is called by itself."""
    if not supplied:
        pytest.skip("mmcv's own operators are compiled, and this one is for a GPU only")
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction, multi_scale_deformable_attn_pytorch

    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor([[6, 4], [3, 2]])
    value = torch.rand(2, 30, 2, 4, generator=generator)
    places = torch.rand(2, 5, 2, 2, 3, 2, generator=generator)
    weights = torch.rand(2, 5, 2, 2, 3, generator=generator).softmax(-1)
    found = []
    for attend in (
        lambda one, two, three: MultiScaleDeformableAttnFunction.apply(
            one, shapes, torch.tensor([0, 24]), two, three, 64
        ),
        lambda one, two, three: multi_scale_deformable_attn_pytorch(one, shapes, two, three),
    ):
        inputs = [each.clone().requires_grad_() for each in (value, places, weights)]
        output = attend(*inputs)
        output.pow(2).sum().backward()
        found.append([output, *(each.grad for each in inputs)])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))
    assert all(gradient.abs().sum() > 0 for gradient in found[0][1:])
