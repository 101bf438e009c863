"""CVAT's own XML, "CVAT for images 1.1"."""

import math
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from sightline.annotations.findings import Code
from sightline.annotations.labelme import Shape
from sightline.annotations.regions import ellipse_outline
from sightline.formats import reading
from sightline.formats.folder import Listing, parent_of, under
from sightline.formats.lookup import called, find_image
from sightline.formats.reading import Ledger, Picture, Unusable
from sightline.formats.splits import split_called
from sightline.images.limits import MAX_PIXELS
from sightline.processes.progress import track


def read_cvat_folder(listing: Listing, ledger: Ledger) -> list[Picture]:
    """Every picture that a folder's CVAT files annotate."""
    pictures: list[Picture] = []
    for file in listing.with_suffix(".xml"):
        with ledger.noting(file, None):
            root = reading.parse_xml(listing.read(file), listing.root / file, "annotations", "CVAT", file, ledger)
            if root.find("track") is not None:
                message = "tracks of a video: export it as 'CVAT for images 1.1' instead."
                ledger.add(Code.NOT_IMPORTED, file, None, message)
            index, taken = 0, set[str]()
            for image in track(root.findall(".//image"), "reading CVAT"):
                with ledger.noting(file, None):
                    picture = _picture(image, listing, file, index, ledger)
                    if picture.file in taken:
                        message = f"{picture.file} is listed twice, the second time as {picture.name}: keep one."
                        raise Unusable(Code.IMAGE_TWICE, message)
                    taken.add(picture.file)
                    pictures.append(picture)
                index += len(image)
    return pictures


def _picture(image: Element, listing: Listing, file: str, first: int, ledger: Ledger) -> Picture:
    """One image; `first` is the number of its first annotation within the file."""
    name = image.get("name", "")
    near = parent_of(file)
    folders = [near, under(near, "images")]
    if subset := image.get("subset"):
        folders = [under(near, f"images/{subset}"), *folders]
    path = find_image(listing, name, file, folders, ledger)
    width, height = reading.to_size(image.get("width", ""), image.get("height", ""))
    shapes: list[Shape] = []
    flags: dict[str, bool] = {}
    lost = 0
    for index, drawn in enumerate(image, start=first):
        before = len(shapes)
        with ledger.noting(file, index, f"{name}, {drawn.tag[:40]} {drawn.get('label', '')!r}"):
            if drawn.tag == "tag":
                flags[drawn.get("label", "")] = True
            else:
                shapes += _shapes(drawn)
        lost += drawn.tag != "tag" and len(shapes) == before
    return Picture(
        path, called(path, name), width, height, tuple(shapes), flags, split_called(subset or ""), file, lost
    )


def _shapes(drawn: Element) -> list[Shape]:
    """The labelme shapes of one element: several for `points`."""
    label = drawn.get("label", "")
    attributes = [(item.get("name", ""), (item.text or "").strip()) for item in drawn.findall("attribute")]
    flags, description = reading.split_attributes(attributes)
    if drawn.get("occluded") == "1":
        flags["occluded"] = True
    more: dict[str, Any] = {
        "group_id": reading.to_whole(drawn.get("group_id", "0")) or None,  # CVAT's 0 is no group
        "flags": flags,
        "description": description,
    }
    if convert := {"box": _box, "ellipse": _ellipse, "mask": _mask}.get(drawn.tag):
        return [convert(drawn, label, more)]
    if drawn.tag not in ("polygon", "polyline", "points"):
        raise Unusable(Code.NOT_IMPORTED, "labelme has no such shape; it is left out.")
    points = reading.to_points([number for pair in drawn.get("points", "").split(";") for number in pair.split(",")])
    if drawn.tag == "points":
        return [Shape(label, points[[index]], "point", **more) for index in range(len(points))]
    return [Shape(label, points, "polygon" if drawn.tag == "polygon" else "linestrip", **more)]


def _box(drawn: Element, label: str, more: Mapping[str, Any]) -> Shape:
    left, top, right, bottom = (reading.to_number(drawn.get(side, "")) for side in ("xtl", "ytl", "xbr", "ybr"))
    turned = reading.to_number(drawn.get("rotation", "0"))
    if turned % 360 == 0:
        return Shape(label, np.array([[left, top], [right, bottom]]), "rectangle", **more)
    # In the order of the source also where its corners are reversed: the same folder gives the same files in every release.
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return Shape(label, _turn(corners, turned), "polygon", **more)


def _ellipse(drawn: Element, label: str, more: Mapping[str, Any]) -> Shape:
    x, y, across, down = (reading.to_number(drawn.get(name, "")) for name in ("cx", "cy", "rx", "ry"))
    if across < 0 or down < 0:
        raise Unusable(Code.BROKEN_ANNOTATION, "an ellipse's radius is negative. Draw it again.")
    if across == down:
        return Shape(label, np.array([[x, y], [x + across, y]]), "circle", **more)
    outline = _turn(ellipse_outline(x, y, across, down), reading.to_number(drawn.get("rotation", "0")))
    return Shape(label, outline, "polygon", **more)


def _turn(points: np.ndarray, degrees: float) -> np.ndarray:
    """Turn (N, 2) points clockwise, as seen, about their box's middle; rounded, for sines differ between machines."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    x, y = (points - middle).T
    return np.round(np.column_stack([x * cosine - y * sine, x * sine + y * cosine]) + middle, 3)


def _mask(drawn: Element, label: str, more: Mapping[str, Any]) -> Shape:
    """CVAT's run lengths go row by row through the mask's own box."""
    left, top, width, height = (reading.to_whole(drawn.get(side, "")) for side in ("left", "top", "width", "height"))
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise Unusable(Code.BAD_MASK, f"a mask of {width} x {height} pixels. Draw it again.")
    counts = [reading.to_whole(count) for count in drawn.get("rle", "").split(",")]
    pixels = reading.alternate(counts, width * height).reshape(height, width)
    return reading.mask_shape(pixels, left, top, label, **more)
