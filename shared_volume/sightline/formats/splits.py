"""The splits that a source has of its own: as its folders, lists or files are called."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, Final

from sightline.formats.folder import Listing, parent_of, suffix_of
from sightline.formats.reading import Ledger, Picture, Unusable

_CALLED: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_YEAR: Final = re.compile(r"[_-]?\d+$")
_WORDS: Final = re.compile(r"[^a-z]+")
_LISTS: Final = "ImageSets/Main"


def split_called(name: str) -> str:
    """The split that a folder or a list of this name holds (`train2017`, `valid`); empty for other names."""
    return _CALLED.get(_YEAR.sub("", name.lower()), "")


def split_of_file(file: str) -> str:
    """The split that an annotation file is of (`instances_val2017.json`, `train/_annotations.coco.json`); empty for others."""
    words = {split_called(word) for word in _WORDS.split(PurePosixPath(file).stem.lower())} - {""}
    return next(iter(words)) if len(words) == 1 else split_of_folders(file)


def split_of_folders(file: str) -> str:
    """The split of the outermost folder that is called like one; empty where none is."""
    return next(filter(None, map(split_called, file.split("/")[:-1])), "")


def find_splits(
    listing: Listing, pictures: Iterable[Picture], contents: Iterable[tuple[str, Mapping[str, Any]]]
) -> dict[str, str]:
    """Image -> split, of those pictures that the source assigns: by a list, else by its annotation file, else by its folder.

    Args:
        contents: YAML files that may name the splits, as YOLO's data.yaml does.
    """
    images = [picture.file for picture in pictures]
    found = {image: split_of_folders(image) for image in images}
    found |= {picture.file: picture.split for picture in pictures if picture.split}
    for file, content in contents:
        for key in ("train", "val", "valid", "test"):
            given = content.get(key)
            for path in given if isinstance(given, list) else [given]:
                if isinstance(path, str):
                    found |= dict.fromkeys(_images_at(listing, images, path, file), split_called(key))
    for file in listing.with_suffix(".txt"):
        if parent_of(file).endswith(_LISTS) and (split := split_called(PurePosixPath(file).stem)):
            stems = {line.split()[0] for line in _lines(listing, file) if line.split()}
            found |= {image: split for image in images if PurePosixPath(image).stem in stems}
    return usable_splits({image: split for image, split in found.items() if split})


def usable_splits(found: Mapping[str, str]) -> dict[str, str]:
    """The same; none where nothing is called train, or all is: such a source is not split."""
    there = set(found.values())
    return dict(found) if "train" in there and len(there) > 1 else {}


def _images_at(listing: Listing, images: Iterable[str], path: str, file: str) -> list[str]:
    """The images in a folder, or in a list of images, that a YAML file names in its own way."""
    wanted = "/".join([part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")])
    if suffix_of(wanted) == ".txt":
        texts = [
            text for text in listing.with_suffix(".txt") if f"/{wanted}".endswith(f"/{text}") or text.endswith(wanted)
        ]
        lines = {
            line.strip().replace("\\", "/").rpartition("/")[2] for text in texts[:1] for line in _lines(listing, text)
        }
        return [image for image in images if image.rpartition("/")[2] in lines]
    near = [image for image in images if f"/{image}".startswith(f"/{parent_of(file)}/{wanted}/".replace("//", "/"))]
    return near or [image for image in images if f"/{wanted}/" in f"/{image}"]


def _lines(listing: Listing, file: str) -> list[str]:
    with suppress(Unusable):
        return listing.read_text(file, Ledger.silent()).splitlines()
    return []
