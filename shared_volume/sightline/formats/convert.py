"""From another format's folder to a labelme folder: read, turn upright, write."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from sightline.annotations.findings import Code, Finding, Outcome, Policy, explain_findings
from sightline.annotations.labelme import Document, Shape, write_document
from sightline.errors import SightlineError, nearest
from sightline.formats.class_folders import read_class_folders
from sightline.formats.coco import read_coco_folder
from sightline.formats.cvat import read_cvat_folder
from sightline.formats.detect import CLASS_FOLDERS, LABELME, detect_form, recognized_form
from sightline.formats.folder import Listing, describe, list_folder, parent_of, short_name, stem_key
from sightline.formats.reading import Ledger, Picture, known_header, mask_pixels, mask_shape
from sightline.formats.splits import find_splits, read_darknet, split_of_folders, usable_splits
from sightline.formats.voc import read_voc_folder
from sightline.formats.yolo import read_yaml, read_yolo_folder
from sightline.images.files import ImageHeader, turn_upright
from sightline.processes.progress import track

AUTO: Final = "auto"
_READERS: Final[dict[str, Callable[[Listing, Ledger], list[Picture]]]] = {
    "coco": read_coco_folder,
    "voc": read_voc_folder,
    "yolo": read_yolo_folder,
    "cvat": read_cvat_folder,
    CLASS_FOLDERS: read_class_folders,
}
_OF_ALL: Final = ("coco", "cvat")  # one file annotates any number of images
# Of a file: nothing that was left out of it can be one of the images that are there.
_TELLS_NOTHING: Final = frozenset({Code.NOT_IMPORTED, Code.MISSING_IMAGE, Code.BAD_NAME})
_BESIDE: Final = (LABELME, "yolo", "voc")  # annotations lie beside their images
FORMS: Final = (AUTO, LABELME, *_READERS)

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
    made: Mapping[str, str] = field(default_factory=dict)  # file that was made in `folder` -> image of the given one
    splits: Mapping[str, str] = field(default_factory=dict)  # image in `folder` -> the source's own split


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
    told = form != AUTO
    if not told:
        form = detect_form(listing)
    ledger = Ledger(policy or Policy().publishing())
    for name, count in listing.hidden.items():
        message = f"its name begins with a dot, so what is in it is left out (images: {count}). Rename it."
        ledger.add(Code.BAD_NAME, name, None, message)
    # Of other formats the images there are told as missing, or as a class.
    for name, count in listing.linked.items() if form in _BESIDE else ():
        message = f"it is a link to a folder and is not followed (images: {count}). Put the folder itself there."
        ledger.add(Code.IMAGE_OUTSIDE, name, None, message)
    if form == LABELME:
        if told and (hint := _other_form(listing, form)):
            raise SightlineError(f"{folder}: no file is labelme's. {hint}")
        _require_documents(listing)
        splits = usable_splits({image: split for image in listing.images if (split := split_of_folders(image))})
        return Source(folder, form, tuple(ledger.findings), splits=splits)
    for name in listing.unusable:
        ledger.add(Code.BAD_NAME, name, None, "its name has a control character or bytes that are not text. Rename it.")
    try:
        read = _READERS[form](listing, ledger)
    except SightlineError as error:
        if told and (hint := _other_form(listing, form)):
            raise SightlineError(f"{error} {hint}") from None
        raise
    pictures = _without_lost(_merge_pictures(_without_strays(listing, read, ledger)), ledger)
    if not pictures:
        raise _nothing_read(listing, form, told, ledger.findings)
    _note_unsure(listing, form, pictures, ledger)
    made = _write(listing, pictures, scratch, ledger)
    yaml = [(file, read_yaml(listing, file)) for file in listing.with_suffix(".yaml", ".yml")]
    own = find_splits(listing, pictures, [*yaml, *read_darknet(listing)])
    splits = {name: own[image] for name, image in made.items() if image in own}
    return Source(scratch, form, tuple(ledger.findings), made, splits)


def _require_documents(listing: Listing) -> None:
    others = listing.with_suffix(".xml", ".txt", ".csv", ".yaml", ".yml", ".names")
    if others and not listing.with_suffix(".json"):
        raise SightlineError(
            f"{listing.root}: there is no JSON file, and no other file annotates an image in a format that Sightline reads. It holds "
            f"{describe(listing)}, like {others[0]}. docs/formats.md says how labelme, COCO, VOC, YOLO and CVAT lay out "
            "their files; images in a folder per class need --format folders."
        )


def _nothing_read(listing: Listing, form: str, told: bool, findings: Sequence[Finding]) -> SightlineError:
    """What to say of a folder of which no image can be published: what lies there, what is wrong with it, what to do."""
    kind = f"read as {form}" if told else f"recognized as {form}"
    lines = [f"{listing.root}: {kind}, and no image has an annotation that can be used. It holds {describe(listing)}."]
    if told and (hint := _other_form(listing, form)):
        lines.append(hint)
    elif findings:
        lines.append(explain_findings(findings))
    else:
        lines.append(
            "Put annotations and images where the format has them (docs/formats.md), or choose another --format."
        )
    return SightlineError("\n".join(lines))


def _other_form(listing: Listing, asked: str) -> str:
    """What to say to who asked for a format where the files are of another; nothing where they are not."""
    form = recognized_form(listing)
    return (
        f"Its files are recognized as {form}: say --format {form}, or leave --format out."
        if form not in ("", asked)
        else ""
    )


def _without_strays(listing: Listing, pictures: Sequence[Picture], ledger: Ledger) -> list[Picture]:
    """The pictures but those of a file that lies among other images, where a file that lies above the image has it too.

    Of a split whose own photograph is gone the name leads to another split's photograph.
    """
    among = {parent.as_posix() for image in listing.images for parent in PurePosixPath(image).parents[:-1]}
    own = {picture.file for picture in pictures if _lies_above(picture.source, picture.file)}
    kept = []
    for picture in pictures:
        folder = parent_of(picture.source)
        if picture.file in own and folder in among and not _lies_above(picture.source, picture.file):
            message = (
                f"{picture.file} is annotated in its own folder; {picture.name} is not in the folder of this file."
            )
            ledger.add(Code.IMAGE_TWICE, picture.source, None, message)
        else:
            kept.append(picture)
    return kept


def _lies_above(source: str, image: str) -> bool:
    """Whether an annotation file lies in a folder, not the whole source's, that holds the image."""
    folder = parent_of(source)
    return bool(folder) and image.startswith(f"{folder}/")


