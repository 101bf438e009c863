"""Part fit: a small residual network, and whole images with their class, as mmengine's Runner trains and validates them."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from sightline.errors import ConfigError, clause
from sightline.images.files import read_image
from sightline.tasks.task import Score

SCOPE = "mmengine"
MOST_ANSWERS = 5  # the likeliest classes that an image's results name


def build_model(config: Config) -> torch.nn.Module:
    """Build the config's model on the CPU; its weights are random until they are initialised or loaded.

    Raises:
        ConfigError: a part is unknown or does not fit; names it.
    """
    try:
        return MODELS.build(config.model)
    except Exception as error:
        raise ConfigError(f"The model cannot be built from its config: {clause(error)}. Look at `model`.") from error


def training_dataset(config: Config, dataset_dir: Path, classes: Sequence[str]) -> Dataset[Any]:
    """The train split, each image varied in place, size, side and light."""
    return _Images(dataset_dir, "train", classes, config.train_pipeline)


def evaluation_dataset(config: Config, dataset_dir: Path, split: str, classes: Sequence[str]) -> Dataset[Any]:
    """A split, in order, as it is."""
    return _Images(dataset_dir, split, classes, config.test_pipeline)


def evaluator(dataset_dir: Path, split: str, score: Score) -> dict[str, Any]:
    """mmengine's config of what scores a validation."""
    return {"type": "SightlineClassificationMetric", "ann_file": str(dataset_dir / f"{split}.json"), "score": score}


def prepare(image: np.ndarray, pipeline: Mapping[str, Any]) -> torch.Tensor:
    """An image as the model takes it: (3, size, size) uint8 BGR.

    Args:
        image: (H, W, 3) uint8 BGR.
        pipeline: `size` in pixels; to vary it, `least_area` of the image that is kept, `flip`, its probability, and `light`,
            the largest change of brightness and contrast as a share.
    """
    height, width = image.shape[:2]
    if least := pipeline.get("least_area"):
        share = random.uniform(least, 1.0) ** 0.5
        kept_height, kept_width = max(1, round(height * share)), max(1, round(width * share))
        top, left = random.randint(0, height - kept_height), random.randint(0, width - kept_width)
        image = image[top : top + kept_height, left : left + kept_width]
    size = int(pipeline["size"])
    shrinks = min(image.shape[:2]) > size
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if random.random() < pipeline.get("flip", 0):
        image = image[:, ::-1]
    if light := pipeline.get("light"):
        factor, shift = random.uniform(1 - light, 1 + light), 255 * random.uniform(-light, light) / 2
        image = np.clip(image.astype(np.float32) * factor + shift, 0, 255).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def results_of(scores: Sequence[float], image_id: int) -> list[dict[str, Any]]:
    """An image's scores, (C,), as results, best first."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[:MOST_ANSWERS]
    return [{"image_id": image_id, "category_id": index + 1, "score": float(scores[index])} for index in order]


class _Block(nn.Module):
    """Two convolutions beside a shortcut; He et al. 2016, https://arxiv.org/abs/1512.03385."""

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(entering, leaving, 3, stride, 1, bias=False),
            nn.BatchNorm2d(leaving),
            nn.ReLU(inplace=True),
            nn.Conv2d(leaving, leaving, 3, 1, 1, bias=False),
            nn.BatchNorm2d(leaving),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(entering, leaving, 1, stride, bias=False), nn.BatchNorm2d(leaving))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(features) + self.shortcut(features))


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Scores of every class for each image."""

    def __init__(
        self,
        channels: Sequence[int],  # of the stages; each halves the resolution
        num_classes: int,
        data_preprocessor: Any,  # mmengine's ImgDataPreprocessor
        dropout: float = 0.0,  # of the pooled features
        label_smoothing: float = 0.0,  # of the loss
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        entering = (channels[0], *channels[:-1])
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels[0], 3, 2, 1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)
        )
        self.stages = nn.Sequential(*(_Block(*pair, 2) for pair in zip(entering, channels, strict=True)))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels[-1], num_classes))
        self.label_smoothing = label_smoothing

    def forward(self, inputs: torch.Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        """Losses, or each image's id and its scores (C,), which add up to 1."""
        logits = self.head(self.stages(self.stem(inputs)).mean(dim=(2, 3)))
        if mode == "loss":
            labels = torch.tensor(data_samples["label"], device=logits.device)
            return {"loss_class": functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)}
        if mode == "predict":
            pairs = zip(data_samples["image_id"], logits.softmax(dim=1).cpu(), strict=True)
            return [{"image_id": number, "scores": own} for number, own in pairs]
        return logits


class _Images(Dataset[Any]):
    """Images of a split that have a class."""

    def __init__(self, dataset_dir: Path, split: str, classes: Sequence[str], pipeline: Mapping[str, Any]) -> None:
        truth = json.loads((dataset_dir / f"{split}.json").read_bytes())
        class_of = {one["image_id"]: one["category_id"] - 1 for one in truth["annotations"]}
        self.samples = [
            (image["id"], dataset_dir / "images" / image["file_name"], class_of[image["id"]])
            for image in truth["images"]
            if image["id"] in class_of
        ]
        self.metainfo = {"classes": tuple(classes)}
        self.pipeline = pipeline

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, path, label = self.samples[index]
        inputs = prepare(read_image(path), self.pipeline)
        return {"inputs": inputs, "data_samples": {"image_id": number, "label": label}}


@METRICS.register_module()
class SightlineClassificationMetric(BaseMetric):
    """Accuracy and F1 of the validated images, named without a prefix; category ids are 1 + the index into the classes."""

    def __init__(self, ann_file: str, score: Score, **options: Any) -> None:
        super().__init__(**options)
        self.truth = json.loads(Path(ann_file).read_bytes())
        self.score = score

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep one batch's results, one entry an image."""
        self.results += [results_of(sample["scores"].tolist(), sample["image_id"]) for sample in data_samples]

    def compute_metrics(self, results: list[list[dict[str, Any]]]) -> dict[str, float]:
        """The scores over the whole truth."""
        return dict(self.score(self.truth, [one for image in results for one in image], ()).values)
