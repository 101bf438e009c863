"""Annotations that were drawn on an image as stored, turned with the image by its EXIF orientation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from sightline.annotations.labelme import Shape
from sightline.formats.reading import Picture, mask_pixels, mask_shape
from sightline.images.files import ImageHeader

_Turn = Callable[[np.ndarray, np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]

# x and y on the image as stored (width, height) -> x and y on the upright one. Only quarter turns can be told by the size.
_TURNS: Final[dict[int, _Turn]] = {
    5: lambda x, y, width, height: (y, x),
    6: lambda x, y, width, height: (height - y, x),
    7: lambda x, y, width, height: (height - y, width - x),
    8: lambda x, y, width, height: (y, width - x),
}


def turn_upright(picture: Picture, header: ImageHeader) -> Picture:
    """The picture with its shapes on the upright image.

    Tools differ: some show an image as stored, some turned by EXIF. The size that the source writes down tells which,
    where the orientation is a quarter turn and the image is not square.
    """
    stored = header.height, header.width
    if header.orientation not in _TURNS or header.width == header.height or (picture.width, picture.height) != stored:
        return picture
    turn, (width, height) = _TURNS[header.orientation], stored
    shapes = [_turn_shape(shape, turn, header.orientation, width, height) for shape in picture.shapes]
    return replace(picture, width=header.width, height=header.height, shapes=tuple(shapes))


def _turn_shape(shape: Shape, turn: _Turn, orientation: int, width: int, height: int) -> Shape:
    # A mask's points are pixels, whose centres lie half a pixel further.
    half = 0.5 if shape.shape_type == "mask" else 0.0
    x, y = turn(shape.points[:, 0] + half, shape.points[:, 1] + half, width, height)
    points = np.column_stack([x, y]) - half
    if shape.shape_type == "rectangle" and len(points) == 2:
        points = np.array([points.min(axis=0), points.max(axis=0)])
    if shape.shape_type != "mask" or shape.mask is None:
        return replace(shape, points=points)
    pixels = mask_pixels(shape.mask).T
    if orientation in (6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (7, 8):
        pixels = pixels[::-1]
    left, top = (int(value) for value in points.min(axis=0))
    turned = mask_shape(pixels, left, top, shape.label)
    return replace(shape, points=turned.points, mask=turned.mask)
