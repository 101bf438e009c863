"""YOLO in Ultralytics' layout: `data.yaml`, `images/<part>/`, `labels/<part>/`."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from sightline.formats.content import FlatNames, Losses, Part, copy_upright
from sightline.formats.outlines import instance_outlines, is_box, join_outlines
from sightline.services.versioning.shards import SPLITS


def write_yolo_folder(parts: Sequence[Part], target: Path, losses: Losses) -> None:
    """Write every part: outlines as soon as one object is more than its box, else boxes.

    Ultralytics reads a set's lines as one kind or the other, not as a mixture.
    """
    outlined = any(
        not annotation["iscrowd"] and not is_box(annotation)
        for part in parts
        for annotation in part.coco["annotations"]
    )
    for part in parts:
        names = FlatNames(losses)
        (target / "images" / part.name).mkdir(parents=True)
        (target / "labels" / part.name).mkdir(parents=True)
        numbers = {category["id"]: index for index, category in enumerate(part.coco["categories"])}
        for image, annotations in part.annotated():
            name = names.choose(image["file_name"])
            copy_upright(part.images / image["file_name"], target / "images" / part.name / name, losses)
            lines = [
                _line(annotation, image, numbers, outlined, losses)
                for annotation in annotations
                if not annotation["iscrowd"]
            ]
            losses.add("crowds left out, which YOLO does not have", len(annotations) - len(lines))
            text = target / "labels" / part.name / f"{PurePosixPath(name).stem}.txt"
            text.write_text("".join([f"{line}\n" for line in lines]), encoding="utf-8")
    _write_yaml(parts, target, losses)


def _line(
    annotation: Mapping[str, Any], image: Mapping[str, Any], numbers: Mapping[int, int], outlined: bool, losses: Losses
) -> str:
    size = np.array([image["width"], image["height"]], dtype=np.float64)
    if outlined:
        outlines = instance_outlines(annotation["segmentation"])
        if isinstance(annotation["segmentation"], dict):
            losses.add("painted masks written as their outlines")
        if len(outlines) > 1:
            losses.add("objects in parts or with holes written as one outline, joined by lines without area")
        shares = join_outlines(outlines) / size
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
            losses.add(
                f"sets that Ultralytics asks for and that have no images ({needed}; data.yaml names {filled[0]} there)"
            )
    content = {name: content[name] for name in SPLITS if name in content}
    content["names"] = {index: category["name"] for index, category in enumerate(parts[0].coco["categories"])}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    (target / "data.yaml").write_text(text, encoding="utf-8")
