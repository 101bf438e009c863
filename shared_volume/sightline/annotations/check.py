"""Stage 2: look at every shape of a document; keep, fix or drop it, and say so."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal, NoReturn

import numpy as np

from sightline.annotations.findings import Code, Finding, Outcome, Policy
from sightline.annotations.labelme import Document, Shape
from sightline.annotations.read import Annotated
from sightline.annotations.recipe import Recipe
from sightline.annotations.regions import (
    SAME_WITHIN,
    SMALLEST_AREA,
    MaskError,
    Region,
    circle_outline,
    clip_polygon,
    find_tangled,
    mask_region,
    polygon_area,
    polygon_region,
    rectangle_outline,
    same_region,
    untangle_polygon,
)
from sightline.annotations.spelling import resembling_label

# Dropping these is what the user asked for; an image that has nothing else is a background, not a mistake.
_ASKED_FOR: Final = frozenset({Code.LABEL_NOT_VALID})
AnnotatedBy = Literal["shapes", "flags"]
"""Objects are shapes with an area; or the document's flags say what the whole image is."""

WHOLE_IMAGE: Final = -1
_LARGEST_RADIUS: Final = 1e5  # pixels
_FURTHEST_MASK: Final = 1e6  # pixels; beyond, its array would not fit into memory


@dataclass(frozen=True, slots=True)
class Part:
    """A shape that is used: the whole of an instance, or with others of its label and group a part of one.

    Attributes:
        label: after the recipe's label map.
        group_id: the annotator's.
        region: what it covers.
        index: which shape of the document it is; WHOLE_IMAGE for none of them.
        flags: the annotator's ticks.
    """

    label: str
    group_id: int | None
    region: Region
    index: int
    flags: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Checked:
    """An image that goes into the dataset: its name, the upright size in pixels, and what is on it."""

    image: str
    width: int
    height: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A shape with a usable label; its outline has three vertices or more, a mask has none."""

    index: int
    shape: Shape
    label: str
    outline: np.ndarray | None


class _LeftOut(Exception):  # noqa: N818  # control flow within this file, not an error
    pass


class _Notes:
    """The findings on one document, as the policy decides them."""

    def __init__(self, policy: Policy, file: str, findings: tuple[Finding, ...]):
        self.policy, self.file = policy, file
        self.findings = list(findings)

    def mend(self, code: Code, index: int, message: str) -> None:
        """Note what can be corrected; leaves the shape out unless the policy wants it corrected."""
        found = self.policy.finding(code, self.file, index, message)
        self.findings.append(found)
        if found.outcome is not Outcome.FIX:
            raise _LeftOut

    def leave_out(self, code: Code, index: int, message: str) -> NoReturn:
        """Note what cannot be corrected, and leave the shape out."""
        found = self.policy.finding(code, self.file, index, message)
        if found.outcome is Outcome.FIX:
            found = Finding(code, self.file, index, message, Outcome.DROP)
        self.findings.append(found)
        raise _LeftOut


def check_document(
    annotated: Annotated, recipe: Recipe, annotated_by: AnnotatedBy = "shapes"
) -> tuple[Checked | None, list[Finding]]:
    """Check one document: the image with what is usable on it (None when it must stay out), and what was found.

    Args:
        annotated: as read.
        recipe: what is wanted.
        annotated_by: whether shapes with an area are the objects, or the document's flags say what the whole image is.
    """
    if annotated_by == "flags":
        return _check_flags(annotated, recipe)
    header = annotated.header
    notes = _Notes(Policy.of(recipe.policy), annotated.file, annotated.findings)
    drawn = _usable_shapes(annotated, recipe, notes)
    outlines = [one for one in drawn if one.outline is not None and one.shape.shape_type != "circle"]
    tangled = find_tangled([one.outline for one in outlines if one.outline is not None])
    crossing = {one.index for one, found in zip(outlines, tangled, strict=True) if found}
    parts = _Parts(notes)
    for one in drawn:
        try:
            region = _region(one, header.width, header.height, one.index in crossing, notes)
            parts.add(Part(one.label, one.shape.group_id, region, one.index, one.shape.flags))
        except _LeftOut:
            continue
    if not parts.kept and _lost_something(notes):
        message = "none of its shapes can be used, so the image would pass for an empty one. Annotate it again."
        found = notes.policy.finding(Code.NOTHING_LEFT, annotated.file, None, message)
        notes.findings.append(found)
        if found.outcome is not Outcome.FIX:
            return None, notes.findings
    return Checked(annotated.image, header.width, header.height, tuple(parts.kept)), notes.findings


def _check_flags(annotated: Annotated, recipe: Recipe) -> tuple[Checked | None, list[Finding]]:
    """The image as one part that covers it all, of the class that is ticked."""
    findings, header = list(annotated.findings), annotated.header
    told = tell_class(annotated.document, recipe)
    if not isinstance(told, str):
        return None, [*findings, Policy.of(recipe.policy).finding(told[0], annotated.file, None, told[1])]
    width, height = header.width, header.height
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    part = Part(told, None, polygon_region([corners]), WHOLE_IMAGE, {})
    return Checked(annotated.image, width, height, (part,)), findings


def tell_class(document: Document, recipe: Recipe) -> str | tuple[Code, str]:
    """The class that a document's flags name, after the recipe's label map; or why there is none, as code and sentence."""
    ticked = sorted({recipe.rename(name) for name, on in document.flags.items() if on} - {""})
    wanted = [label for label in ticked if recipe.wants(label)]
    if len(wanted) == 1:
        return wanted[0]
    if not ticked:
        return Code.NO_CLASS, "no flag says what the image shows. Tick one, or put the image in a class's folder."
    if not wanted:
        return Code.LABEL_NOT_VALID, f"{', '.join(map(repr, ticked))} is not among the recipe's labels."
    return Code.SEVERAL_CLASSES, f"it is ticked as {', '.join(map(repr, wanted))}. Tick one only."


def _lost_something(notes: _Notes) -> bool:
    return any(found.outcome is not Outcome.FIX and found.code not in _ASKED_FOR for found in notes.findings)


def _usable_shapes(annotated: Annotated, recipe: Recipe, notes: _Notes) -> list[_Drawn]:
    drawn = []
    for index, shape in enumerate(annotated.document.shapes):
        try:
            if shape.damage:
                code = Code.MALFORMED_SHAPE if shape.damage.finite else Code.NON_FINITE
                notes.leave_out(code, index, f"the shape cannot be used: {shape.damage.reason}. Draw it again.")
            label = _label(shape, index, recipe, notes)
            drawn.append(_Drawn(index, shape, label, _outline(shape, index, notes)))
        except _LeftOut:
            continue
    return drawn


def _label(shape: Shape, index: int, recipe: Recipe, notes: _Notes) -> str:
    label = recipe.rename(shape.label)
    if not label:
        notes.leave_out(Code.EMPTY_LABEL, index, f"the {shape.shape_type} has no label. Give it one.")
    if recipe.wants(label):
        return label
    meant = None if label in (recipe.classes or ()) else resembling_label(label, recipe.chosen_labels())
    if meant is None:
        notes.leave_out(Code.LABEL_NOT_VALID, index, f"{label!r} is not among the recipe's labels.")
    notes.mend(Code.LABEL_TYPO, index, f"{label!r} is not among the recipe's labels. Did the annotator mean {meant!r}?")
    return meant


def _outline(shape: Shape, index: int, notes: _Notes) -> np.ndarray | None:
    """(N, 2) vertices, at least three; None for a mask."""
    count, kind, who = len(shape.points), shape.shape_type, f"the {shape.shape_type} {shape.label!r}"
    if kind == "mask":
        return None
    if kind == "polygon":
        if count < 3:
            notes.leave_out(Code.WRONG_POINTS, index, f"{who} has {count} points, not three or more. Draw it again.")
        return shape.points
    if kind == "rectangle":
        if count not in (2, 4):
            notes.leave_out(Code.WRONG_POINTS, index, f"{who} has {count} points, not two or four. Draw it again.")
        if count == 2 and (shape.points[0] > shape.points[1]).any():
            notes.mend(Code.REVERSED_RECTANGLE, index, f"{who} does not begin at its left upper corner.")
        return rectangle_outline(shape.points)
    if kind != "circle":
        notes.leave_out(Code.UNSUPPORTED_SHAPE, index, f"{shape.label!r} is a {kind}, which covers no area to learn.")
    if count != 2:
        notes.leave_out(Code.WRONG_POINTS, index, f"{who} has {count} points, not centre and edge. Draw it again.")
    radius = math.dist(*shape.points.tolist())
    if radius == 0:
        notes.leave_out(Code.ZERO_AREA, index, f"{who} has no radius. Draw it again.")
    if radius > _LARGEST_RADIUS:
        notes.leave_out(Code.NON_FINITE, index, f"{who} has a radius of {radius:.3g} pixels. Draw it again.")
    return circle_outline(shape.points)


def _region(one: _Drawn, width: int, height: int, tangled: bool, notes: _Notes) -> Region:
    """What a shape covers of a `width` x `height` image."""
    if one.outline is None:
        return _mask(one, width, height, notes)
    who = f"the {one.shape.shape_type} {one.label!r}"
    outlines = untangle_polygon(one.outline) if tangled else None
    if outlines is None:
        outlines = [one.outline]
    elif outlines:
        notes.mend(Code.SELF_CROSSING, one.index, f"{who} crosses itself.")
    else:
        message = f"{who} crosses itself and cannot be taken apart. Draw it again."
        notes.leave_out(Code.SELF_CROSSING, one.index, message)
    inside = [piece for outline in outlines for piece in clip_polygon(outline, width, height)]
    region = polygon_region(inside) if inside else None
    if region is None or region.area < SMALLEST_AREA:
        if sum(map(polygon_area, outlines)) < SMALLEST_AREA:
            notes.leave_out(Code.ZERO_AREA, one.index, f"{who} has no area: a point or a line. Draw it again.")
        _outside(one, width, height, notes)
    if list(map(id, inside)) != list(map(id, outlines)):
        _clipped(one, width, height, notes)
    return region


def _mask(one: _Drawn, width: int, height: int, notes: _Notes) -> Region:
    points, mask = one.shape.points, one.shape.mask
    if mask is None or len(points) != 2:
        message = f"the mask {one.label!r} has no picture or not two points. Draw it again."
        notes.leave_out(Code.BAD_MASK, one.index, message)
    if np.abs(points).max() > _FURTHEST_MASK:
        _outside(one, width, height, notes)
    try:
        region = mask_region(points, mask, width, height)
    except MaskError as error:
        notes.leave_out(Code.BAD_MASK, one.index, f"{one.label!r}: {error}")
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    partly = bool(left < 0 or top < 0 or right >= width or bottom >= height)
    if region.area == 0:
        if partly:
            _outside(one, width, height, notes)
        notes.leave_out(Code.ZERO_AREA, one.index, f"the mask {one.label!r} is empty. Draw it again.")
    if partly:
        _clipped(one, width, height, notes)
    return region


def _outside(one: _Drawn, width: int, height: int, notes: _Notes) -> NoReturn:
    message = f"the {one.shape.shape_type} {one.label!r} lies outside the image ({width} x {height}). Draw it again."
    notes.leave_out(Code.OUTSIDE, one.index, message)


def _clipped(one: _Drawn, width: int, height: int, notes: _Notes) -> None:
    notes.mend(Code.CLIPPED, one.index, f"{one.label!r} reaches out of the image ({width} x {height}).")


class _Parts:
    """The parts kept so far, which a further one may repeat."""

    def __init__(self, notes: _Notes):
        self.kept: list[Part] = []
        self._notes = notes
        self._at: dict[tuple[int, ...], list[Part]] = {}  # by the box in whole pixels

    def add(self, part: Part) -> None:
        """Keep a part, unless it repeats another and the policy leaves it out."""
        x, y, width, height = part.region.box
        cells = (round(x), round(y), round(width), round(height))
        off = max(abs(x - cells[0]), abs(y - cells[1]), abs(width - cells[2]), abs(height - cells[3]))
        near = self._at.get(cells, ()) if off < 0.5 - SAME_WITHIN else self._around(part.region.box)
        same = [other for other in near if same_region(part.region, other.region)]
        for other in same:
            if other.label == part.label:
                self._notes.mend(Code.DUPLICATE_SHAPE, part.index, f"{part.label!r} repeats shape {other.index}.")
                return
        for other in same[:1]:
            message = f"{part.label!r} has the outline of shape {other.index}, which is {other.label!r}."
            self._notes.mend(Code.CONFLICTING_LABELS, part.index, message)
        self.kept.append(part)
        self._at.setdefault(cells, []).append(part)

    def _around(self, box: tuple[float, ...]) -> list[Part]:
        """Parts in this box's cell and those that its rounding errors could reach."""
        choices = [{round(value - SAME_WITHIN), round(value + SAME_WITHIN)} for value in box]
        return sorted(
            (part for cells in product(*choices) for part in self._at.get(cells, ())), key=lambda part: part.index
        )
