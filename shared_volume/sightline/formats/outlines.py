"""Painted masks as outlines, and several outlines as one, for formats that know one outline per object."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from sightline.annotations.regions import polygon_area

_SAME: Final = 1e-6  # pixels, and share of an area


def mask_outlines(pixels: np.ndarray) -> list[np.ndarray]:
    """The borders of the pixels that are set, along the pixels' own edges: (N, 2) vertices each, whole numbers.

    Outer borders run clockwise as seen, those of holes the other way. Exact: the pixels whose centres lie inside are
    just those that were set.

    Args:
        pixels: (height, width) bool.
    """
    padded = np.pad(pixels.astype(np.int8), 1)
    across, along = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    edges: tuple[tuple[np.ndarray, tuple[int, int], tuple[int, int]], ...] = (
        (across > 0, (0, 0), (1, 0)),  # set below: rightwards
        (across < 0, (1, 0), (0, 0)),  # set above: leftwards
        (along > 0, (0, 1), (0, 0)),  # set to the right: upwards
        (along < 0, (0, 0), (0, 1)),  # set to the left: downwards
    )
    for there, begin, end in edges:
        for y, x in np.argwhere(there).tolist():
            following.setdefault((x + begin[0], y + begin[1]), []).append((x + end[0], y + end[1]))
    outlines = []
    while following:
        outlines.append(_corners(_walk(following)))
    return outlines


def _walk(following: dict[tuple[int, int], list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Take one closed way out of the edges."""
    start = min(following)
    way, here, before = [start], start, (start[0] - 1, start[1])
    while True:
        choices = following[here]
        # Where two pixels touch at a corner, turn right: each then keeps an outline of its own.
        right = (here[0] - (here[1] - before[1]), here[1] + (here[0] - before[0]))
        there = right if right in choices else choices[0]
        choices.remove(there)
        if not choices:
            del following[here]
        if there == start:
            return way
        way.append(there)
        before, here = here, there


def _corners(way: Sequence[tuple[int, int]]) -> np.ndarray:
    """Only the vertices where the way turns."""
    points = np.array(way, dtype=np.float64)
    turns = ((points - np.roll(points, 1, axis=0)) != (np.roll(points, -1, axis=0) - points)).any(axis=1)
    return points[turns]


def join_outlines(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Several outlines as one, connected by lines there and back, which have no area.

    Args:
        outlines: (N, 2) vertices each, at least one; a hole is one that runs the other way.
    """
    first, *rest = sorted(outlines, key=polygon_area, reverse=True)
    joined = first
    while rest:
        gaps = [np.abs(joined[:, None] - other[None]).sum(axis=2) for other in rest]
        nearest = min(range(len(rest)), key=lambda index: float(gaps[index].min()))
        here, there = np.unravel_index(int(gaps[nearest].argmin()), gaps[nearest].shape)
        other = np.roll(rest.pop(nearest), -int(there), axis=0)
        joined = np.concatenate([joined[: here + 1], other, other[:1], joined[here:]])
    return joined


def instance_outlines(segmentation: Any) -> list[np.ndarray]:
    """The outlines of a COCO segmentation: its polygons, or the borders of its run lengths."""
    if isinstance(segmentation, dict):
        from pycocotools import mask as rle_of

        encoded = {"size": segmentation["size"], "counts": segmentation["counts"].encode("ascii")}
        return mask_outlines(rle_of.decode(encoded).astype(bool))
    return [np.array(part, dtype=np.float64).reshape(-1, 2) for part in segmentation]


def is_box(annotation: dict[str, Any]) -> bool:
    """Whether an annotation covers just its bbox."""
    if isinstance(annotation["segmentation"], dict):
        return False
    outlines = instance_outlines(annotation["segmentation"])
    if len(outlines) != 1 or len(outlines[0]) != 4:
        return False
    x, y, width, height = annotation["bbox"]
    xs, ys = outlines[0].T
    at_corners = np.isin(xs, (xs.min(), xs.max())).all() and np.isin(ys, (ys.min(), ys.max())).all()
    covered = np.allclose((xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)), (x, y, width, height), rtol=0, atol=_SAME)
    return bool(at_corners and covered and math.isclose(polygon_area(outlines[0]), width * height, rel_tol=_SAME))
