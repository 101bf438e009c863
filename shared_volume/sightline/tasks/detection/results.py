"""What a detector finds on one image: from mmdet's predictions to plain arrays, and to COCO results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects found on one image, best score first; a mask is `{"size": [height, width], "counts": str}`."""

    boxes: np.ndarray  # (N, 4) float32, x1 y1 x2 y2 in pixels of the upright image
    scores: np.ndarray  # (N,) float32 in 0..1
    labels: np.ndarray  # (N,) int64, index into the classes; COCO's category id is this plus one
    masks: tuple[dict[str, Any], ...] | None = None  # COCO run-length encodings, or None for a box detector

    def __len__(self) -> int:
        return len(self.scores)


def to_coco_results(detections: Detections, image_id: int) -> list[dict[str, Any]]:
    """The detections in COCO's results format (bbox is x, y, width, height; category ids from 1)."""
    found = zip(detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True)
    results: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for (x1, y1, x2, y2), score, label in found
    ]
    for result, mask in zip(results, detections.masks or (), strict=False):
        result["segmentation"] = mask
    return results


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
    return Detections(
        boxes=instances["bboxes"].detach()[order].cpu().numpy().astype(np.float32),
        scores=scores[order].cpu().numpy().astype(np.float32),
        labels=instances["labels"][order].cpu().numpy().astype(np.int64),
        masks=_encode(instances["masks"], order, image_shape) if "masks" in instances else None,
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
