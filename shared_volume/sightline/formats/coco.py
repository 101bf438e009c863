"""COCO JSON: polygons, run lengths or boxes; written as `annotations/instances_<part>.json` and `images/<part>/`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sightline.annotations.findings import Code
from sightline.annotations.instances import CROWD_FLAG
from sightline.annotations.labelme import Shape, load_json
from sightline.annotations.regions import rectangle_outline
from sightline.annotations.truth import LISTS, write_truth
from sightline.formats import reading
from sightline.formats.folder import Listing, parent_of, safe_name, under
from sightline.formats.reading import Ledger, Picture, Unusable, shown
from sightline.formats.writing import Losses, Part, copy_upright
from sightline.images.limits import MAX_PIXELS

_PLAIN: Final = (int, str, float)


def read_coco_folder(listing: Listing, ledger: Ledger) -> list[Picture]:
    """Every picture that a folder's COCO files annotate."""
    pictures: list[Picture] = []
    for file in listing.with_suffix(".json"):
        with ledger.noting(file, None):
            pictures += convert_coco(_parse(listing.read(file)), listing, file, ledger)
    return pictures


def convert_coco(content: Mapping[str, Any], listing: Listing, file: str, ledger: Ledger) -> list[Picture]:
    """The pictures of one COCO document (with the lists images, annotations and categories), each with labelme shapes."""
    labels = _labels(content["categories"])
    images = _images(content["images"], listing, file, ledger)
    shapes: dict[Any, list[Shape]] = {key: [] for key in images}
    groups = dict.fromkeys(images, 0)
    for index, entry in enumerate(content["annotations"]):
        annotation = entry if isinstance(entry, dict) else {}
        with ledger.noting(file, index, f"annotation {shown(annotation.get('id'))}"):
            if (key := _key(annotation, "image_id")) not in images:
                raise Unusable(Code.BROKEN_ANNOTATION, f"image_id {shown(key)} is not the id of any image.")
            if (picture := images[key]) is None:
                continue  # the image has a finding of its own
            if (category := _key(annotation, "category_id")) not in labels:
                raise Unusable(Code.BROKEN_ANNOTATION, f"category_id {shown(category)} is not the id of any category.")
            drawn = convert_annotation(annotation, labels[category], groups[key] + 1, picture.width, picture.height)
            groups[key] += len(drawn) > 1
            shapes[key] += drawn
            if annotation.get("keypoints"):
                raise Unusable(Code.NOT_IMPORTED, "its keypoints are not read, only what it covers.")
    return [replace(picture, shapes=tuple(shapes[key])) for key, picture in images.items() if picture is not None]


def convert_annotation(
    annotation: Mapping[str, Any], label: str, group_id: int, width: int | None, height: int | None
) -> list[Shape]:
    """The labelme shapes of one COCO annotation; Unusable when coordinates or run lengths make no sense.

    Several polygons become as many shapes of one group, called `group_id`; run lengths a mask; a box alone, and four
    vertices that make no more than their box, a rectangle; a crowd gets the flag `iscrowd`. `width` and `height` are the
    image's in pixels, None: not known.
    """
    extra = annotation.get("attributes")
    flags, description = reading.split_attributes(extra.items() if isinstance(extra, dict) else ())
    if annotation.get("iscrowd") in (1, True, "1"):
        flags[CROWD_FLAG] = True
    more: dict[str, Any] = {"flags": flags, "description": description}
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return [reading.mask_shape(_decode_rle(segmentation, width, height), 0, 0, label, **more)]
    outlines = [reading.to_points(part) for part in _parts(segmentation)]
    if not outlines:
        return [Shape(label, _box(annotation), "rectangle", **more)]
    if len(outlines) == 1 and len(outlines[0]) == 4:
        corners = outlines[0][[0, 2]]
        if (rectangle_outline(corners) == outlines[0]).all():  # what a rectangle's outline would be, in the same order
            return [Shape(label, corners, "rectangle", **more)]
    group = group_id if len(outlines) > 1 else None
    return [Shape(label, outline, "polygon", group_id=group, **more) for outline in outlines]


