"""Check a labelme folder, copy it, and publish the copy."""

import codecs
import hashlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from sightline.database import ImageRow, connect
from sightline.dataset_repo import DatasetRepo
from sightline.errors import SightlineError
from sightline.images import MAX_PIXELS
from sightline.publication import Content, Outcome, Services, publish
from sightline.record.findings import Code, Finding
from sightline.record.read import Annotated, read_annotations
from sightline.settings import Settings
from sightline.storage import open_storage
from sightline.versions import check_category, parse_version

log = logging.getLogger(__name__)

MOST_PROBLEMS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Published:
    """The publication's outcome, and how many images were left out because they have no JSON."""

    outcome: Outcome
    left_out: int


def publish_annotations(place: Settings, folder: Path, category: str, version: str) -> Published:
    """Publish a folder's annotated images as an annotation version; the folder itself stays as it is.

    Every JSON must have its image, whole and of a sane size. Images embedded in the JSON are dropped from the copy: the
    files beside them are the images.

    Args:
        place: the installation.
        folder: labelme JSON and images, nested as they like.
        category: what the annotations are of.
        version: like v0.1.0.

    Raises:
        SightlineError: a name is malformed, a file cannot be used (names the first ten), nothing is annotated, the version
            is taken, or a service failed.
    """
    check_category(category)
    parse_version(version)
    annotated, left_out = _check(folder)
    database = connect(place.database_url.get_secret_value())
    database.migrate()
    services = Services(DatasetRepo.of(place), open_storage(place.storage), database)
    outcome = publish(services, category, "annotation", version, lambda target: _copy(folder, annotated, target))
    return Published(outcome, left_out)


def _check(folder: Path) -> tuple[list[Annotated], int]:
    annotated: list[Annotated] = []
    problems: list[Finding] = []
    left_out = 0
    for found in read_annotations(folder, MAX_PIXELS):
        if isinstance(found, Annotated):
            annotated.append(found)
        elif found.code == Code.NOT_ANNOTATED:
            left_out += 1
        else:
            problems.append(found)
    if problems:
        shown = "\n".join(f"  {problem.file}: {problem.message}" for problem in problems[:MOST_PROBLEMS_SHOWN])
        more = f"\n  … and {len(problems) - MOST_PROBLEMS_SHOWN} more" if len(problems) > MOST_PROBLEMS_SHOWN else ""
        raise SightlineError(
            f"{len(problems)} of the JSON files in {folder} cannot be published:\n{shown}{more}\n"
            "Nothing was published. Mend these files or move them out of the folder, then run the same command again."
        )
    if not any(item.document.shapes for item in annotated):
        raise SightlineError(f"{folder}: no image has a shape drawn on it. Annotate some with labelme first.")
    return annotated, left_out


def _copy(folder: Path, annotated: list[Annotated], target: Path) -> Content:
    rows = []
    for item in annotated:
        image = target / item.image
        image.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / item.image, image)
        content = orjson.loads((folder / item.file).read_bytes().removeprefix(codecs.BOM_UTF8))
        content |= {"imageData": None, "imagePath": item.document.image_path}
        (target / item.file).parent.mkdir(parents=True, exist_ok=True)
        (target / item.file).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        data = image.read_bytes()
        rows.append(
            ImageRow(
                name=item.image,
                split=None,
                width=item.header.width,
                height=item.header.height,
                bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                annotation_count=len(item.document.shapes),
            )
        )
    return Content(images=rows)
