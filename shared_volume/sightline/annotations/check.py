"""Stage 2: look at every shape of a document; keep, fix or drop it, and say so."""

import math
import os
import re
import sys
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal, NoReturn

import numpy as np

from sightline.annotations import regions
from sightline.annotations.findings import Code, Finding, LeftOut, Notes, Outcome, Policy
from sightline.annotations.labelme import Document, Shape
from sightline.annotations.read import Annotated
from sightline.annotations.recipe import Recipe
from sightline.annotations.regions import SAME_WITHIN, SMALLEST_AREA, MaskError, Region

# Dropping these is what the user asked for; an image that has nothing else is a background, not a mistake.
_ASKED_FOR: Final = frozenset({Code.LABEL_NOT_VALID})
AnnotatedBy = Literal["shapes", "flags"]
"""Objects are shapes with an area; or the document's flags say what the whole image is."""

WHOLE_IMAGE: Final = -1
_LARGEST_RADIUS: Final = 1e5  # pixels
_FURTHEST_MASK: Final = 1e6  # pixels; beyond, its array would not fit into memory
# How many points a shape may have, and how that is said.
_COUNTS: Final = {
    "polygon": (range(3, sys.maxsize), "three or more"),
    "rectangle": ((2, 4), "two or four"),
    "circle": ((2,), "centre and edge"),
    "oriented_rectangle": ((4,), "four"),
    "rotation": ((4,), "four"),
    "quadrilateral": ((4,), "four"),
}
_SYNONYMS: Final = dict.fromkeys(("box", "bbox", "rect", "square"), "rectangle")
# What covers no area, by the names that labelme and its relatives give it.
_LINES: Final = frozenset({"point", "points", "line", "linestrip", "polyline", "keypoint", "keypoints"})
_SHORTEST: Final = 4  # letters; one letter of fewer makes another word


@dataclass(frozen=True, slots=True)
class Part:
    """A shape that is used: the whole of an instance, or with others of its label and group a part of one."""

    label: str  # after the recipe's label map
    group_id: int | None
    region: Region
    index: int  # which shape of the document it is; WHOLE_IMAGE for none of them
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
    kind: str
    label: str
    outline: np.ndarray | None


def check_document(
    annotated: Annotated, recipe: Recipe, annotated_by: AnnotatedBy = "shapes"
) -> tuple[Checked | None, list[Finding]]:
    """Check one document: the image with what is usable on it (None when it must stay out), and what was found."""
    header = annotated.header
    notes = Notes(Policy.of(recipe.policy), annotated.file, list(annotated.findings))
    try:
        by_flags = annotated_by == "flags"
        parts = [_whole_image(annotated, recipe, notes)] if by_flags else _usable_parts(annotated, recipe, notes)
    except LeftOut:
        return None, notes.findings
    return Checked(annotated.image, header.width, header.height, tuple(parts)), notes.findings


def _usable_parts(annotated: Annotated, recipe: Recipe, notes: Notes) -> list[Part]:
    header = annotated.header
    drawn = _usable_shapes(annotated.document, recipe, notes)
    outlines = {one.index: one.outline for one in drawn if one.outline is not None and one.kind != "circle"}
    tangled = dict(zip(outlines, regions.find_tangled([*outlines.values()]), strict=True))
    parts: list[Part] = []
    by_box: dict[tuple[int, ...], list[Part]] = {}  # in whole pixels
    for one in drawn:
        notes.index = one.index
        with suppress(LeftOut):
            region = _region(one, header.width, header.height, tangled.get(one.index, False), notes)
            part = Part(one.label, one.shape.group_id, region, one.index, one.shape.flags)
            if not _repeats(part, by_box, notes):
                parts.append(part)
                by_box.setdefault(tuple(map(round, region.box)), []).append(part)
    if any(part.group_id is not None for part in parts):
        _note_groups(parts, {one.index for one in drawn if one.kind == "rectangle"}, notes)
    notes.index = None
    lost = [found for found in notes.findings if found.outcome != Outcome.FIX and found.code not in _ASKED_FOR]
    if lost and not parts:
        message = "none of its shapes can be used, so the image would pass for an empty one. Annotate it again."
        notes.mend(Code.NOTHING_LEFT, message)
    return parts


def _note_groups(parts: Iterable[Part], boxes: Container[int], notes: Notes) -> None:
    """Tell of boxes of one group that do not touch: they are one object, which whoever groups a row of things may not mean."""
    groups: dict[tuple[str, int], list[Part]] = defaultdict(list)
    for part in parts:
        if part.group_id is not None:
            groups[part.label, part.group_id].append(part)
    for (label, group), members in groups.items():
        if len(members) > 1 and all(part.index in boxes for part in members):
            gap = max(min(_gap(one, other) for other in members if other is not one) for one in members)
            if gap > 0:
                notes.index = members[0].index
                message = f"{len(members)} boxes {label!r} of the group {group} lie up to {gap:.0f} px apart. Give each no group if they are objects."
                notes.mend(Code.GROUP_APART, message)


