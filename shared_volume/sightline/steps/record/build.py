"""The stages in order: an annotation folder in, a dataset folder out."""

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sightline.annotations.findings import Finding, count_findings, require_none_fails
from sightline.annotations.instances import (
    DatasetImage,
    check_annotations,
    choose_classes,
    find_rare_labels,
    join_parts,
    position,
)
from sightline.annotations.kept import InstanceFile
from sightline.annotations.recipe import Recipe
from sightline.annotations.split_file import read_split_file
from sightline.errors import SightlineError
from sightline.images.similarity import perceptual_hash
from sightline.references import DETECTION
from sightline.services.database.versions import FindingRow, StageRow
from sightline.services.versioning.shards import SPLITS_FILE, PackedImage, hash_image
from sightline.steps.record.ahead import Ahead, LeftOutError
from sightline.steps.record.assign import assign_all
from sightline.steps.record.few import choose_few, keep_few
from sightline.steps.record.filters import OtherLabels, choose_labels, filter_images, filter_objects
from sightline.steps.record.groups import Images, SplitImage, as_first_published
from sightline.steps.record.plugin import load_plugin, transform_images
from sightline.steps.record.write import DatasetSummary, Prepared, write_dataset
from sightline.tasks.task import Task

logger = logging.getLogger(__name__)

STAGES: Final = {
    "read": "files and annotations that cannot be read are left out",
    "classes": "labels that were not chosen are left out",
    "check": "{by} that cannot be used are left out",
    "groups": "parts of one group become one object",
    "labels": "rare labels that look misspelt",
    "plugin": "the recipe's own function",
    "objects": "objects too small or too long are left out",
    "images": "images too small or empty are left out",
    "split": "train, val and test are assigned",
}
"""In order, as the report tells them. Annotations are shapes or flags (`by`) up to `check`, instances from `groups` on."""

INSTANCES: Final = ".instances"  # a file of the scratch folder, in which a plug-in's pictures lie too


class NothingAnnotatedError(SightlineError):
    """No annotated image remains."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a dataset is made from besides the annotation folder; all of it is optional."""

    recipe_folder: Path | None = None  # the category's folder in the step's frozen code: split file and plug-in
    shown_folder: Path | None = None  # what messages call it: relative to the helper code, as users know it
    earlier: Images = ()  # what the category's annotation versions published so far
    findings: Sequence[FindingRow] = ()  # what was found when the annotation version was published
    task: str = DETECTION
    chosen_seed: int | None = None  # that an earlier version was split by instead of the recipe's, if one was
    ahead: Ahead | None = None  # of a smoke test: only its images are in the folder; a LeftOutError if one is left out


@dataclass(slots=True)
class _Work:
    """What the stages hand on: the images that are left, and what is to be told about the others."""

    images: list[DatasetImage] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    stages: list[StageRow] = field(default_factory=list)
    others: OtherLabels = field(default_factory=OtherLabels)

    def count(self, images: int, annotations: int) -> None:
        """So many images and annotations did the next stage leave."""
        name, before = list(STAGES)[len(self.stages)], self.stages[-1]
        self.stages.append(StageRow(name, before.images_after, images, before.annotations_after, annotations))

    def advance(self, images: list[DatasetImage], findings: Iterable[Finding]) -> None:
        """Go on with the images that the next stage left."""
        self.count(len(images), sum(len(image.instances) for image in images))
        self.images = images
        self.findings.extend(findings)


