"""Drawn images: what the model found, on the image itself and at its full size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.reports.pictures import draw_shapes, open_picture
from sightline.tasks.task import Task

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
# Full colour resolution: thin coloured lines would fade without.
OPTIONS: dict[str, dict[str, int]] = {"JPEG": {"quality": 90, "subsampling": 0}, "PNG": {}}


def draw_predictions(
    task: Task,
    image_path: Path,
    results: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    target_path: Path,
    score_threshold: float,
) -> None:
    """Write the upright image with masks, boxes, classes and scores.

    Args:
        task: what the results are.
        image_path: the image the model saw.
        results: in pixels of the upright image.
        classes: names in the category ids' order.
        target_path: .jpg, .jpeg or .png. Missing folders are made.
        score_threshold: weaker results are not drawn.

    Raises:
        SightlineError: the image cannot be read, or the target has another extension.
    """
    kind = FORMATS.get(target_path.suffix.lower())
    if kind is None:
        raise SightlineError(f"{target_path}: drawn images are {', '.join(FORMATS)}, not {target_path.suffix!r}.")
    picture = open_picture(image_path)
    shown = task.draw.shown_of(results, score_threshold)
    drawn = draw_shapes(picture, task.draw.shapes_of(shown, classes, picture.size))
    target_path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(target_path, kind, **OPTIONS[kind])
