"""COCO scores during validation, by our own evaluation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from sightline.tasks.detection.detections import to_coco_results
from sightline.tasks.detection.results import to_detections
from sightline.tasks.task import Score


@METRICS.register_module()
class SightlineCocoMetric(BaseMetric):
    """The scores (`bbox_mAP`, `segm_mAP`, …) of the validated images, named without a prefix.

    Args:
        ann_file: COCO truth; category ids are 1 + the index into the classes.
        score: from truth, results and kinds to scores.
        kinds: what is scored, of "bbox" and "segm"; by default masks too where the detector gives them.
    """

    def __init__(self, ann_file: str, score: Score, kinds: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.truth = json.loads(Path(ann_file).read_bytes())
        self.score = score
        self.kinds = kinds

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep one batch's predictions, one entry an image."""
        for sample in data_samples:
            detections = to_detections(sample["pred_instances"], sample["ori_shape"])
            self.results.append((to_coco_results(detections, sample["img_id"]), detections.masks is not None))

    def compute_metrics(self, results: list[tuple[list[dict[str, Any]], bool]]) -> dict[str, float]:
        """The scores over the whole truth: an image without predictions counts as one on which nothing was found."""
        has_masks = any(masks for _, masks in results)
        kinds = self.kinds or (("bbox", "segm") if has_masks else ("bbox",))
        found = [result for image_results, _ in results for result in image_results]
        return dict(self.score(self.truth, found, kinds).values)
