"""A small residual network for whole images."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn
from torch.nn import functional


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
