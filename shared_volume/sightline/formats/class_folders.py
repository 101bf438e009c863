"""Whole images sorted by what they show: `cats/1.jpg`. The class becomes a flag of the image's labelme document."""

import os
from collections.abc import Iterable, Mapping
from itertools import takewhile

from sightline.annotations.findings import Code
from sightline.formats.folder import SPLIT_FOLDERS, Listing
from sightline.formats.reading import Ledger, Picture, known_header

SPLITS = SPLIT_FOLDERS | {"training", "testing", "dev", "eval", "evaluation", "holdout"}
Folders = tuple[str, ...]
"""What an image lies in, outermost first, without `images`."""


def read_class_folders(listing: Listing, ledger: Ledger) -> list[Picture]:
    """An image per file with its class; an image in no class's folder is a finding."""
    for link in listing.links:
        ledger.add(Code.IMAGE_OUTSIDE, link, None, "it is a link, which is not followed. Put the files there.")
    for file in listing.foreign:
        ledger.add(Code.UNREADABLE_IMAGE, file, None, "pictures of this kind are not read. Save it as JPEG or PNG.")
    pictures = []
    for image, name in find_classes(listing.pictures).items():
        if name:
            header = known_header(listing.root / image)
            width, height = (header.width, header.height) if header else (None, None)
            pictures.append(Picture(image, image, width, height, (), {name: True}))
        else:
            ledger.add(Code.NO_CLASS, image, None, "it is not in a class's folder. Move it into one.")
    return pictures


def find_classes(images: Iterable[str]) -> dict[str, str]:
    """The class of each image by its path; empty where it lies in none.

    The class is the folder right below the root, or below the folder of a split: `cats/2021/1.jpg` and
    `train/cats/2021/1.jpg` are both of cats. Folders called `images` say nothing, nor does a root that all share
    (`photos/cats/1.jpg`, `photos/dogs/1.jpg`). Folders called like splits are splits where classes lie in one of them, and
    classes where images alone do; where the same folders lie in a split and in all beside it, all are splits.
    """
    folders = {image: tuple(one for one in image.split("/")[:-1] if one.lower() != "images") for image in images}
    shared = os.path.commonprefix([parts for parts in folders.values() if parts])
    if len(set(filter(None, folders.values()))) == 1:
        shared = shared[:-1]  # all lie in one folder, which is the class
    depth = len(list(takewhile(lambda one: not _is_split(one), shared)))
    below = _name({image: parts[depth:] for image, parts in folders.items()})
    every_one_named = "" not in below.values() and not all(map(_is_split, below.values()))
    return below if every_one_named or are_clear(below.values()) else _name(folders)


def may_be_unknown_splits(images: Iterable[str]) -> bool:
    """Whether the same folders lie in each of several, as classes do in splits of any name: `north/cats`, `south/cats`."""
    found = find_classes(images)
    inner: dict[str, set[str]] = {}
    for image, name in found.items():
        if name:
            parts = image.split("/")[:-1]
            inner.setdefault(name, set()).update(parts[parts.index(name) + 1 :][:1])
    return _repeat(inner) and not all(map(_is_split, next(iter(inner.values()))))


def are_clear(classes: Iterable[str]) -> bool:
    """Whether these are classes beyond doubt: several, not all called like splits, and most images are of one."""
    names = list(classes)
    known = [name for name in names if name]
    return len(set(known)) > 1 and not all(map(_is_split, known)) and 2 * len(known) > len(names)


def _name(folders: Mapping[str, Folders]) -> dict[str, str]:
    inner: dict[str, set[str]] = {}
    for parts in filter(None, folders.values()):
        inner.setdefault(parts[0], set()).update(parts[1:2])
    if _repeat(inner) and any(map(_is_split, inner)):
        return _name({image: parts[1:] for image, parts in folders.items()})
    if _have_splits(inner):
        return _name({image: parts[1:] if parts and _is_split(parts[0]) else parts for image, parts in folders.items()})
    return {image: parts[0] if parts else "" for image, parts in folders.items()}


def _have_splits(inner: Mapping[str, set[str]]) -> bool:
    """Whether classes lie in folders called like splits, and not just what may lie in a class too."""
    in_splits = set[str]().union(*[below for name, below in inner.items() if _is_split(name)])
    in_others = set[str]().union(*[below for name, below in inner.items() if not _is_split(name)])
    several = len(in_splits) > 1 or not in_splits.isdisjoint(inner) or all(map(_is_split, inner))
    return several and not in_splits <= in_others


def _repeat(inner: Mapping[str, set[str]]) -> bool:
    """Whether the same folders, two at least, lie in each of several."""
    first = next(iter(inner.values()), set())
    return len(inner) > 1 and len(first) > 1 and all(below == first for below in inner.values())


def _is_split(folder: str) -> bool:
    return folder.lower() in SPLITS
