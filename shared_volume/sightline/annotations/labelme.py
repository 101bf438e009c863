"""labelme's JSON, one document per image: read strictly, written so that labelme itself reads it again."""

import base64
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from sightline.annotations.encoding import decode_text, older_encoding
from sightline.errors import SightlineError

WRITTEN_VERSION: Final = "5.5.0"  # labelme's version whose format `write_document` writes

_BOM: Final = b"\xef\xbb\xbf"
LARGEST_COORDINATE: Final = 1e9  # pixels; far more, and areas are no longer finite
_LARGEST_SIZE: Final = 10_000_000  # pixels a side; anything above is a damaged file
_LARGEST_FILE: Final = 2**28  # bytes; an embedded image may be large
_MOST_VALUES: Final = 20_000_000  # numbers, texts and lists in one file
_LONGEST_LABEL: Final = 200  # characters
LARGEST_GROUP: Final = 2**53  # beyond, JSON's readers differ
_AS_LABELME: Final = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
_OPEN_FLAGS: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class LabelmeError(SightlineError):
    """A labelme JSON that cannot be used."""


class ImagePathError(LabelmeError):
    """imagePath leads out of the document's folder.

    Attributes:
        name: the file name at its end, empty when it has none.
        path: all of it, with forward slashes.
    """

    def __init__(self, message: str, name: str, path: str):
        super().__init__(message)
        self.name, self.path = name, path


