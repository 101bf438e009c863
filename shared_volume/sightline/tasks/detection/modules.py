"""Our own classes that a config names by `type`: a step of its data pipelines, and the scores of a validation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import METRICS, TRANSFORMS
from mmengine.evaluator import BaseMetric

from sightline.images.files import read_image
from sightline.tasks.detection.results import results_of
from sightline.tasks.task import Score


@TRANSFORMS.register_module()
class LoadUprightImage(BaseTransform):
    """Read the image the way its annotator saw it (EXIF orientation applied), or take the one in `results["img"]`.

    Needs `img_path` (a file) or `img` ((H, W, 3) uint8 BGR); sets `img`, `img_path`, `img_shape` and `ori_shape`.
    """

    def __init__(self, to_float32: bool = False) -> None:
        self.to_float32 = to_float32

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if "img" not in results:
            results["img"] = read_image(Path(results["img_path"]))
        if self.to_float32:
            results["img"] = results["img"].astype(np.float32)
        results.setdefault("img_path", None)
        results["img_shape"] = results["ori_shape"] = results["img"].shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadOutlines(LoadAnnotations):
    """mmdet's `LoadAnnotations` whose masks stay outlines, a fraction of the memory of masks painted at the photograph's size.

    An image with an object that only a painted mask describes (one with holes, for instance) has all of them painted: mmdet
    would ignore that object.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "poly2mask": False})

    def _load_masks(self, results: dict[str, Any]) -> None:
        self.poly2mask = not all(isinstance(each["mask"], list) for each in results.get("instances", []))
        super()._load_masks(results)


@METRICS.register_module()
class SightlineCocoMetric(BaseMetric):
    """The scores (`bbox_mAP`, …) of the validated images, named without a prefix; of masks too where the detector gives them."""

    def __init__(self, ann_file: str, score: Score, **options: Any) -> None:
        super().__init__(**options)
        self.truth = json.loads(Path(ann_file).read_bytes())
        self.score = score

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep one batch's predictions, one entry an image."""
        for sample in data_samples:
            found = results_of(sample["pred_instances"], sample["img_id"], sample["ori_shape"])
            self.results.append((found, "masks" in sample["pred_instances"]))

    def compute_metrics(self, results: list[tuple[list[dict[str, Any]], bool]]) -> dict[str, float]:
        """The scores over the whole truth: an image without predictions counts as one on which nothing was found."""
        kinds = ("bbox", "segm") if any(masks for _, masks in results) else ("bbox",)
        found = [result for image_results, _ in results for result in image_results]
        return dict(self.score(self.truth, found, kinds).values)
