"""Small drawing tools that the sample painters share."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[Any]  # float32 RGB in linear light, 1.0 = white; (height, width, 3)
Field = NDArray[Any]  # float32, one number a pixel; (height, width)
Colour = NDArray[np.float32]  # linear RGB; (3,)
Points = NDArray[np.float64]  # x, y; (n, 2)

SUBPIXEL_BITS = 4  # of the fixed-point corners that cv2 draws with
BLUR_ON_COPY = 1.2  # pixels of blur that a smaller copy keeps


def linear(*srgb: float) -> Colour:
    """A colour of 0..255 as light; gamma 2 instead of 2.2 because a square root is the quickest way back."""
    return ((np.asarray(srgb, np.float32) / 255) ** 2).astype(np.float32)


def between(rng: np.random.Generator, low: tuple[float, ...], high: tuple[float, ...]) -> Colour:
    """A random colour between two of 0..255: along the way from one to the other, a little off it; as light."""
    t = rng.random()
    srgb = np.array(low) * (1 - t) + np.array(high) * t + rng.normal(0, 4, 3)
    return linear(*np.clip(srgb, 0, 255))


def value_noise(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]) -> Field:
    """Smooth random field of about 0..1 whose bumps are `cell` (height, width) pixels large."""
    rows, columns = (max(2, round(side / step) + 2) for side, step in zip(shape, cell, strict=True))
    grid = rng.random((rows, columns), dtype=np.float32)
    return cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def fractal_noise(
    rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 4, stretch: float = 1.0
) -> Field:
    """Value noise on several scales, about 0..1. `stretch` makes its bumps that much wider than high."""
    total = np.zeros(shape, np.float32)
    weight, weights = 1.0, 0.0
    for _ in range(octaves):
        total += weight * value_noise(rng, shape, (max(cell, 1.0), max(cell * stretch, 1.0)))
        weights += weight
        weight, cell = weight * 0.55, cell / 2
    return total / np.float32(weights)


def from_centre(shape: tuple[int, int]) -> tuple[Field, Field]:
    """y of the rows, (height, 1), and x of the columns, (1, width): -1..1 from edge to edge."""
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    return y[:, None], x[None, :]


def smoothstep(low: float, high: float, values: Field) -> Field:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def soften(picture: Field, sigma: float) -> Field:
    """Gaussian blur; below a tenth of a pixel nothing, far above one on a smaller copy (ten times as quick)."""
    if sigma < 0.1:
        return picture
    height, width = picture.shape[:2]
    shrink = int(sigma / BLUR_ON_COPY)
    if shrink < 2 or min(height, width) < 8 * shrink:
        return cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    small = cv2.resize(picture, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink, borderType=cv2.BORDER_REFLECT_101)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def coverage(shape: tuple[int, int], polygon: Points) -> Field:
    """How much of each pixel a polygon covers, 0..1, about half a pixel too far out on every side.

    Coordinates as labelme's: (0, 0) is the first pixel's corner.
    """
    mask = np.zeros(shape, np.uint8)
    # cv2 puts (0, 0) on the first pixel's centre.
    fixed = np.round((np.asarray(polygon) - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return mask.astype(np.float32) / 255


def convex_coverage(shape: tuple[int, int], polygon: Points) -> Field:
    """`coverage` of a convex polygon without the half pixel by which cv2 draws every polygon too large."""
    x = np.arange(shape[1], dtype=np.float32)[None, :] + np.float32(0.5)
    y = np.arange(shape[0], dtype=np.float32)[:, None] + np.float32(0.5)
    outside = np.full(shape, -np.inf, np.float32)  # distance to the outline in pixels, negative inside
    edges = np.roll(polygon, -1, axis=0) - polygon
    clockwise = np.sign(np.sum(polygon[:, 0] * edges[:, 1] - polygon[:, 1] * edges[:, 0]))
    for (left, top), edge in zip(polygon, edges, strict=True):
        across, down = (clockwise * edge / np.hypot(*edge)).astype(np.float32)
        np.maximum(outside, (x - np.float32(left)) * down - (y - np.float32(top)) * across, out=outside)
    return np.clip(np.float32(0.5) - outside, 0, 1)


def window(shape: tuple[int, int], polygon: Points, margin: float) -> tuple[slice, slice] | None:
    """The part of a picture that a polygon and a margin around it touch, or None when it lies outside."""
    low = np.floor(np.min(polygon, axis=0) - margin).astype(int)
    high = np.ceil(np.max(polygon, axis=0) + margin).astype(int)
    left, top = max(low[0], 0), max(low[1], 0)
    right, bottom = min(high[0], shape[1]), min(high[1], shape[0])
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def stamp(picture: Picture, polygon: Points, colour: Colour, opacity: float = 1.0, blur: float = 0.0) -> None:
    """Paint a polygon into the picture in place; `blur` (pixels) makes its edge soft."""
    part, mask = _masked(picture, polygon, opacity, blur)
    part += (colour - part) * mask


def shade(picture: Picture, polygon: Points, strength: float, blur: float) -> None:
    """Darken a polygon with a soft edge in place: a shadow."""
    part, mask = _masked(picture, polygon, strength, blur)
    part *= 1 - mask


def _masked(picture: Picture, polygon: Points, opacity: float, blur: float) -> tuple[Picture, Field]:
    """A view of the part that a polygon touches, and how much the polygon covers there, (height, width, 1)."""
    area = window(picture.shape[:2], polygon, 3 * blur + 2)
    if area is None:
        return picture[:0], np.zeros((0, 1, 1), np.float32)
    part = picture[area]
    mask = soften(coverage(part.shape[:2], polygon - [area[1].start, area[0].start]), blur) * np.float32(opacity)
    return part, mask[..., None]


def rounded_box(centre: tuple[float, float], size: tuple[float, float], radius: float, steps: int = 5) -> Points:
    """Outline of a box with round corners, clockwise on the screen; (4 * steps, 2)."""
    radius = min(radius, size[0] / 2, size[1] / 2)
    reach = np.array(size) / 2 - radius
    arcs = []
    for quarter, corner in enumerate([(1, 1), (-1, 1), (-1, -1), (1, -1)]):
        angle = np.linspace(0, np.pi / 2, steps) + quarter * np.pi / 2
        arcs.append(reach * corner + radius * np.column_stack([np.cos(angle), np.sin(angle)]))
    return np.concatenate(arcs) + centre


def turned(polygon: Points, angle: float, about: tuple[float, float]) -> Points:
    """The polygon turned by `angle` radians about a point."""
    cos, sin = np.cos(angle), np.sin(angle)
    return (polygon - about) @ np.array([[cos, sin], [-sin, cos]]) + about


def ellipse(centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0, steps: int = 24) -> Points:
    """Outline of an ellipse; (steps, 2)."""
    turn = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return turned(np.column_stack([np.cos(turn), np.sin(turn)]) * radii + centre, angle, centre)


def box_distance(
    shape: tuple[int, int], centre: tuple[float, float], size: tuple[float, float], radius: float
) -> Field:
    """Distance of each pixel to a round-cornered box: negative inside, in pixels."""
    x = np.abs(np.arange(shape[1], dtype=np.float32) + 0.5 - centre[0]) - (size[0] / 2 - radius)
    y = np.abs(np.arange(shape[0], dtype=np.float32) + 0.5 - centre[1]) - (size[1] / 2 - radius)
    inside = np.minimum(np.maximum(x[None, :], y[:, None]), 0)
    return np.hypot(np.maximum(x, 0)[None, :], np.maximum(y, 0)[:, None]) + inside - np.float32(radius)