def build_dataset(
    annotation_dir: Path, target: Path, recipe: Recipe, facts: Mapping[str, str], inputs: Inputs | None = None
) -> DatasetSummary:
    """Turn an annotation folder into a dataset folder; the same input gives the same bytes on every machine.

    Labelme JSON and images, nested as they like, become dataset.json (which begins with the `facts`: category, version,
    annotation_version), train.json, val.json, test.json, findings.json, statistics.json and image shards in `target`, an
    empty or new folder. Nothing is written there before every check has passed: a SightlineError for no such folder, no JSON,
    no annotated image left, a split without images, a finding that the policy does not let pass, or a plug-in or split file
    that cannot be used.
    """
    inputs = inputs or Inputs()
    if target.is_dir() and any(target.iterdir()):
        raise SightlineError(f"{target}: the folder for the dataset is not empty. Empty it, or choose another.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".transformed-", dir=target.parent) as scratch,
        InstanceFile(Path(scratch, INSTANCES)) as file,
    ):
        prepared = _prepare(annotation_dir, Path(scratch), recipe, inputs, file)
        summary = write_dataset(target, prepared, Task(inputs.task), facts, inputs.findings)
    logger.info("built %s: %d images, %d findings", target, len(summary.images), len(summary.findings))
    return summary


def _prepare(annotation_dir: Path, scratch: Path, recipe: Recipe, inputs: Inputs, file: InstanceFile) -> Prepared:
    """All stages, up to the split; what is drawn on the images is kept in the file."""
    ahead, of_shapes = inputs.ahead, Task(inputs.task).data.ANNOTATED_BY == "shapes"
    work = _read(annotation_dir, recipe, Task(inputs.task), file, is_whole=ahead is None)
    hashed = {image.source: hash_image(annotation_dir / image.source) for image in work.images}
    described = recipe.model_dump(mode="json")
    if inputs.task != DETECTION:  # of which there was nothing to say before there were other tasks
        described["task"] = inputs.task
    changed: dict[str, Path] = {}
    if recipe.plugin is None:
        work.advance(work.images, ())
    else:
        plugin = load_plugin(inputs.recipe_folder, recipe.plugin, inputs.shown_folder)
        images, left_out, changed = transform_images(
            plugin, work.images, annotation_dir, scratch, recipe, hashed, file.keep
        )
        work.advance(images, left_out)
        described["plugin"]["sha256"] = plugin.sha256
    # An annotation of a whole image has no size of its own: min_image_side and max_pixels are about that one.
    work.advance(*(filter_objects(work.images, recipe) if of_shapes else (work.images, ())))
    work.advance(*filter_images(work.images, recipe))
    if ahead and {image.name for image in work.images} != ahead.images:
        raise LeftOutError
    if not any(image.instances for image in work.images):
        raise NothingAnnotatedError(_nothing_annotated(work.findings))
    split_images, earlier = _split_images(work.images, annotation_dir, hashed, recipe, inputs.earlier)
    listed, listed_sha256 = read_listed(recipe, inputs)
    if recipe.split_file is not None:
        described["split_file"] = {"file": recipe.split_file, "sha256": listed_sha256}
    if not (annotation_dir / SPLITS_FILE).is_file():
        del described["keep_splits"]  # of what has none there is nothing to say, as before this key was there
    if ahead:
        splitting, seed = ahead.splitting, ahead.seed
    else:
        splitting, seed = assign_all(split_images, earlier, recipe, listed, annotation_dir, inputs.chosen_seed)
    if seed != recipe.seed:
        described["chosen_seed"] = seed
    classes = ahead.classes if ahead else choose_classes(work.images, recipe)
    if recipe.smoke:
        labels = {one.name: one.labels for one in split_images}
        few = ahead.images if ahead else choose_few(splitting.split, labels, recipe.smoke)
        splitting = keep_few(splitting, few)
        work.images = [image for image in work.images if image.name in few]
    else:
        del described["smoke"]  # so that all other datasets are what they were before this key was there
    work.advance(sorted(work.images, key=lambda image: image.name), splitting.findings)
    work.findings.sort(key=position)
    require_none_fails(work.findings)
    looks = {one.name: one.perceptual_hash or None for one in split_images}
    return Prepared(
        images=work.images,
        classes=classes,
        findings=work.findings,
        stages=work.stages,
        others=work.others.to_json(),
        folder=annotation_dir,
        changed=changed,
        files={
            one.name: hash_image(changed[one.name]) if one.name in changed else hashed[one.source]
            for one in work.images
        },
        looks={one.name: None if one.name in changed else looks[one.source] for one in work.images},
        splitting=splitting,
        recipe=described,
    )


