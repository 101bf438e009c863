"""What a detector finds on one image, as plain arrays, and its COCO results form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


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


def from_coco_results(results: Sequence[dict[str, Any]]) -> Detections:
    """The inverse of `to_coco_results` for the results of one image."""
    boxes = np.array([result["bbox"] for result in results], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = tuple(result["segmentation"] for result in results) if results and "segmentation" in results[0] else None
    return Detections(
        boxes=boxes,
        scores=np.array([result["score"] for result in results], dtype=np.float32),
        labels=np.array([result["category_id"] - 1 for result in results], dtype=np.int64),
        masks=masks,
    )
