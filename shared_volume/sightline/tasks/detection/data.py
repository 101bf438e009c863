"""Part data: objects are shapes with an area; a split is written as COCO."""

from collections.abc import Sequence
from typing import Any, Final

from sightline.annotations.instances import DatasetImage

ANNOTATED_BY: Final = "shapes"


def truth_of(images: Sequence[DatasetImage], classes: Sequence[str]) -> dict[str, Any]:
    """The COCO ground truth of one split.

    Images (sorted by name) and classes get the ids 1, 2, … in their order.
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
