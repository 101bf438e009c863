"""Part report: precision and recall, and how well each image's objects were found."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from sightline.reports.charts import Series, histogram, line_chart
from sightline.reports.page import number
from sightline.tasks.detection.metrics.coco_evaluation import IOU_THRESHOLDS, Results, Truth, evaluate_coco
from sightline.tasks.detection.metrics.confusion import confusion_matrix, match_boxes
from sightline.tasks.task import Confusion, ImageScore

MATCH_IOU = 0.5  # a prediction found an object when their boxes overlap at least so much
SHOWN_SCORE = 0.3  # predictions below it do not count
MOST_CURVES = 12
RANKED_BY = f"Ranked by F1 at box IoU {MATCH_IOU}, predictions from score {SHOWN_SCORE}."


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """One class's curve."""

    recall: np.ndarray  # (101,) 0.00 to 1.00
    precision: np.ndarray  # (101,) the best precision at that recall or above; 0 where it is not reached
    average_precision: float  # the mean precision; NaN when the class is not in the truth


def charts(truth: Truth, results: Results, classes: Sequence[str]) -> list[Markup]:
    """Each class's precision over recall."""
    curves = precision_recall(truth, results)
    defined = {name: curve for name, curve in curves.items() if curve.average_precision >= 0}
    if not defined:
        return []
    weakest = sorted(defined, key=lambda name: defined[name].average_precision)[:MOST_CURVES]
    shown = {name: curve for name, curve in defined.items() if name in weakest}
    indices = [classes.index(name) if name in classes else index for index, name in enumerate(shown)]
    note = f"The {len(shown)} lowest of {len(defined)} classes." if len(shown) < len(defined) else ""
    return [precision_recall_chart("Precision and recall (average precision)", shown, indices, note)]


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


def precision_recall_chart(
    title: str, curves: Mapping[str, PrecisionRecall], indices: Sequence[int], note: str = ""
) -> Markup:
    """Precision over recall, a curve per class in the colour of its index; what is not defined (-1) is left out."""
    series = [
        Series(
            f"{name} ({number(curve.average_precision)})",
            curve.recall,
            np.where(curve.precision >= 0, curve.precision, np.nan),
            colour_index=index,
        )
        for index, (name, curve) in zip(indices, curves.items(), strict=True)
    ]
    return line_chart(title, series, "recall", "precision", y_range=(0, 1.02), note=note)


def confusion(truth: Truth, results: Results) -> Confusion:
    """Which class was taken for which, boxes at IoU 0.5."""
    return confusion_matrix(truth, results)


def score_image(truth: Results, predictions: Results, classes: Sequence[str] = ()) -> ImageScore:
    """Match predictions to objects of their class, best score first, each object at most once.

    Args:
        truth: COCO annotations of one image.
        predictions: COCO results of the same image.
        classes: names; not needed here.
    """
    counted = [one for one in predictions if one["score"] >= SHOWN_SCORE]
    found = 0
    for category in {one["category_id"] for one in truth}:
        expected, own = ([one for one in ones if one["category_id"] == category] for ones in (truth, counted))
        found += sum(None not in pair for pair in match_boxes(expected, own, MATCH_IOU))
    score = ImageScore(found=found, missed=len(truth) - found, false=len(counted) - found)
    return replace(score, note=f"F1 {score.f1:.2f}: {found} found, {score.missed} missed, {score.false} false")


def sum_up(scores: Sequence[ImageScore]) -> str:
    """How many objects were found, missed, and found where there are none."""
    found, missed, false = (sum(getattr(score, name) for score in scores) for name in ("found", "missed", "false"))
    return f"{number(found)} objects found, {number(missed)} missed, {number(false)} false"


def image_charts(scores: Sequence[ImageScore]) -> list[Markup]:
    """How many images have which F1."""
    return [histogram("F1 of each image", [score.f1 for score in scores], "F1", "images", bins=20, limits=(0, 1))]
