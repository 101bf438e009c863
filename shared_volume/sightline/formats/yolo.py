"""YOLO in Ultralytics' layout (`data.yaml`, `images/`, `labels/`): a text file per image, coordinates as shares of it."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import yaml

from sightline.annotations.findings import Code
from sightline.annotations.labelme import Shape
from sightline.errors import SightlineError
from sightline.formats import writing
from sightline.formats.folder import Listing, parent_of
from sightline.formats.reading import Ledger, Picture, Unusable, known_header, to_number, to_whole
from sightline.formats.writing import Losses, Part
from sightline.services.versioning.shards import SPLITS

NAME_LISTS: Final = ("classes.txt", "obj.names")
_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")  # YAML's escapes can write one; no file can hold it
_LARGEST_YAML: Final = 10_000_000  # bytes
_BOX_COLUMNS: Final = 5
_SNAP: Final = 0.01  # pixels; six digits of a share are no more exact on a large image
_DIGITS: Final = 6


def read_yolo_folder(listing: Listing, ledger: Ledger) -> list[Picture]:
    """Every picture that has a text file; an empty one says that nothing is on it.

    SightlineError when the classes' names are nowhere, or in several files that differ.
    """
    file, names, keypoints = find_names(listing)
    if not file:
        raise SightlineError(
            f"{listing.root}: no file names the classes. Add data.yaml with `names:`, or classes.txt with one name a line."
        )
    if keypoints:
        ledger.add(Code.NOT_IMPORTED, file, None, "its keypoints are not read, only the boxes.")
    texts = {file for file in listing.files if PurePosixPath(file).suffix == ".txt"}
    used: set[str] = set()
    pictures = []
    for image in listing.images:
        text = next((file for file in label_file(image) if file in texts), None)
        if text is None:
            continue
        if text in used:
            ledger.add(Code.IMAGE_TWICE, text, None, f"it belongs to {image} and to another image of that name.")
        used.add(text)
        pictures.append(_read_picture(listing, image, text, names, keypoints, ledger))
    for text in sorted(texts - used):
        if "labels" in parent_of(text).split("/") and PurePosixPath(text).name not in NAME_LISTS:
            message = "there is no image of that name. Put it there, or remove the file."
            ledger.add(Code.MISSING_IMAGE, text, None, message)
    return pictures


def label_file(image: str) -> tuple[str, ...]:
    """Where an image's text file may lie: under labels/ where the image is under images/, or beside it."""
    beside = str(PurePosixPath(image).with_suffix(".txt"))
    above, images, below = f"/{beside}".rpartition("/images/")
    return (f"{above}/labels/{below}"[1:], beside) if images else (beside,)


def find_names(listing: Listing) -> tuple[str, dict[int, str], bool]:
    """The file that names the classes ("" for none), the names by number, and whether lines hold keypoints."""
    found: dict[str, tuple[dict[int, str], bool]] = {}
    for file in listing.with_suffix(".yaml", ".yml"):
        content = _read_yaml(listing, file)
        if names := _names(content.get("names")):
            found[file] = names, "kpt_shape" in content
    for file in () if found else listing.files:
        if PurePosixPath(file).name in NAME_LISTS:
            with suppress(Unusable):
                lines = [line.strip() for line in listing.read_text(file).splitlines()]
                if names := dict(enumerate(filter(None, lines))):
                    found[file] = names, False
    if not found:
        return "", {}, False
    first, *others = found
    if any(found[file] != found[first] for file in others):
        raise SightlineError(
            f"{listing.root}: {' and '.join(list(found)[:3])} name different classes. Leave only one of them there."
        )
    return first, *found[first]


def _read_yaml(listing: Listing, file: str) -> dict[str, Any]:
    """The keys and values, all texts: YAML would take a class `no` for false. {} for what is no such file."""
    try:
        data = listing.read(file)
        # BaseLoader makes texts, lists and mappings, nothing else.
        content = yaml.load(data, Loader=yaml.BaseLoader) if len(data) <= _LARGEST_YAML else {}  # noqa: S506
    except (Unusable, yaml.YAMLError, RecursionError, ValueError, TypeError):
        return {}
    return content if isinstance(content, dict) else {}


def _names(names: Any) -> dict[int, str]:
    """Names by number, from a list or a mapping; {} for anything else."""
    pairs = enumerate(names) if isinstance(names, list) else names.items() if isinstance(names, dict) else ()
    found = {}
    for number, name in pairs:
        if not isinstance(name, str) or not str(number).isdecimal() or _HALF_CHARACTER.search(name):
            return {}
        found[int(number)] = name
    return found


