"""The annotations of a version, read from its listing and objects alone: no image is fetched."""

import math
import posixpath
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from sightline.annotations.labelme import ImagePathError, Shape, parse_document
from sightline.errors import SightlineError
from sightline.services.versioning.objects import Objects
from sightline.services.versioning.shards import SPLITS

Corners = tuple[float, float, float, float]

WHOLE_IMAGE: Final = "the whole image"  # the outline of what has none
_NO_BOX: Final = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotation on an image."""

    label: str
    outline: Hashable  # all of its geometry; equal for equal geometry
    corners: Corners  # left, top, right, bottom in pixels
    notes: Hashable = None  # everything else that an annotator set; equal for equal notes


Instances = dict[str, list[Instance]]  # by the image's name


class UnreadableVersionError(SightlineError):
    """A version whose annotations are not what its kind of version holds."""


def annotation_files(listing: Mapping[str, str], kind: str) -> dict[str, str]:
    """Those of a version's files that hold annotations: name -> digest."""
    if kind == "dataset":
        return {name: listing[name] for name in (f"{split}.json" for split in SPLITS) if name in listing}
    return {name: listing[name] for name in listing if name.lower().endswith(".json") and "/." not in f"/{name}"}


def read_instances(objects: Objects, files: Mapping[str, str], kind: str) -> Instances:
    """The annotations in some of a version's files, by image.

    `files` are digests by name: labelme JSON of the kind annotation, COCO of the kind dataset. One that is not what it should
    be is an UnreadableVersionError, one that is neither on the remote nor in the cache a StorageError.
    """
    content = objects.read_all(files.values())
    instances: Instances = defaultdict(list)
    read = _read_coco if kind == "dataset" else _read_labelme
    for name, digest in sorted(files.items()):
        for image, found in read(name, content[digest]).items():
            instances[image].extend(found)
    return dict(instances)


def _read_labelme(name: str, data: bytes) -> Instances:
    """One document's shapes, without those that nobody can understand: they are not counted anywhere."""
    path = Path(name)
    try:
        document = parse_document(path, data)
        image = document.image_path
    except ImagePathError as error:  # early versions kept images in other folders of the version
        document = parse_document(path, data, error.name)
        image = str(orjson.loads(data)["imagePath"])
    image = posixpath.normpath(posixpath.join(posixpath.dirname(name), image))
    drawn = [
        Instance(
            label=shape.label,
            outline=(shape.shape_type, shape.points.tobytes(), shape.mask),
            corners=_corners(shape),
            notes=(shape.group_id, _frozen(shape.flags), shape.description),
        )
        for shape in document.shapes
        if shape.damage is None
    ]
    # Where nothing is drawn, the flags say what the image as a whole is.
    ticked = [] if document.shapes else [name for name, on in document.flags.items() if on]
    return {image: drawn or [Instance(name, WHOLE_IMAGE, _NO_BOX, ()) for name in ticked]}


def _corners(shape: Shape) -> Corners:
    if not len(shape.points):
        return _NO_BOX
    (left, top), (right, bottom) = shape.points.min(axis=0).tolist(), shape.points.max(axis=0).tolist()
    if shape.shape_type == "circle" and len(shape.points) == 2:
        (x, y), edge = shape.points.tolist()
        radius = math.dist((x, y), edge)
        return x - radius, y - radius, x + radius, y + radius
    return left, top, right, bottom


def _read_coco(name: str, data: bytes) -> Instances:
    try:
        content = orjson.loads(data)
        images = {image["id"]: image["file_name"] for image in content["images"]}
        labels = {category["id"]: category["name"] for category in content["categories"]}
        instances: Instances = {image: [] for image in images.values()}
        for annotation in content["annotations"]:
            label = labels[annotation["category_id"]]
            instances[images[annotation["image_id"]]].append(_from_annotation(label, annotation))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableVersionError(
            f"{name}: not a COCO file as the record step writes it ({type(error).__name__}: {error}). Record the version "
            "again under the next number."
        ) from None
    return instances


def _from_annotation(label: str, annotation: Mapping[str, Any]) -> Instance:
    if "bbox" not in annotation:
        return Instance(label, WHOLE_IMAGE, _NO_BOX, 0)
    x, y, width, height = annotation["bbox"]
    outline = ((x, y, width, height), _frozen(annotation["segmentation"]))
    return Instance(label, outline, (x, y, x + width, y + height), annotation.get("iscrowd", 0))


def _frozen(value: Any) -> Hashable:
    """JSON content as one text, equal for equal content."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