def read_listed(recipe: Recipe, inputs: Inputs) -> tuple[dict[str, str], str | None]:
    """What the recipe's split file says, and its sha256."""
    if recipe.split_file is None:
        return {}, None
    folder = inputs.recipe_folder
    if folder is None:
        raise SightlineError(f"The recipe names {recipe.split_file}, but there is no folder of the category.")
    path = folder / recipe.split_file
    return read_split_file(path, (inputs.shown_folder or folder) / recipe.split_file), hash_image(path).sha256


def _read(annotation_dir: Path, recipe: Recipe, task: Task, file: InstanceFile, is_whole: bool) -> _Work:
    """The stages up to `labels`: what is usable in an annotation folder. What is rare shows in whole ones only."""
    work = _Work()
    files: set[str] = set()
    readable = chosen = written = understood = chosen_shapes = parts = 0
    of_shapes = task.data.ANNOTATED_BY == "shapes"
    for one in check_annotations(annotation_dir, recipe, task.data.ANNOTATED_BY):
        work.findings.extend(one.findings)
        files.add(one.file)
        if one.annotated is None:
            continue
        others = work.others.shapes.total()
        checked, found = choose_labels(one.annotated, one.checked, one.findings, recipe, work.others)
        work.findings.extend(found)
        document = one.annotated.document
        drawn = document.shapes if of_shapes else [flag for flag, ticked in document.flags.items() if ticked]
        annotated = sum(not shape.damage for shape in document.shapes) if of_shapes else len(drawn)
        readable += 1
        chosen += checked is not None or one.checked is None
        written += len(drawn)
        understood += annotated
        chosen_shapes += annotated - (work.others.shapes.total() - others)
        if checked is not None:
            parts += len(checked.parts)
            joined = join_parts(checked, one.file)
            work.images.append(replace(joined, instances=file.keep(joined.instances)))
    work.images.sort(key=lambda image: image.name)
    work.stages.append(StageRow("read", len(files), readable, written, understood))
    work.count(chosen, chosen_shapes)
    work.count(len(work.images), parts)
    work.advance(work.images, ())
    work.advance(*(find_rare_labels(work.images, recipe) if is_whole else (work.images, ())))
    return work


def _nothing_annotated(findings: Sequence[Finding]) -> str:
    reasons = ", ".join(f"{count} x {code}" for code, count in count_findings(findings).items())
    first = f" First: {findings[0].file}: {findings[0].message}" if findings else ""
    return (
        f"no annotated image is left ({reasons or 'no shapes at all'}).{first} Correct the annotations and publish them as another "
        "version, or change what the recipe leaves out."
    )


def _split_images(
    images: Iterable[DatasetImage],
    annotation_dir: Path,
    hashed: Mapping[str, PackedImage],
    recipe: Recipe,
    earlier: Images,
) -> tuple[list[SplitImage], list[SplitImage]]:
    """The images as the splits see them, by the files that were annotated, and the history's other contents."""
    known = {one.sha256 for one in earlier}
    newest = max((one.generation for one in earlier), default=-1) + 1
    split_images = []
    label_sets: dict[tuple[str, ...], frozenset[str]] = {}  # most images have the same few
    for image in images:
        sha256 = hashed[image.source].sha256
        alike = recipe.near_duplicates is not None and sha256 not in known
        looks = perceptual_hash(annotation_dir / image.source, recipe.max_pixels) if alike else ""
        labels = label_sets.setdefault(image.labels, frozenset(image.labels))
        split_images.append(SplitImage(image.source, sha256, looks, labels, newest))
    return as_first_published(split_images, earlier)
