"""What a recipe's plug-in returned, checked before it is used: any of it may be wrong."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from sightline.annotations.instances import Instance
from sightline.annotations.recipe import Recipe
from sightline.annotations.regions import Region, encode_region, parse_runs, polygon_area, polygon_region, runs_region
from sightline.errors import clause, nearest
from sightline.images.limits import MAX_PIXELS

KEYS: Final = ("label", "bbox", "segmentation", "iscrowd")
ROUNDING: Final = 0.01  # pixels past the border that are taken for an inaccuracy of the arithmetic
AGREEMENT: Final = 1.0  # pixels by which a box may differ from its segmentation's


class RefusedError(Exception):
    """What is wrong with it: a sentence that the plug-in's name goes before."""


def check_returned(returned: Any, recipe: Recipe) -> tuple[np.ndarray, tuple[Instance, ...]]:
    """The pixels, (height, width, 3) uint8 RGB, and annotations that a plug-in returned; a RefusedError if they are of no use."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise RefusedError(f"it returned {type(returned).__name__}, not (image, annotations) or None.")
    pixels, annotations = returned
    if not isinstance(pixels, np.ndarray):
        raise RefusedError(f"the image it returned is {type(pixels).__name__}, not a numpy array.")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        found = f"{' x '.join(map(str, pixels.shape))} of {pixels.dtype}"
        raise RefusedError(f"the image it returned is {found}, not height x width x 3 of uint8.")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise RefusedError(f"the image it returned has more than {MAX_PIXELS:,} pixels.")
    if not isinstance(annotations, list | tuple):
        raise RefusedError(f"the annotations it returned are {type(annotations).__name__}, not a list.")
    height, width = pixels.shape[:2]
    return pixels, tuple(_instance(index, one, width, height, recipe) for index, one in enumerate(annotations))


def _instance(index: int, annotation: Any, width: int, height: int, recipe: Recipe) -> Instance:
    try:
        if not isinstance(annotation, Mapping):
            raise RefusedError(f"it is {type(annotation).__name__}, not a dictionary.")
        strange = [key for key in annotation if key not in KEYS]
        if strange:
            raise RefusedError(f"it has a key {strange[0]!r}.{nearest(str(strange[0]), KEYS)}")
        label = _label(annotation.get("label"), recipe)
        crowd = annotation.get("iscrowd", 0)
        if not isinstance(crowd, int | np.integer | np.bool_) or crowd not in (0, 1):
            raise RefusedError(f"iscrowd is {crowd!r}, not 0 or 1.")
        region = _region(annotation.get("bbox"), annotation.get("segmentation"), width, height)
    except RefusedError as refused:
        raise RefusedError(f"annotation {index} of those it returned: {refused}") from None
    return Instance(label, encode_region(region, width, height) if crowd else region, bool(crowd), None)


def _label(label: Any, recipe: Recipe) -> str:
    if not isinstance(label, str) or not label.strip():
        raise RefusedError(f"its label is {label!r}, not text.")
    if not recipe.wants(label):
        raise RefusedError(f"its label {label!r} is not among the recipe's.{nearest(label, recipe.chosen_labels())}")
    return label


def _region(bbox: Any, segmentation: Any, width: int, height: int) -> Region:
    """The segmentation decides; without one the box does. Where both are given they have to agree."""
    box = None if bbox is None else _numbers(bbox, "bbox", 4)
    if segmentation is None or (isinstance(segmentation, list | tuple) and not segmentation):
        if box is None:
            raise RefusedError("it has neither bbox nor segmentation.")
        x, y, wide, high = box.tolist()
        corners = np.array([[x, y], [x + wide, y], [x + wide, y + high], [x, y + high]])
        if wide <= 0 or high <= 0:
            raise RefusedError(f"its bbox {_shown(box)} has no area.")
        return polygon_region([_inside(corners, "bbox", width, height)])
    if isinstance(segmentation, Mapping):
        region = _run_length(segmentation, width, height)
    else:
        region = polygon_region(_outlines(segmentation, width, height))
    if region.area <= 0:
        raise RefusedError("its segmentation has no area.")
    if box is not None and np.abs(_edges(box) - _edges(np.array(region.box))).max() > AGREEMENT:
        raise RefusedError(
            f"its bbox {_shown(box)} and its segmentation, whose box is {_shown(np.array(region.box))}, do not agree; "
            "change both, or return one of them."
        )
    return region


def _outlines(segmentation: Any, width: int, height: int) -> list[np.ndarray]:
    if not isinstance(segmentation, list | tuple):
        raise RefusedError(
            f"its segmentation is {type(segmentation).__name__}, not a list of polygons or a dictionary."
        )
    outlines = []
    for polygon in segmentation:
        flat = _numbers(polygon, "segmentation's polygon")
        if len(flat) < 6 or len(flat) % 2:
            raise RefusedError(f"its segmentation has a polygon of {len(flat)} numbers, not of three or more x, y.")
        outline = _inside(flat.reshape(-1, 2), "segmentation", width, height)
        if polygon_area(outline) == 0:
            raise RefusedError("its segmentation has a polygon without area.")
        outlines.append(outline)
    return outlines


def _run_length(segmentation: Mapping[str, Any], width: int, height: int) -> Region:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise RefusedError(f"its segmentation's size is {size!r}, the image's is [{height}, {width}].")
    try:
        return runs_region(parse_runs(counts, height * width), width, height)
    except (TypeError, ValueError) as error:
        raise RefusedError(f"its segmentation's counts cannot be used: {clause(error)}.") from None


def _numbers(values: Any, name: str, count: int | None = None) -> np.ndarray:
    try:
        array = np.asarray(values)
        numbers = array.astype(np.float64) if array.dtype.kind in "fiu" else None
    except (TypeError, ValueError):
        numbers = None
    if numbers is None or numbers.ndim != 1 or count not in (None, len(numbers)):
        raise RefusedError(f"its {name} is {values!r:.80}, not {'a list of' if count is None else count} numbers.")
    if not np.isfinite(numbers).all():
        raise RefusedError(f"its {name} {_shown(numbers)} has a number that is not finite.")
    return numbers


def _inside(points: np.ndarray, name: str, width: int, height: int) -> np.ndarray:
    limits = np.array([width, height], dtype=np.float64)
    if (points < -ROUNDING).any() or (points > limits + ROUNDING).any():
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        reach = f"from ({left:g}, {top:g}) to ({right:g}, {bottom:g})"
        raise RefusedError(f"its {name} reaches {reach}, out of the image ({width} x {height}).")
    return np.clip(points, 0.0, limits)


def _edges(box: np.ndarray) -> np.ndarray:
    return np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])


def _shown(numbers: np.ndarray) -> str:
    return f"[{', '.join(f'{value:g}' for value in numbers.tolist()[:8])}]"
