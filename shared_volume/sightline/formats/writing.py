"""What every writer takes: parts of a version; upright copies, flat names, one outline per object, counts of losses."""

import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps
from pycocotools import mask as rle_of

from sightline.annotations.regions import polygon_area
from sightline.images.files import read_header
from sightline.processes.progress import track

ALL: Final = "all"  # the one part of an annotation version
_JPEG_QUALITY: Final = 95
_SAME: Final = 1e-6  # pixels, and share of an area
_MOST_GAPS: Final = 1_000_000  # distances between vertices that are looked at at once


@dataclass(frozen=True, slots=True)
class Part:
    """A split of a dataset version, or all of an annotation version."""

    name: str
    coco: dict[str, Any]  # file names are relative to the folder `images`, sizes and shapes those of the upright images
    images: Path

    def annotated(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Every image's entry with its annotations, by name."""
        drawn: dict[int, list[dict[str, Any]]] = {}
        for annotation in self.coco["annotations"]:
            drawn.setdefault(annotation["image_id"], []).append(annotation)
        for image in track(self.coco["images"], f"writing {self.name}"):
            yield image, drawn.get(image["id"], [])


class Losses(Counter[str]):
    """Counts what a format cannot express or what was changed to fit into it, like "outlines reduced to boxes"."""

    def notes(self) -> tuple[str, ...]:
        """One line for each kind."""
        return tuple([f"{what}: {count:,}" for what, count in sorted(self.items()) if count])


def copy_upright(source: Path, target: Path, losses: Losses) -> None:
    """Copy an image, turned upright where its EXIF says so: some readers do not turn it, and the annotations are to fit."""
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
    losses["images shown turned by EXIF, written upright with their pixels encoded again"] += 1


def choose_flat_name(name: str, taken: set[str], losses: Losses) -> str:
    """A name without folders and with a stem of its own (added to `taken`), for formats in which an image is its stem."""
    flat = PurePosixPath(name.replace("/", "_"))
    stem, number = flat.stem, 2
    while stem.lower() in taken:
        stem, number = f"{flat.stem}_{number}", number + 1
    taken.add(stem.lower())
    if f"{stem}{flat.suffix}" != name:
        losses["images renamed, because the format knows them by their stem, without folders"] += 1
    return f"{stem}{flat.suffix}"


def mask_outlines(pixels: np.ndarray) -> list[np.ndarray]:
    """The borders of the pixels that are set, along the pixels' own edges: (N, 2) vertices each, whole numbers.

    Outer borders run clockwise as seen, those of holes the other way. Exact: the pixels whose centres lie inside are
    just those of `pixels`, (height, width) bool, that were set.
    """
    padded = np.pad(pixels.astype(np.int8), 1)
    across, along = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    edges = (
        (across > 0, (0, 0), (1, 0)),  # set below: rightwards
        (across < 0, (1, 0), (0, 0)),  # set above: leftwards
        (along > 0, (0, 1), (0, 0)),  # set to the right: upwards
        (along < 0, (0, 0), (0, 1)),  # set to the left: downwards
    )
    for there, begin, end in edges:
        for y, x in np.argwhere(there).tolist():
            following.setdefault((x + begin[0], y + begin[1]), []).append((x + end[0], y + end[1]))
    outlines = []
    for start in sorted(following):
        while start in following:  # not yet on a way that was taken, or on two
            way = np.array(_walk(following, start), dtype=np.float64)
            turns = ((way - np.roll(way, 1, axis=0)) != (np.roll(way, -1, axis=0) - way)).any(axis=1)
            outlines.append(way[turns])
    return outlines


def _walk(following: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]) -> list[tuple[int, int]]:
    """Take the closed way from `start`, the least of all points, out of the edges."""
    way, here, before = [start], start, (start[0] - 1, start[1])
    while True:
        choices = following[here]
        # Where two pixels touch at a corner, turn right: each then keeps an outline of its own.
        right = (here[0] - (here[1] - before[1]), here[1] + (here[0] - before[0]))
        there = right if right in choices else choices[0]
        choices.remove(there)
        if not choices:
            del following[here]
        if there == start:
            return way
        way.append(there)
        before, here = here, there


def join_outlines(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Outlines, (N, 2) each, at least one, as one, connected by lines without area; a hole runs the other way."""
    joined, *rest = sorted(outlines, key=polygon_area, reverse=True)
    for other in rest:
        here, there = _nearest_points(joined, other)
        turned = np.roll(other, -there, axis=0)
        joined = np.concatenate([joined[: here + 1], turned, turned[:1], joined[here:]])
    return joined


def _nearest_points(one: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """The vertices of two outlines that lie nearest to each other, by the sum of both distances."""
    rows = max(1, _MOST_GAPS // len(other))
    best = (math.inf, 0, 0)
    for first in range(0, len(one), rows):
        part = one[first : first + rows]
        gaps = np.abs(part[:, :1] - other[:, 0]) + np.abs(part[:, 1:] - other[:, 1])
        here, there = np.unravel_index(int(gaps.argmin()), gaps.shape)
        best = min(best, (float(gaps[here, there]), first + int(here), int(there)))
    return best[1], best[2]


def instance_outlines(segmentation: Any) -> list[np.ndarray]:
    """The outlines of a COCO segmentation: its polygons, or the borders of its run lengths."""
    if isinstance(segmentation, dict):
        encoded = segmentation | {"counts": segmentation["counts"].encode("ascii")}
        left, top, width, height = (int(side) for side in rle_of.toBbox(encoded))
        inside = rle_of.decode(encoded)[top : top + height, left : left + width]
        return [outline + (left, top) for outline in mask_outlines(inside.astype(bool))]
    return [np.array(part, dtype=np.float64).reshape(-1, 2) for part in segmentation]


def is_box(annotation: dict[str, Any]) -> bool:
    """Whether an annotation covers just its bbox."""
    if isinstance(annotation["segmentation"], dict):
        return False
    outlines = instance_outlines(annotation["segmentation"])
    if len(outlines) != 1 or len(outlines[0]) != 4:
        return False
    x, y, width, height = annotation["bbox"]
    xs, ys = outlines[0].T
    at_corners = np.isin(xs, (xs.min(), xs.max())).all() and np.isin(ys, (ys.min(), ys.max())).all()
    covered = np.allclose((xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)), (x, y, width, height), rtol=0, atol=_SAME)
    return bool(at_corners and covered and math.isclose(polygon_area(outlines[0]), width * height, rel_tol=_SAME))
