"""Part draw: an image's class, written on a frame around the image."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sightline.reports.pictures import Shape


def shapes_of(
    objects: Iterable[Mapping[str, Any]], classes: Sequence[str], size: tuple[int, int], score_threshold: float = 0.0
) -> list[Shape]:
    """The class of an image, or the answer of the highest score.

    Args:
        objects: annotations or results of one image.
        classes: names in the category ids' order.
        size: width and height of the image in pixels.
        score_threshold: a weaker answer is left out.
    """
    strong = [one for one in objects if one.get("score", 1.0) >= score_threshold]
    best = sorted(strong, key=lambda one: -one.get("score", 1.0))[:1]
    return [
        Shape(
            one["category_id"] - 1,
            classes[one["category_id"] - 1],
            (0.0, 0.0, float(size[0]), float(size[1])),
            None,
            one.get("score"),
        )
        for one in best
    ]
