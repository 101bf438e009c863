"""How good detections are."""

from sightline.metrics.coco_evaluation import ForeignResultsError
from sightline.metrics.confusion import Confusion, box_overlaps, boxes_of, confusion_matrix
from sightline.metrics.curves import PrecisionRecall, precision_recall
from sightline.metrics.scores import METRICS, Scores, kinds_of, score_results

__all__ = [
    "METRICS",
    "Confusion",
    "ForeignResultsError",
    "PrecisionRecall",
    "Scores",
    "box_overlaps",
    "boxes_of",
    "confusion_matrix",
    "kinds_of",
    "precision_recall",
    "score_results",
]
