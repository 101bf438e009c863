"""Pascal VOC: an XML file per image, boxes in whole pixels counted from 1, both ends inside the box."""

from pathlib import PurePosixPath
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np

from sightline.annotations.findings import Code
from sightline.annotations.labelme import Shape
from sightline.formats.folder import PAINTED, Listing, parent_of, safe_name, under
from sightline.formats.reading import Ledger, Picture, Unusable, split_attributes, to_number, to_size
from sightline.formats.xml import parse_xml, text_of

FLAGS: Final = ("difficult", "truncated", "occluded")
_IMAGES: Final = "JPEGImages"
_UNKNOWN: Final = ("part", "polygon", "robndbox", "mask")  # of an object; only its box is read


def read_voc_folder(listing: Listing, ledger: Ledger) -> list[Picture]:
    """Every picture that a folder's XML files annotate."""
    pictures = []
    for file in listing.with_suffix(".xml"):
        with ledger.noting(file, None):
            root = parse_xml(listing, file)
            if root.tag != "annotation":
                raise Unusable(Code.NOT_IMPORTED, f"XML, but not Pascal VOC's (<{root.tag[:40]}>): not read.")
            image = _find_image(root, listing, file)
            width, height = to_size(text_of(root, "size/width"), text_of(root, "size/height"))
            pictures.append(Picture(image, PurePosixPath(image).name, width, height, _shapes(root, file, ledger)))
    if painted := sorted({part for file in listing.files for part in PAINTED.intersection(file.split("/")[:-1])}):
        ledger.add(Code.NOT_IMPORTED, " and ".join(painted), None, "the painted pictures are not read, only the boxes.")
    return pictures


def _find_image(root: Element, listing: Listing, file: str) -> str:
    """The image by the name that the XML says, else by the XML's own name. <path> is another machine's: never used."""
    near, stem = parent_of(file), PurePosixPath(file).stem
    folders = [under(parent_of(near), _IMAGES), near, under(parent_of(near), "images"), under(near, _IMAGES)]
    name = text_of(root, "filename") or stem
    safe_name(name)
    try:
        return listing.find_image(name, file, folders)
    except Unusable:
        same = [image for image in listing.images if PurePosixPath(image).stem == stem and parent_of(image) in folders]
        if len(same) != 1:
            raise
        return same[0]


def _shapes(root: Element, file: str, ledger: Ledger) -> tuple[Shape, ...]:
    shapes = []
    for index, drawn in enumerate(root.iter("object")):
        with ledger.noting(file, index, f"object {index + 1}"):
            box = drawn.find("bndbox")
            if box is None:
                raise Unusable(Code.BROKEN_ANNOTATION, "it has no bndbox. Draw it again.")
            ends = {side: to_number(text_of(box, side)) for side in ("xmin", "ymin", "xmax", "ymax")}
            columns, rows = _edges(ends["xmin"], ends["xmax"]), _edges(ends["ymin"], ends["ymax"])
            flags = {name: text_of(drawn, name) == "1" for name in FLAGS if drawn.find(name) is not None}
            pose = text_of(drawn, "pose")
            _, description = split_attributes([("pose", pose if pose != "Unspecified" else "")])
            points = np.array([columns, rows]).T
            shapes.append(Shape(text_of(drawn, "name"), points, "rectangle", flags=flags, description=description))
            if unknown := [tag for tag in _UNKNOWN if drawn.find(tag) is not None]:
                raise Unusable(Code.NOT_IMPORTED, f"its {' and '.join(unknown)} is not read, only its box.")
    return tuple(shapes)


def _edges(first: float, last: float) -> tuple[float, float]:
    """Where a box begins and ends in pixels from 0, of its first and last pixel counted from 1; reversed ones stay so."""
    low, high = min(first, last), max(first, last)
    begin = low - 1 if low != 0 else 0.0  # who writes a 0 counts from 0: that box begins at the border, not outside
    return (begin, high) if first <= last else (high, begin)
