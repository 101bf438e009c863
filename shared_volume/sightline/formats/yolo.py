"""YOLO in Ultralytics' layout (`data.yaml`, `images/`, `labels/`): a text file per image, coordinates as shares of it."""

import re
from collections import defaultdict
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
from sightline.formats.folder import Listing, parent_of, short_name, stem_key, suffix_of
from sightline.formats.reading import Ledger, Picture, Unusable, known_header, to_number, to_whole
from sightline.formats.writing import Losses, Part
from sightline.processes.progress import track
from sightline.services.versioning.shards import SPLITS

NAME_LISTS: Final = ("classes.txt", "predefined_classes.txt")  # and *.names
_IMAGE_FOLDERS: Final = frozenset({"images", "image", "imgs", "img", "jpegimages"})
LABEL_FOLDERS: Final = frozenset({"labels", "label", "annotations", "annotation", "labeltxt", "txt"})
_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")  # YAML's escapes can write one; no file can hold it
_LARGEST_YAML: Final = 10_000_000  # characters
_LOADER: Final = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # twenty times as fast where libyaml is there
_BOX_COLUMNS: Final = 5
_OUTLINE_COLUMNS: Final = 7
_DOTA_COLUMNS: Final = (9, 10)  # four corners in pixels, the class by name, and whether it is difficult
_DOTA_HEADS: Final = ("imagesource:", "gsd:")
_SNAP: Final = 0.01  # pixels; six digits of a share are no more exact on a large image
_DIGITS: Final = 6


def read_yolo_folder(listing: Listing, ledger: Ledger) -> list[Picture]:
    """Every picture that has a text file; an empty one says that nothing is on it.

    SightlineError when the classes' names are nowhere, or in several files that differ.
    """
    file, names, keypoints = find_names(listing, ledger)
    if not file:
        raise SightlineError(
            f"{listing.root}: no file names the classes. Add data.yaml with `names:`, or classes.txt with one name a line."
        )
    if keypoints:
        ledger.add(Code.NOT_IMPORTED, file, None, "its keypoints are not read, only the boxes.")
    used: set[str] = set()
    pictures = []
    for image, text in track(find_texts(listing).items(), "reading YOLO"):
        if text in used:
            ledger.add(Code.IMAGE_TWICE, text, None, f"it belongs to {image} and to another image of that name.")
            continue
        used.add(text)
        pictures.append(_read_picture(listing, image, text, names, keypoints, ledger))
    labelled = set(map(parent_of, used))
    for text in sorted({*listing.with_suffix(".txt")} - used):
        if PurePosixPath(text).name.lower() in NAME_LISTS:
            continue
        is_label = bool(LABEL_FOLDERS & set(parent_of(text).lower().split("/")))
        if is_label or (parent_of(text) in labelled and _holds_lines(listing, text)):
            message = "there is no image of that name. Put it there, or remove the file."
            ledger.add(Code.MISSING_IMAGE, text, None, message)
    _require_counted_from_0(f"{listing.root / file}", names, pictures, ledger)
    return pictures


def _holds_lines(listing: Listing, text: str) -> bool:
    """Whether a text begins with a line of numbers, as annotations do and lists of images do not."""
    with suppress(Unusable):
        columns = listing.read_text(text, Ledger.silent()).partition("\n")[0].split()
        return len(columns) >= _BOX_COLUMNS and all(map(_is_number, columns))
    return False


def _require_counted_from_0(file: str, names: Mapping[int, str], pictures: Sequence[Picture], ledger: Ledger) -> None:
    """Refuse numbers that were counted from 1: the first class never occurs, and one behind the last does."""
    beyond = f"the class {len(names)} has no name."
    shifted = any(found.message.endswith(beyond) for found in ledger.findings)
    if len(names) > 1 and shifted and not any(shape.label == names.get(0) for one in pictures for shape in one.shapes):
        raise SightlineError(
            f"{file} names the classes 0 to {len(names) - 1}, but the text files hold no 0, and a {len(names)}: they seem to be "
            "counted from 1, so every object would get the next class's name. Put a blank line before the first name in "
            "classes.txt (in data.yaml number the names: `1: cup`), or correct the text files."
        )


def find_texts(listing: Listing) -> dict[str, str]:
    """Image -> its text file: in a folder that is called `labels` where the image's is called `images`, or beside it."""
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in listing.with_suffix(".txt"):
        texts[_pair_key(file)].append(file)
    found = {}
    for image in listing.images:
        if own := texts.get(_pair_key(image)):
            mirrored = _mirrored(parent_of(image))
            found[image] = min(
                own,
                key=lambda file: (parent_of(file).lower() not in mirrored, parent_of(file) != parent_of(image), file),
            )
    return found


