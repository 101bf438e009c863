"""The operators of mmcv that our detectors call, on plain PyTorch, for an mmcv that was installed without compiled ops.

mmcv's own Python (`nms`, `batched_nms`, `RoIAlign`) works on top of them and gives the same results as with the
compiled module: the same boxes kept in the same order, the same pooled features and gradients up to rounding.
"""

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sightline.errors import SightlineError

NMS_BLOCK = 128  # boxes decided at once: few enough for their IoU matrix to stay in the cache
MAX_READS = 1 << 22  # pixels listed at once in RoIAlign: 32 MB of indices and weights
NO_MAXIMUM = -10000.0  # what the compiled op leaves in a bin without a sample

logger = logging.getLogger(__name__)


class MissingOpError(SightlineError):
    """An operator that only a compiled mmcv has."""


class _Ops(ModuleType):
    """Stands in for `mmcv._ext`: mmcv.ops looks up some eighty names on import and calls few."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_args: Any, **_kwargs: Any) -> None:
            raise MissingOpError(
                f"The operator {name!r} is in mmcv's compiled module only, and this mmcv has none. "
                "Install an mmcv with compiled ops, or choose a config that does not need it."
            )

        return missing


def supply_missing_ops() -> bool:
    """Put these operators in the place of `mmcv._ext` where that cannot be imported, and tell whether they stand there.

    Call it before mmcv.ops is imported.
    """
    try:
        return isinstance(importlib.import_module("mmcv._ext"), _Ops)
    except ModuleNotFoundError:
        logger.debug("mmcv has no compiled ops: using those on plain PyTorch")
    except ImportError as error:
        logger.warning("mmcv's compiled ops do not load (%s): using those on plain PyTorch", error)
    ops = _Ops("mmcv._ext", __doc__)
    ops.__spec__ = ModuleSpec("mmcv._ext", loader=None)
    ours = (nms, roi_align_forward, roi_align_backward, ms_deform_attn_forward, ms_deform_attn_backward)
    vars(ops).update({each.__name__: each for each in ours})
    sys.modules["mmcv._ext"] = ops
    return True


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression: a box that overlaps a kept, better one by more than the threshold is dropped.

    Boxes are (N, 4) x1 y1 x2 y2, scores (N,); offset is 0 or 1, added to widths and heights (1: coordinates are pixel
    indices). Returns (K,) int64, indices of the kept boxes, best score first.
    """
    order = scores.sort(0, descending=True)[1]
    corners = boxes.to(torch.promote_types(boxes.dtype, torch.float32))[order]
    threshold = torch.tensor(iou_threshold, dtype=torch.float32, device=boxes.device)
    left = torch.arange(len(order), device=boxes.device)
    kept = [left[:0]]
    while len(left):
        # Decide a block among itself, then let its survivors drop later boxes: work grows with kept x all, not all x all.
        block, rest = left[:NMS_BLOCK], left[NMS_BLOCK:]
        overlapping = _iou(corners[block], corners[block], offset) > threshold
        kept.append(block[_survivors(overlapping.cpu().numpy())])
        left = rest[~(_iou(corners[kept[-1]], corners[rest], offset) > threshold).any(0)]
    return order[torch.cat(kept)]


def _iou(first: Tensor, second: Tensor, offset: int) -> Tensor:
    """Intersection over union of (N, 4) and (M, 4) boxes -> (N, M), rounded like the compiled op (areas may be 0)."""
    one, two = first[:, None].unbind(-1), second[None].unbind(-1)
    width = (torch.minimum(one[2], two[2]) - torch.maximum(one[0], two[0])).add_(offset).clamp_(min=0)
    height = (torch.minimum(one[3], two[3]) - torch.maximum(one[1], two[1])).add_(offset).clamp_(min=0)
    area_one, area_two = ((x2 - x1 + offset) * (y2 - y1 + offset) for x1, y1, x2, y2 in (one, two))
    intersection = width.mul_(height)
    return intersection / (area_one + area_two).sub_(intersection)


def _survivors(overlapping: np.ndarray) -> Tensor:
    alive = np.ones(len(overlapping), dtype=bool)
    for index, row in enumerate(overlapping):
        if alive[index]:
            alive[index + 1 :] &= ~row[index + 1 :]
    return torch.from_numpy(alive.nonzero()[0])


@dataclass(frozen=True, slots=True)
class _Reads:
    """The pixels that some RoIs of one sampling grid read."""

    rois: Tensor  # (n,) which RoIs
    index: Tensor  # (n, bins y, bins x, rows, columns) int32, rows of the channels-last feature table
    weight: Tensor  # the same shape, bilinear weights; 0 outside the feature map
    y: Tensor  # (n, bins y, samples y), where each bin is sampled
    x: Tensor  # (n, bins x, samples x)

    @property
    def samples(self) -> int:
        """In each bin."""
        return self.y.shape[2] * self.x.shape[2]


