"""The geometry of instances: outlines, painted masks, and COCO's run lengths.

Boxes and areas come from the vertices, not from a raster: exact to the fraction of a pixel and 20 times faster. All
arithmetic here gives the same bits on every machine (no BLAS, exact sums), so that a dataset's bytes do as well.
"""

import base64
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from PIL import Image
from pycocotools import mask as rle_of

from sightline.errors import SightlineError

Box = tuple[float, float, float, float]
"""x, y, width, height."""

_TOLERANCE: Final = 0.05  # pixels between an ellipse and its polygon
_MOST_VERTICES: Final = 4096  # of such a polygon
SMALLEST_AREA: Final = 0.01  # pixels; what covers less is a line or a point
SAME_WITHIN: Final = 0.01  # pixels between two outlines that count as one

_SLIVER_AREA: Final = 1.0  # pixels; parts of a crossing polygon that a hand did not mean
_MOST_TANGLED: Final = 2000  # vertices; taking a larger tangle apart could take all memory


class MaskError(SightlineError):
    """A labelme mask that cannot be used."""


@dataclass(frozen=True, slots=True)
class Region:
    """The part of an image that one instance covers, in pixels: outlines, or run lengths for what was painted."""

    box: Box
    area: float
    outlines: tuple[np.ndarray, ...] = ()  # (N, 2) polygons; several for an instance in parts; none when `rle` is given
    rle: dict[str, Any] | None = None  # COCO's `{"size": [height, width], "counts": str}`

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
    xs, ys = points.T.tolist()
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def circle_outline(points: np.ndarray) -> np.ndarray:
    """A labelme circle (centre, a point on its edge) as a polygon within 0.05 px; its box is the circle's.

    Vertices are rounded to 0.001 px, because sine and cosine differ in their last bit between machines. `points` is
    (2, 2); the radius is to be 100,000 pixels at most.
    """
    (x, y), (edge_x, edge_y) = points.tolist()
    radius = math.hypot(edge_x - x, edge_y - y)
    return np.round(ellipse_outline(x, y, radius, radius), 3)


def ellipse_outline(x: float, y: float, across: float, down: float) -> np.ndarray:
    """An upright ellipse around (x, y), of two radii in pixels, as a polygon within 0.05 px; its box is the ellipse's."""
    step = math.acos(max(0.0, 1 - _TOLERANCE / max(across, down, _TOLERANCE)))
    count = min(_MOST_VERTICES, 4 * max(4, math.ceil(math.pi / step / 4)))  # a vertex at each end of both axes
    angles = np.arange(count) * (2 * math.pi / count)
    return np.column_stack([x + across * np.cos(angles), y + down * np.sin(angles)])


def clip_polygon(points: np.ndarray, width: int, height: int) -> list[np.ndarray]:
    """The parts of a polygon that lie in an image: the polygon itself when it is inside, none when it is outside.

    What is cut has its vertices rounded to 0.000001 px and in an order of its own, so that every machine gives the same.
    `points` is (N, 2), N at least 3: not necessarily convex; it may touch itself, and does not cross itself. The image
    covers 0 to `width` and 0 to `height`.
    """
    xs, ys = points.T.tolist()
    if min(xs) >= 0 and min(ys) >= 0 and max(xs) <= width and max(ys) <= height:
        return [points]
    # What only touches itself, as around a hole, is a polygon to GEOS once that hole is one.
    whole = shapely.make_valid(shapely.polygons(points), method="structure", keep_collapsed=False)
    inside = shapely.intersection(whole, shapely.box(0, 0, width, height))
    return [piece for piece in _outlines(inside, 6) if polygon_area(piece) > 0]


def find_tangled(outlines: Sequence[np.ndarray]) -> list[bool]:
    """Which of the polygons, each (N, 2) with N at least 3, touch or cross themselves; quick, many at once."""
    if not outlines:
        return []
    owners = np.repeat(np.arange(len(outlines)), [len(outline) for outline in outlines])
    found: list[bool] = (~shapely.is_simple(shapely.linearrings(np.concatenate(outlines), indices=owners))).tolist()
    return found


