"""Stage 3: the parts on an image joined to instances, as every later stage sees them."""

from collections.abc import Mapping
from typing import Any, Final

from sightline.annotations.check import WHOLE_IMAGE, Checked, Part
from sightline.annotations.instances import DatasetImage, Instance
from sightline.annotations.regions import encode_region, merge_regions

CROWD_FLAG: Final = "iscrowd"  # of a labelme shape: a region with objects that nobody told apart


def join_parts(checked: Checked, file: str) -> DatasetImage:
    """The image with its parts joined: those of one label and group are one instance."""
    groups: dict[tuple[str, int] | int, list[Part]] = {}
    for position, part in enumerate(checked.parts):
        key = position if part.group_id is None else (part.label, part.group_id)
        groups.setdefault(key, []).append(part)
    instances = tuple(_join(parts, checked) for parts in groups.values())
    return DatasetImage(checked.image, checked.image, file, checked.width, checked.height, instances)


def _join(parts: list[Part], checked: Checked) -> Instance:
    region = merge_regions([part.region for part in parts], checked.width, checked.height)
    crowd = any(_is_crowd(part.flags) for part in parts)
    if crowd:  # COCO's crowds are run-length encoded
        region = encode_region(region, checked.width, checked.height)
    index = None if parts[0].index == WHOLE_IMAGE else parts[0].index
    return Instance(parts[0].label, region, crowd, index)


def _is_crowd(flags: Mapping[str, Any]) -> bool:
    return isinstance(flags, Mapping) and flags.get(CROWD_FLAG) is True
