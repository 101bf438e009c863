"""What lies in an annotation folder, and which of its images a document can mean."""

import errno
import filecmp
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from sightline.errors import SightlineError
from sightline.images.limits import IMAGE_SUFFIXES

_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})  # Unicode's controls, half characters, line breaks
_BETWEEN_WORDS: Final = re.compile(r"[\W_]+")
_MOST_NAMED: Final = 3  # images that one may be
_LONGEST_NAME: Final = 480  # characters of a path, so that a database can index it


@dataclass(slots=True)
class FolderFiles:
    """What lies in an annotation folder and the folders below, relative to it. Hidden files are not looked at."""

    root: Path
    documents: list[str] = field(default_factory=list)  # JSON files, sorted
    images: list[str] = field(default_factory=list)  # by their suffix, sorted
    links: set[str] = field(default_factory=set)  # those of both that are symbolic links
    unusable: dict[str, str] = field(default_factory=dict)  # those of both that cannot be published, and why


class Photographs:
    """The images of a folder that can be published, looked up by what a document calls them."""

    def __init__(self, files: FolderFiles):
        self._root = files.root
        self._images = set(files.images) - files.links - files.unusable.keys()

    def __contains__(self, image: str) -> bool:
        return image in self._images

    def named(self, name: str, path: str, document: str) -> list[str]:
        """The images that a path with this file name may mean: one beside the document or in `images` there, else the `likeliest`.

        Copies of one image count once. Where none is called so: in capitals or small letters, else the one of the document's
        own name, else with another ending.
        """
        for folder in ("", "images/", "../images/"):  # as of other formats
            if (near := posixpath.normpath(beside_of(document, f"{folder}{name}"))) in self._images:
                return [near]
        by_name, by_key = self._by_name
        for called in (name, unquote(name)):  # as in an address
            if same := by_name.get(called) or by_key.get(called.casefold()):
                found = likeliest(same, document, path)
                return found[:1] if are_copies(self._root, found) else found
        if own := self.own(document):
            return [own]
        stem, _, ending = name.casefold().rpartition(".")
        return by_key.get(stem, []) if f".{ending}" in IMAGE_SUFFIXES else []  # v1 is not what v1.2 means

    def own(self, document: str) -> str:
        """The image that is called like the document and lies beside it; empty where there is none, or several."""
        same = self._by_stem.get(document.rpartition(".")[0], ())
        return same[0] if len(same) == 1 else ""

    @cached_property
    def _by_stem(self) -> Mapping[str, Sequence[str]]:
        return _grouped((image.rpartition(".")[0], image) for image in sorted(self._images))

    @cached_property
    def _by_name(self) -> tuple[Mapping[str, list[str]], Mapping[str, list[str]]]:
        """Images by their file name; and by that in small letters, with and without its ending."""
        names = [(image.rpartition("/")[2], image) for image in sorted(self._images)]
        keys = [(key.casefold(), image) for name, image in names for key in (name, name.rpartition(".")[0])]
        return _grouped(names), _grouped(keys)

    def spelt(self, image: str) -> str:
        """An image's own name, or the same with its accents composed otherwise, as archives from a Mac have it."""
        if image in self._images or image.isascii():
            return image
        composed = unicodedata.normalize("NFC", image)
        same = [other for other in self._images if unicodedata.normalize("NFC", other) == composed]
        return same[0] if len(same) == 1 else image


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, image in pairs:
        groups.setdefault(key, []).append(image)
    return groups


