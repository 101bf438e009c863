"""What a detector finds on one image: from mmdet's predictions to plain arrays, and to COCO results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects found on one image, best score first.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the upright image.
        scores: (N,) float32 in 0..1.
        labels: (N,) int64, index into the classes (0-based; COCO's category id is this plus one).
        masks: COCO run-length encodings (`{"size": [height, width], "counts": str}`), or None for a box detector.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: tuple[dict[str, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)


def to_coco_results(detections: Detections, image_id: int) -> list[dict[str, Any]]:
    """The detections in COCO's results format (bbox is x, y, width, height; category ids from 1)."""
    results = []
    for index, (box, score, label) in enumerate(
        zip(detections.boxes, detections.scores, detections.labels, strict=True)
    ):
        x1, y1, x2, y2 = (float(value) for value in box)
        result = {
            "image_id": image_id,
            "category_id": int(label) + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(score),
        }
        if detections.masks is not None:
            result["segmentation"] = detections.masks[index]
        results.append(result)
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
