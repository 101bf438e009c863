"""Part draw: an image's class, written on a frame around the image."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sightline.reports.pictures import Shape


def shown_of(results: Sequence[Mapping[str, Any]], score_threshold: float) -> list[Mapping[str, Any]]:
    """The result of the highest score, an image's answer, unless it is weaker than asked for."""
    best = sorted(results, key=lambda one: -one["score"])[:1]
    return [one for one in best if one["score"] >= score_threshold]


def shapes_of(objects: Iterable[Mapping[str, Any]], classes: Sequence[str], size: tuple[int, int]) -> list[Shape]:
    """The class of an image (width, height in pixels) or its answer, as a frame around it."""
    frame = (0.0, 0.0, float(size[0]), float(size[1]))
    indices = [(one["category_id"] - 1, one.get("score")) for one in objects]
    return [Shape(index, classes[index], frame, None, score) for index, score in indices]


def caption(objects: Sequence[Mapping[str, Any]], classes: Sequence[str], noun: str) -> str:
    """The class, and how sure an answer is of it."""
    named = [classes[one["category_id"] - 1] + (f" {one['score']:.2f}" if "score" in one else "") for one in objects]
    return ", ".join(named) or f"no {noun}"