def _decode_rle(segmentation: Mapping[str, Any], width: int | None, height: int | None) -> np.ndarray:
    """(height, width) bool of COCO's run lengths, plain or compressed; none fit an image of unknown size."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise Unusable(Code.BAD_MASK, "the run lengths' size is not [height, width]. Export the mask again.")
    rows, columns = (reading.to_whole(side) for side in size)
    if (columns, rows) != (width, height):
        message = f"the run lengths are of {columns} x {rows} pixels, the image of {width} x {height}."
        raise Unusable(Code.BAD_MASK, message)
    if rows * columns > MAX_PIXELS:
        raise Unusable(Code.BAD_MASK, f"{columns} x {rows} pixels are more than an image may have.")
    if isinstance(counts, list):
        counts = [reading.to_whole(count) for count in counts]
    return reading.alternate(counts, rows * columns).reshape(columns, rows).T


def _parse(data: bytes) -> dict[str, Any]:
    try:
        content, _ = load_json(data)
    except ValueError as error:
        message = f"not JSON, or cut off ({error}). Export it again, or remove it."
        raise Unusable(Code.UNREADABLE_SOURCE, message) from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in LISTS):
        raise Unusable(Code.NOT_IMPORTED, "JSON, but not COCO's (images, annotations, categories): not read.")
    return content


def _labels(categories: list[Any]) -> dict[Any, str]:
    """Name by id; a category without either cannot be referred to."""
    known = [one for one in categories if isinstance(one, dict) and isinstance(one.get("name"), _PLAIN)]
    return {one["id"]: str(one["name"]) for one in known if isinstance(one.get("id"), _PLAIN)}


def _images(images: list[Any], listing: Listing, file: str, ledger: Ledger) -> dict[Any, Picture | None]:
    """Image by id; None where the file is missing or the entry damaged, which is noted."""
    near = parent_of(file)
    folders = [near, under(near, "images"), under(parent_of(near), "images")]
    found: dict[Any, Picture | None] = {}
    for entry in images:
        image = entry if isinstance(entry, dict) else {}
        key, name = image.get("id"), image.get("file_name")
        known = isinstance(key, _PLAIN)
        if known:
            found.setdefault(key, None)
        with ledger.noting(file, None):
            if not known or not isinstance(name, str):
                raise Unusable(Code.BROKEN_ANNOTATION, f"an image without id or file_name ({shown(key)}).")
            if found[key] is not None:
                raise Unusable(Code.BROKEN_ANNOTATION, f"two images have the id {shown(key)}; the first is used.")
            path = listing.find_image(name, file, folders)
            width, height = reading.to_size(image.get("width"), image.get("height"))
            if width is None and (header := reading.known_header(listing.root / path)):
                width, height = header.width, header.height
            found[key] = Picture(path, safe_name(name), width, height)
    return found


def _key(annotation: Mapping[str, Any], key: str) -> Any:
    value = annotation.get(key)
    if not isinstance(value, _PLAIN):
        raise Unusable(Code.BROKEN_ANNOTATION, f"the annotation has no {key}. Export it again.")
    return value


def _parts(segmentation: Any) -> list[Any]:
    """The polygons; a flat list is one."""
    if segmentation is None:
        return []
    if not isinstance(segmentation, list):
        raise Unusable(Code.BROKEN_ANNOTATION, "its segmentation is neither polygons nor run lengths.")
    if segmentation and not isinstance(segmentation[0], list):
        return [segmentation]
    return [part for part in segmentation if part != []]


def _box(annotation: Mapping[str, Any]) -> np.ndarray:
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise Unusable(Code.BROKEN_ANNOTATION, "it has neither a segmentation nor a bbox of four numbers.")
    x, y, width, height = (reading.to_number(value) for value in bbox)
    return np.array([[x, y], [x + width, y + height]])


def write_coco_folder(parts: Sequence[Part], target: Path, losses: Losses) -> None:
    """Write every part; COCO expresses all that a version holds."""
    (target / "annotations").mkdir()
    for part in parts:
        write_truth(target / "annotations" / f"instances_{part.name}.json", part.coco)
        for image in part.coco["images"]:
            copy_upright(part.images / image["file_name"], target / "images" / part.name / image["file_name"], losses)
