"""Part predict: a detector ready to use, from a bundle or from a model just trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.errors import SightlineError
from sightline.models.bundle import BundleError, load_state, read_bundle
from sightline.models.config import config_from_data
from sightline.models.imports import CODE, import_kept
from sightline.tasks.detection.fit import build_model, register
from sightline.tasks.detection.results import results_of

OUTPUTS = ("bbox", "segm")


class Detector:
    """Finds objects on images. Make one by `load_predictor` or `predictor_of`."""

    def __init__(self, model: Any, config: Any, classes: Sequence[str]) -> None:
        register()
        from mmcv.transforms import Compose

        self.model = model.eval()
        self.config = config
        self.classes = tuple(classes)  # by label
        self.outputs: tuple[str, ...] = OUTPUTS[:1]  # what its results hold, as far as it has shown
        # Truth is not there to load, nor needed.
        self._pipeline = Compose([step for step in config.test_pipeline if step["type"] != "LoadAnnotations"])

    def results(self, image: np.ndarray, image_id: int) -> list[dict[str, Any]]:
        """What is on one image, (H, W, 3) uint8 BGR, upright: COCO results in its pixels."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise SightlineError(
                f"An image must be an array (height, width, 3) of uint8 in BGR, not {image.shape} of {image.dtype}. "
                "Read files with sightline.images.files.read_image."
            )
        sample: dict[str, Any] = self._pipeline({"img": image, "img_id": 0})
        with torch.inference_mode():
            (result,) = self.model.test_step({"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]})
        self.outputs = OUTPUTS if "masks" in result.pred_instances else self.outputs
        return results_of(result.pred_instances, image_id, image.shape)


predictor_of = Detector  # of a model as it is, on the device where it lies; it is set to evaluation mode


def load_predictor(bundle_dir: Path, device: str = "cpu", sha256: str | None = None) -> Detector:
    """Load a model bundle; its files are verified before any of them is used.

    `sha256` is what the manifest's digest must be; None trusts the folder's own manifest. A model that was trained with
    `custom_imports` brings that code, and loading it runs the code: then the digest is required.

    Raises:
        BundleError: a file is changed, missing or not the bundle's, or the weights do not fit the config.
    """
    bundle = read_bundle(bundle_dir, sha256)
    config = config_from_data(bundle.config)
    if sha256 is None and bundle.config.get(CODE):
        raise BundleError(
            f"The model {bundle_dir} brings code of its own ({', '.join(bundle.config[CODE])}), which runs when it is loaded. Where you "
            "trust it, say which model it is by its manifest's SHA-256: load_predictor(folder, sha256=…)."
        )
    register()
    import_kept(bundle.config, f"The model {bundle_dir}")
    model = build_model(config)
    load_state(bundle, model)
    return Detector(model.to(device), config, bundle.classes)