def untangle_polygon(points: np.ndarray) -> list[np.ndarray] | None:
    """Take a polygon that crosses itself apart: the same ground, covered once, by parts that do not cross.

    Vertices are rounded to 0.001 px and come in an order of their own, so that every machine gives the same. `points` is
    (N, 2), N at least 3, as `find_tangled` finds them. None when nothing is covered twice or inside out: the polygon only
    touches itself, as around a hole. No parts when it cannot be taken apart.
    """
    if len(points) > _MOST_TANGLED:
        return []
    try:
        valid = shapely.make_valid(shapely.polygons(points), method="structure", keep_collapsed=False)
        if abs(valid.area - polygon_area(points)) <= max(SMALLEST_AREA, 1e-6 * valid.area):
            return None
        outlines = _outlines(valid, 3)
    except shapely.errors.GEOSException:
        return []
    least = [SMALLEST_AREA] + [_SLIVER_AREA] * len(outlines)  # of the largest, which comes first, and of the others
    return [outline for outline, area in zip(outlines, least, strict=False) if polygon_area(outline) > area]


def _outlines(geometry: Any, decimals: int) -> list[np.ndarray]:
    """What GEOS made, as outlines without holes, the largest first; rounded, for its last bits differ between machines."""
    parts = [part for piece in shapely.get_parts(geometry) for part in _without_holes(piece)]
    outlines = [_in_order(np.round(shapely.get_coordinates(part.exterior)[:-1], decimals)) for part in parts]
    return sorted(outlines, key=lambda outline: (-polygon_area(outline), outline.tolist()))


def _without_holes(piece: Any) -> list[Any]:
    """A polygon as polygons without holes, cut through the middle of each hole."""
    if piece.geom_type != "Polygon" or piece.is_empty:
        return []
    if not len(piece.interiors):
        return [piece]
    left, top, right, bottom = piece.bounds
    hole_left, _, hole_right, _ = piece.interiors[0].bounds
    middle = (hole_left + hole_right) / 2
    halves = (shapely.box(left, top, middle, bottom), shapely.box(middle, top, right, bottom))
    return [part for cut in shapely.get_parts(shapely.intersection(piece, halves)) for part in _without_holes(cut)]


def _in_order(outline: np.ndarray) -> np.ndarray:
    """The outline from its leftmost (then topmost) vertex on, always the same way round."""
    ahead, behind = np.roll(outline, -1, 0), outline
    if (behind[:, 0] * ahead[:, 1] - ahead[:, 0] * behind[:, 1]).sum() < 0:
        outline = outline[::-1]
    return np.roll(outline, -int(np.lexsort((outline[:, 1], outline[:, 0]))[0]), 0)


def same_region(one: Region, other: Region) -> bool:
    """Whether two regions are the same to within a hundredth of a pixel, wherever their outlines begin."""
    if one.rle is not None or other.rle is not None:
        return one.rle == other.rle
    return (
        len(one.outlines) == len(other.outlines)
        and all(abs(a - b) <= SAME_WITHIN for a, b in zip(one.box, other.box, strict=True))
        and all(_same_outline(a, b) for a, b in zip(one.outlines, other.outlines, strict=True))
    )


