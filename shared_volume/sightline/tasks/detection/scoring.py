"""Part scoring: how good results are."""

from collections.abc import Sequence

from sightline.tasks.detection.metrics.coco_evaluation import Results, Truth
from sightline.tasks.detection.metrics.confusion import confusion_matrix
from sightline.tasks.detection.metrics.scores import score_results
from sightline.tasks.task import Confusion, Scores


def score(truth: Truth, results: Results, outputs: Sequence[str] = ("bbox", "segm")) -> Scores:
    """All metrics, overall and per class; without results those that there are.

    Args:
        truth: one split, a COCO dataset.
        results: COCO results.
        outputs: what the model's results hold.
    """
    return score_results(truth, results, outputs)


def confusion(truth: Truth, results: Results) -> Confusion:
    """Which class was taken for which, boxes at IoU 0.5."""
    return confusion_matrix(truth, results)