def _read_picture(
    listing: Listing, image: str, text: str, names: dict[int, str], keypoints: bool, ledger: Ledger
) -> Picture:
    name = "/".join([part for part in image.split("/") if part not in ("images", "train", "val", "valid", "test")])
    shapes: list[Shape] = []
    if (header := known_header(listing.root / image)) is None:
        return Picture(image, name, None, None)
    with ledger.noting(text, None):
        for index, line in enumerate(listing.read_text(text).splitlines()):
            with ledger.noting(text, index, f"line {index + 1}"):
                if columns := line.split():
                    shapes.append(_shape(columns, names, header.width, header.height, keypoints))
    return Picture(image, name, header.width, header.height, tuple(shapes))


def _shape(columns: list[str], names: dict[int, str], width: int, height: int, keypoints: bool) -> Shape:
    number, count = to_whole(columns[0]), len(columns)
    if number not in names:
        raise Unusable(Code.BROKEN_ANNOTATION, f"the class {number} has no name.")
    shares = np.array([to_number(column) for column in columns[1:]])
    if count == _BOX_COLUMNS or (keypoints and count > _BOX_COLUMNS):
        x, y, across, down = shares[:4]
        corners = np.array([[x - across / 2, y - down / 2], [x + across / 2, y + down / 2]])
        return Shape(names[number], _pixels(corners, width, height), "rectangle")
    if count < 7 or count % 2 == 0:
        message = f"{count} numbers are neither a box (5) nor an outline (an odd number from 7 on)."
        raise Unusable(Code.BROKEN_ANNOTATION, message)
    return Shape(names[number], _pixels(shares.reshape(-1, 2), width, height), "polygon")


def _pixels(shares: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixels of shares, (N, 2); what is out by no more than the text's digits is put on the border."""
    size = np.array([width, height], dtype=np.float64)
    points = np.round(shares * size, _DIGITS)
    border = np.clip(points, 0, size)
    return np.where(np.abs(points - border) <= _SNAP, border, points)


def write_yolo_folder(parts: Sequence[Part], target: Path, losses: Losses) -> None:
    """Write every part: outlines as soon as one object is more than its box, else boxes; Ultralytics reads no mixture."""
    drawn = [annotation for part in parts for annotation in part.coco["annotations"] if not annotation["iscrowd"]]
    outlined = not all(map(writing.is_box, drawn))
    for part in parts:
        taken: set[str] = set()
        (target / "images" / part.name).mkdir(parents=True)
        (target / "labels" / part.name).mkdir(parents=True)
        numbers = {category["id"]: index for index, category in enumerate(part.coco["categories"])}
        for image, annotations in part.annotated():
            name = writing.choose_flat_name(image["file_name"], taken, losses)
            writing.copy_upright(part.images / image["file_name"], target / "images" / part.name / name, losses)
            told = [annotation for annotation in annotations if not annotation["iscrowd"]]
            lines = [_line(annotation, image, numbers, outlined, losses) for annotation in told]
            losses["crowds left out, which YOLO does not have"] += len(annotations) - len(lines)
            text = target / "labels" / part.name / f"{PurePosixPath(name).stem}.txt"
            text.write_text("".join([f"{line}\n" for line in lines]), encoding="utf-8")
    _write_yaml(parts, target, losses)


def _line(
    annotation: Mapping[str, Any], image: Mapping[str, Any], numbers: Mapping[int, int], outlined: bool, losses: Losses
) -> str:
    size = np.array([image["width"], image["height"]], dtype=np.float64)
    if outlined:
        outlines = writing.instance_outlines(annotation["segmentation"])
        if isinstance(annotation["segmentation"], dict):
            losses["painted masks written as their outlines"] += 1
        if len(outlines) > 1:
            losses["objects in parts or with holes written as one outline, joined by lines without area"] += 1
        shares = writing.join_outlines(outlines) / size
    else:
        x, y, width, height = annotation["bbox"]
        shares = np.array([[x + width / 2, y + height / 2], [width, height]]) / size
    return " ".join([str(numbers[annotation["category_id"]]), *[f"{value:.8f}" for value in shares.ravel().tolist()]])


def _write_yaml(parts: Sequence[Part], target: Path, losses: Losses) -> None:
    """data.yaml. Paths are relative to it: without `path` Ultralytics looks beside the file."""
    filled = [part.name for part in parts if part.coco["images"]]
    content: dict[str, Any] = {name: f"images/{name}" for name in filled}
    for needed in ("train", "val"):
        if needed not in content and filled:
            content[needed] = f"images/{filled[0]}"
            there = f"({needed}; data.yaml names {filled[0]} there)"
            losses[f"sets that Ultralytics asks for and that have no images {there}"] += 1
    content = {name: content[name] for name in SPLITS if name in content}
    content["names"] = {index: category["name"] for index, category in enumerate(parts[0].coco["categories"])}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    (target / "data.yaml").write_text(text, encoding="utf-8")
