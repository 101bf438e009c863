"""From mmdet's predictions to ours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from sightline.tasks.detection.detections import Detections


def to_detections(instances: Any, image_shape: Sequence[int], score_threshold: float = 0.0) -> Detections:
    """Convert one image's `pred_instances` (mmdet's InstanceData, or that as a dict), best score first.

    Args:
        instances: bboxes (N, 4) and masks (N, H, W) in pixels of the original image, scores, labels.
        image_shape: height and width of that image.
        score_threshold: instances below it are left out.
    """
    scores = instances["scores"].detach()
    order = scores.sort(descending=True, stable=True)[1]
    order = order[scores[order] >= score_threshold]
    masks = None
    if "masks" in instances:
        masks = _encode(instances["masks"], order, image_shape)
    return Detections(
        boxes=instances["bboxes"].detach()[order].cpu().numpy().astype(np.float32),
        scores=scores[order].cpu().numpy().astype(np.float32),
        labels=instances["labels"][order].cpu().numpy().astype(np.int64),
        masks=masks,
    )


def _encode(masks: Any, order: torch.Tensor, image_shape: Sequence[int]) -> tuple[dict[str, Any], ...]:
    if not isinstance(masks, torch.Tensor):  # encoded already, by mmdet's own post-processing
        encoded = [masks[index] for index in order.tolist()]
    else:
        stack = masks.detach()[order].cpu().numpy().astype(np.uint8).reshape(-1, *image_shape[:2])
        # pycocotools wants (H, W, N) in column order.
        encoded = coco_mask.encode(np.asfortranarray(stack.transpose(1, 2, 0))) if len(stack) else []
    return tuple({"size": [int(side) for side in rle["size"]], "counts": _text(rle["counts"])} for rle in encoded)


def _text(counts: bytes | str) -> str:
    return counts.decode() if isinstance(counts, bytes) else counts
