"""Stage 1: find an annotation folder's documents and read each with its image's header."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import SightlineError
from sightline.images import (
    IMAGE_SUFFIXES,
    ImageHeader,
    ImageTooLargeError,
    MissingImageError,
    TruncatedImageError,
    check_whole,
    read_header,
)
from sightline.labelme import Document, ImagePathError, read_document
from sightline.record.findings import Code, Finding


@dataclass(frozen=True, slots=True)
class Annotated:
    """A document and its image.

    Attributes:
        file: the JSON, relative to the annotation folder, with forward slashes.
        image: the image file, likewise.
        document: what the JSON says.
        header: what the image's header says.
    """

    file: str
    image: str
    document: Document
    header: ImageHeader


def find_files(folder: Path) -> tuple[list[str], list[str]]:
    """The JSON files and the image files in a folder and those below, relative to it, sorted. Hidden ones are left out.

    Raises:
        SightlineError: no such folder, or no JSON in it.
    """
    if not folder.is_dir():
        raise SightlineError(
            f"{folder}: there is no such folder. Name the folder that holds labelme's JSON and images."
        )
    documents, images = [], []
    for directory, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        place = Path(directory).relative_to(folder).as_posix()
        prefix = "" if place == "." else f"{place}/"
        for name in names:
            suffix = name[name.rfind(".") :].lower()
            if name.startswith("."):
                continue
            if suffix == ".json":
                documents.append(prefix + name)
            elif suffix in IMAGE_SUFFIXES:
                images.append(prefix + name)
    if not documents:
        raise SightlineError(f"{folder}: there is no JSON file. Annotate the images with labelme first.")
    return sorted(documents), sorted(images)


def read_annotations(folder: Path, max_pixels: int) -> Iterator[Annotated | Finding]:
    """Read every document of a folder with its image's header, sorted by name; what cannot be used is a finding.

    Args:
        folder: the annotation folder.
        max_pixels: larger images are not used.

    Raises:
        SightlineError: no such folder, or no JSON in it.
    """
    documents, images = find_files(folder)
    known = set(images)
    taken: dict[str, str] = {}
    for file in documents:
        annotated = _read_one(folder, file, max_pixels)
        if isinstance(annotated, Annotated):
            other = taken.setdefault(annotated.image, file)
            if other != file:
                message = f"{annotated.image} is already annotated in {other}. Merge the two files."
                annotated = Finding(Code.IMAGE_TWICE, file, None, message)
        if isinstance(annotated, Annotated):
            known.discard(annotated.image)
        yield annotated
    referred = {file.rpartition(".")[0] for file in documents}
    for image in sorted(known - set(taken)):
        if image.rpartition(".")[0] not in referred:
            yield Finding(Code.NOT_ANNOTATED, image, None, "the image has no JSON. Annotate it, or leave it as it is.")


def _read_one(folder: Path, file: str, max_pixels: int) -> Annotated | Finding:
    path = folder / file
    try:
        document = read_document(path, folder)
    except ImagePathError as error:
        return Finding(Code.IMAGE_OUTSIDE, file, None, _without_path(error, path))
    except SightlineError as error:
        return Finding(Code.UNREADABLE_JSON, file, None, _without_path(error, path))
    image = _relative_to_folder(file, document.image_path)
    image_path = folder / image
    try:
        if image_path.is_symlink() and not image_path.resolve().is_relative_to(folder.resolve()):
            message = f"{image} is a link that leads out of the annotation folder. Put the file itself there."
            return Finding(Code.IMAGE_OUTSIDE, file, None, message)
        header = read_header(image_path, max_pixels)
        check_whole(image_path, header)
    except MissingImageError as error:
        return Finding(Code.MISSING_IMAGE, file, None, f"{image}: {_without_path(error, image_path)}")
    except ImageTooLargeError as error:
        return Finding(Code.IMAGE_TOO_LARGE, file, None, f"{image}: {_without_path(error, image_path)}")
    except TruncatedImageError as error:
        return Finding(Code.TRUNCATED_IMAGE, file, None, f"{image}: {_without_path(error, image_path)}")
    except SightlineError as error:
        return Finding(Code.UNREADABLE_IMAGE, file, None, f"{image}: {_without_path(error, image_path)}")
    return Annotated(file, image, document, header)


def _relative_to_folder(file: str, image_path: str) -> str:
    """The image's path from the annotation folder; `image_path` is relative to the document's folder."""
    parts = file.split("/")[:-1]
    for part in image_path.split("/"):
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _without_path(error: SightlineError, path: Path) -> str:
    """The message without the machine's path, so that findings are the same everywhere."""
    return str(error).removeprefix(f"{path}: ")
