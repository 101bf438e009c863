"""Part scoring: COCO's numbers, overall and per class.

faster-coco-eval gives pycocotools' numbers in a fraction of the time.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from sightline.errors import SightlineError
from sightline.tasks.task import Scores

Truth = Mapping[str, Any]
Results = Sequence[Mapping[str, Any]]

KINDS: Final = ("bbox", "segm")
MOST_DETECTIONS: Final = (1, 10, 100)


class ForeignResultsError(SightlineError):
    """The results are of other images or classes than the truth's."""


@dataclass(frozen=True, slots=True)
class CocoEvaluation:
    """The evaluator's arrays over T = 10 IoU thresholds 0.50 to 0.95, R = 101 recalls, K classes, A areas (all, small, medium,
    large) and M detections per image (1, 10, 100); -1 where a class or size has no objects."""

    precision: np.ndarray  # (T, R, K, A, M)
    recall: np.ndarray  # (T, K, A, M), the highest that is reached
    classes: tuple[str, ...]  # names, in the order of K


def score(truth: Truth, results: Results, outputs: Sequence[str] = KINDS) -> Scores:
    """The twelve COCO numbers (https://cocodataset.org/#detection-eval) of boxes and masks, overall and per class.

    AP is averaged over IoU 0.50 to 0.95 unless its name says otherwise; s, m and l are areas below 32², up to 96², and
    above; AR_n is the recall with n detections an image. Nothing found at all scores 0. `outputs` is what the model's results
    hold: bbox, segm or both; segm is left out when there are results without a mask.

    Raises:
        ForeignResultsError: a result's image or class is not in the truth.
    """
    if not all("segmentation" in result for result in results):
        outputs = [kind for kind in outputs if kind != "segm"]
    values: dict[str, float] = {}
    per_class: dict[str, dict[str, float]] = {category["name"]: {} for category in truth["categories"]}
    for kind in outputs:
        evaluation = evaluate_coco(truth, results, kind)
        values |= _twelve(evaluation, kind, list(range(len(evaluation.classes))))
        for index, name in enumerate(evaluation.classes):
            per_class[name] |= _twelve(evaluation, kind, [index])
    return Scores(values, per_class)


def evaluate_coco(truth: Truth, results: Results, kind: str) -> CocoEvaluation:
    """Match results to the truth, and accumulate precision and recall of `kind`, bbox or segm; both are left as they are.

    Raises:
        ForeignResultsError: a result's image or class is not in the truth.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no kind {kind!r}: it is one of {', '.join(KINDS)}.")
    require_known(truth, results)
    # The evaluator writes keys of its own into images and annotations, never into what these hold.
    copied = {name: [dict(item) for item in truth[name]] for name in ("images", "annotations", "categories")}
    expected = COCO(copied, print_function=lambda *_told: None)
    # Only one shape: given both, the evaluator takes a mask's area from its box.
    wanted = ("image_id", "category_id", "score", "bbox" if kind == "bbox" else "segmentation")
    found = expected.loadRes([{name: result[name] for name in wanted} for result in results])
    evaluation = COCOeval_faster(expected, found, kind, print_function=lambda *_told: None)
    evaluation.params.iouThrs = np.linspace(0.5, 0.95, 10)
    evaluation.params.maxDets = list(MOST_DETECTIONS)
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = (np.asarray(evaluation.eval[name], dtype=np.float64) for name in ("precision", "recall"))
    names = {category["id"]: category["name"] for category in truth["categories"]}
    return CocoEvaluation(precision, recall, tuple(names[number] for number in sorted(names)))


def require_known(truth: Truth, results: Results) -> None:
    """Check that every result is of an image and a class of the truth.

    Raises:
        ForeignResultsError: one is not; the evaluator would fail obscurely, or leave it out.
    """
    for key, name, where in (("image_id", "image", "images"), ("category_id", "class", "categories")):
        foreign = {result[key] for result in results} - {item["id"] for item in truth[where]}
        if foreign:
            raise ForeignResultsError(
                f"{len(foreign)} {name} ids in the results are not in the truth ({min(foreign)}, …). "
                "Score results only against the split and dataset version that they were found on."
            )


def _twelve(evaluation: CocoEvaluation, kind: str, classes: list[int]) -> dict[str, float]:
    precision = evaluation.precision[:, :, classes]
    recall = evaluation.recall[:, classes]
    values = {"mAP": precision[..., 0, 2], "mAP_50": precision[0, ..., 0, 2], "mAP_75": precision[5, ..., 0, 2]}
    values |= {f"mAP_{size}": precision[..., area, 2] for area, size in enumerate("sml", start=1)}
    values |= {f"AR_{most}": recall[..., 0, index] for index, most in enumerate(MOST_DETECTIONS)}
    values |= {f"AR_{size}": recall[..., area, 2] for area, size in enumerate("sml", start=1)}
    return {f"{kind}_{name}": _mean(numbers) for name, numbers in values.items()}


def _mean(numbers: np.ndarray) -> float:
    known = numbers[numbers > -1]
    return float(known.mean()) if known.size else math.nan
