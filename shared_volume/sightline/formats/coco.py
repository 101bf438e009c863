"""COCO JSON: polygons, run lengths or boxes; written as `annotations/instances_<part>.json` and `images/<part>/`."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from sightline.annotations.encoding import told_encoding
from sightline.annotations.findings import Code
from sightline.annotations.instances import CROWD_FLAG
from sightline.annotations.labelme import Shape, load_json
from sightline.annotations.regions import SMALLEST_AREA, polygon_area, rectangle_outline
from sightline.annotations.truth import LISTS, write_truth
from sightline.formats import reading
from sightline.formats.folder import Listing, parent_of, under
from sightline.formats.lookup import called, find_image
from sightline.formats.reading import Ledger, Picture, Unusable, shown
from sightline.formats.splits import split_of_file
from sightline.formats.writing import Losses, Part, copy_upright
from sightline.images.limits import MAX_PIXELS
from sightline.processes.progress import track

_PLAIN: Final = (int, str, float)
_BEYOND_64_BITS: Final = re.compile(rb'id"\s*:\s*\d{20}')


def read_coco_folder(listing: Listing, ledger: Ledger) -> list[Picture]:
    """Every picture that a folder's COCO files annotate."""
    pictures: list[Picture] = []
    for file in listing.with_suffix(".json"):
        with ledger.noting(file, None):
            found = convert_coco(_parse(listing, file, ledger), listing, file, ledger)
            pictures += _without_crowds(found, file, ledger)
    return pictures


def convert_coco(content: Mapping[str, Any], listing: Listing, file: str, ledger: Ledger) -> list[Picture]:
    """The pictures of one COCO document (with the lists images, annotations and categories), each with labelme shapes."""
    labels = _labels(content["categories"])
    images = _images(content["images"], listing, file, ledger)
    written = dict(images)
    shapes: dict[str, list[Shape]] = {key: [] for key in images}
    groups, lost, aliases = dict.fromkeys(images, 0), Counter[str](), cache(partial(_aliases, images))
    unclear = False
    for index, entry in enumerate(track(content["annotations"], "reading COCO", unit="annotation")):
        annotation = entry if isinstance(entry, dict) else {}
        key = _image_key(annotation.get("image_id"), images, aliases)
        unclear |= not key
        picture, before = images.get(key), len(shapes.get(key, ()))
        where = f"annotation {shown(annotation.get('id'))}{f' of {picture.name}' if picture else ''}"
        with ledger.noting(file, index, where):
            if not key:
                raise Unusable(
                    Code.BROKEN_ANNOTATION, f"image_id {shown(annotation.get('image_id'))} is no image's id."
                )
            if picture is None:
                continue  # the image has a finding of its own
            if (category := _id(annotation.get("category_id"))) not in labels:
                shown_id = shown(annotation.get("category_id"))
                raise Unusable(Code.BROKEN_ANNOTATION, f"category_id {shown_id} is not the id of any category.")
            if (label := labels[category]) is None:
                raise Unusable(Code.BROKEN_ANNOTATION, f"several categories have the id {category}. Give each its own.")
            picture = images[key] = _sized_by_runs(picture, annotation.get("segmentation"), listing)
            drawn, useless = outline_or_box(annotation, label, groups[key] + 1, picture.width, picture.height)
            if useless and not ledger.wants_fixed(
                Code.BOX_USED, file, index, f"{where}: {useless} It has no mask then."
            ):
                continue
            groups[key] += len(drawn) > 1
            shapes[key] += drawn
            if annotation.get("keypoints"):
                raise Unusable(Code.NOT_IMPORTED, "its keypoints are not read, only what it covers.")
        if picture is not None:
            lost[key] += len(shapes[key]) == before
    if unclear:  # whose they are nobody knows: an image without any may be theirs
        lost.update(key for key in images if not shapes[key] and not lost[key])
    split = split_of_file(file)
    read = [
        replace(picture, shapes=tuple(shapes[key]), lost=lost[key], split=split)
        for key, picture in images.items()
        if picture is not None
    ]
    sizes = {picture.file: (picture.width, picture.height) for picture in written.values() if picture}
    return [picture for picture in read if _is_of_one_size(picture, sizes[picture.file], file, ledger)]


