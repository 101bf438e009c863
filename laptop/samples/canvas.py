"""Small drawing tools that the sample painters share."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

Picture = NDArray[Any]  # float32 RGB in linear light, 1.0 = white; (height, width, 3)
Field = NDArray[Any]  # float32, one number a pixel; (height, width)
Colour = NDArray[np.float32]  # linear RGB; (3,)
Points = NDArray[np.float64]  # x, y; (n, 2)
Pair = tuple[float, float] | NDArray[Any]  # x, y

SUBPIXEL_BITS = 4  # of the fixed-point corners that cv2 draws with
BLACK = np.zeros(3, np.float32)


def linear(*srgb: float) -> Colour:
    """A colour of 0..255 as light; gamma 2 instead of 2.2 because a square root is the quickest way back."""
    return ((np.asarray(srgb, np.float32) / 255) ** 2).astype(np.float32)


def coloured(name: str) -> Colour:
    """The light of a colour as CSS writes it, like #1a2c5c."""
    return linear(*ImageColor.getrgb(name))


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
    """Blur like a Gaussian of `sigma` pixels; from two pixels on by OpenCV's stack blur, as quick for any sigma."""
    if sigma < 0.1:
        return picture
    if sigma < 2:
        return cv2.GaussianBlur(picture, (0, 0), sigma)
    side = 2 * round((1 + 6 * sigma**2) ** 0.5) - 1  # of the triangular kernel of that standard deviation
    return cv2.stackBlur(picture, (side, side))


def coverage(shape: tuple[int, int], polygon: Points) -> Field:
    """How much of each pixel a polygon covers, 0..1, about half a pixel too far out on every side.

    Coordinates as labelme's: (0, 0) is the first pixel's corner.
    """
    mask = np.zeros(shape, np.uint8)
    # cv2 puts (0, 0) on the first pixel's centre.
    fixed = np.round((np.asarray(polygon) - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return mask.astype(np.float32) / 255


def hairlines(shape: tuple[int, int], paths: Sequence[Points]) -> Field:
    """Lines a pixel wide, 0..1; (0, 0) is the first pixel's centre."""
    mask = np.zeros(shape, np.uint8)
    fixed = [np.round(path * (1 << SUBPIXEL_BITS)).astype(np.int32) for path in paths]
    cv2.polylines(mask, fixed, False, 255, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    return mask.astype(np.float32) / 255


def convex_coverage(shape: tuple[int, int], polygon: Points) -> Field:
    """`coverage` of a convex polygon, clockwise, without the half pixel by which cv2 draws every polygon too large."""
    y, x = (np.arange(side, dtype=np.float32) + np.float32(0.5) for side in shape)
    outside = np.full(shape, -np.inf, np.float32)  # distance to the outline in pixels, negative inside
    edges = np.roll(polygon, -1, axis=0) - polygon
    for (left, top), edge in zip(polygon.astype(np.float32), edges, strict=True):
        across, down = (edge / np.hypot(*edge)).astype(np.float32)
        np.maximum(outside, (x - left) * down - (y[:, None] - top) * across, out=outside)
    return np.clip(np.float32(0.5) - outside, 0, 1)


def window(shape: tuple[int, int], polygon: Points, margin: float) -> tuple[slice, slice]:
    """The part of a picture that a polygon and a margin around it touch: empty when it lies outside."""
    corners = np.floor(polygon.min(axis=0) - margin), np.ceil(polygon.max(axis=0) + margin)
    (left, top), (right, bottom) = np.clip(corners, 0, shape[::-1]).astype(int)
    return slice(top, bottom), slice(left, right)


def stamp(picture: Picture, polygon: Points, colour: Colour, opacity: float = 1.0, blur: float = 0.0) -> None:
    """Paint a polygon into the picture in place; `blur` (pixels) makes its edge soft. Black with a soft edge is a shadow."""
    rows, columns = window(picture.shape[:2], polygon, 3 * blur + 2)
    part = picture[rows, columns]
    if part.size:
        mask = soften(coverage(part.shape[:2], polygon - [columns.start, rows.start]), blur) * np.float32(opacity)
        part += (colour - part) * mask[..., None]


def rounded_box(centre: Pair, size: Pair, radius: float, steps: int = 5) -> Points:
    """Outline of a box with round corners, clockwise on the screen; (4 * steps, 2)."""
    radius = min(radius, size[0] / 2, size[1] / 2)
    reach = np.array(size) / 2 - radius
    arcs = []
    for quarter, corner in enumerate([(1, 1), (-1, 1), (-1, -1), (1, -1)]):
        angle = np.linspace(0, np.pi / 2, steps) + quarter * np.pi / 2
        arcs.append(reach * corner + radius * np.column_stack([np.cos(angle), np.sin(angle)]))
    return np.concatenate(arcs) + centre


def turned(polygon: Points, angle: float, about: Pair) -> Points:
    """The polygon turned by `angle` radians about a point."""
    cos, sin = np.cos(angle), np.sin(angle)
    return (polygon - about) @ np.array([[cos, sin], [-sin, cos]]) + about


def ellipse(centre: Pair, radii: float | Pair, angle: float = 0.0, steps: int = 24) -> Points:
    """Outline of an ellipse; (steps, 2)."""
    turn = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return turned(np.column_stack([np.cos(turn), np.sin(turn)]) * radii + centre, angle, centre)
