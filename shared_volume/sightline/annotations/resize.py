"""Shapes that were drawn on the same photograph in another size."""

import base64
import io
from dataclasses import replace
from typing import Final

import numpy as np

from sightline.annotations.labelme import Shape
from sightline.annotations.regions import MaskError, decode_mask
from sightline.images.limits import MAX_PIXELS

_ROUNDING: Final = 1.0  # pixels by which a side may be off, since whoever resizes an image rounds its sides

Factors = tuple[float, float]
"""Of x and of y: the photograph's side by the side that was annotated."""


def find_factors(written: tuple[int, int], true: tuple[int, int]) -> Factors | None:
    """How a photograph of the `true` (width, height) was resized after it was annotated; None where the sides disagree."""
    x, y = true[0] / written[0], true[1] / written[1]
    off = min(abs(written[0] * y - true[0]), abs(written[1] * x - true[1]))
    return (x, y) if off <= _ROUNDING else None


def resize_shape(shape: Shape, factors: Factors) -> Shape:
    """The shape on the resized photograph; a damaged one stays as it is."""
    if shape.damage or not len(shape.points):
        return shape
    if shape.shape_type == "mask":
        return _resize_mask(shape, factors)
    if (
        shape.shape_type == "circle" and len(shape.points) == 2
    ):  # the factors differ by rounding at most: it stays round
        return replace(shape, points=shape.points * factors[0])
    return replace(shape, points=shape.points * np.array(factors))


def _resize_mask(shape: Shape, factors: Factors) -> Shape:
    """A mask's points are its first and last pixel, so that its box ends one pixel further."""
    from PIL import Image

    if shape.mask is None or len(shape.points) != 2:
        return shape
    (left, top), (right, bottom) = shape.points.min(axis=0).astype(int), shape.points.max(axis=0).astype(int)
    try:
        pixels = decode_mask(shape.mask, int(right - left) + 1, int(bottom - top) + 1)
    except (MaskError, ValueError, OverflowError):
        return shape  # its own check says what is wrong with it
    first = np.round(shape.points.min(axis=0) * factors)
    last = np.maximum(np.round((shape.points.max(axis=0) + 1) * factors) - 1, first)
    width, height = (int(side) for side in last - first + 1)
    if width * height > MAX_PIXELS:
        return shape
    resized = Image.fromarray(pixels.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
    png = io.BytesIO()
    Image.fromarray((np.asarray(resized) >= 128).astype(np.uint8)).save(png, "PNG")
    return replace(shape, points=np.array([first, last]), mask=base64.b64encode(png.getvalue()).decode("ascii"))
