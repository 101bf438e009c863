"""Writes `sightline/models/registered.py`: every name that a config may give as `type`, by the packages that are installed.

python -m tests.registered_types > shared_volume/sightline/models/registered.py
"""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "shared_volume"))

WIDTH = 118
WORDS = (
    *("nms", "soft_nms", "nms_match", "nms_quadri", "nms_rotated"),  # mmcv's kinds of non-maximum suppression
    *("offset", "dilation"),  # of mmdet's cascaded RPN
    *("norm", "value"),  # of clipped gradients
    *("conv", "expand_conv", "last_conv", "interpolation_conv"),  # of mmdet's feature pyramid grids
)
"""What stands as `type` in a config and is no name of a registry."""

REPLACED = ("CachedMosaic", "CachedMixUp")  # mmdet's, in whose places ours stand


def registered_names() -> set[str]:
    """Names in all registries of mmengine and mmdet, without those of our own modules; needs both packages."""
    from mmengine import registry
    from mmengine.registry import Registry

    from sightline.tasks.detection.fit import register

    register()
    import mmcv.ops  # which an mmcv without compiled ops gets from us

    roots = [each for each in vars(registry).values() if isinstance(each, Registry)]
    found = {
        name
        for root in roots
        for each in _with_children(root)
        for name, registered in each.module_dict.items()
        if not getattr(registered, "__module__", "").startswith(("sightline", "tests"))
    }
    return {*found, *REPLACED, *WORDS, *mmcv.ops.__all__}


def _with_children(registry: object) -> Iterator[object]:
    yield registry
    for child in registry.children.values():
        yield from _with_children(child)


def module_text(names: set[str]) -> str:
    """The module's source."""
    lines = textwrap.wrap(" ".join(sorted(names)), WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join([
        '"""Names that a config may give as `type`, for those who have no mmengine to ask. `python -m tests.registered_types`',
        'writes this file."""',
        "",
        'WRITTEN = """',
        *lines,
        '"""',
        "NAMES = frozenset(WRITTEN.split())",
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(module_text(registered_names()))
