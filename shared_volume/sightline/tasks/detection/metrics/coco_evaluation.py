"""One run of the COCO evaluation: faster-coco-eval gives pycocotools' numbers in a fraction of the time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from sightline.errors import SightlineError

Truth = Mapping[str, Any]
Results = Sequence[Mapping[str, Any]]

KINDS: Final = ("bbox", "segm")
IOU_THRESHOLDS: Final = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
MOST_DETECTIONS: Final = (1, 10, 100)


class ForeignResultsError(SightlineError):
    """The results are of other images or classes than the truth's."""


@dataclass(frozen=True, slots=True)
class CocoEvaluation:
    """The evaluator's arrays over T IoU thresholds 0.50 to 0.95, R = 101 recalls, K classes, A areas (all, small, medium,
    large) and M detections per image (1, 10, 100); -1 where a class or size has no objects."""

    precision: np.ndarray  # (T, R, K, A, M)
    recall: np.ndarray  # (T, K, A, M), the highest that is reached
    classes: tuple[str, ...]  # names, in the order of K


def evaluate_coco(truth: Truth, results: Results, kind: str) -> CocoEvaluation:
    """Match results to the truth and accumulate precision and recall.

    Args:
        truth: a COCO dataset; left as it is.
        results: COCO results, none at all being allowed; left as they are.
        kind: bbox or segm.

    Raises:
        ForeignResultsError: a result's image or class is not in the truth.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no kind {kind!r}: it is one of {', '.join(KINDS)}.")
    require_known(truth, results)
    # The evaluator writes keys of its own into images and annotations, never into what these hold.
    expected = COCO(
        {name: [dict(item) for item in truth[name]] for name in ("images", "annotations", "categories")},
        print_function=_silent,
    )
    found = expected.loadRes([_fields(result, kind) for result in results])
    evaluation = COCOeval_faster(expected, found, kind, print_function=_silent)
    evaluation.params.iouThrs = np.linspace(IOU_THRESHOLDS[0], IOU_THRESHOLDS[-1], len(IOU_THRESHOLDS))
    evaluation.params.maxDets = list(MOST_DETECTIONS)
    evaluation.evaluate()
    evaluation.accumulate()
    names = {category["id"]: category["name"] for category in truth["categories"]}
    return CocoEvaluation(
        np.asarray(evaluation.eval["precision"], dtype=np.float64),
        np.asarray(evaluation.eval["recall"], dtype=np.float64),
        tuple(names[number] for number in sorted(names)),
    )


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


def _fields(result: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Only one shape: given both, the evaluator takes a mask's area from its box."""
    wanted = ("image_id", "category_id", "score", "bbox" if kind == "bbox" else "segmentation")
    return {name: result[name] for name in wanted}


def _silent(*_arguments: object) -> None:
    pass
