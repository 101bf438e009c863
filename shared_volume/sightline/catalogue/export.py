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
from sightline.catalogue.listing import open_installation, published_row
from sightline.errors import SightlineError, counted, nearest
from sightline.formats.coco import write_coco_folder
from sightline.formats.voc import write_voc_folder
from sightline.formats.writing import ALL, Losses, Part
from sightline.formats.yolo import write_yolo_folder
from sightline.processes.folders import private_folder
from sightline.references import DETECTION, task_of
from sightline.services.versioning.datasets import find_dataset, pull_dataset
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
    """What an export wrote."""

    images: int
    annotations: int  # of the version; the notes say which of them the format could not take
    notes: tuple[str, ...]  # what was changed or left out to fit, a sentence each, with counts

    def __str__(self) -> str:
        return "\n  ".join([f"{counted(self.images, 'image')}, {counted(self.annotations, 'object')}", *self.notes])


def export_version(settings: Settings, tag: str, form: str, target: Path) -> Exported:
    """Write a published version in another format: a dataset version in its splits, an annotation version in one set.

    `target` is a new or empty folder; it holds all of the export, or after an error nothing. A SightlineError for no such
    version or format, a folder in use, or a service that failed.
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
            images, annotations = (sum(len(part.coco[of]) for part in parts) for of in ("images", "annotations"))
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
    installation = open_installation(settings)
    _require_detection(named, task_of(published_row(installation.rows(), str(named)).recipe))
    with installation.repo.working_copy(str(named)) as copy:
        folder = copy.pull(copy.category_folder("annotations", named.category))
        # Every label, checked as a dataset's images are.
        recipe = Recipe()
        images, findings = read_usable(folder, recipe)
        for code, count in count_findings(found for found in findings if found.outcome is not Outcome.FIX).items():
            losses[f"shapes or images left out, for the finding {code}"] += count
        yield [Part(ALL, truth_of(images, choose_classes(images, recipe)), folder)]


def _require_detection(named: Tag, task: str) -> None:
    if task != DETECTION:
        raise SightlineError(
            f"{named} is for {task}, of which these formats know nothing. Only detection's versions are exported."
        )
