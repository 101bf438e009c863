"""Which format a folder's annotations have, told by what the files hold."""

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from sightline.annotations.encoding import as_utf8
from sightline.errors import SightlineError
from sightline.formats.class_folders import are_clear, find_classes, may_be_unknown_splits
from sightline.formats.folder import Listing, parent_of
from sightline.formats.reading import Ledger, Unusable, root_tag
from sightline.formats.yolo import find_names, find_texts

LABELME: Final = "labelme"
CLASS_FOLDERS: Final = "folders"
_LOOKED_AT: Final = 3  # XML files per folder; the others there are of the same kind
_ANNOTATING: Final = (".json", ".xml", ".txt", ".csv")
_FORMS_BY_TAG: Final = {"annotation": "voc", "annotations": "cvat"}
_LABELME_KEYS: Final = (re.compile(rb'"shapes"\s*:\s*\['), re.compile(rb'"imagePath"\s*:\s*"'))
_HALF: Final = re.compile(rb'"(annotations|shapes)"\s*:\s*\[')  # what is left of a format when the rest is damaged
_COCO_KEYS: Final = tuple([re.compile(rb'"%s"\s*:\s*\[' % key) for key in (b"images", b"annotations", b"categories")])


_LINE: Final = re.compile(rb"\s*\d+(\.0+)?([ \t]+-?[\d.]+(e-?\d+)?){4,}\s*(\n|$)", re.I)
_TOOLS: Final = (
    ("Label Studio", (b'"annotations"', b'"result"', b'"from_name"')),
    ("Label Studio", (b'labels"', b'"original_width"', b'"annotator"')),  # its JSON-MIN
    ("VIA", (b'"regions"', b'"shape_attributes"')),
)
"""Tools, and what their own JSON holds."""


def detect_form(listing: Listing) -> str:
    """The format of a folder; labelme where no file is of a known one, because its reader says what is missing.

    SightlineError at files of several formats, or of none though there is JSON, which labelme's reader would blame.
    """
    found = _find_forms(listing)
    if len(found) > 1:
        there = ", ".join(f"{form} ({file})" for form, file in sorted(found.items()))
        raise SightlineError(
            f"{listing.root}: annotations in {len(found)} formats: {there}. Say which one to read: --format "
            f"{' or '.join(sorted(found))}."
        )
    if found:
        return next(iter(found))
    _refuse_known(listing)
    return "yolo" if _has_yolo_lines(listing) else _by_folders(listing)


def recognized_form(listing: Listing) -> str:
    """The one format of which a folder's files are by their content; empty where there are several or none."""
    found = _find_forms(listing)
    return next(iter(found)) if len(found) == 1 else ""


def _find_forms(listing: Listing) -> dict[str, str]:
    """Each format that files are of, and such a file."""
    return dict([*_json_forms(listing), *_xml_forms(listing), *_yolo_forms(listing)])


def _refuse_known(listing: Listing) -> None:
    """Answer the exports of tools whose own formats are not read."""
    for file in listing.with_suffix(".json"):
        with suppress(Unusable):
            content = as_utf8(listing.read(file))
            for tool, keys in _TOOLS:
                if all(key in content for key in keys):
                    raise SightlineError(
                        f"{listing.root / file}: this is {tool}'s own JSON, which is not read. Export from {tool} as COCO, "
                        "and publish that folder with its images."
                    )


def _by_folders(listing: Listing) -> str:
    """Class folders where the images lie in such beyond doubt and no file may annotate one of them."""
    annotating = _may_annotate(listing)
    classes = find_classes(listing.pictures).values()
    if are_clear(classes) and not annotating:
        if may_be_unknown_splits(listing.pictures):
            raise SightlineError(
                f"{listing.root}: the same folders lie in each of {', '.join(sorted(set(classes)))}. If those are the classes, "
                "say --format folders; if they are splits, call them train, val and test."
            )
        return CLASS_FOLDERS
    if listing.foreign and not listing.pictures:
        message = f"{listing.foreign[0]} and pictures of its kind are not read. Save them as JPEG or PNG."
        raise SightlineError(f"{listing.root}: {message}")
    documents = listing.with_suffix(".json")
    if any(classes) and documents and annotating.isdisjoint(documents):
        raise SightlineError(
            f"{listing.root}: no file annotates an image in a known format. If the images are sorted into a folder per "
            "class, say --format folders; else say --format with what the files are."
        )
    return LABELME


def _may_annotate(listing: Listing) -> set[str]:
    """Files of no known format that are named like an image, or have half of what a format needs."""
    stems = {image.rpartition(".")[0] for image in [*listing.images, *find_texts(listing).values()]}
    found = {file for file in listing.with_suffix(*_ANNOTATING) if file.rpartition(".")[0] in stems}
    for file in listing.with_suffix(".json"):
        with suppress(Unusable):
            if file not in found and _HALF.search(as_utf8(listing.read(file))):
                found.add(file)
    return found


def _json_forms(listing: Listing) -> Iterable[tuple[str, str]]:
    """labelme and COCO. Of the files that stand beside an image of their name (labelme's way) one is enough."""
    stems = {image.rpartition(".")[0] for image in listing.images}
    files = [(file.rpartition(".")[0] in stems, file) for file in listing.with_suffix(".json")]
    for beside, file in sorted(files):
        with suppress(Unusable):
            content = as_utf8(listing.read(file))
            if all(key.search(content) for key in _LABELME_KEYS):
                yield LABELME, file
                if beside:
                    return
            elif all(key.search(content) for key in _COCO_KEYS):
                yield "coco", file


def _xml_forms(listing: Listing) -> Iterable[tuple[str, str]]:
    seen: Counter[str] = Counter()
    for file in listing.with_suffix(".xml"):
        seen[parent_of(file)] += 1
        form = _FORMS_BY_TAG.get(root_tag(listing.root / file)) if seen[parent_of(file)] <= _LOOKED_AT else None
        if form:
            yield form, file


def _yolo_forms(listing: Listing) -> Iterable[tuple[str, str]]:
    if find_texts(listing) and (file := find_names(listing, Ledger.silent())[0]):
        yield "yolo", file


def _has_yolo_lines(listing: Listing) -> bool:
    """Whether a text file of an image holds lines of numbers, as YOLO's do, though no file names the classes."""
    for text in list(find_texts(listing).values())[:_LOOKED_AT]:
        with suppress(Unusable):
            if _LINE.match(listing.read(text)):
                return True
    return False
