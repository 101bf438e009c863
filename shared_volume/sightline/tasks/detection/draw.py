"""Part draw: annotations and results as shapes on an image."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sightline.reports.pictures import Shape


def shapes_of(
    objects: Iterable[Mapping[str, Any]], classes: Sequence[str], size: tuple[int, int], score_threshold: float = 0.0
) -> list[Shape]:
    """COCO annotations or results of one image, weakest first so that the strongest is drawn on top.

    Args:
        objects: with category_id (from 1), bbox and, where there are, segmentation and score.
        classes: names in the category ids' order.
        size: width and height of the image; not needed here.
        score_threshold: results below it are left out.
    """
    shapes = [
        Shape(
            class_index=one["category_id"] - 1,
            name=classes[one["category_id"] - 1],
            box=tuple(one["bbox"]),
            segmentation=one.get("segmentation") or None,
            score=one.get("score"),
        )
        for one in objects
        if one.get("score", 1.0) >= score_threshold
    ]
    return sorted(shapes, key=lambda shape: (shape.score or 0.0, -shape.box[2] * shape.box[3]))
