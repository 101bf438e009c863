"""Precision-recall curves, from the evaluator's own precision array."""

import math
from dataclasses import dataclass

import numpy as np

from sightline.tasks.detection.metrics.coco_evaluation import IOU_THRESHOLDS, Results, Truth, evaluate_coco


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """One class's curve.

    Attributes:
        recall: (101,) 0.00 to 1.00.
        precision: (101,) the best precision at that recall or above; 0 where it is not reached.
        average_precision: the mean precision; NaN when the class is not in the truth.
    """

    recall: np.ndarray
    precision: np.ndarray
    average_precision: float


def precision_recall(
    truth: Truth, results: Results, kind: str = "bbox", iou: float = 0.5
) -> dict[str, PrecisionRecall]:
    """Each class's curve at one IoU threshold.

    Args:
        truth: a COCO dataset.
        results: COCO results.
        kind: bbox or segm.
        iou: 0.50, 0.55, … or 0.95.

    Raises:
        ForeignResultsError: a result's image or class is not in the truth.
    """
    matching = np.flatnonzero(np.isclose(IOU_THRESHOLDS, iou))
    if not matching.size:
        raise ValueError(f"There is no IoU threshold {iou}: it is one of {', '.join(map(str, IOU_THRESHOLDS))}.")
    evaluation = evaluate_coco(truth, results, kind)
    recall = np.linspace(0.0, 1.0, 101)
    curves = {}
    for index, name in enumerate(evaluation.classes):
        precision = evaluation.precision[matching[0], :, index, 0, 2]
        known = bool((precision > -1).all())
        curves[name] = PrecisionRecall(
            recall, np.clip(precision, 0.0, 1.0), float(precision.mean()) if known else math.nan
        )
    return curves