def _is_of_one_size(picture: Picture, written: tuple[int | None, int | None], file: str, ledger: Ledger) -> bool:
    """Whether a picture can be used: not where only its run lengths tell that they are of another size than is written."""
    if written == (picture.width, picture.height) or all(shape.shape_type == "mask" for shape in picture.shapes):
        return True
    message = (
        f"{picture.name}: its run lengths are of {picture.width} x {picture.height} pixels, the photograph's size, and width and "
        f"height say {written[0]} x {written[1]}; of which of the two its outlines and boxes are cannot be known."
    )
    return ledger.wants_fixed(Code.WRONG_SIZE, file, None, message)


def _without_crowds(pictures: list[Picture], file: str, ledger: Ledger) -> list[Picture]:
    """The pictures; where every annotation is a crowd, and the policy says so, with objects instead."""
    shapes = [shape for picture in pictures for shape in picture.shapes]
    if not shapes or not all(shape.flags.get(CROWD_FLAG) for shape in shapes):
        return pictures
    message = (
        f"every annotation is a crowd (iscrowd 1; {len(shapes)} in all), which training and scores ignore. Some tools mark every "
        "painted mask so, and mean objects."
    )
    if not ledger.wants_fixed(Code.ALL_CROWD, file, None, message):
        return pictures
    return [replace(picture, shapes=tuple(map(_as_object, picture.shapes))) for picture in pictures]


def _as_object(shape: Shape) -> Shape:
    return replace(shape, flags={name: on for name, on in shape.flags.items() if name != CROWD_FLAG})


def _sized_by_runs(picture: Picture, segmentation: Any, listing: Listing) -> Picture:
    """The picture; of the photograph's own size where run lengths fit that, and not the size that is written down."""
    size = segmentation.get("size") if isinstance(segmentation, dict) else None
    if not isinstance(size, list) or len(size) != 2 or size == [picture.height, picture.width]:
        return picture
    header = reading.known_header(listing.root / picture.file)
    if header is None or size != [header.height, header.width]:
        return picture
    return replace(picture, width=header.width, height=header.height)


def outline_or_box(
    annotation: Mapping[str, Any], label: str, group_id: int, width: int | None, height: int | None
) -> tuple[list[Shape], str]:
    """As `convert_annotation`; where its outline is of no use, its box, and why.

    Raises:
        Unusable: neither can be used.
    """
    try:
        drawn = convert_annotation(annotation, label, group_id, width, height)
        if any(shape.shape_type != "polygon" or _has_area(shape.points) for shape in drawn):
            return drawn, ""
        useless = "its segmentation encloses no area; its bbox is used."
    except Unusable as unusable:
        useless = f"{unusable} Its bbox is used."
        if annotation.get("bbox") is None:
            raise
        drawn = []
    try:
        return convert_annotation({**annotation, "segmentation": None}, label, group_id, width, height), useless
    except Unusable:
        if not drawn:
            raise
        return drawn, ""


def _has_area(points: np.ndarray) -> bool:
    return len(points) > 2 and polygon_area(points) >= SMALLEST_AREA


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


def _parse(listing: Listing, file: str, ledger: Ledger) -> dict[str, Any]:
    data = listing.read(file)
    try:
        content, _, encoding = load_json(data, listing.root / file)
    except ValueError as error:
        message = f"not JSON, or cut off ({error}). Export it again, or remove it."
        raise Unusable(Code.UNREADABLE_SOURCE, message) from None
    if _BEYOND_64_BITS.search(data):
        with suppress(ValueError, RecursionError):
            content = json.loads(data)  # orjson makes floats of them, and one of several
    if encoding and not ledger.wants_fixed(Code.OTHER_ENCODING, file, None, told_encoding(encoding, _words(content))):
        raise Unusable(Code.UNREADABLE_SOURCE, "it is not UTF-8. Save it as UTF-8.")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in LISTS):
        raise Unusable(Code.NOT_IMPORTED, "JSON, but not COCO's (images, annotations, categories): not read.")
    return content


def _words(content: Any) -> list[str]:
    """What the categories are called, for a reader to judge an encoding by."""
    categories = content.get("categories") if isinstance(content, dict) else None
    entries = categories if isinstance(categories, list) else []
    return [str(entry.get("name")) for entry in entries if isinstance(entry, dict)]


