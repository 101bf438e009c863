"""COCO: the geometry of instances and the JSON files.

Boxes and areas come from the vertices, not from a raster: exact to the fraction of a pixel and 20 times faster. All
arithmetic here gives the same bits on every machine (no BLAS, exact sums), so that a dataset's bytes do as well.
"""

import base64
import binascii
import io
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from sightline.errors import SightlineError

Box = tuple[float, float, float, float]

_CIRCLE_TOLERANCE: Final = 0.05  # pixels between a circle and its polygon
_LARGEST_RADIUS: Final = 1e5  # pixels


class CocoError(SightlineError):
    """A COCO file that cannot be used."""


class MaskError(SightlineError):
    """A labelme mask that cannot be used."""


@dataclass(frozen=True, slots=True)
class Region:
    """The part of an image that one instance covers: outlines, or a run-length encoding for what was painted.

    Attributes:
        box: x, y, width, height in pixels.
        area: in pixels.
        outlines: (N, 2) polygons; several for an instance in parts. Empty when `rle` is given.
        rle: COCO's `{"size": [height, width], "counts": str}`.
    """

    box: Box
    area: float
    outlines: tuple[np.ndarray, ...] = ()
    rle: dict[str, Any] | None = None

    def segmentation(self) -> Any:
        """COCO's form: a list of flat polygons, or the run-length encoding."""
        return self.rle if self.rle is not None else [outline.ravel().tolist() for outline in self.outlines]


def polygon_area(points: np.ndarray) -> float:
    """Area of the polygon with vertices (N, 2), by the shoelace formula; where it crosses itself, lobes cancel."""
    if len(points) < 3:
        return 0.0
    # Relative to a vertex: far from the origin the products would cancel badly.
    x, y = (points - points[0]).T
    return abs(math.fsum((x[:-1] * y[1:] - x[1:] * y[:-1]).tolist())) / 2


def polygon_box(points: np.ndarray) -> Box:
    """x, y, width, height of the smallest box around vertices (N, 2), N at least 1."""
    xs, ys = points.T.tolist()
    x, y = min(xs), min(ys)
    return x, y, max(xs) - x, max(ys) - y


def rectangle_outline(points: np.ndarray) -> np.ndarray:
    """A labelme rectangle as (4, 2) vertices: from two opposite corners in any order, or its four points as they are."""
    if len(points) != 2:
        return points
    (xs, ys) = points.T.tolist()
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def circle_outline(points: np.ndarray) -> np.ndarray:
    """A labelme circle (centre, a point on its edge) as a polygon within 0.05 px; its box is the circle's.

    Vertices are rounded to 0.001 px, because sine and cosine differ in their last bit between machines.
    """
    (x, y), (edge_x, edge_y) = points.tolist()
    radius = min(math.hypot(edge_x - x, edge_y - y), _LARGEST_RADIUS)
    step = math.acos(max(0.0, 1 - _CIRCLE_TOLERANCE / radius)) if radius > _CIRCLE_TOLERANCE else math.pi / 8
    count = 4 * max(4, math.ceil(math.pi / step / 4))  # a multiple of 4 has a vertex at each of the box's sides
    angles = np.arange(count) * (2 * math.pi / count)
    return np.round(np.column_stack([x + radius * np.cos(angles), y + radius * np.sin(angles)]), 3)


def clip_polygon(points: np.ndarray, width: int, height: int) -> list[np.ndarray]:
    """The parts of a polygon that lie in an image: the polygon itself when it is inside, none when it is outside.

    Args:
        points: (N, 2) vertices; not necessarily convex.
        width: of the image in pixels; the image covers 0 to width.
        height: likewise.
    """
    xs, ys = points.T.tolist()
    if min(xs) >= 0 and min(ys) >= 0 and max(xs) <= width and max(ys) <= height:
        return [points]
    pieces = [points]
    for axis, bound, inwards in ((0, 0.0, 1), (0, float(width), -1), (1, 0.0, 1), (1, float(height), -1)):
        pieces = [part for piece in pieces for part in _cut(piece, axis, bound, inwards)]
    return [piece for piece in pieces if len(piece) >= 3 and polygon_area(piece) > 0]


def _cut(points: np.ndarray, axis: int, bound: float, inwards: int) -> list[np.ndarray]:
    """Keep what lies on one side of an axis-parallel line.

    Sutherland and Hodgman's walk, but a non-convex polygon falls into its separate parts: joined by seams along the
    image's border, as theirs are, the parts would have a common box that reaches into corners where nothing lies.
    """
    depth = (points[:, axis] - bound) * inwards
    inside = depth >= 0
    if inside.all():
        return [points]
    if not inside.any():
        return []
    first = int(np.argmin(inside))  # begin the walk outside, so that no run of inside vertices wraps around
    points, depth, inside = np.roll(points, -first, 0), np.roll(depth, -first), np.roll(inside, -first)
    crossings = points + (np.roll(points, -1, 0) - points) * _share(depth, np.roll(depth, -1))[:, None]
    crossings[:, axis] = bound
    runs: list[np.ndarray] = []
    starts = np.flatnonzero(~inside & np.roll(inside, -1))
    ends = np.flatnonzero(inside & ~np.roll(inside, -1))
    for start, end in zip(starts, ends, strict=True):
        runs.append(np.concatenate([crossings[[start]], points[start + 1 : end + 1], crossings[[end]]]))
    return _join(runs, 1 - axis)