def find_files(folder: Path) -> FolderFiles:
    """What lies in a folder and those below; links to folders are not followed."""
    if not folder.is_dir():
        raise SightlineError(
            f"{folder}: there is no such folder. Give the folder that holds labelme's JSON and images."
        )
    files, waiting = FolderFiles(folder), [""]
    while waiting:
        subfolder = waiting.pop()
        try:
            entries = list(os.scandir(folder / subfolder))
        except OSError as error:
            raise SightlineError(f"{folder / subfolder}: the folder cannot be read ({error.strerror}).") from None
        for entry in entries:
            name = f"{subfolder}/{entry.name}" if subfolder else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            else:
                _sort_in(files, name, entry)
    if not files.documents:
        raise SightlineError(
            f"{folder}: there is no JSON file. Annotate the images with labelme first; or, to classify "
            "whole images, sort them into a folder per class and say --format folders."
        )
    files.documents.sort()
    files.images.sort()
    return files


def _sort_in(files: FolderFiles, name: str, entry: "os.DirEntry[str]") -> None:
    suffix = entry.name[entry.name.rfind(".") :].lower()
    if suffix == ".json":
        files.documents.append(name)
    elif suffix in IMAGE_SUFFIXES:
        files.images.append(name)
    else:
        return
    if entry.is_symlink():
        files.links.add(name)
    elif not entry.is_file(follow_symlinks=False):
        files.unusable[name] = "it is not a plain file. Move it out of the folder."
    if not is_plain(name) or len(name) > _LONGEST_NAME:
        why = "its name is too long, or has a line break, a control character or bytes that are not text. Rename it."
        files.unusable[name] = why


def likeliest(images: Sequence[str], file: str, path: str) -> list[str]:
    """Of several images of one name, those that an annotation file most likely means by a path.

    Those whose last folders are the path's (photos/a/1.jpg of ../photos/a/1.jpg); of these, those in the smallest folder
    that holds the file too; and of these, those whose folders share the most words with the file's own path
    (instances_train.json, images/train/1.jpg).
    """
    ends = path.split("/")[::-1]
    images = _best(images, lambda image: len(os.path.commonprefix([image.split("/")[::-1], ends])))
    folders = file.split("/")[:-1]
    images = _best(images, lambda image: len(os.path.commonprefix([image.split("/")[:-1], folders])))
    words = _words(file.rpartition(".")[0])
    return _best(images, lambda image: len(words & _words(image.rpartition("/")[0])))


def _best(images: Sequence[str], score: Callable[[str], int]) -> list[str]:
    most = max(map(score, images), default=0)
    return [image for image in images if score(image) == most]


def _words(path: str) -> set[str]:
    """The words of a path's folders and of its name, and each of these as a whole."""
    parts = path.casefold().split("/")
    return {word for part in parts for word in (part, *_BETWEEN_WORDS.split(part)) if word}


def are_copies(root: Path, files: Sequence[str]) -> bool:
    """Whether files, one at least, hold the same bytes; sizes are compared first, and reading stops where they differ."""
    first, *others = (root / file for file in files)
    return all(filecmp.cmp(first, other, shallow=False) for other in others)


def beside_of(document: str, name: str) -> str:
    """A path that is relative to a document's folder, from the annotation folder."""
    return f"{document[: document.rfind('/') + 1]}{name}"


def lies_within(path: Path, folder: Path) -> bool:
    """Whether a path is in a folder or below once its links are followed."""
    return not _goes_in_circles(path) and path.resolve().is_relative_to(folder.resolve())


def _goes_in_circles(path: Path) -> bool:
    """Whether its links lead back to it; since Python 3.13 `resolve` does not tell."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def list_images(images: Sequence[str]) -> str:
    """The first few of several images that one may be."""
    return f"{' or '.join(images[:_MOST_NAMED])}{' …' if len(images) > _MOST_NAMED else ''}"


def is_plain(text: str) -> bool:
    """Whether a name has no control character, line break or half character."""
    return text.isprintable() or not any(unicodedata.category(one) in _UNPRINTABLE for one in text)


def show_name(name: str) -> str:
    """A file name that can be stored and shown anywhere: what is not text is escaped."""
    if not is_plain(name):
        name = "".join(one if is_plain(one) else ascii(one)[1:-1] for one in name)
    return name[:_LONGEST_NAME]
