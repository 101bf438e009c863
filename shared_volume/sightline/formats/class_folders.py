"""Whole images sorted by what they show: `cats/1.jpg`. The class becomes a flag of the image's labelme document."""

import os
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path

from sightline.annotations.findings import Code
from sightline.formats.folder import SPLIT_FOLDERS, Listing
from sightline.formats.reading import Ledger, Picture
from sightline.images.files import ImageError, read_header

Folders = tuple[str, ...]
"""What an image lies in, outermost first, without `images`."""


def read_class_folders(listing: Listing, ledger: Ledger) -> list[Picture]:
    """An image per file with its class; an image in no class's folder is a finding."""
    for link in listing.links:
        ledger.add(Code.IMAGE_OUTSIDE, link, None, "it is a link that leads out of the folder. Put the files there.")
    pictures = []
    for image, name in find_classes(listing.images).items():
        if name:
            pictures.append(Picture(image, image, *_size(listing.root / image), (), {name: True}))
        else:
            ledger.add(Code.NO_CLASS, image, None, "it lies in no class's folder. Put it into one.")
    return pictures


def find_classes(images: Iterable[str]) -> dict[str, str]:
    """The class of each image by its path; empty where it lies in none.

    The class is the folder right below the root, or below the folder of a split: `cats/2021/1.jpg` and
    `train/cats/2021/1.jpg` are both of cats. Folders called `images` say nothing, nor does a root that all share
    (`photos/cats/1.jpg`, `photos/dogs/1.jpg`). Folders called like splits are splits where classes lie in one of them, and
    classes where images alone do.
    """
    folders = {image: tuple(one for one in image.split("/")[:-1] if one.lower() != "images") for image in images}
    shared = os.path.commonprefix([place for place in folders.values() if place])
    depth = len(list(takewhile(lambda one: not _is_split(one), shared)))
    below = _name({image: place[depth:] for image, place in folders.items()})
    return below if are_clear(below.values()) else _name(folders)


def are_clear(classes: Iterable[str]) -> bool:
    """Whether these are classes beyond doubt: several, not all called like splits, and most images are of one."""
    names = list(classes)
    known = [name for name in names if name]
    return len(set(known)) > 1 and not all(map(_is_split, known)) and 2 * len(known) > len(names)


def _name(folders: Mapping[str, Folders]) -> dict[str, str]:
    if _have_splits(folders.values()):
        return _name({image: place[1:] if place and _is_split(place[0]) else place for image, place in folders.items()})
    return {image: place[0] if place else "" for image, place in folders.items()}


def _have_splits(folders: Iterable[Folders]) -> bool:
    """Whether classes lie in folders called like splits, and not just what lies in the classes beside them too."""
    deep = [place for place in folders if len(place) > 1]
    in_splits = {place[1] for place in deep if _is_split(place[0])}
    return not in_splits <= {place[1] for place in deep if not _is_split(place[0])}


def _is_split(folder: str) -> bool:
    return folder.lower() in SPLIT_FOLDERS


def _size(path: Path) -> tuple[int | None, int | None]:
    """Width and height, upright; unknown of what cannot be read, which is told later."""
    try:
        header = read_header(path)
    except ImageError:
        return None, None
    return header.width, header.height
