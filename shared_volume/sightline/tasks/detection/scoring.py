"""Part scoring: COCO's numbers, overall and per class."""

import math
from collections.abc import Sequence

import numpy as np

from sightline.tasks.detection.metrics.coco_evaluation import KINDS, CocoEvaluation, Results, Truth, evaluate_coco
from sightline.tasks.task import Scores


def score(truth: Truth, results: Results, outputs: Sequence[str] = KINDS) -> Scores:
    """The twelve COCO numbers (https://cocodataset.org/#detection-eval) of boxes and masks, overall and per class.

    AP is averaged over IoU 0.50 to 0.95 unless its name says otherwise; s, m and l are areas below 32², up to 96², and
    above; AR_n is the recall with n detections an image.

    Args:
        truth: one split, a COCO dataset.
        results: COCO results; left as they are. Nothing found at all scores 0.
        outputs: what the model's results hold: bbox, segm or both; segm is left out when there are results without a mask.

    Raises:
        ForeignResultsError: a result's image or class is not in the truth.
    """
    if results:
        outputs = [kind for kind in outputs if kind != "segm" or "segm" in kinds_of(results)]
    values: dict[str, float] = {}
    per_class: dict[str, dict[str, float]] = {category["name"]: {} for category in truth["categories"]}
    for kind in outputs:
        evaluation = evaluate_coco(truth, results, kind)
        values |= _twelve(evaluation, kind, list(range(len(evaluation.classes))))
        for index, name in enumerate(evaluation.classes):
            per_class[name] |= _twelve(evaluation, kind, [index])
    return Scores(values, per_class)


def kinds_of(results: Results) -> tuple[str, ...]:
    """What results can be scored by: boxes, and masks when every one has one. Of no results: boxes only."""
    return KINDS if results and all("segmentation" in result for result in results) else ("bbox",)


def _twelve(evaluation: CocoEvaluation, kind: str, classes: list[int]) -> dict[str, float]:
    precision = evaluation.precision[:, :, classes]
    recall = evaluation.recall[:, classes]
    values = {
        "mAP": precision[..., 0, 2],
        "mAP_50": precision[0, ..., 0, 2],
        "mAP_75": precision[5, ..., 0, 2],
        "mAP_s": precision[..., 1, 2],
        "mAP_m": precision[..., 2, 2],
        "mAP_l": precision[..., 3, 2],
        "AR_1": recall[..., 0, 0],
        "AR_10": recall[..., 0, 1],
        "AR_100": recall[..., 0, 2],
        "AR_s": recall[..., 1, 2],
        "AR_m": recall[..., 2, 2],
        "AR_l": recall[..., 3, 2],
    }
    return {f"{kind}_{name}": _mean(numbers) for name, numbers in values.items()}


def _mean(numbers: np.ndarray) -> float:
    known = numbers[numbers > -1]
    return float(known.mean()) if known.size else math.nan
