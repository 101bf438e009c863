"""From another format's folder to a labelme folder: read, turn upright, write."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from sightline.annotations.findings import Code, Finding, Policy, list_findings
from sightline.annotations.labelme import Document, Shape, write_document
from sightline.errors import SightlineError, nearest
from sightline.formats.class_folders import read_class_folders
from sightline.formats.coco import read_coco_folder
from sightline.formats.cvat import read_cvat_folder
from sightline.formats.detect import CLASS_FOLDERS, LABELME, detect_form
from sightline.formats.folder import SPLIT_FOLDERS, Listing, list_folder
from sightline.formats.reading import Ledger, Picture, known_header, mask_pixels, mask_shape
from sightline.formats.voc import read_voc_folder
from sightline.formats.yolo import read_yolo_folder
from sightline.images.files import ImageHeader, turn_upright

AUTO: Final = "auto"
_READERS: Final[dict[str, Callable[[Listing, Ledger], list[Picture]]]] = {
    "coco": read_coco_folder,
    "voc": read_voc_folder,
    "yolo": read_yolo_folder,
    "cvat": read_cvat_folder,
    CLASS_FOLDERS: read_class_folders,
}
FORMS: Final = (AUTO, LABELME, *_READERS)
_SAYS_NOTHING: Final = SPLIT_FOLDERS | {"images"}  # of folders, about an image

# x and y on the image as stored (width, height) -> x and y on the upright one. Only quarter turns can be told by the size.
_TURNS: Final[dict[int, Callable[[np.ndarray, np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]]] = {
    5: lambda x, y, width, height: (y, x),
    6: lambda x, y, width, height: (height - y, x),
    7: lambda x, y, width, height: (height - y, width - x),
    8: lambda x, y, width, height: (y, width - x),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A labelme folder to publish."""

    folder: Path  # the given one when it is labelme's already
    form: str
    findings: tuple[Finding, ...]  # what could not be taken over, and why; the caller stops at those that `fail`


def as_labelme(folder: Path, form: str, scratch: Path, policy: Policy | None = None) -> Source:
    """Turn a folder of any known format into a labelme folder; the given folder stays as it is.

    Nothing outside `folder` is read, whatever names its files hold. `form` is one of FORMS; auto tells by the files. The
    labelme files are written to `scratch`, a new or empty folder, unless the folder is labelme's already. Without `policy`
    the defaults of publishing decide about findings. SightlineError when there is no such folder or format, when there are
    several formats, or nothing that can be read.
    """
    if form not in FORMS:
        raise SightlineError(f"there is no format {form!r} to read.{nearest(form, FORMS)}")
    listing = list_folder(folder)
    if form == AUTO:
        form = detect_form(listing)
    ledger = Ledger(policy or Policy().publishing())
    for name, count in listing.hidden.items():
        message = f"its name begins with a dot, so what is in it is left out (images: {count}). Rename it."
        ledger.add(Code.BAD_NAME, name, None, message)
    if form == LABELME:
        return Source(folder, form, tuple(ledger.findings))
    for name in listing.unusable:
        ledger.add(Code.BAD_NAME, name, None, "its name has a control character or bytes that are not text. Rename it.")
    pictures = _merge_pictures(_READERS[form](listing, ledger))
    if not pictures:
        found = f" What was found:\n{list_findings(ledger.findings)}" if ledger.findings else ""
        raise SightlineError(
            f"{folder}: no image with annotations in the format {form} was found. Choose another --format, or correct "
            f"the files.{found}"
        )
    _write(listing, pictures, scratch, ledger)
    return Source(scratch, form, tuple(ledger.findings))


def _merge_pictures(pictures: Iterable[Picture]) -> list[Picture]:
    """One picture per image file: what several files of a source say about an image comes together."""
    merged: dict[str, Picture] = {}
    for picture in sorted(pictures, key=lambda picture: picture.file):
        first = merged.setdefault(picture.file, picture)
        if first is not picture:
            above = max([shape.group_id or 0 for shape in first.shapes], default=0)
            grouped = [(shape, shape.group_id) for shape in picture.shapes]
            shapes = [replace(shape, group_id=None if group is None else group + above) for shape, group in grouped]
            flags = {**picture.flags, **first.flags}
            merged[picture.file] = replace(first, shapes=(*first.shapes, *shapes), flags=flags)
    return list(merged.values())


