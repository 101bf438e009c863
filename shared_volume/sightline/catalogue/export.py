"""Export: fetch a version, write it in the format asked for, and show it only when all of it is there."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sightline.annotations.findings import Outcome, count_findings
from sightline.annotations.instances import choose_classes, read_usable
from sightline.annotations.recipe import Recipe
from sightline.annotations.truth import read_truth
from sightline.errors import SightlineError, nearest
from sightline.formats.coco import write_coco_folder
from sightline.formats.voc import write_voc_folder
from sightline.formats.writing import ALL, Losses, Part
from sightline.formats.yolo import write_yolo_folder
from sightline.processes.folders import private_folder
from sightline.references import DETECTION, task_of
from sightline.services.database.connection import connect
from sightline.services.database.versions import find_version
from sightline.services.versioning.datasets import find_dataset, pull_dataset
from sightline.services.versioning.repository import DatasetRepo
from sightline.services.versioning.shards import IMAGES, SPLITS
from sightline.settings import Settings
from sightline.tasks.detection.data import truth_of
from sightline.versions import Tag, parse_tag

log = logging.getLogger(__name__)

_WRITERS: Final[dict[str, Callable[[Sequence[Part], Path, Losses], None]]] = {
    "coco": write_coco_folder,
    "yolo": write_yolo_folder,
    "voc": write_voc_folder,
}
FORMS: Final = tuple(_WRITERS)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        annotations: of the version; the notes say which of them the format could not take.
        notes: what was changed or left out to fit, a sentence each, with counts.
    """

    images: int
    annotations: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        counts = f"{self.images:,} images, {self.annotations:,} objects"
        return "\n  ".join([counts, *self.notes])


def export_version(settings: Settings, tag: str, form: str, target: Path) -> Exported:
    """Write a published version in another format: a dataset version in its splits, an annotation version in one set.

    `target` is a new or empty folder; it holds all of the export, or after an error nothing.

    Raises:
        SightlineError: no such version or format, the folder is in use, or a service failed.
    """
    named = parse_tag(tag)
    if form not in FORMS:
        raise SightlineError(f"there is no format {form!r} to export to.{nearest(form, FORMS)}")
    _require_free(target)
    losses = Losses()
    try:
        with (
            _version_parts(settings, named, losses) as parts,
            private_folder(target.absolute().parent, ".exporting-") as own,
        ):
            whole = own / "export"
            whole.mkdir()
            _WRITERS[form](parts, whole, losses)
            _require_free(target)
            if target.is_dir():
                target.rmdir()
            whole.rename(target)
            images = sum(len(part.coco["images"]) for part in parts)
            annotations = sum(len(part.coco["annotations"]) for part in parts)
    except OSError as error:
        raise SightlineError(
            f"{target}: the export cannot be written ({error.strerror or error}). Make room there, or choose another folder."
        ) from None
    log.info("exported %s as %s to %s: %d images, %d objects", tag, form, target, images, annotations)
    return Exported(images, annotations, losses.notes())


def _require_free(target: Path) -> None:
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise SightlineError(f"{target}: already exists and is not an empty folder. Choose a new one.")


@contextmanager
def _version_parts(settings: Settings, named: Tag, losses: Losses) -> Iterator[list[Part]]:
    if named.kind == "dataset":
        dataset = find_dataset(settings, named.category, named.version)
        _require_detection(named, dataset.task)
        folder = pull_dataset(settings, dataset)
        yield [Part(name, read_truth(folder / f"{name}.json"), folder / IMAGES) for name in SPLITS]
        return
    database = connect(settings.database_url.get_secret_value())
    database.migrate()
    found = find_version(database, named.category, named.kind, named.version)
    if found is None or found.status != "published":
        raise SightlineError(f"There is no published version {named}. List them: python pipeline.py versions.")
    _require_detection(named, task_of(found.recipe))
    with DatasetRepo.of(settings).working_copy(str(named)) as copy:
        folder = copy.pull(copy.category_folder("annotations", named.category))
        yield [_annotation_part(folder, losses)]


def _require_detection(named: Tag, task: str) -> None:
    if task != DETECTION:
        raise SightlineError(
            f"{named} is for {task}, of which these formats know nothing. Only detection's versions are exported."
        )


def _annotation_part(folder: Path, losses: Losses) -> Part:
    """A labelme folder as one part, with every label, checked as a dataset's images are."""
    recipe = Recipe()
    images, findings = read_usable(folder, recipe)
    dropped = [found for found in findings if found.outcome is not Outcome.FIX]
    for code, count in count_findings(dropped).items():
        losses[f"shapes or images left out, for the finding {code}"] += count
    return Part(ALL, truth_of(images, choose_classes(images, recipe)), folder)
