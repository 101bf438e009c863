"""Stage 4: from checked images to COCO."""

from collections.abc import Iterable, Sequence
from typing import Any

from sightline.coco import Region, merge_regions
from sightline.record.check import Checked, Part
from sightline.record.recipe import Recipe


def choose_classes(images: Iterable[Checked], recipe: Recipe) -> tuple[str, ...]:
    """The classes in the order of their category ids: the recipe's, else every label that occurs, by name."""
    if recipe.classes is not None:
        return recipe.classes
    return tuple(sorted({part.label for image in images for part in image.parts}))


def convert_images(images: Sequence[Checked], classes: Sequence[str]) -> dict[str, Any]:
    """The COCO ground truth of one split.

    Args:
        images: sorted by name; they get the ids 1, 2, ….
        classes: get the category ids 1, 2, … in this order.
    """
    category_ids = {name: number for number, name in enumerate(classes, start=1)}
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for label, region in join_parts(image):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[label],
                    "bbox": list(region.box),
                    "area": region.area,
                    "iscrowd": 0,
                    "segmentation": region.segmentation(),
                }
            )
    return {
        "info": {"description": "Converted from labelme; boxes and sizes are those of the upright images."},
        "images": [
            {"id": number, "file_name": image.image, "width": image.width, "height": image.height}
            for number, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in category_ids.items()],
    }


def join_parts(image: Checked) -> list[tuple[str, Region]]:
    """The instances on an image, in the order drawn: parts of one label and group are one instance."""
    return [
        (parts[0].label, merge_regions([part.region for part in parts], image.width, image.height))
        for parts in _group_parts(image)
    ]


def count_instances(image: Checked) -> int:
    """How many annotations an image gets."""
    return len(_group_parts(image))


def _group_parts(image: Checked) -> list[list[Part]]:
    instances: dict[tuple[str, int] | int, list[Part]] = {}
    for index, part in enumerate(image.parts):
        key = index if part.group_id is None else (part.label, part.group_id)
        instances.setdefault(key, []).append(part)
    return list(instances.values())
