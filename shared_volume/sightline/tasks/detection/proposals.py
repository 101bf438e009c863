"""Region proposals from the coarse maps of a pyramid, where the finest one is for masks alone."""

from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS


@MODELS.register_module()
class CoarseRPNHead(RPNHead):
    """mmdet's `RPNHead` that leaves out the finest maps: three quarters of its work are on the first one alone.

    Args:
        skipped: how many maps of the pyramid, the finest first, get no anchors; `anchor_generator.strides` begins after them.
    """

    def __init__(self, *args: Any, skipped: int = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        self.skipped = skipped

    def forward(self, x: tuple[torch.Tensor, ...]) -> tuple[list[torch.Tensor], ...]:
        """Maps (N, C, H, W), the finest first, to scores and box deltas of those that are used."""
        found: tuple[list[torch.Tensor], ...] = super().forward(x[self.skipped :])
        return found