def _mirrored(folder: str) -> set[str]:
    """Where an image folder's text files are: with `labels` in place of its last `images`; all in small letters."""
    parts = folder.lower().split("/")
    last = max((index for index, part in enumerate(parts) if part in _IMAGE_FOLDERS), default=None)
    if last is None:
        return set()
    return {"/".join([*parts[:last], name, *parts[last + 1 :]]) for name in LABEL_FOLDERS}


def _pair_key(file: str) -> tuple[str, str]:
    """What an image and its text file have in common: the stem, and the folders but the last that says what lies there."""
    folders = parent_of(file).lower().split("/")
    sides = [index for index, folder in enumerate(folders) if folder in _IMAGE_FOLDERS | LABEL_FOLDERS]
    if sides:
        del folders[sides[-1]]
    return "/".join(filter(None, folders)), stem_key(file)


def find_names(listing: Listing, ledger: Ledger) -> tuple[str, dict[int, str], bool]:
    """The file that names the classes ("" for none), the names by number, and whether lines hold keypoints.

    A class's number is that of its line, blank lines counted. SightlineError when several files name different ones.
    """
    found: dict[str, tuple[dict[int, str], bool]] = {}
    for file in listing.with_suffix(".yaml", ".yml"):
        content = read_yaml(listing, file, ledger)
        if names := _names(content.get("names")):
            found[file] = names, "kpt_shape" in content
    for file in () if found else listing.files:
        if PurePosixPath(file).name.lower() in NAME_LISTS or suffix_of(file) == ".names":
            with ledger.noting(file, None):
                lines = [line.strip() for line in listing.read_text(file, ledger).splitlines()]
                if names := {number: name for number, name in enumerate(lines) if name}:
                    found[file] = names, False
    if not found:
        return "", {}, False
    first, *others = found
    if any(found[file] != found[first] for file in others):
        raise SightlineError(
            f"{listing.root}: {' and '.join(list(found)[:3])} name different classes. Leave only one of them there."
        )
    return first, *found[first]


def read_yaml(listing: Listing, file: str, ledger: Ledger | None = None) -> dict[str, Any]:
    """The keys and values, all texts: YAML would take a class `no` for false. {} for what is no such file."""
    try:
        text = listing.read_text(file, ledger or Ledger.silent())
        # BaseLoader makes texts, lists and mappings, nothing else.
        content = yaml.load(text, Loader=_LOADER) if len(text) <= _LARGEST_YAML else {}  # noqa: S506
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
    name = short_name(image)
    shapes: list[Shape] = []
    if (header := known_header(listing.root / image)) is None:
        return Picture(image, name, None, None)
    lost = 1
    with ledger.noting(text, None):
        lines = listing.read_text(text, ledger).splitlines()
        lines = ["" if line.lower().startswith(_DOTA_HEADS) else line for line in lines]
        lost = sum(bool(line.split()) for line in lines)
        for index, line in enumerate(lines):
            with ledger.noting(text, index, f"line {index + 1}"):
                if columns := line.split():
                    shapes.append(_shape(columns, names, header.width, header.height, keypoints))
    return Picture(image, name, header.width, header.height, tuple(shapes), lost=lost - len(shapes))


def _shape(columns: list[str], names: dict[int, str], width: int, height: int, keypoints: bool) -> Shape:
    if len(columns) in _DOTA_COLUMNS and not _is_number(columns[8]):
        corners = np.array([to_number(column) for column in columns[:8]]).reshape(-1, 2)
        return Shape(columns[8], corners, "polygon")
    number, count = to_whole(columns[0]), len(columns)
    if number not in names:
        raise Unusable(Code.BROKEN_ANNOTATION, f"the class {number} has no name.")
    shares = np.array([to_number(column) for column in columns[1:]])
    note = ""
    if not keypoints and (count == _BOX_COLUMNS + 1 or (count >= _OUTLINE_COLUMNS and count % 2 == 0)):
        if not 0 <= shares[-1] <= 1:
            raise Unusable(
                Code.BROKEN_ANNOTATION,
                f"{count} numbers, of which the last is no confidence between 0 and 1. Export it again.",
            )
        shares, count, note = shares[:-1], count - 1, f"confidence: {columns[-1]}"
    if count == _BOX_COLUMNS or (keypoints and count > _BOX_COLUMNS):
        x, y, across, down = shares[:4]
        corners = np.array([[x - across / 2, y - down / 2], [x + across / 2, y + down / 2]])
        return Shape(names[number], _pixels(corners, width, height), "rectangle", description=note)
    if count < _OUTLINE_COLUMNS:
        message = f"{count} numbers are neither a box (5) nor an outline (an odd number from 7 on)."
        raise Unusable(Code.BROKEN_ANNOTATION, message)
    return Shape(names[number], _pixels(shares.reshape(-1, 2), width, height), "polygon", description=note)


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False


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