@dataclass(frozen=True, slots=True)
class Damage:
    """Why a shape cannot be understood, and whether its coordinates are at least numbers of a plausible size."""

    reason: str
    finite: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape that an annotator drew."""

    label: str  # as written; may be empty
    points: np.ndarray  # (N, 2) float64, x and y in pixels of the upright image; their meaning depends on the type
    shape_type: str = (
        "polygon"  # or rectangle, circle, oriented_rectangle, mask, point, line, linestrip, another tool's
    )
    group_id: int | None = None  # shapes of one label and group are parts of one object
    mask: str | None = None  # of a mask: base64 of the PNG that fills the box between the two points
    flags: Mapping[str, bool] = field(default_factory=dict)  # the annotator's ticks
    description: str = ""
    damage: Damage | None = None  # of a shape that cannot be understood; it then has no points


@dataclass(frozen=True, slots=True)
class Document:
    """What an annotator drew on one image."""

    image_path: str  # of the image, relative to the document's folder, with forward slashes
    image_height: int | None  # in pixels of the upright image, None when not written down; likewise the width
    image_width: int | None
    shapes: tuple[Shape, ...]  # in the order drawn; a damaged one keeps its place
    flags: Mapping[str, bool] = field(default_factory=dict)
    embedded: bool = False  # whether the document holds the image itself as well
    encoding: str = ""  # in which it was read, if that is none of Unicode's; a guess


def read_document(path: Path, image_path: str | None = None) -> Document:
    """Read one labelme JSON. A shape that cannot be understood is handed over as such; an embedded image is skipped.

    `image_path` takes the place of the file's own imagePath; ImagePathError when that leads out of the document's folder.
    LabelmeError when the file is missing, not a plain one, far too large, not JSON, cut off, or not labelme's.
    """
    return parse_document(path, _read(path), image_path)


def parse_document(path: Path, data: bytes, image_path: str | None = None) -> Document:
    """Like `read_document`, of a file that is read already; `path` is only named in errors."""
    content, _, encoding = _parse(path, data)
    return Document(
        image_path=_image_path(path, content["imagePath"] if image_path is None else image_path),
        image_height=_size(content.get("imageHeight")),
        image_width=_size(content.get("imageWidth")),
        shapes=tuple([_shape(drawn) for drawn in content["shapes"]]),
        flags=_flags(content.get("flags")),
        embedded=bool(content.get("imageData")),
        encoding=encoding,
    )


def read_embedded_image(path: Path) -> bytes:
    """The image file that a labelme JSON holds; LabelmeError when the JSON cannot be read, or the image is damaged."""
    content, _, _ = _parse(path, _read(path))
    try:
        return base64.b64decode(str(content.get("imageData")), validate=True)
    except ValueError:
        raise LabelmeError(f"{path}: the embedded image is damaged. Save it again with labelme.") from None


def edit_document(source: Path, changes: Mapping[str, Any], shapes: Sequence[Shape] = ()) -> bytes:
    """A labelme JSON as its annotator wrote it, but for the changed keys. Same document, same bytes.

    `shapes` are the document's, in its order, whose points and masks take the place of those written there.
    """
    content, strict, _ = _parse(source, _read(source))
    content |= changes
    for drawn, shape in zip(content["shapes"], shapes, strict=False):
        if not shape.damage:
            drawn |= {"points": shape.points.tolist()} | ({"mask": shape.mask} if shape.mask else {})
    if strict:
        with suppress(TypeError):  # nested deeper than orjson writes
            return orjson.dumps(content, option=_AS_LABELME)
    # NaN stays NaN, so that the copy's findings are the same.
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def write_document(path: Path, document: Document) -> None:
    """Write one labelme JSON beside its image. The image is not embedded. Same document, same bytes."""
    path.write_bytes(format_document(document))


def format_document(document: Document) -> bytes:
    """What `write_document` writes."""
    shapes = [
        {
            "label": shape.label,
            "points": shape.points.tolist(),
            "group_id": shape.group_id,
            "description": shape.description,
            "shape_type": shape.shape_type,
            "flags": dict(shape.flags),
            "mask": shape.mask,
        }
        for shape in document.shapes
    ]
    content = {
        "version": WRITTEN_VERSION,
        "flags": dict(document.flags),
        "shapes": shapes,
        "imagePath": document.image_path,
        "imageData": None,
        "imageHeight": document.image_height,
        "imageWidth": document.image_width,
    }
    return orjson.dumps(content, option=_AS_LABELME)


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, _OPEN_FLAGS)  # not blocking: a pipe without a writer would hang
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise LabelmeError(f"{path}: not a plain file. Move it out of the folder.")
            if status.st_size > _LARGEST_FILE:
                raise LabelmeError(
                    f"{path}: {status.st_size:,} bytes are more than the limit of {_LARGEST_FILE:,}. "
                    "Save it again with labelme, without the image data."
                )
            data = os.read(descriptor, status.st_size + 1)  # one call for nearly every file; there are thousands
            while len(data) < status.st_size and (more := os.read(descriptor, status.st_size)):
                data += more
            return data
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LabelmeError(f"{path}: the annotation cannot be read ({error.strerror}).") from None


def _parse(path: Path, data: bytes) -> tuple[dict[str, Any], bool, str]:
    """What a labelme JSON holds, whether it is JSON to the letter, and its encoding if that is none of Unicode's."""
    if len(data) > _MOST_VALUES and data.count(b",") > _MOST_VALUES:
        raise LabelmeError(f"{path}: more than {_MOST_VALUES:,} values. Move it out of the folder.")
    try:
        content, strict, encoding = load_json(data, path)
    except ValueError as error:
        cut = " The file is empty." if not data.strip() else ""
        raise LabelmeError(
            f"{path}: not JSON, or cut off ({error}).{cut} Save it again with labelme, or remove it."
        ) from None
    if not isinstance(content, dict) or "shapes" not in content or "imagePath" not in content:
        raise LabelmeError(f"{path}: JSON, but not labelme's (no shapes and imagePath). Move it out of the folder.")
    if not isinstance(content["shapes"], list):
        raise LabelmeError(f"{path}: shapes must be a list. Save it again with labelme.")
    return content, strict, encoding


def load_json(data: bytes, path: Path) -> tuple[Any, bool, str]:
    """The content of a JSON file, whether it is JSON to the letter, and in which encoding other than Unicode's it was read.

    Python's json, and so labelme, writes and reads NaN, which JSON does not have: one such number is not to spoil a file.
    An old labelme writes in its system's encoding, which is guessed, also from the files beside `path`. ValueError when it is cut off, nested too deeply, or has
    half characters, which no other file could hold.
    """
    reason = encoding = ""
    try:
        content = orjson.loads(data.removeprefix(_BOM))
        if data.isascii() or not older_encoding(data, path):
            return content, True, ""
    except orjson.JSONDecodeError as error:
        reason = error.msg
    try:
        text, encoding = decode_text(data, path)
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError(f"its encoding is not UTF-8 but likely {encoding}; {reason}" if encoding else reason) from None
    return content, False, encoding