def _merge_pictures(pictures: Iterable[Picture]) -> list[Picture]:
    """One picture per image file: what several files of a source say about an image comes together."""
    merged: dict[str, Picture] = {}
    for picture in sorted(pictures, key=lambda picture: picture.file):
        first = merged.setdefault(picture.file, picture)
        if first is not picture:
            above = max([shape.group_id or 0 for shape in first.shapes], default=0)
            grouped = [(shape, shape.group_id) for shape in picture.shapes]
            shapes = [replace(shape, group_id=None if group is None else group + above) for shape, group in grouped]
            flags, lost = {**picture.flags, **first.flags}, first.lost + picture.lost
            split = first.split or picture.split
            merged[picture.file] = replace(first, shapes=(*first.shapes, *shapes), flags=flags, lost=lost, split=split)
    return list(merged.values())


def _without_lost(pictures: Sequence[Picture], ledger: Ledger) -> list[Picture]:
    """The pictures but those that were annotated and have nothing left, unless the policy takes them for backgrounds.

    Where no picture has a shape, flags are what is annotated.
    """
    flagged = not any(picture.shapes for picture in pictures)
    kept = []
    for picture in pictures:
        if picture.lost and not picture.shapes and not (flagged and picture.flags):
            what = "its annotation" if picture.lost == 1 else f"none of its {picture.lost} annotations"
            message = (
                f"{what} {'cannot' if picture.lost == 1 else 'can'} be used, so the image would pass for an empty one."
            )
            if not ledger.wants_fixed(Code.NOTHING_LEFT, picture.file, None, message):
                continue
        kept.append(picture)
    return kept


def _note_unsure(listing: Listing, form: str, pictures: Iterable[Picture], ledger: Ledger) -> None:
    """Tell of images that would be backgrounds, but may be annotated in what was left out of a file."""
    if ledger.policy.outcome(Code.NOT_ANNOTATED) is not Outcome.FIX:
        return  # they are left out as images that nothing annotates
    left_out = {
        found.file: listing.images if form in _OF_ALL else listing.by_stem.get(stem_key(found.file), ())
        for found in ledger.findings
        if found.outcome is Outcome.DROP and found.shape_index is None and found.code not in _TELLS_NOTHING
    }
    annotated = {picture.file for picture in pictures} | {found.file for found in ledger.findings}
    for file, images in left_out.items():
        for image in images:
            if image not in annotated:
                annotated.add(image)
                message = f"it may be annotated in what was left out of {file}, so it may be no empty image."
                ledger.wants_fixed(Code.NOTHING_LEFT, image, None, message)


def _write(listing: Listing, pictures: Sequence[Picture], scratch: Path, ledger: Ledger) -> dict[str, str]:
    """Images with their JSON, and the folder's other images without, for the policy to decide about."""
    listed = {picture.file: picture.name for picture in pictures}
    left_out = [found for found in ledger.findings if found.outcome is not Outcome.FIX]
    decided = {found.file for found in left_out if found.code in (Code.NO_CLASS, Code.NOTHING_LEFT)}
    wishes = {image: short_name(image) for image in listing.images if image not in decided} | listed
    names = _choose_names(wishes)
    documents: dict[str, str] = {}
    try:
        for image in track(wishes, "taking over the photographs"):
            _hard_link(listing.root / image, scratch / names[image])
        for picture in track(pictures, "converting"):
            name = PurePosixPath(names[picture.file])
            file = name.with_suffix(".json")
            if str(file) in documents:  # a.jpg and a.png
                file = name.with_name(f"{name.name}.json")
            documents[str(file)] = picture.file
            write_document(scratch / file, _document(picture, scratch / name, ledger))
    except OSError as error:
        raise SightlineError(
            f"{error.filename or scratch}: cannot be written ({error.strerror or error}). Make room, or shorten the name."
        ) from None
    return documents | {name: image for image, name in names.items()}


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


def _hard_link(source: Path, target: Path) -> None:
    """A second name for the image's bytes where the file system has such, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
