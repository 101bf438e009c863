"""COCO: `annotations/instances_<part>.json` and `images/<part>/`."""

from collections.abc import Sequence
from pathlib import Path

from sightline.annotations.regions import write_coco
from sightline.formats.content import Losses, Part, copy_upright


def write_coco_folder(parts: Sequence[Part], target: Path, losses: Losses) -> None:
    """Write every part; COCO expresses all that a version holds."""
    (target / "annotations").mkdir()
    for part in parts:
        write_coco(target / "annotations" / f"instances_{part.name}.json", part.coco)
        for image in part.coco["images"]:
            copy_upright(part.images / image["file_name"], target / "images" / part.name / image["file_name"], losses)