def plain_path(name: str) -> str | None:
    """A path with slashes of either kind, with forward slashes and without detours; None when it leads out."""
    name = name.replace("\\", "/")
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return None if not parts or name.startswith("/") or re.match("[A-Za-z]:", name) else "/".join(parts)


def _image_path(path: Path, image_path: Any) -> str:
    """imagePath as labelme reads it on every system."""
    if not isinstance(image_path, str) or not image_path or "\0" in image_path:
        raise LabelmeError(f"{path}: imagePath must be a file name. Save it again with labelme.")
    if (plain := plain_path(image_path)) is not None:
        return plain
    name = re.split(r"[/\\:]", image_path)[-1]
    raise ImagePathError(
        f"{path}: imagePath {image_path[:_LONGEST_LABEL]!r} leads out of the JSON's folder. "
        "Put the image beside the JSON and correct imagePath.",
        "" if name in (".", "..") else name,
        image_path.replace("\\", "/"),
    )


def _size(value: Any) -> int | None:
    """A side in pixels; None when there is no usable one, since the image itself knows better."""
    return int(value) if type(value) in (int, float) and 0 < value <= _LARGEST_SIZE and value % 1 == 0 else None


def _flags(value: Any) -> Mapping[str, bool]:
    return value if isinstance(value, dict) else {}


def _shape(drawn: Any) -> Shape:
    label = drawn.get("label") if isinstance(drawn, dict) else None
    try:
        if not isinstance(drawn, dict):
            raise TypeError("it is not an object with label and points")
        label, points = drawn["label"], _points(drawn["points"])
        group_id, mask = _group(drawn.get("group_id")), drawn.get("mask")
        shape_type = drawn.get("shape_type") or "polygon"  # old versions wrote none
        for key, text in {"label": label, "shape_type": shape_type, "mask": "" if mask is None else mask}.items():
            if not isinstance(text, str):
                raise TypeError(f"{key} must be text, not {_kind(text)}")
            if key != "mask" and len(text) > _LONGEST_LABEL:
                raise TypeError(f"{key} must not be longer than {_LONGEST_LABEL} characters")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        damage = Damage(reason, finite=not isinstance(error, OverflowError))
        return Shape(label[:_LONGEST_LABEL] if isinstance(label, str) else "", np.empty((0, 2)), damage=damage)
    described = drawn.get("description")
    text = described if isinstance(described, str) else ""
    return Shape(label, points, shape_type, group_id, mask, _flags(drawn.get("flags")), text)


def _group(value: Any) -> int | None:
    """A group's number; TypeError unless it is a whole one, be it written as text."""
    if value is None or (isinstance(value, int) and abs(value) <= LARGEST_GROUP):
        return value
    with suppress(ValueError, OverflowError):
        if isinstance(value, str | float) and abs(number := int(value)) <= LARGEST_GROUP and number == float(value):
            return number
    raise TypeError(f"group_id must be a whole number, not {_kind(value)}")


def _kind(value: Any) -> str:
    """What a value is, as JSON calls it, or the number itself."""
    names = {str: "text", list: "a list", dict: "an object", bool: "true or false"}
    return names.get(type(value)) or str(value)[:20]


def _points(points: Any) -> np.ndarray:
    """(N, 2) float64; OverflowError for a coordinate that is not finite or not plausible."""
    if not isinstance(points, list):
        raise TypeError("points must be a list")
    if not points:
        return np.empty((0, 2))
    try:
        array = np.array(points)
    except (ValueError, OverflowError, RecursionError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError("every point must be [x, y]")
    if array.dtype == object and all(type(value) in (int, float) for value in array.ravel()):
        raise OverflowError("a coordinate is far too large")  # whole numbers beyond 64 bits
    if array.dtype.kind not in "fiu":
        raise ValueError("every point must be [x, y], two numbers")
    array = array.astype(np.float64, copy=False)
    if not np.abs(array).max() <= LARGEST_COORDINATE:
        raise OverflowError(f"a coordinate is not a number within ±{LARGEST_COORDINATE:.0e}")
    return array
