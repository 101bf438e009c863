"""Part draw: annotations and results as shapes on an image, and how many there are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sightline.reports.page import counted
from sightline.reports.pictures import Shape


def shown_of(results: Sequence[Mapping[str, Any]], score_threshold: float) -> list[Mapping[str, Any]]:
    """The results that are not weaker than a score."""
    return [one for one in results if one["score"] >= score_threshold]


def shapes_of(objects: Iterable[Mapping[str, Any]], classes: Sequence[str], size: tuple[int, int]) -> list[Shape]:
    """COCO annotations or results of one image, weakest first so that the strongest is drawn on top.

    Objects have category_id (from 1), bbox and, where there are, segmentation and score; the image's size is not needed here.
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
    ]
    return sorted(shapes, key=lambda shape: (shape.score or 0.0, -shape.box[2] * shape.box[3]))


def caption(objects: Sequence[Mapping[str, Any]], classes: Sequence[str], noun: str) -> str:
    """How many there are."""
    return counted(len(objects), noun)
