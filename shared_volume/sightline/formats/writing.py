"""What a version holds, as every writer takes it: parts with their COCO document and the folder of their images."""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sightline.images.files import read_header

log = logging.getLogger(__name__)

ALL: Final = "all"  # the one part of an annotation version
_JPEG_QUALITY: Final = 95


@dataclass(frozen=True, slots=True)
class Part:
    """A split of a dataset version, or all of an annotation version.

    Attributes:
        name: train, val, test or all.
        coco: its COCO document: file names are relative to `images`, sizes and shapes those of the upright images.
        images: the folder of its images.
    """

    name: str
    coco: dict[str, Any]
    images: Path

    def annotated(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Every image's entry with its annotations, by name."""
        drawn: dict[int, list[dict[str, Any]]] = {}
        for annotation in self.coco["annotations"]:
            drawn.setdefault(annotation["image_id"], []).append(annotation)
        for image in self.coco["images"]:
            yield image, drawn.get(image["id"], [])


class Losses:
    """Counts what a format cannot express, or what was changed to fit into it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, what: str, count: int = 1) -> None:
        """Count once more `what`, like "outlines reduced to boxes"."""
        if count:
            self._counts[what] += count

    def notes(self) -> tuple[str, ...]:
        """One line for each kind."""
        return tuple([f"{what}: {count:,}" for what, count in sorted(self._counts.items())])


def copy_upright(source: Path, target: Path, losses: Losses) -> None:
    """Copy an image, turned upright where its EXIF says that it is shown turned.

    Some readers turn images by EXIF and others do not; of an image that needs no turning all see the same, and the
    annotations fit.
    """
    from PIL import Image, ImageOps

    target.parent.mkdir(parents=True, exist_ok=True)
    if read_header(source).orientation == 1:
        shutil.copyfile(source, target)
        return
    with Image.open(source) as image:
        name, profile = image.format or "PNG", image.info.get("icc_profile")
        upright = ImageOps.exif_transpose(image)
        options: dict[str, Any] = {"icc_profile": profile} if profile else {}
        if name in ("JPEG", "MPO"):
            name, options = "JPEG", options | {"quality": _JPEG_QUALITY, "subsampling": 0}
        elif name == "WEBP":
            options["lossless"] = True
        upright.save(target, name, exif=b"", **options)
    losses.add("images shown turned by EXIF, written upright with their pixels encoded again")


class FlatNames:
    """Names without folders and with stems of their own, for formats in which an image is its stem."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._taken: set[str] = set()

    def choose(self, name: str) -> str:
        """A new name for an image."""
        flat = name.replace("/", "_")
        stem, suffix = PurePosixPath(flat).stem, PurePosixPath(flat).suffix
        chosen, number = stem, 2
        while chosen.lower() in self._taken:
            chosen, number = f"{stem}_{number}", number + 1
        self._taken.add(chosen.lower())
        if f"{chosen}{suffix}" != name:
            self._losses.add("images renamed, because the format knows them by their stem, without folders")
        return f"{chosen}{suffix}"
