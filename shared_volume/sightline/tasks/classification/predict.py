"""Part predict: a classifier ready to use, from a bundle or from a model just trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.models.bundle import load_state, read_bundle
from sightline.models.config import config_from_data
from sightline.tasks.classification.fit import build_model, prepare, results_of


class Classifier:
    """Says what an image shows."""

    outputs: tuple[str, ...] = ()  # nothing beside classes and scores

    def __init__(self, model: Any, config: Any, classes: Sequence[str]) -> None:
        self.model = model.eval()
        self.config = config
        self.classes = tuple(classes)  # by label

    def results(self, image: np.ndarray, image_id: int) -> list[dict[str, Any]]:
        """The likeliest classes, best first."""
        inputs = [prepare(image, self.config.test_pipeline)]
        with torch.inference_mode():
            (found,) = self.model.test_step({"inputs": inputs, "data_samples": {"image_id": [image_id], "label": [0]}})
        return results_of(found["scores"].tolist(), image_id)


predictor_of = Classifier  # of a model as it is, on the device where it lies; it is set to evaluation mode


def load_predictor(bundle_dir: Path, device: str = "cpu", sha256: str | None = None) -> Classifier:
    """Load a model bundle; its files are verified before any of them is used.

    Raises:
        BundleError: a file is changed, missing or not the bundle's, or the weights do not fit the config.
    """
    bundle = read_bundle(bundle_dir, sha256)
    config = config_from_data(bundle.config)
    model = build_model(config)
    load_state(bundle, model)
    return Classifier(model.to(device), config, bundle.classes)
