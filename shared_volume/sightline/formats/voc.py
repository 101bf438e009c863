"""Pascal VOC: an XML file per image in `Annotations/`, boxes in whole pixels counted from 1, both ends inside the box."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from sightline.annotations.findings import Code
from sightline.annotations.labelme import Shape
from sightline.formats.folder import PAINTED, Listing, parent_of, safe_name, under
from sightline.formats.reading import Ledger, Picture, Unusable, parse_xml, split_attributes, to_number, to_size
from sightline.formats.writing import Losses, Part, choose_flat_name, copy_upright, is_box

FLAGS: Final = ("difficult", "truncated", "occluded")
_IMAGES: Final = "JPEGImages"
_UNKNOWN: Final = ("part", "polygon", "robndbox", "mask")  # of an object; only its box is read
# What XML 1.0 has no way to write.
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_voc_folder(listing: Listing, ledger: Ledger) -> list[Picture]:
    """Every picture that a folder's XML files annotate."""
    pictures = []
    for file in listing.with_suffix(".xml"):
        with ledger.noting(file, None):
            root = parse_xml(listing.read(file), "annotation", "Pascal VOC")
            image = _find_image(root, listing, file)
            width, height = to_size(_text_of(root, "size/width"), _text_of(root, "size/height"))
            pictures.append(Picture(image, PurePosixPath(image).name, width, height, _shapes(root, file, ledger)))
    if painted := sorted({part for file in listing.files for part in PAINTED.intersection(file.split("/")[:-1])}):
        ledger.add(Code.NOT_IMPORTED, " and ".join(painted), None, "the painted pictures are not read, only the boxes.")
    return pictures


def _find_image(root: Element, listing: Listing, file: str) -> str:
    """The image by the name that the XML says, else by the XML's own name. <path> is another machine's: never used."""
    near, stem = parent_of(file), PurePosixPath(file).stem
    folders = [under(parent_of(near), _IMAGES), near, under(parent_of(near), "images"), under(near, _IMAGES)]
    name = _text_of(root, "filename") or stem
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
            if (box := drawn.find("bndbox")) is None:
                raise Unusable(Code.BROKEN_ANNOTATION, "it has no bndbox. Draw it again.")
            ends = {side: to_number(_text_of(box, side)) for side in ("xmin", "ymin", "xmax", "ymax")}
            columns, rows = _edges(ends["xmin"], ends["xmax"]), _edges(ends["ymin"], ends["ymax"])
            flags = {name: _text_of(drawn, name) == "1" for name in FLAGS if drawn.find(name) is not None}
            pose = _text_of(drawn, "pose")
            _, description = split_attributes([("pose", pose if pose != "Unspecified" else "")])
            points = np.array([columns, rows]).T
            shapes.append(Shape(_text_of(drawn, "name"), points, "rectangle", flags=flags, description=description))
            if unknown := [tag for tag in _UNKNOWN if drawn.find(tag) is not None]:
                raise Unusable(Code.NOT_IMPORTED, f"its {' and '.join(unknown)} is not read, only its box.")
    return tuple(shapes)


def _text_of(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _edges(first: float, last: float) -> tuple[float, float]:
    """Where a box begins and ends in pixels from 0, of its first and last pixel counted from 1; reversed ones stay so."""
    low, high = min(first, last), max(first, last)
    begin = low - 1 if low != 0 else 0.0  # who writes a 0 counts from 0: that box begins at the border, not outside
    return (begin, high) if first <= last else (high, begin)


def write_voc_folder(parts: Sequence[Part], target: Path, losses: Losses) -> None:
    """Write every part; the image sets say which image belongs to which."""
    for folder in ("Annotations", _IMAGES, "ImageSets/Main"):
        (target / folder).mkdir(parents=True)
    taken: set[str] = set()
    for part in parts:
        labels = {category["id"]: _text(category["name"], losses) for category in part.coco["categories"]}
        stems = []
        for image, annotations in part.annotated():
            name = choose_flat_name(image["file_name"], taken, losses)
            stems.append(PurePosixPath(name).stem)
            copy_upright(part.images / image["file_name"], target / _IMAGES / name, losses)
            tree = _document(name, image, annotations, labels, losses)
            tree.write(target / "Annotations" / f"{stems[-1]}.xml", encoding="utf-8", xml_declaration=True)
        text = "".join([f"{stem}\n" for stem in stems])
        (target / "ImageSets" / "Main" / f"{part.name}.txt").write_text(text, encoding="utf-8")


def _document(
    name: str,
    image: Mapping[str, Any],
    annotations: Sequence[dict[str, Any]],
    labels: Mapping[int, str],
    losses: Losses,
) -> ElementTree.ElementTree:
    root = ElementTree.Element("annotation")
    _add(root, folder=_IMAGES, filename=_text(name, losses))
    _add(ElementTree.SubElement(root, "size"), width=image["width"], height=image["height"], depth=3)
    _add(root, segmented=0)
    for annotation in annotations:
        drawn = ElementTree.SubElement(root, "object")
        label, crowd = labels[annotation["category_id"]], annotation["iscrowd"]
        _add(drawn, name=label, pose="Unspecified", truncated=0, difficult=crowd)
        box = _whole_pixels(annotation["bbox"], image["width"], image["height"])
        _add(ElementTree.SubElement(drawn, "bndbox"), **dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)))
        x, y, width, height = annotation["bbox"]
        exact = (box[0] - 1, box[1] - 1, box[2], box[3]) == (x, y, x + width, y + height)
        losses["boxes rounded to whole pixels"] += not exact
        losses["crowds marked difficult, which evaluations leave out as well"] += crowd
        losses["outlines and masks reduced to boxes"] += not is_box(annotation)
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


def _whole_pixels(bbox: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """First and last pixel, counted from 1, of a box in x, y, width, height; at least one pixel of the image."""
    x, y, across, down = bbox
    left, top = min(round(x), width - 1), min(round(y), height - 1)
    return left + 1, top + 1, max(left + 1, min(round(x + across), width)), max(top + 1, min(round(y + down), height))


def _add(element: ElementTree.Element, **children: object) -> None:
    for tag, value in children.items():
        ElementTree.SubElement(element, tag).text = str(value)


def _text(text: str, losses: Losses) -> str:
    clean = _NOT_XML.sub("\ufffd", text)
    losses["names with characters that XML does not have, each replaced by \ufffd"] += clean != text
    return clean
