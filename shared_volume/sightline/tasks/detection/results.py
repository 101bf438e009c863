"""What a detector finds on one image: from mmdet's predictions to COCO results."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask


def results_of(instances: Any, image_id: int, image_shape: Sequence[int]) -> list[dict[str, Any]]:
    """One image's `pred_instances` (mmdet's InstanceData, or that as a dict) as COCO results, best score first.

    Boxes (N, 4), x1 y1 x2 y2, and masks (N, H, W), where there are some, are in pixels of the upright image, (height, width);
    category ids become 1 + the label, masks run-length encodings.
    """
    scores, order = instances["scores"].detach().sort(descending=True, stable=True)
    boxes = instances["bboxes"].detach()[order].float().tolist()
    found = zip(boxes, scores.float().tolist(), instances["labels"][order].tolist(), strict=True)
    results: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for (x1, y1, x2, y2), score, label in found
    ]
    if "masks" in instances:
        for result, mask in zip(results, _encode(instances["masks"], order, image_shape), strict=True):
            counts = mask["counts"]
            text = counts.decode() if isinstance(counts, bytes) else counts
            result["segmentation"] = {"size": [int(side) for side in mask["size"]], "counts": text}
    return results


def _encode(masks: Any, order: torch.Tensor, image_shape: Sequence[int]) -> list[dict[str, Any]]:
    if not isinstance(masks, torch.Tensor):  # encoded already, by mmdet's own post-processing
        return [masks[index] for index in order.tolist()]
    stack = masks.detach()[order].cpu().numpy().astype(np.uint8).reshape(-1, *image_shape[:2])
    # pycocotools wants (H, W, N) in column order.
    return coco_mask.encode(np.asfortranarray(stack.transpose(1, 2, 0))) if len(stack) else []
