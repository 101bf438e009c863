"""Pascal VOC: `Annotations/`, `JPEGImages/`, `ImageSets/Main/`; boxes only."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final
from xml.etree import ElementTree

from sightline.formats.content import FlatNames, Losses, Part, copy_upright
from sightline.formats.outlines import is_box

# What XML 1.0 has no way to write.
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_voc_folder(parts: Sequence[Part], target: Path, losses: Losses) -> None:
    """Write every part; the image sets say which image belongs to which."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (target / folder).mkdir(parents=True)
    names = FlatNames(losses)
    for part in parts:
        labels = {category["id"]: _text(category["name"], losses) for category in part.coco["categories"]}
        stems = []
        for image, annotations in part.annotated():
            name = names.choose(image["file_name"])
            stems.append(PurePosixPath(name).stem)
            copy_upright(part.images / image["file_name"], target / "JPEGImages" / name, losses)
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
    _add(root, folder="JPEGImages", filename=_text(name, losses))
    _add(ElementTree.SubElement(root, "size"), width=image["width"], height=image["height"], depth=3)
    _add(root, segmented=0)
    for annotation in annotations:
        drawn = ElementTree.SubElement(root, "object")
        _add(drawn, name=labels[annotation["category_id"]], pose="Unspecified", truncated=0)
        _add(drawn, difficult=annotation["iscrowd"])
        box = _whole_pixels(annotation["bbox"], image["width"], image["height"])
        _add(ElementTree.SubElement(drawn, "bndbox"), **dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)))
        x, y, width, height = annotation["bbox"]
        exact = (box[0] - 1, box[1] - 1, box[2], box[3]) == (x, y, x + width, y + height)
        losses.add("boxes rounded to whole pixels", int(not exact))
        losses.add("crowds marked difficult, which evaluations leave out as well", annotation["iscrowd"])
        losses.add("outlines and masks reduced to boxes", int(not is_box(annotation)))
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
    losses.add("names with characters that XML does not have, each replaced by \ufffd", int(clean != text))
    return clean
