"""Stage 2: look at every shape of a document; keep, fix or drop it, and say so."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sightline.coco import (
    MaskError,
    Region,
    circle_outline,
    clip_polygon,
    mask_region,
    polygon_area,
    polygon_region,
    rectangle_outline,
)
from sightline.labelme import Shape
from sightline.record.findings import Code, Finding, Outcome
from sightline.record.read import Annotated
from sightline.record.recipe import Recipe

# Dropping these is what the user asked for; an image that has nothing else is a background, not a mistake.
_ASKED_FOR: Final = frozenset({Code.LABEL_NOT_VALID})


@dataclass(frozen=True, slots=True)
class Part:
    """A shape that is used: the whole of an instance, or with others of its label and group a part of one."""

    label: str
    group_id: int | None
    region: Region


@dataclass(frozen=True, slots=True)
class Checked:
    """An image that goes into the dataset: its name, the upright size in pixels, and what is on it."""

    image: str
    width: int
    height: int
    parts: tuple[Part, ...]


class _Dropped(Exception):  # noqa: N818  # control flow within this file, not an error
    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code


def check_document(annotated: Annotated, recipe: Recipe) -> tuple[Checked | None, list[Finding]]:
    """Check one document: the image with its usable shapes (None when it must stay out), and what was found."""
    header, file = annotated.header, annotated.file
    findings = _check_size(annotated)
    parts = []
    for index, shape in enumerate(annotated.document.shapes):
        try:
            label = _label(shape, recipe)
            region, clipped = shape_region(shape, header.width, header.height)
        except _Dropped as dropped:
            findings.append(Finding(dropped.code, file, index, str(dropped)))
            continue
        if clipped:
            message = (
                f"{label!r} reaches out of the image ({header.width} x {header.height}); it was cut at the border."
            )
            findings.append(Finding(Code.CLIPPED, file, index, message))
        parts.append(Part(label, shape.group_id, region))
    if not parts and any(found.outcome is Outcome.DROP and found.code not in _ASKED_FOR for found in findings):
        message = "none of its shapes can be used, so the image would pass for an empty one. Annotate it again."
        findings.append(Finding(Code.NOTHING_LEFT, file, None, message))
        return None, findings
    return Checked(annotated.image, header.width, header.height, tuple(parts)), findings


def shape_region(shape: Shape, width: int, height: int) -> tuple[Region, bool]:
    """What a shape covers of a `width` x `height` image, and whether some of it lay outside and was cut off.

    Raises:
        _Dropped: it covers nothing, or cannot be understood.
    """
    if shape.shape_type == "mask":
        return _mask(shape, width, height)
    outline = _outline(shape)
    if polygon_area(outline) == 0:
        raise _Dropped(
            Code.ZERO_AREA, f"the {shape.shape_type} {shape.label!r} has no area: a line, or crossing itself."
        )
    inside = clip_polygon(outline, width, height)
    if not inside:
        raise _outside(shape, width, height)
    return polygon_region(inside), inside[0] is not outline


def _check_size(annotated: Annotated) -> list[Finding]:
    header, document, file = annotated.header, annotated.document, annotated.file
    findings = []
    if header.orientation != 1:
        message = f"{annotated.image} is shown turned by its EXIF orientation {header.orientation}, as in labelme."
        findings.append(Finding(Code.EXIF_ORIENTATION, file, None, message))
    size = f"the image's own {header.width} x {header.height} is used."
    if document.image_width is None or document.image_height is None:
        findings.append(Finding(Code.NO_SIZE, file, None, f"the JSON gives no image size; {size}"))
    elif (document.image_width, document.image_height) != (header.width, header.height):
        message = f"the JSON gives the image size {document.image_width} x {document.image_height}; {size}"
        findings.append(Finding(Code.WRONG_SIZE, file, None, message))
    return findings


def _label(shape: Shape, recipe: Recipe) -> str:
    label = recipe.label_map.get(shape.label, shape.label).strip()
    label = recipe.label_map.get(label, label)
    if not label:
        raise _Dropped(Code.EMPTY_LABEL, f"the {shape.shape_type} has no label. Give it one.")
    if not recipe.wants(label):
        raise _Dropped(Code.LABEL_NOT_VALID, f"{label!r} is not among the recipe's labels.")
    return label


def _outline(shape: Shape) -> np.ndarray:
    """(N, 2) vertices, at least three."""
    count, kind = len(shape.points), shape.shape_type
    if kind == "polygon":
        if count < 3:
            raise _Dropped(Code.WRONG_POINTS, f"the polygon {shape.label!r} has {count} points, not three or more.")
        return shape.points
    if kind == "rectangle":
        if count not in (2, 4):
            raise _Dropped(Code.WRONG_POINTS, f"the rectangle {shape.label!r} has {count} points, not two or four.")
        return rectangle_outline(shape.points)
    if kind == "circle":
        if count != 2:
            raise _Dropped(Code.WRONG_POINTS, f"the circle {shape.label!r} has {count} points, not centre and edge.")
        if (shape.points[0] == shape.points[1]).all():
            raise _Dropped(Code.ZERO_AREA, f"the circle {shape.label!r} has no radius. Draw it again.")
        return circle_outline(shape.points)
    raise _Dropped(Code.UNSUPPORTED_SHAPE, f"{shape.label!r} is a {kind}, which covers no area to learn.")


def _mask(shape: Shape, width: int, height: int) -> tuple[Region, bool]:
    if shape.mask is None or len(shape.points) != 2:
        raise _Dropped(Code.BAD_MASK, f"the mask {shape.label!r} has no picture or not two points. Draw it again.")
    if np.abs(shape.points).max() > 1e6:  # pixels; far outside, and its array would not fit into memory
        raise _outside(shape, width, height)
    try:
        region = mask_region(shape.points, shape.mask, width, height)
    except MaskError as error:
        raise _Dropped(Code.BAD_MASK, f"{shape.label!r}: {error}") from None
    left, top = shape.points.min(axis=0)
    right, bottom = shape.points.max(axis=0)
    partly = bool(left < 0 or top < 0 or right >= width or bottom >= height)
    if region.area == 0:
        if partly:
            raise _outside(shape, width, height)
        raise _Dropped(Code.ZERO_AREA, f"the mask {shape.label!r} is empty. Draw it again.")
    return region, partly


def _outside(shape: Shape, width: int, height: int) -> _Dropped:
    return _Dropped(
        Code.OUTSIDE,
        f"the {shape.shape_type} {shape.label!r} lies outside the image ({width} x {height}). Draw it again.",
    )