def _write(listing: Listing, pictures: Sequence[Picture], scratch: Path, ledger: Ledger) -> None:
    """Images with their JSON, and the folder's other images without, for the policy to decide about."""
    listed = {picture.file: picture.name for picture in pictures}
    decided = {found.file for found in ledger.findings if found.code is Code.NO_CLASS}
    wishes = {image: _short_name(image) for image in listing.images if image not in decided} | listed
    names = _choose_names(wishes)
    documents: set[str] = set()
    try:
        for image in wishes:
            _hard_link(listing.root / image, scratch / names[image])
        for picture in pictures:
            name = PurePosixPath(names[picture.file])
            file = name.with_suffix(".json")
            if str(file) in documents:  # a.jpg and a.png
                file = name.with_name(f"{name.name}.json")
            documents.add(str(file))
            write_document(scratch / file, _document(picture, scratch / name, ledger))
    except OSError as error:
        raise SightlineError(
            f"{error.filename or scratch}: cannot be written ({error.strerror or error}). Make room, or shorten the name."
        ) from None


def _document(picture: Picture, image: Path, ledger: Ledger) -> Document:
    """The picture's document, with shapes on the upright image also where they were drawn on the image as stored.

    Tools differ: some show an image as stored, some turned by EXIF. The size that the source writes down tells which,
    where the orientation is a quarter turn and the image is not square.
    """
    header = known_header(image)
    quarter = header is not None and header.orientation in _TURNS and header.width != header.height
    if header and quarter and (picture.width, picture.height) == (header.height, header.width):
        message = (
            f"it was annotated as stored, {picture.width} x {picture.height}; its shapes were turned by the EXIF "
            f"orientation {header.orientation} with it."
        )
        ledger.add(Code.TURNED_SHAPES, picture.file, None, message)
        shapes = tuple([_turn_shape(shape, header) for shape in picture.shapes])
        picture = replace(picture, width=header.width, height=header.height, shapes=shapes)
    return Document(image.name, picture.height, picture.width, picture.shapes, picture.flags)


def _turn_shape(shape: Shape, header: ImageHeader) -> Shape:
    """A shape drawn on the image as stored."""
    # A mask's points are pixels, whose centres lie half a pixel further.
    half = 0.5 if shape.shape_type == "mask" else 0.0
    stored = header.height, header.width  # width and height, before the turn
    x, y = _TURNS[header.orientation](shape.points[:, 0] + half, shape.points[:, 1] + half, *stored)
    points = np.column_stack([x, y]) - half
    if shape.shape_type == "rectangle" and len(points) == 2:
        points = np.array([points.min(axis=0), points.max(axis=0)])
    if shape.shape_type != "mask" or shape.mask is None:
        return replace(shape, points=points)
    pixels = turn_upright(mask_pixels(shape.mask), header.orientation)
    left, top = (int(value) for value in points.min(axis=0))
    turned = mask_shape(pixels, left, top, shape.label)
    return replace(shape, points=turned.points, mask=turned.mask)


def _choose_names(wishes: dict[str, str]) -> dict[str, str]:
    """A name for every image: the one wished for, or its whole path where two want the same."""
    wanted = Counter(wish.lower() for wish in wishes.values())
    clashing = {image for image, wish in wishes.items() if wanted[wish.lower()] > 1}
    # A whole path may be what another image wishes for: then that one keeps its whole path too.
    paths = {image.lower() for image in clashing}
    while more := {image for image, wish in wishes.items() if wish.lower() in paths} - clashing:
        clashing |= more
        paths |= {image.lower() for image in more}
    return {image: image if image in clashing else wish for image, wish in wishes.items()}


def _short_name(image: str) -> str:
    *folders, name = image.split("/")
    return "/".join([*[folder for folder in folders if folder.lower() not in _SAYS_NOTHING], name])


def _hard_link(source: Path, target: Path) -> None:
    """A second name for the image's bytes where the file system has such, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
