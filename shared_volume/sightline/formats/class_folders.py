"""Whole images sorted by what they show: `cats/1.jpg`. The class becomes a flag of the image's labelme document."""

from pathlib import Path, PurePosixPath

from sightline.annotations.findings import Code
from sightline.formats.folder import Listing
from sightline.formats.reading import Ledger, Picture
from sightline.images.files import ImageError, read_header

SPLITS = frozenset({"train", "val", "valid", "validation", "test"})
ANNOTATED = frozenset({".json", ".xml", ".txt", ".csv"})


def read_class_folders(listing: Listing, ledger: Ledger) -> list[Picture]:
    """An image per file, its class the folder that it lies in; folders named like splits say nothing."""
    pictures = []
    for image in listing.images:
        if name := class_of(image):
            pictures.append(Picture(image, image, *_size(listing.root / image), (), {name: True}))
        else:
            ledger.add(Code.NO_CLASS, image, None, "it lies in no class's folder. Put it into one.")
    return pictures


def looks_like_class_folders(listing: Listing) -> bool:
    """Whether a folder holds images alone, all of them in folders of at least two classes."""
    if any(PurePosixPath(file).suffix.lower() in ANNOTATED for file in listing.files):
        return False
    classes = [class_of(image) for image in listing.images]
    return all(classes) and len(set(classes)) > 1


def class_of(image: str) -> str:
    """The class of an image by its path; empty when it lies in none."""
    folder = PurePosixPath(image).parent.name
    return "" if folder.lower() in SPLITS or folder.lower() == "images" else folder


def _size(path: Path) -> tuple[int | None, int | None]:
    """Width and height, upright; unknown of what cannot be read, which is told later."""
    try:
        header = read_header(path)
    except ImageError:
        return None, None
    return header.width, header.height