def _same_outline(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and any(
        np.abs(one - np.roll(turned, -start, 0)).max() <= SAME_WITHIN
        for turned in (other, other[::-1])
        for start in np.flatnonzero(np.abs(turned - one[0]).max(axis=1) <= SAME_WITHIN).tolist()
    )


def polygon_region(outlines: Sequence[np.ndarray]) -> Region:
    """The region inside one or more outlines, each (N, 2), at least one: boxes united, areas added up."""
    return Region(polygon_box(np.concatenate(outlines)), math.fsum(map(polygon_area, outlines)), tuple(outlines))


def mask_region(points: np.ndarray, png: str, width: int, height: int) -> Region:
    """A labelme mask as a region of a `width` x `height` image; what lies outside the image is cut off.

    `points` is (2, 2), the mask's first and last pixel; `png` is base64, and every pixel that is not zero belongs to the
    mask. MaskError when the PNG is damaged or its size is not that of the box between the points.
    """
    left, top = (int(value) for value in points.min(axis=0))
    right, bottom = (int(value) for value in points.max(axis=0))
    pixels = decode_mask(png, right - left + 1, bottom - top + 1)
    canvas = np.zeros((height, width), dtype=np.uint8, order="F")
    inner = pixels[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    canvas[max(0, top) : max(0, top) + inner.shape[0], max(0, left) : max(0, left) + inner.shape[1]] = inner
    return _rle_region(rle_of.encode(canvas))


def decode_mask(png: str, width: int, height: int) -> np.ndarray:
    """(height, width) bool of a mask's PNG, base64; MaskError when it is damaged or of another size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow's about large images; the size is compared before decoding
            with Image.open(io.BytesIO(base64.b64decode(png, validate=True)), formats=("PNG",)) as image:
                size = image.size
                pixels = np.asarray(image) != 0 if size == (width, height) else None
    except Exception:  # pillow raises whatever a damaged file makes it
        raise MaskError("the mask's PNG is damaged. Draw the mask again with labelme.") from None
    if pixels is None:
        raise MaskError(
            f"the mask's PNG is {size[0]} x {size[1]} pixels, its points make {width} x {height}. "
            "Draw the mask again with labelme."
        )
    return pixels if pixels.ndim == 2 else pixels.any(axis=2)


def _rle_region(rle: dict[str, Any]) -> Region:
    x, y, width, height = rle_of.toBbox(rle).tolist()
    written = {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
    return Region((x, y, width, height), float(rle_of.area(rle)), rle=written)


def merge_regions(regions: Sequence[Region], width: int, height: int) -> Region:
    """The parts, at least one, of one instance on a `width` x `height` image; run lengths when one of them is painted."""
    if len(regions) == 1:
        return regions[0]
    if all(region.rle is None for region in regions):
        return polygon_region([outline for region in regions for outline in region.outlines])
    return _encode(regions, width, height)


def encode_region(region: Region, width: int, height: int) -> Region:
    """The same region of a `width` x `height` image, run-length encoded; box and area are then those of whole pixels."""
    return region if region.rle is not None else _encode([region], width, height)


def _encode(regions: Sequence[Region], width: int, height: int) -> Region:
    rles: list[Any] = []
    for region in regions:
        if region.rle is None:
            rles += rle_of.frPyObjects(region.segmentation(), height, width)
        else:
            rles.append(region.rle | {"counts": region.rle["counts"].encode("ascii")})
    encoded = _rle_region(rle_of.merge(rles))
    if encoded.area:
        return encoded
    # So small that it lies between the pixels' centres: the middle pixel stands for it.
    x, y, across, down = regions[0].box
    canvas = np.zeros((height, width), dtype=np.uint8, order="F")
    canvas[min(int(y + down / 2), height - 1), min(int(x + across / 2), width - 1)] = 1
    return _rle_region(rle_of.encode(canvas))


def parse_runs(counts: Any, pixels: int) -> list[int]:
    """A run-length encoding's counts, a list of whole numbers or COCO's compressed text, as runs; ValueError if neither.

    ValueError too unless they add up to `pixels`: pycocotools reads past the end of such counts, so that what was written
    by others is looked at here first.
    """
    if isinstance(counts, str | bytes):
        runs = _parse_text(counts.encode() if isinstance(counts, str) else counts)
    elif isinstance(counts, list | tuple) and all(isinstance(run, int) for run in counts):
        runs = list(counts)
    else:
        raise ValueError("counts must be a list of whole numbers or COCO's text")
    if any(run < 0 for run in runs) or sum(runs) != pixels:
        raise ValueError(f"they add up to {sum(runs)} pixels, not to {pixels}")
    return runs


def _parse_text(text: bytes) -> list[int]:
    """COCO's text: numbers in groups of five bits, from the fourth on as the difference to the last but one."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = character - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError("counts is not COCO's text")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:  # negative
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("counts is cut off")
    return runs


def runs_region(runs: Sequence[int], width: int, height: int) -> Region:
    """The region of a `width` x `height` image that run lengths (as from `parse_runs`) cover."""
    return _rle_region(rle_of.frPyObjects({"size": [height, width], "counts": list(runs)}, height, width))
