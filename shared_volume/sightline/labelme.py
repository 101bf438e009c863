"""labelme's JSON, one document per image: read strictly, written so that labelme itself reads it again."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from sightline.errors import SightlineError

WRITTEN_VERSION: Final = "5.5.0"  # labelme's version whose format `write_document` writes

_BOM: Final = b"\xef\xbb\xbf"
_LARGEST_COORDINATE: Final = 1e9  # pixels; far more, and areas are no longer finite
_LARGEST_SIZE: Final = 10_000_000  # pixels a side; anything above is a damaged file


class LabelmeError(SightlineError):
    """A labelme JSON that cannot be used."""


class ImagePathError(LabelmeError):
    """imagePath leads out of the annotation folder."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape that an annotator drew.

    Attributes:
        label: as written; may be empty.
        points: (N, 2) float64, x and y in pixels of the upright image; their meaning depends on the type.
        shape_type: polygon, rectangle, circle, mask, point, line, linestrip, or what a newer labelme adds.
        group_id: shapes of one label and group are parts of one object.
        mask: of a mask: base64 of the PNG that fills the box between the two points.
        flags: the annotator's ticks.
        description: the annotator's text.
    """

    label: str
    points: np.ndarray
    shape_type: str = "polygon"
    group_id: int | None = None
    mask: str | None = None
    flags: Mapping[str, bool] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """What an annotator drew on one image.

    Attributes:
        image_path: of the image, relative to the document's folder, with forward slashes.
        image_height: in pixels of the upright image, None when not written down.
        image_width: likewise.
        shapes: in the order drawn.
        flags: the annotator's ticks for the whole image.
    """

    image_path: str
    image_height: int | None
    image_width: int | None
    shapes: tuple[Shape, ...]
    flags: Mapping[str, bool] = field(default_factory=dict)


def read_document(path: Path, root: Path | None = None) -> Document:
    """Read one labelme JSON; an embedded image is skipped.

    Args:
        path: the JSON file.
        root: the folder that imagePath must not leave; the document's own by default.

    Raises:
        LabelmeError: not JSON, cut off, not labelme's, wrong types, or a coordinate that is no plausible number.
        ImagePathError: imagePath leads out of `root`.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # unbuffered: thousands of small files
            data = file.read()
    except OSError as error:
        raise LabelmeError(f"{path}: the annotation cannot be read ({error.strerror}).") from None
    content = _parse(path, data)
    if not isinstance(content, dict) or "shapes" not in content or "imagePath" not in content:
        raise LabelmeError(f"{path}: JSON, but not labelme's (no shapes and imagePath). Move it out of the folder.")
    shapes = content["shapes"]
    if not isinstance(shapes, list):
        raise LabelmeError(f"{path}: shapes must be a list. Save it again with labelme.")
    return Document(
        image_path=_image_path(path, content["imagePath"], root),
        image_height=_size(path, "imageHeight", content.get("imageHeight")),
        image_width=_size(path, "imageWidth", content.get("imageWidth")),
        shapes=tuple([_shape(path, index, shape) for index, shape in enumerate(shapes)]),
        flags=content.get("flags") or {},
    )


def write_document(path: Path, document: Document) -> None:
    """Write one labelme JSON beside its image. The image is not embedded. Same document, same bytes."""
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
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _parse(path: Path, data: bytes) -> Any:
    try:
        return orjson.loads(data.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        try:
            json.loads(data)  # Python's json, and so labelme, writes and reads NaN, which JSON has not
        except ValueError:
            cut = " The file is empty." if not data.strip() else ""
            raise LabelmeError(
                f"{path}: not JSON, or cut off ({error.msg}).{cut} Save it again with labelme, or remove it."
            ) from None
        raise LabelmeError(f"{path}: a number is NaN or infinite. Draw that shape again with labelme.") from None


def _image_path(path: Path, image_path: Any, root: Path | None) -> str:
    """imagePath with forward slashes and without detours, as labelme reads it on every system."""
    if not isinstance(image_path, str) or not image_path or "\0" in image_path:
        raise LabelmeError(f"{path}: imagePath must be a file name. Save it again with labelme.")
    name = image_path.replace("\\", "/")
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise _leaves(path, image_path)
    if "/" not in name and name != "..":
        return name
    parts: list[str] = []
    allowed = len(path.parent.relative_to(root).parts) if root else 0
    for part in name.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if parts.count("..") > allowed or not parts:
        raise _leaves(path, image_path)
    return "/".join(parts)


def _leaves(path: Path, image_path: str) -> ImagePathError:
    return ImagePathError(
        f"{path}: imagePath {image_path!r} leads out of the annotation folder. "
        "Put the image into the folder and correct imagePath."
    )


def _size(path: Path, key: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST_SIZE:
        raise LabelmeError(
            f"{path}: {key} must be a whole number of pixels, not {value!r}. Save it again with labelme."
        )
    return value


def _shape(path: Path, index: int, shape: Any) -> Shape:
    try:
        label = shape["label"]
        points = _points(shape["points"])
        group_id = shape.get("group_id")
        mask = shape.get("mask")
        shape_type = shape.get("shape_type") or "polygon"  # old versions wrote none
        if not (
            isinstance(label, str)
            and isinstance(shape_type, str)
            and (group_id is None or isinstance(group_id, int))
            and (mask is None or isinstance(mask, str))
        ):
            raise TypeError("label, shape_type and mask must be text, group_id a whole number")
    except KeyError as error:
        raise LabelmeError(f"{path}: shape {index} has no {error}. Save it again with labelme.") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise LabelmeError(f"{path}: shape {index} is malformed ({error}). Draw it again with labelme.") from None
    return Shape(label, points, shape_type, group_id, mask, shape.get("flags") or {}, shape.get("description") or "")


def _points(points: Any) -> np.ndarray:
    """(N, 2) float64.

    Raises:
        TypeError: not a list.
        ValueError: not pairs of plausible numbers.
    """
    if not isinstance(points, list):
        raise TypeError("points must be a list")
    if not points:
        return np.empty((0, 2))
    try:
        array = np.array(points)
    except ValueError:
        raise ValueError("every point must be [x, y]") from None
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "fiu":
        raise ValueError("every point must be [x, y], two numbers")
    array = array.astype(np.float64, copy=False)
    if not np.abs(array).max() <= _LARGEST_COORDINATE:
        raise ValueError(f"a coordinate is not a number within ±{_LARGEST_COORDINATE:.0e}")
    return array
