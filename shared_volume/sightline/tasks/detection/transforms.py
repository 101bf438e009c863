"""Our own steps of mmdet's data pipelines."""

from pathlib import Path
from typing import Any

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from sightline.images.files import read_image


@TRANSFORMS.register_module()
class LoadUprightImage(BaseTransform):
    """Read the image the way its annotator saw it (EXIF orientation applied), or take the one in `results["img"]`.

    Needs `img_path` (a file) or `img` ((H, W, 3) uint8 BGR); sets `img`, `img_path`, `img_shape` and `ori_shape`.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if "img" not in results:
            results["img"] = read_image(Path(results["img_path"]))
        results.setdefault("img_path", None)
        results["img_shape"] = results["ori_shape"] = results["img"].shape[:2]
        return results