def _gap(one: Part, other: Part) -> float:
    """How far two boxes are from each other, in pixels; 0 where they touch."""
    (x, y, width, height), (left, top, across, down) = one.region.box, other.region.box
    return math.hypot(max(left - x - width, x - left - across, 0), max(top - y - height, y - top - down, 0))


def _whole_image(annotated: Annotated, recipe: Recipe, notes: Notes) -> Part:
    """The image as one part that covers it all, of the class that is ticked."""
    told = tell_class(annotated.document, recipe)
    if not isinstance(told, str):
        notes.leave_out(*told)
    corners = np.array([[0.0, 0.0], [annotated.header.width, annotated.header.height]])
    return Part(told, None, regions.polygon_region([regions.rectangle_outline(corners)]), WHOLE_IMAGE, {})


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


def _usable_shapes(document: Document, recipe: Recipe, notes: Notes) -> list[_Drawn]:
    drawn = []
    for index, shape in enumerate(document.shapes):
        notes.index = index
        with suppress(LeftOut):
            if shape.damage:
                code = Code.MALFORMED_SHAPE if shape.damage.finite else Code.NON_FINITE
                notes.leave_out(code, f"the shape cannot be used: {shape.damage.reason}. Draw it again.")
            kind = shape.shape_type.lower()
            kind = _SYNONYMS.get(kind, kind)
            drawn.append(_Drawn(index, shape, kind, _label(shape, recipe, notes), _outline(shape, kind, notes)))
    return drawn


def covers_area(shape: Shape) -> bool:
    """Whether a shape is of a type that encloses something; a point or a line is none."""
    return shape.shape_type.lower() not in _LINES


def _label(shape: Shape, recipe: Recipe, notes: Notes) -> str:
    label = recipe.rename(shape.label)
    if not label:
        notes.leave_out(Code.EMPTY_LABEL, f"the {shape.shape_type} has no label. Give it one.")
    if recipe.wants(label):
        return label
    meant = None if label in (recipe.classes or ()) else resembling_label(label, recipe.chosen_labels())
    if meant is None:
        notes.leave_out(Code.LABEL_NOT_VALID, f"{label!r} is not among the recipe's labels.")
    notes.mend(Code.LABEL_TYPO, f"{label!r} is not among the recipe's labels. Did the annotator mean {meant!r}?")
    return meant


def resembling_label(label: str, known: Iterable[str]) -> str | None:
    """The one known label that a misspelt one probably means; None when there is none, or several.

    Labels resemble each other when they differ in case, blanks, hyphens or underscores only, or in one letter: another,
    missing, added, or two swapped. Digits tell labels apart.
    """
    found = [other for other in known if other != label and _resemble(label, other)]
    return found[0] if len(found) == 1 else None


def _resemble(one: str, other: str) -> bool:
    if len({re.sub(r"[\s_-]+", "", label.casefold()) for label in (one, other)}) == 1:
        return True
    if min(len(one), len(other)) < _SHORTEST or re.findall(r"\d", one) != re.findall(r"\d", other):
        return False
    one, other = one.casefold(), other.casefold()
    start = len(os.path.commonprefix([one, other]))
    rest, others = one[start:], other[start:]
    swapped = rest[:2] == others[:2][::-1] and rest[2:] == others[2:]
    return swapped or rest[1:] in (others, others[1:]) or rest == others[1:]


def _outline(shape: Shape, kind: str, notes: Notes) -> np.ndarray | None:
    """(N, 2) vertices, at least three; None for a mask."""
    points, who = shape.points, f"the {shape.shape_type} {shape.label!r}"
    if kind == "mask":
        return None
    if kind in _LINES:
        notes.leave_out(Code.UNSUPPORTED_SHAPE, f"{who} covers no area to learn from.")
    if kind not in _COUNTS:
        return _unknown(shape, kind, notes)
    counts, wanted = _COUNTS[kind]
    if len(points) not in counts:
        notes.leave_out(Code.WRONG_POINTS, f"{who} has {len(points)} points, not {wanted}. Draw it again.")
    if kind not in ("rectangle", "circle"):
        return points
    if kind == "rectangle":
        if len(points) == 2 and (points[0] > points[1]).any():
            notes.mend(Code.REVERSED_RECTANGLE, f"{who} does not begin at its left upper corner.")
        return regions.rectangle_outline(points)
    radius = math.dist(*points.tolist())
    if radius == 0:
        notes.leave_out(Code.ZERO_AREA, f"{who} has no radius. Draw it again.")
    if radius > _LARGEST_RADIUS:
        notes.leave_out(Code.NON_FINITE, f"{who} has a radius of {radius:.3g} pixels. Draw it again.")
    return regions.circle_outline(points)


