"""Pascal VOC: an XML file per image in `Annotations/`, boxes in whole pixels counted from 1, both ends inside the box."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from sightline.annotations.findings import Code, Outcome, Policy
from sightline.annotations.labelme import Shape
from sightline.formats.folder import PAINTED, Listing, parent_of, stem_key, under
from sightline.formats.lookup import find_image
from sightline.formats.reading import Ledger, Picture, Unusable, parse_xml, split_attributes, to_number, to_size
from sightline.formats.writing import Losses, Part, choose_flat_name, copy_upright, is_box
from sightline.processes.progress import track

FLAGS: Final = ("difficult", "truncated", "occluded")
NOTHING_ELSE: Final = Policy({Code.FOUND_ELSEWHERE: Outcome.DROP})
_IMAGES: Final = "JPEGImages"
_UNKNOWN: Final = ("part", "polygon", "robndbox", "mask")  # of an object; only its box is read
# What XML 1.0 has no way to write.
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_voc_folder(listing: Listing, ledger: Ledger) -> list[Picture]:
    """Every picture that a folder's XML files annotate, each by one of them."""
    chosen: dict[str, tuple[str, Picture]] = {}
    for file in track(listing.with_suffix(".xml"), "reading VOC", unit="file"):
        with ledger.noting(file, None):
            root = parse_xml(listing.read(file), listing.root / file, "annotation", "Pascal VOC", file, ledger)
            image = _find_image(root, listing, file, ledger)
            other, _ = chosen.get(image, ("", None))
            if other and not (_is_own(image, file) and not _is_own(image, other)):
                raise _twice(image, other)
            width, height = to_size(
                _text_of(root, "size/width") or _text_of(root, "imagesize/ncols"),
                _text_of(root, "size/height") or _text_of(root, "imagesize/nrows"),
            )
            shapes, lost = _shapes(root, file, ledger)
            chosen[image] = file, Picture(image, PurePosixPath(image).name, width, height, shapes, lost=lost)
            if other:
                with ledger.noting(other, None):
                    raise _twice(image, file)
    if painted := sorted({part for file in listing.files for part in PAINTED.intersection(file.split("/")[:-1])}):
        ledger.add(Code.NOT_IMPORTED, " and ".join(painted), None, "the painted pictures are not read, only the boxes.")
    return [picture for _, picture in chosen.values()]


def _twice(image: str, file: str) -> Unusable:
    return Unusable(
        Code.IMAGE_TWICE, f"{image} is already annotated in {file}. Keep one of the two, or correct <filename>."
    )


def _is_own(image: str, file: str) -> bool:
    return stem_key(image) == stem_key(file)


def _find_image(root: Element, listing: Listing, file: str, ledger: Ledger) -> str:
    """The image of the XML's own name, else that of the name that it says. <path> is another machine's: never used."""
    near, name = parent_of(file), _text_of(root, "filename")
    folders = [under(parent_of(near), _IMAGES), near, under(parent_of(near), "images"), under(near, _IMAGES)]
    own = [image for image in listing.by_stem.get(stem_key(file), ()) if parent_of(image) in folders]
    if len(own) == 1:
        if name and (other := _named(listing, name, file, folders)) and other != own[0]:
            message = f"it says {name!r}, which is another photograph; {own[0]} has the name of the XML."
            if not ledger.wants_fixed(Code.NAMED_OTHERWISE, file, None, message):
                raise Unusable(Code.MISSING_IMAGE, "so nothing says which photograph it is of. Correct <filename>.")
        return own[0]
    return find_image(listing, name or PurePosixPath(file).stem, file, folders, ledger)


def _named(listing: Listing, name: str, file: str, folders: Sequence[str]) -> str:
    """The image that is called so, if one is."""
    with suppress(Unusable):
        return find_image(listing, name, file, folders, Ledger(NOTHING_ELSE))
    return ""


def _shapes(root: Element, file: str, ledger: Ledger) -> tuple[tuple[Shape, ...], int]:
    """The shapes, and how many objects gave none."""
    shapes: list[Shape] = []
    lost = 0
    objects = [element for element in root.iter() if isinstance(element.tag, str) and element.tag.lower() == "object"]
    for index, drawn in enumerate(objects):
        if _text_of(drawn, "deleted") == "1":
            continue
        before = len(shapes)
        with ledger.noting(file, index, f"object {index + 1}"):
            flags = {name: _text_of(drawn, name) == "1" for name in FLAGS if drawn.find(name) is not None}
            pose = _text_of(drawn, "pose")
            _, description = split_attributes([("pose", pose if pose != "Unspecified" else "")])
            points, kind = _points(drawn)
            shapes.append(Shape(_text_of(drawn, "name"), points, kind, flags=flags, description=description))
            if len(drawn.findall("bndbox")) > 1:
                raise Unusable(Code.NOT_IMPORTED, "only the first of its boxes is read.")
            unknown = [tag for tag in _UNKNOWN if drawn.find(tag) is not None]
            if unknown and kind == "rectangle":
                raise Unusable(Code.NOT_IMPORTED, f"its {' and '.join(unknown)} is not read, only its box.")
        lost += len(shapes) == before
    return tuple(shapes), lost


def _points(drawn: Element) -> tuple[np.ndarray, str]:
    """An object's points and what they are: VOC's box, or the outline that the old LabelMe of MIT writes instead."""
    box = drawn.find("bndbox")
    if box is not None:
        ends = {side: to_number(_text_of(box, side)) for side in ("xmin", "ymin", "xmax", "ymax")}
        columns, rows = _edges(ends["xmin"], ends["xmax"]), _edges(ends["ymin"], ends["ymax"])
        return np.array([columns, rows]).T, "rectangle"
    outline = drawn.findall("polygon/pt")
    if not outline:
        raise Unusable(Code.BROKEN_ANNOTATION, "it has no bndbox. Draw it again.")
    return np.array([[to_number(_text_of(point, axis)) for axis in ("x", "y")] for point in outline]), "polygon"


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