@dataclass(frozen=True, slots=True)
class _Pooling:
    """How mmcv asks for RoIAlign; the field names are its keywords'."""

    aligned_height: int
    aligned_width: int
    spatial_scale: float
    sampling_ratio: int
    pool_mode: int  # 0 max, 1 average
    aligned: bool

    def reads(self, rois: Tensor, height: int, width: int) -> Iterator[_Reads]:
        """What each RoI (batch index, x1, y1, x2, y2 in image pixels) reads of a (height, width) feature map."""
        rois = rois.to(torch.promote_types(rois.dtype, torch.float32))
        box = rois[:, 1:] * self.spatial_scale - (0.5 if self.aligned else 0.0)
        start, size = box[:, :2], box[:, 2:] - box[:, :2]
        if not self.aligned:
            size = size.clamp(min=1)
        elif not (size >= 0).all():
            raise SightlineError(
                "RoIAlign got boxes of negative or undefined size. In training that means the losses diverged: "
                "lower the learning rate (optim_wrapper.optimizer.lr) or clip gradients harder."
            )
        bins = size / size.new_tensor([self.aligned_width, self.aligned_height])
        samples = bins.float().ceil().int() if self.sampling_ratio <= 0 else bins.int().fill_(self.sampling_ratio)
        grids, grid_of = torch.unique(samples, dim=0, return_inverse=True)
        # Samples at most a pixel apart share pixels: an average reads each of them once, about half of all.
        merge = self.pool_mode == 1 and self.sampling_ratio <= 0
        for number, (samples_x, samples_y) in enumerate(grids.tolist()):
            per_roi = 4 * samples_x * samples_y * self.aligned_height * self.aligned_width
            if not per_roi:  # an empty RoI reads nothing
                continue
            for which in (grid_of == number).nonzero()[:, 0].split(max(1, MAX_READS // per_roi)):
                x = _sample(start[which, 0], bins[which, 0], self.aligned_width, samples_x)
                y = _sample(start[which, 1], bins[which, 1], self.aligned_height, samples_y)
                columns, weight_x = _pixels(x, width, merge)
                rows, weight_y = _pixels(y, height, merge)
                rows = rows * width + (rois[which, 0].int() * (height * width))[:, None, None]
                index = rows[:, :, None, :, None] + columns[:, None, :, None, :]
                weight = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
                yield _Reads(which, index, weight, y, x)


def _sample(start: Tensor, bin_size: Tensor, bins: int, samples: int) -> Tensor:
    """Where RoIs (n,) are sampled along one axis: (n, bins, samples) coordinates."""
    bin_size = bin_size[:, None, None]
    within = torch.arange(samples, device=start.device, dtype=start.dtype) + 0.5
    which_bin = torch.arange(bins, device=start.device, dtype=start.dtype)[:, None]
    # In the compiled op's order of operations: a sample on the border must fall to the same side.
    return start[:, None, None] + which_bin * bin_size + within * bin_size / samples


def _pixels(at: Tensor, size: int, merge: bool) -> tuple[Tensor, Tensor]:
    """The pixels (n, bins, reads) that the samples of an axis read, and their weights; 2 a sample, or merged."""
    pixels, weights = (pair.flatten(2) for pair in _neighbours(at, size))
    if not merge:
        return pixels, weights
    run = pixels[..., :1] + torch.arange(at.shape[2] + 1, device=at.device, dtype=pixels.dtype)
    # Rounding can lift the last sample onto the run's end; its next pixel then weighs next to nothing.
    position = (pixels - pixels[..., :1]).clamp_(max=at.shape[2]).long()
    merged = weights.new_zeros(run.shape).scatter_add_(2, position, weights)
    return run.clamp_(max=size - 1), merged


def _neighbours(at: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two pixels (…, 2) around each coordinate of an axis of `size` pixels, and their linear weights."""
    inside = (at >= -1) & (at <= size)
    clamped = at.clamp(0, size - 1)
    low = clamped.floor()
    fraction = clamped - low
    pixels = torch.stack((low, (low + 1).clamp(max=size - 1)), -1).int()
    return pixels, torch.stack((1 - fraction, fraction), -1) * inside[..., None]


def roi_align_forward(
    input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor, **pooling: Any
) -> None:
    """Pool (B, C, H, W) features over RoIs (N, 5) into `output` (N, C, h, w), in place.

    Max pooling also leaves, in `argmax_y` and `argmax_x`, where each bin's maximum was sampled (-1: nowhere).
    """
    pool = _Pooling(**pooling)
    channels = input.shape[1]
    table = input.permute(0, 2, 3, 1).reshape(-1, channels)
    table = table.to(torch.promote_types(table.dtype, torch.float32))
    if pool.pool_mode == 0:
        output.fill_(NO_MAXIMUM)
        argmax_y.fill_(-1)
        argmax_x.fill_(-1)
    for part in pool.reads(rois, *input.shape[2:]):
        if pool.pool_mode == 0:
            _max_forward(part, table, output, argmax_y, argmax_x)
            continue
        index, weight = part.index.flatten(0, 2).flatten(1), part.weight.flatten(0, 2).flatten(1).to(table.dtype)
        pooled = embedding_bag(index, table, per_sample_weights=weight, mode="sum") / part.samples
        output[part.rois] = pooled.view(*part.index.shape[:3], -1).permute(0, 3, 1, 2).to(output.dtype)


def _max_forward(part: _Reads, table: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor) -> None:
    bins, grid = part.index.shape[:3], (part.y.shape[2], part.x.shape[2])
    index, weight = (
        reads.view(*bins, grid[0], 2, grid[1], 2).transpose(4, 5).reshape(-1, 4) for reads in (part.index, part.weight)
    )
    values = embedding_bag(index, table, per_sample_weights=weight.to(table.dtype), mode="sum")
    best, where = values.view(*bins, part.samples, -1).max(3)
    y = part.y[:, :, None, :, None].expand(*bins, *grid).reshape(*bins, -1).gather(3, where)
    x = part.x[:, None, :, None, :].expand(*bins, *grid).reshape(*bins, -1).gather(3, where)
    for target, value in ((output, best), (argmax_y, y), (argmax_x, x)):
        target[part.rois] = value.permute(0, 3, 1, 2).to(target.dtype)


def roi_align_backward(
    grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor, **pooling: Any
) -> None:
    """Add the gradient of `roi_align_forward`'s input to `grad_input` (B, C, H, W), in place."""
    pool = _Pooling(**pooling)
    if pool.pool_mode == 0:
        _max_backward(grad_output, rois, argmax_y, argmax_x, grad_input)
        return
    batch, channels, height, width = grad_input.shape
    work = torch.promote_types(grad_output.dtype, torch.float32)
    table = torch.zeros(batch * height * width, channels, dtype=work, device=grad_input.device, requires_grad=True)
    # Few large scatters: each one makes a gradient of the whole feature map, and there may be dozens of grids.
    parts: list[_Reads] = []
    for part in pool.reads(rois, height, width):
        if parts and sum(earlier.index.numel() for earlier in parts) + part.index.numel() > MAX_READS:
            _scatter(parts, grad_output, table)
            parts = []
        parts.append(part)
    if parts:
        _scatter(parts, grad_output, table)
    if table.grad is not None:
        grad_input += table.grad.view(batch, height, width, channels).permute(0, 3, 1, 2).to(grad_input.dtype)


def _scatter(parts: list[_Reads], grad_output: Tensor, table: Tensor) -> None:
    """Add what the parts' bins give back to the pixels they read to `table.grad`."""
    index = torch.cat([part.index.flatten() for part in parts])
    weight = torch.cat([(part.weight / part.samples).flatten() for part in parts]).to(table.dtype)
    reads_per_bin = index.new_tensor([part.index[0, 0, 0].numel() for part in parts])
    lengths = reads_per_bin.repeat_interleave(index.new_tensor([part.index[..., 0, 0].numel() for part in parts]))
    bins = [grad_output[part.rois].permute(0, 2, 3, 1).reshape(-1, table.shape[1]) for part in parts]
    with torch.enable_grad():
        offsets = (lengths.cumsum(0) - lengths).to(index.dtype)
        pooled = embedding_bag(index, table, offsets, per_sample_weights=weight, mode="sum")
    pooled.backward(torch.cat(bins).to(table.dtype))


def _max_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor) -> None:
    _, channels, height, width = grad_input.shape
    rows, weight_y = _neighbours(argmax_y, height)
    columns, weight_x = _neighbours(argmax_x, width)
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    index = (plane[:, :, None, None, None, None] * height + rows[..., :, None]) * width + columns[..., None, :]
    sampled = grad_output * (argmax_y != -1)
    values = sampled[..., None, None] * weight_y[..., :, None] * weight_x[..., None, :]
    grad_input.view(-1).index_add_(0, index.flatten(), values.flatten().to(grad_input.dtype))


def ms_deform_attn_forward(
    value: Tensor, shapes: Tensor, _starts: Tensor, locations: Tensor, weights: Tensor, im2col_step: int
) -> Tensor:
    """Deformable attention: mmcv's own way in plain PyTorch, which it takes by itself on a CPU only."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    attended: Tensor = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    return attended


def ms_deform_attn_backward(
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_locations: Tensor,
    grad_weights: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of the forward function's inputs, which is computed again for it."""
    inputs = [each.detach().requires_grad_() for each in (value, locations, weights)]
    with torch.enable_grad():
        attended = ms_deform_attn_forward(inputs[0], shapes, starts, inputs[1], inputs[2], im2col_step)
    gradients = torch.autograd.grad(attended, inputs, grad_output)
    for target, gradient in zip((grad_value, grad_locations, grad_weights), gradients, strict=True):
        target.copy_(gradient)
