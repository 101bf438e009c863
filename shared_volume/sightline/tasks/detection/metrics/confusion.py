"""The confusion matrix of boxes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sightline.tasks.detection.metrics.coco_evaluation import Results, Truth, require_known
from sightline.tasks.task import Confusion

BACKGROUND = "background"
NOTE = "The last column is what was missed, the last row what was found where nothing is."


def confusion_matrix(truth: Truth, results: Results, score_threshold: float = 0.3, iou: float = 0.5) -> Confusion:
    """Match boxes one to one, whatever their class, the best score first, and count the pairs of classes.

    Returns:
        Labels by category id, then background; (C + 1, C + 1) int64, whose last row holds false detections and whose last
        column misses.

    Args:
        truth: a COCO dataset; crowds are left out.
        results: COCO results.
        score_threshold: detections below it are left out.
        iou: overlap that a match needs.

    Raises:
        ForeignResultsError: a result's image or class is not in the truth.
    """
    require_known(truth, results)
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    index = {category["id"]: number for number, category in enumerate(categories)}
    background = len(categories)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    expected, found = defaultdict(list), defaultdict(list)
    for annotation in truth["annotations"]:
        if not annotation.get("iscrowd"):
            expected[annotation["image_id"]].append(annotation)
    for result in results:
        if result["score"] >= score_threshold:
            found[result["image_id"]].append(result)
    for image in expected.keys() | found.keys():
        for true, predicted in match_boxes(expected[image], found[image], iou):
            row = index[true["category_id"]] if true else background
            column = index[predicted["category_id"]] if predicted else background
            matrix[row, column] += 1
    return Confusion((*(category["name"] for category in categories), BACKGROUND), matrix, NOTE)


def match_boxes(
    expected: Results, found: Results, iou: float
) -> Iterator[tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]]:
    """Every result, the best score first, with the free annotation that it overlaps most, if by enough; then the rest."""
    overlaps = box_overlaps(boxes_of(found), boxes_of(expected))
    free = np.ones(len(expected), dtype=bool)
    for number in sorted(range(len(found)), key=lambda position: -found[position]["score"]):
        fitting = np.where(free & (overlaps[number] >= iou), overlaps[number], -1.0)
        best = int(fitting.argmax()) if fitting.max(initial=-1.0) >= 0 else None
        if best is not None:
            free[best] = False
        yield expected[best] if best is not None else None, found[number]
    yield from ((expected[number], None) for number in np.flatnonzero(free).tolist())


def box_overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """IoU of every pair of boxes: (N, 4) and (M, 4), x y width height, to (N, M)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum((one[:, :2] + one[:, 2:])[:, None], (other[:, :2] + other[:, 2:])[None])
    common = np.clip(high - low, 0.0, None).prod(axis=2)
    union = one[:, 2:].prod(axis=1)[:, None] + other[:, 2:].prod(axis=1)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def boxes_of(items: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The boxes of COCO annotations or results: (N, 4) float64, x y width height."""
    return np.array([item["bbox"] for item in items], dtype=np.float64).reshape(-1, 4)