def _share(depth: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Where on each edge the line lies, 0 to 1; 0 for edges that do not cross it."""
    difference = depth - following
    crosses = (depth >= 0) != (following >= 0)
    return np.where(crosses, depth / np.where(crosses, difference, 1.0), 0.0)


def _join(runs: list[np.ndarray], along: int) -> list[np.ndarray]:
    """Close runs along the cutting line: between neighbouring ends there, in turn, lies the polygon's inside."""
    if len(runs) < 2:
        return runs
    ends = sorted(
        [(run[0, along], index, True) for index, run in enumerate(runs)]
        + [(run[-1, along], index, False) for index, run in enumerate(runs)]
    )
    following: dict[int, int] = {}
    for (_, a, a_starts), (_, b, b_starts) in zip(ends[::2], ends[1::2], strict=True):
        if a_starts == b_starts:  # it crosses itself: join in the order walked, as Sutherland and Hodgman do
            return [np.concatenate(runs)]
        following[b if a_starts else a] = a if a_starts else b
    pieces = []
    while following:
        index, chain = next(iter(following)), []
        while index in following:
            chain.append(runs[index])
            index = following.pop(index)
        pieces.append(np.concatenate(chain))
    return pieces


def polygon_region(outlines: Sequence[np.ndarray]) -> Region:
    """The region inside one or more outlines, each (N, 2), at least one: boxes united, areas added up."""
    if len(outlines) == 1:
        return Region(polygon_box(outlines[0]), polygon_area(outlines[0]), (outlines[0],))
    return Region(
        polygon_box(np.concatenate(outlines)), math.fsum(polygon_area(outline) for outline in outlines), tuple(outlines)
    )


def mask_region(points: np.ndarray, png: str, width: int, height: int) -> Region:
    """A labelme mask as a region of a `width` x `height` image; what lies outside the image is cut off.

    Args:
        points: (2, 2): the mask's first and last pixel.
        png: base64 of a PNG; every pixel that is not zero belongs to the mask.
        width: of the image in pixels.
        height: likewise.

    Raises:
        MaskError: the PNG is damaged or its size is not that of the box between the points.
    """
    from pycocotools import mask as rle_of

    pixels = _decode_mask(png)
    left, top = (int(value) for value in points.min(axis=0))
    right, bottom = (int(value) for value in points.max(axis=0))
    if pixels.shape != (bottom - top + 1, right - left + 1):
        raise MaskError(
            f"the mask's PNG is {pixels.shape[1]} x {pixels.shape[0]} pixels, its points make "
            f"{right - left + 1} x {bottom - top + 1}. Draw the mask again with labelme."
        )
    canvas = np.zeros((height, width), dtype=np.uint8, order="F")
    inner = pixels[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    canvas[max(0, top) : max(0, top) + inner.shape[0], max(0, left) : max(0, left) + inner.shape[1]] = inner
    return _rle_region(rle_of.encode(canvas))


def _decode_mask(png: str) -> np.ndarray:
    """(height, width) bool."""
    from PIL import Image

    try:
        data = base64.b64decode(png, validate=True)
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image) != 0
    except (binascii.Error, ValueError, OSError, SyntaxError, struct.error, Image.DecompressionBombError):
        raise MaskError("the mask's PNG is damaged. Draw the mask again with labelme.") from None
    return pixels if pixels.ndim == 2 else pixels.any(axis=2)


def _rle_region(rle: dict[str, Any]) -> Region:
    from pycocotools import mask as rle_of

    x, y, width, height = (float(value) for value in rle_of.toBbox(rle))
    counts = rle["counts"].decode("ascii")
    size = [int(side) for side in rle["size"]]
    return Region((x, y, width, height), float(rle_of.area(rle)), rle={"size": size, "counts": counts})


def merge_regions(regions: Sequence[Region], width: int, height: int) -> Region:
    """The parts of one instance as one region. With a painted part among them all become a run-length encoding.

    Args:
        regions: at least one.
        width: of the image in pixels.
        height: likewise.
    """
    if len(regions) == 1:
        return regions[0]
    if all(region.rle is None for region in regions):
        return polygon_region([outline for region in regions for outline in region.outlines])
    from pycocotools import mask as rle_of

    rles: list[Any] = []
    for region in regions:
        if region.rle is not None:
            rles.append({"size": region.rle["size"], "counts": region.rle["counts"].encode("ascii")})
        else:
            rles.extend(rle_of.frPyObjects(region.segmentation(), height, width))
    return _rle_region(rle_of.merge(rles))


def read_coco(path: Path) -> dict[str, Any]:
    """A COCO ground truth file: images, annotations, categories.

    Raises:
        CocoError: missing, not JSON, or without those lists.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise CocoError(f"{path}: the COCO file cannot be read ({error.strerror}). Pull the dataset again.") from None
    except orjson.JSONDecodeError as error:
        raise CocoError(f"{path}: not JSON, or cut off ({error.msg}). Pull the dataset again.") from None
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(_get(content, key), list)]
    if missing:
        raise CocoError(f"{path}: not a COCO file, without the lists {', '.join(missing)}. Pull the dataset again.")
    return content


def _get(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, dict) else None


def write_coco(path: Path, content: dict[str, Any]) -> None:
    """Write a COCO file; same content, same bytes."""
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))
