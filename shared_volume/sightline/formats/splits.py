"""The splits that a source has of its own: as its folders, lists or files are called."""

import re
from collections.abc import Iterable, Mapping, Sequence
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
        said: dict[str, str] = {}
        for key in ("train", "val", "valid", "test"):
            given = content.get(key)
            for path in given if isinstance(given, list) else [given]:
                if isinstance(path, str):
                    # Who has no images for val or test names train's again: they are train's.
                    said = dict.fromkeys(_images_at(listing, images, path, file), split_called(key)) | said
        found |= said
    for file in listing.with_suffix(".txt"):
        if parent_of(file).endswith(_LISTS) and (split := split_called(PurePosixPath(file).stem)):
            below = parent_of(file).removesuffix(_LISTS)
            lines = [line.strip() for line in _lines(listing, file) if line.strip()]
            stems = {*lines, *(line.split()[0] for line in lines)}  # per class a line has a number behind the stem
            near = [image for image in images if image.startswith(below)]
            found |= {image: split for image in near if PurePosixPath(image).stem in stems}
    return usable_splits({image: split for image, split in found.items() if split})


def read_darknet(listing: Listing) -> list[tuple[str, dict[str, Any]]]:
    """Darknet's files of settings (`obj.data`), which name its lists of images: `train = data/train.txt`."""
    found = []
    for file in listing.with_suffix(".data"):
        pairs = [line.partition("=") for line in _lines(listing, file)]
        found.append((file, {key.strip(): value.strip() for key, _, value in pairs if value}))
    return found


def usable_splits(found: Mapping[str, str]) -> dict[str, str]:
    """The same; none where nothing is called train, or all is: such a source is not split."""
    there = set(found.values())
    return dict(found) if "train" in there and len(there) > 1 else {}


def _images_at(listing: Listing, images: Sequence[str], path: str, file: str) -> list[str]:
    """The images in a folder, or in a list of images, that a file names in its own way."""
    wanted = _plain(path)
    if suffix_of(wanted) == ".txt":
        texts = [text for text in listing.with_suffix(".txt") if _ends_so(wanted, text) or _ends_so(text, wanted)]
        return _listed_in([line for text in texts[:1] for line in _lines(listing, text)], images)
    parts = [part for part in wanted.split("/") if "*" not in part]
    wanted = "/".join(parts)
    near = [image for image in images if f"/{image}".startswith(f"/{parent_of(file)}/{wanted}/".replace("//", "/"))]
    # Of a path on another machine the end counts that is a folder here, but not a word like `images` alone.
    ends = ["/".join(parts[index:]) for index in range(len(parts)) if parts[index:] not in (["images"], ["labels"])]
    found = ([image for image in images if f"/{end}/" in f"/{image}"] for end in ends)
    return near or next(filter(None, found), [])


def _listed_in(lines: Iterable[str], images: Sequence[str]) -> list[str]:
    """The images that lines name: by as much of their path as both have, by the name alone where one image has it."""
    by_name: dict[str, list[str]] = {}
    for image in images:
        by_name.setdefault(image.rpartition("/")[2], []).append(image)
    found = []
    for line in map(_plain, lines):
        same = by_name.get(line.rpartition("/")[2], [])
        exact = [image for image in same if _ends_so(line, image) or _ends_so(image, line)]
        found += [max(exact, key=len)] if exact else same if len(same) == 1 else []
    return found


def _plain(path: str) -> str:
    return "/".join([part for part in path.strip().replace("\\", "/").split("/") if part not in ("", ".", "..")])


def _ends_so(path: str, end: str) -> bool:
    return f"/{path}".endswith(f"/{end}")


def _lines(listing: Listing, file: str) -> list[str]:
    with suppress(Unusable):
        return listing.read_text(file, Ledger.silent()).splitlines()
    return []
