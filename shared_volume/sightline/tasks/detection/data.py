"""Stage 6: from images with instances to COCO."""

from collections.abc import Iterable, Sequence
from typing import Any

from sightline.annotations.instances import DatasetImage
from sightline.annotations.recipe import Recipe


def choose_classes(images: Iterable[DatasetImage], recipe: Recipe) -> tuple[str, ...]:
    """The classes in the order of their category ids: the recipe's, else every label that occurs, by name."""
    if recipe.classes is not None:
        return recipe.classes
    return tuple(sorted({instance.label for image in images for instance in image.instances}))


def convert_images(images: Sequence[DatasetImage], classes: Sequence[str]) -> dict[str, Any]:
    """The COCO ground truth of one split.

    Args:
        images: sorted by name; they get the ids 1, 2, ….
        classes: get the category ids 1, 2, … in this order.
    """
    category_ids = {name: number for number, name in enumerate(classes, start=1)}
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for instance in image.instances:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[instance.label],
                    "bbox": list(instance.region.box),
                    "area": instance.region.area,
                    "iscrowd": int(instance.crowd),
                    "segmentation": instance.region.segmentation(),
                }
            )
    return {
        "info": {"description": "Converted from labelme; boxes and sizes are those of the upright images."},
        "images": [
            {"id": number, "file_name": image.name, "width": image.width, "height": image.height}
            for number, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in category_ids.items()],
    }
