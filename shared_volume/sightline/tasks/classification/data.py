"""Part data: a document's flags name the image's class; a split is written as COCO's lists without boxes."""

from collections.abc import Sequence
from typing import Any, Final

from sightline.annotations.instances import DatasetImage

ANNOTATED_BY: Final = "flags"


def truth_of(images: Sequence[DatasetImage], classes: Sequence[str]) -> dict[str, Any]:
    """The truth of one split: an annotation an image.

    Images (sorted by name) and classes get the ids 1, 2, … in their order.
    """
    category_ids = {name: number for number, name in enumerate(classes, start=1)}
    return {
        "info": {"description": "One class an image."},
        "images": [
            {"id": number, "file_name": image.name, "width": image.width, "height": image.height}
            for number, image in enumerate(images, start=1)
        ],
        "annotations": [
            {"id": number, "image_id": number, "category_id": category_ids[image.instances[0].label]}
            for number, image in enumerate(images, start=1)
            if image.instances
        ],
        "categories": [{"id": number, "name": name} for name, number in category_ids.items()],
    }