def _unknown(shape: Shape, kind: str, notes: Notes) -> np.ndarray:
    """(N, 2) vertices of a type that we do not know: three points or more enclose an area, whatever it is called."""
    who = f"{shape.label!r} is of the type {shape.shape_type!r}, which is not known"
    if len(shape.points) == 2 and kind == "ellipse":
        notes.mend(Code.UNKNOWN_SHAPE, f"{who}; its two points are taken for the corners of its box.")
        (x, y), (across, down) = shape.points.mean(axis=0), np.abs(shape.points[1] - shape.points[0]) / 2
        return regions.ellipse_outline(x, y, across, down)
    if len(shape.points) < 3:
        notes.leave_out(Code.UNSUPPORTED_SHAPE, f"{who}, and its {len(shape.points)} points enclose no area.")
    notes.mend(Code.UNKNOWN_SHAPE, f"{who}; its {len(shape.points)} points enclose an area.")
    return shape.points


def _region(one: _Drawn, width: int, height: int, tangled: bool, notes: Notes) -> Region:
    """What a shape covers of a `width` x `height` image."""
    if one.outline is None:
        return _mask(one, width, height, notes)
    who = f"the {one.shape.shape_type} {one.label!r}"
    outlines = [one.outline]
    if tangled and (apart := regions.untangle_polygon(one.outline)) is not None:
        if not apart:
            notes.leave_out(Code.SELF_CROSSING, f"{who} crosses itself and cannot be taken apart. Draw it again.")
        notes.mend(Code.SELF_CROSSING, f"{who} crosses itself.")
        outlines = apart
    inside = [piece for outline in outlines for piece in regions.clip_polygon(outline, width, height)]
    region = regions.polygon_region(inside) if inside else None
    if region is None or region.area < SMALLEST_AREA:
        if sum(map(regions.polygon_area, outlines)) < SMALLEST_AREA:
            notes.leave_out(Code.ZERO_AREA, f"{who} has no area: a point or a line. Draw it again.")
        _outside(one, width, height, notes)
    if list(map(id, inside)) != list(map(id, outlines)):
        _clipped(one, width, height, notes)
    return region


def _mask(one: _Drawn, width: int, height: int, notes: Notes) -> Region:
    points, mask = one.shape.points, one.shape.mask
    if mask is None or len(points) != 2:
        notes.leave_out(Code.BAD_MASK, f"the mask {one.label!r} has no picture or not two points. Draw it again.")
    if np.abs(points).max() > _FURTHEST_MASK:
        _outside(one, width, height, notes)
    try:
        region = regions.mask_region(points, mask, width, height)
    except MaskError as error:
        notes.leave_out(Code.BAD_MASK, f"{one.label!r}: {error}")
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    partly = bool(left < 0 or top < 0 or right >= width or bottom >= height)
    if region.area == 0:
        if partly:
            _outside(one, width, height, notes)
        notes.leave_out(Code.ZERO_AREA, f"the mask {one.label!r} is empty. Draw it again.")
    if partly:
        _clipped(one, width, height, notes)
    return region


def _outside(one: _Drawn, width: int, height: int, notes: Notes) -> NoReturn:
    message = f"the {one.shape.shape_type} {one.label!r} lies outside the image ({width} x {height}). Draw it again."
    notes.leave_out(Code.OUTSIDE, message)


def _clipped(one: _Drawn, width: int, height: int, notes: Notes) -> None:
    notes.mend(Code.CLIPPED, f"{one.label!r} reaches out of the image ({width} x {height}).")


def _repeats(part: Part, by_box: Mapping[tuple[int, ...], list[Part]], notes: Notes) -> bool:
    """Whether a part is left out because it repeats an earlier one of the same label; one of another label is noted."""
    # The box's cell, and those that its rounding errors could reach.
    cells = product(*({round(value - SAME_WITHIN), round(value + SAME_WITHIN)} for value in part.region.box))
    near = sorted((other for cell in cells for other in by_box.get(cell, ())), key=lambda other: other.index)
    same = [other for other in near if regions.same_region(part.region, other.region)]
    repeated = [other for other in same if other.label == part.label]
    if repeated:
        notes.mend(Code.DUPLICATE_SHAPE, f"{part.label!r} repeats shape {repeated[0].index}.")
    elif same:
        message = f"{part.label!r} has the outline of shape {same[0].index}, which is {same[0].label!r}."
        notes.mend(Code.CONFLICTING_LABELS, message)
    return bool(repeated)
