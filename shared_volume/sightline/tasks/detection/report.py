"""Part report: precision and recall, the confusion matrix, and how well each image's objects were found."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from markupsafe import Markup
from pycocotools import mask as coco_mask

from sightline.reports.charts import Series, histogram, line_chart
from sightline.reports.page import counted, number
from sightline.tasks.detection.scoring import Results, Truth, evaluate_coco, require_known
from sightline.tasks.task import Confusion, ImageScore

MATCH_IOU = 0.5  # a prediction found an object when their boxes overlap at least so much
SHOWN_SCORE = 0.3  # predictions below it do not count
MOST_CURVES = 12
RANKED_BY = f"Ranked by F1 at box IoU {MATCH_IOU}, predictions from score {SHOWN_SCORE}."
BACKGROUND = "background"
Match = tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]  # an annotation and a result that found it
NOTE = "The last column is what was missed, the last row what was found where nothing is."


def charts(truth: Truth, results: Results, classes: Sequence[str]) -> list[Markup]:
    """Each class's precision over recall, in its colour."""
    curves = precision_recall(truth, results)
    if not curves:
        return []
    weakest = sorted(curves, key=lambda name: curves[name].mean())[:MOST_CURVES]
    shown = [name for name in curves if name in weakest]
    recall, series = np.linspace(0.0, 1.0, 101), []
    for index, name in enumerate(shown):
        told = f"{name} ({number(float(curves[name].mean()))})"
        at = classes.index(name) if name in classes else index
        series.append(Series(told, recall, curves[name], colour_index=at))
    title = "Precision and recall (average precision)"
    note = f"The {len(shown)} lowest of {len(curves)} classes." if len(shown) < len(curves) else ""
    return [line_chart(title, series, "recall", "precision", y_range=(0, 1.02), note=note)]


def precision_recall(truth: Truth, results: Results) -> dict[str, np.ndarray]:
    """Curves at box IoU 0.5 of the classes that the truth has: (101,), the best precision at recall 0.00, 0.01, … or above.

    Raises:
        ForeignResultsError: a result's image or class is not in the truth.
    """
    evaluation = evaluate_coco(truth, results, "bbox")
    curves = zip(evaluation.classes, evaluation.precision[0, :, :, 0, 2].T, strict=True)
    return {name: precision for name, precision in curves if (precision > -1).all()}


def confusion(truth: Truth, results: Results) -> Confusion:
    """Match boxes one to one, whatever their class, the best score first, and count the pairs of classes; crowds are left out.

    Labels are by category id, then background; the matrix is (C + 1, C + 1) int64, its last row false detections, its last
    column misses.

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
        if result["score"] >= SHOWN_SCORE:
            found[result["image_id"]].append(result)
    for image in expected.keys() | found.keys():
        for true, predicted in match_boxes(expected[image], found[image]):
            row, column = (index[one["category_id"]] if one else background for one in (true, predicted))
            matrix[row, column] += 1
    return Confusion((*(category["name"] for category in categories), BACKGROUND), matrix, NOTE)


def score_image(truth: Results, predictions: Results, classes: Sequence[str] = ()) -> ImageScore:
    """Match an image's results to objects of their class, best score first, each object at most once."""
    counted = [one for one in predictions if one["score"] >= SHOWN_SCORE]
    found = 0
    for category in {one["category_id"] for one in truth}:
        expected, own = ([one for one in ones if one["category_id"] == category] for ones in (truth, counted))
        found += sum(None not in pair for pair in match_boxes(expected, own))
    score = ImageScore(found=found, missed=len(truth) - found, false=len(counted) - found)
    return replace(score, note=f"F1 {score.f1:.2f}: {found} found, {score.missed} missed, {score.false} false")


def sum_up(scores: Sequence[ImageScore]) -> str:
    """How many objects were found, missed, and found where there are none."""
    found, missed, false = (sum(getattr(score, name) for score in scores) for name in ("found", "missed", "false"))
    return f"{counted(found, 'object')} found, {number(missed)} missed, {number(false)} false"


def image_charts(scores: Sequence[ImageScore]) -> list[Markup]:
    """How many images have which F1."""
    return [histogram("F1 of each image", [score.f1 for score in scores], "F1", "images", bins=20, limits=(0, 1))]


def match_boxes(expected: Results, found: Results) -> Iterator[Match]:
    """Every result, the best score first, with the free annotation that it overlaps most, if by enough; then the rest."""
    boxes = (np.array([one["bbox"] for one in ones], float).reshape(-1, 4) for ones in (found, expected))
    overlaps = box_overlaps(*boxes)
    free = np.ones(len(expected), dtype=bool)
    for position in sorted(range(len(found)), key=lambda at: -found[at]["score"]):
        fitting = np.where(free & (overlaps[position] >= MATCH_IOU), overlaps[position], -1.0)
        if fitting.max(initial=-1.0) < 0:
            yield None, found[position]
            continue
        best = int(fitting.argmax())
        free[best] = False
        yield expected[best], found[position]
    yield from ((expected[position], None) for position in np.flatnonzero(free).tolist())


def box_overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """IoU of every pair of boxes: (N, 4) and (M, 4), x y width height, to (N, M)."""
    found = coco_mask.iou(one, other, np.zeros(len(other), np.uint8))  # a list where there are no pairs
    return np.reshape(found, (len(one), len(other)))