def _labels(categories: list[Any]) -> dict[str, str | None]:
    """Name by id, None where an id has several; a category without either cannot be referred to."""
    known = [one for one in categories if isinstance(one, dict) and isinstance(one.get("name"), _PLAIN)]
    labels: dict[str, str | None] = {}
    for one in known:
        if key := _id(one.get("id")):
            name = str(one["name"])
            labels[key] = name if labels.get(key, name) == name else None
    return labels


def _images(images: list[Any], listing: Listing, file: str, ledger: Ledger) -> dict[str, Picture | None]:
    """Image by id; None where the file is missing or what is said of it contradicts itself, which is noted."""
    near = parent_of(file)
    folders = [near, under(near, "images"), under(parent_of(near), "images")]
    found: dict[str, Picture | None] = {}
    named: dict[str, str] = {}
    files: dict[str, str] = {}
    for entry in images:
        image = entry if isinstance(entry, dict) else {}
        key, name = _id(image.get("id")), image.get("file_name")
        with ledger.noting(file, None):
            if not key or not isinstance(name, str):
                raise Unusable(Code.BROKEN_ANNOTATION, f"an image without id or file_name ({shown(image.get('id'))}).")
            if named.setdefault(key, name) != name:
                found[key] = None
                raise Unusable(
                    Code.IMAGE_TWICE,
                    f"{named[key]} and {name} have the same id {key}, so nothing says which of them an annotation is of. "
                    "Neither is used: give each image an id of its own.",
                )
            if key in found:
                continue  # the same entry once more
            found[key] = None
            path = find_image(listing, name, file, folders, ledger)
            if files.setdefault(path, key) != key:
                raise Unusable(
                    Code.IMAGE_TWICE,
                    f"{path} is listed twice, as {files[path]} and as {key}. What is annotated on {key} is not used: keep one.",
                )
            width, height = reading.to_size(image.get("width"), image.get("height"))
            if width is None and (header := reading.known_header(listing.root / path)):
                width, height = header.width, header.height
            found[key] = Picture(path, called(path, name), width, height, source=file)
    return found


def _aliases(images: Mapping[str, Picture | None]) -> dict[str, str]:
    """What else an image may be referred to by, where that says which one: its file's name, its stem, its number written otherwise."""
    pairs = [(alias, key) for key, one in images.items() for alias in {*_numbers(key), *(_names(one) if one else ())}]
    counts = Counter(alias for alias, _ in pairs)
    return {alias: key for alias, key in pairs if counts[alias] == 1}


def _names(picture: Picture) -> tuple[str, ...]:
    path = PurePosixPath(picture.name)
    return picture.name, path.name, path.stem


def _numbers(key: str) -> tuple[str, ...]:
    """A number's plainest form: `1` of `001` and of `1.0`."""
    try:
        return (str(int(key)),)
    except ValueError:
        return (key[:-2],) if key.endswith(".0") and key[:-2].isdigit() else ()


def _image_key(value: Any, images: Mapping[str, Picture | None], look_up: Callable[[], Mapping[str, str]]) -> str:
    """The id of the image that an annotation names; empty for none. Other forms of the ids are looked up where it is none of them."""
    key = _id(value)
    if key in images:
        return key
    aliases = look_up()
    return aliases.get(key) or next((aliases[number] for number in _numbers(key) if number in aliases), "")


def _id(value: Any) -> str:
    """An id as a text: 1, 1.0 and "1" are one; empty where there is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if isinstance(value, bool) or not isinstance(value, _PLAIN) else str(value).strip()


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
    if isinstance(bbox, dict):
        bbox = [bbox.get("x"), bbox.get("y"), bbox.get("width", bbox.get("w")), bbox.get("height", bbox.get("h"))]
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise Unusable(Code.BROKEN_ANNOTATION, "it has neither a segmentation nor a bbox of four numbers.")
    x, y, width, height = (reading.to_number(value) for value in bbox)
    return np.array([[x, y], [x + width, y + height]])


def write_coco_folder(parts: Sequence[Part], target: Path, losses: Losses) -> None:
    """Write every part; COCO expresses all that a version holds."""
    (target / "annotations").mkdir()
    for part in parts:
        write_truth(target / "annotations" / f"instances_{part.name}.json", part.coco)
        for image in track(part.coco["images"], f"writing {part.name}"):
            copy_upright(part.images / image["file_name"], target / "images" / part.name / image["file_name"], losses)
