"""The stages in order: an annotation folder in, a dataset folder out."""

import hashlib
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from sightline.annotations.findings import Finding, count_findings, require_none_fails
from sightline.annotations.folder import check_annotations, join_parts, position
from sightline.annotations.instances import DatasetImage, choose_classes
from sightline.annotations.labelme import Document
from sightline.annotations.labels import find_rare_labels
from sightline.annotations.recipe import Recipe
from sightline.annotations.truth import write_truth
from sightline.errors import SightlineError
from sightline.images.similarity import perceptual_hash
from sightline.references import DETECTION
from sightline.services.database.versions import FindingRow, ImageRow, StageRow
from sightline.services.versioning.shards import IMAGES, SPLITS, PackedImage, hash_image, pack_images
from sightline.steps.record.filters import OtherLabels, choose_labels, filter_images, filter_objects
from sightline.steps.record.first_published import as_first_published
from sightline.steps.record.plugin import Transformed, transform_images
from sightline.steps.record.split import SplitImage, Splitting, assign_splits
from sightline.steps.record.split_file import read_split_file
from sightline.steps.record.statistics import Measures, assemble_statistics, measure_split
from sightline.tasks.task import Task

logger = logging.getLogger(__name__)

FACTS: Final = ("category", "version", "annotation_version")
STAGES: Final = ("read", "classes", "check", "groups", "labels", "plugin", "objects", "images", "split")
"""What each does: find the files; choose labels; check shapes; join groups to instances; look for misspelt labels; the
plug-in; leave out objects; leave out images; assign the splits. Annotations are shapes up to `check`, instances from
`groups` on."""


class NothingAnnotatedError(SightlineError):
    """No annotated image remains."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a dataset is made from besides the annotation folder; all of it is optional.

    Attributes:
        recipe_folder: the category's folder in the step's frozen code: split file and plug-in.
        shown_folder: what messages call it: relative to the helper code, as users know it.
        earlier: what the category's annotation versions published so far.
        findings: what was found when the annotation version was published.
        task: what the annotations are for.
    """

    recipe_folder: Path | None = None
    shown_folder: Path | None = None
    earlier: Sequence[SplitImage] = ()
    findings: Sequence[FindingRow] = ()
    task: str = DETECTION


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What was built.

    Attributes:
        classes: in the order of their category ids.
        counts: as in dataset.json: split -> images, annotations, per_class.
        digest: hex sha256 over the content, whatever the version is called.
        images: sorted by name.
        findings: what was fixed or left out, by file; the annotation version's own are not among them.
        stages: what each stage was given and what it left, in the order of `STAGES`.
        recipe: as in dataset.json: the recipe with the digests of the files that it names.
    """

    classes: tuple[str, ...]
    counts: dict[str, Any]
    digest: str
    images: tuple[ImageRow, ...]
    findings: tuple[Finding, ...]
    stages: tuple[StageRow, ...]
    recipe: dict[str, Any]


@dataclass(slots=True)
class _Work:
    """What the stages hand on: the images that are left, and what is to be told about the others."""

    images: list[DatasetImage] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    stages: list[StageRow] = field(default_factory=list)
    others: OtherLabels = field(default_factory=OtherLabels)

    def count(self, images: int, annotations: int) -> None:
        """So many images and annotations did the next stage leave."""
        before = self.stages[-1]
        name = STAGES[len(self.stages)]
        self.stages.append(StageRow(name, before.images_after, images, before.annotations_after, annotations))

    def advance(self, images: list[DatasetImage], findings: Iterable[Finding]) -> None:
        """Go on with the images that the next stage left."""
        self.count(len(images), sum(len(image.instances) for image in images))
        self.images = images
        self.findings.extend(findings)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Everything that is to be written.

    Attributes:
        work: images sorted by name.
        files: source of an image -> its size and digest.
        transformed: what the plug-in changed.
        candidates: source of an image -> how the splits saw it.
        splitting: by source.
        recipe: with digests.
    """

    work: _Work
    files: dict[str, PackedImage]
    transformed: Transformed
    split_images: dict[str, SplitImage]
    splitting: Splitting
    recipe: dict[str, Any]


def build_dataset(
    annotation_dir: Path, target: Path, recipe: Recipe, facts: Mapping[str, str], inputs: Inputs | None = None
) -> DatasetSummary:
    """Turn an annotation folder into a dataset folder; the same input gives the same bytes on every machine.

    Nothing is written to `target` before every check has passed.

    Args:
        annotation_dir: labelme JSON and images, nested as they like.
        target: an empty or new folder: dataset.json, train.json, val.json, test.json, findings.json, statistics.json,
            image shards.
        recipe: what becomes of labels, objects and images, and the splits.
        facts: category, version and annotation_version, for dataset.json.
        inputs: the recipe's files, the category's history, the annotation version's findings.

    Raises:
        SightlineError: no such folder, no JSON, no annotated image left, a split without images, a finding that the policy
            does not let pass, or a plug-in or split file that cannot be used.
    """
    inputs = inputs or Inputs()
    if target.is_dir() and any(target.iterdir()):
        raise SightlineError(f"{target}: the folder for the dataset is not empty. Empty it, or name another.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".transformed-", dir=target.parent) as scratch:
        prepared = _prepare(annotation_dir, Path(scratch), recipe, inputs)
        summary = _write(annotation_dir, target, prepared, recipe, facts, inputs)
    logger.info("built %s: %d images, %d findings", target, len(summary.images), len(summary.findings))
    return summary


def _prepare(annotation_dir: Path, scratch: Path, recipe: Recipe, inputs: Inputs) -> _Prepared:
    """All stages, up to the split."""
    work = _read(annotation_dir, recipe, Task(inputs.task))
    files = {image.source: hash_image(annotation_dir / image.source) for image in work.images}
    digests = {source: file.sha256 for source, file in files.items()}
    transformed = transform_images(
        work.images, annotation_dir, scratch, recipe, inputs.recipe_folder, digests, inputs.shown_folder
    )
    work.advance(transformed.images, transformed.findings)
    # An annotation of a whole image has no size of its own: min_image_side and max_pixels are about that one.
    work.advance(*(filter_objects(work.images, recipe) if _has_regions(Task(inputs.task)) else (work.images, ())))
    work.advance(*filter_images(work.images, recipe))
    if not any(image.instances for image in work.images):
        raise NothingAnnotatedError(_nothing_annotated(annotation_dir, work.findings))
    split_images, earlier = _split_images(work.images, annotation_dir, digests, recipe, inputs.earlier)
    listed, listed_sha256 = _listed(recipe, inputs.recipe_folder, inputs.shown_folder)
    splitting = assign_splits(split_images, earlier, recipe, listed)
    work.advance(sorted(work.images, key=lambda image: image.name), splitting.findings)
    work.findings.sort(key=position)
    require_none_fails(work.findings)
    described = recipe.model_dump(mode="json")
    if inputs.task != DETECTION:  # of which there was nothing to say before there were other tasks
        described["task"] = inputs.task
    if recipe.plugin is not None:
        described["plugin"]["sha256"] = transformed.plugin_sha256
    if recipe.split_file is not None:
        described["split_file"] = {"file": recipe.split_file, "sha256": listed_sha256}
    return _Prepared(work, files, transformed, {one.name: one for one in split_images}, splitting, described)


def _listed(recipe: Recipe, folder: Path | None, shown: Path | None) -> tuple[dict[str, str], str | None]:
    """What the recipe's split file says, and its sha256."""
    if recipe.split_file is None:
        return {}, None
    if folder is None:
        raise SightlineError(f"The recipe names {recipe.split_file}, but there is no folder of the category.")
    path = folder / recipe.split_file
    return read_split_file(path, (shown or folder) / recipe.split_file), hash_image(path).sha256


def _read(annotation_dir: Path, recipe: Recipe, task: Task) -> _Work:
    """The stages up to `groups`: what is usable in an annotation folder."""
    work = _Work()
    files: set[str] = set()
    readable = chosen = shapes = chosen_shapes = parts = 0
    for one in check_annotations(annotation_dir, recipe, task.data.ANNOTATED_BY):
        work.findings.extend(one.findings)
        files.add(one.file)
        if one.annotated is None:
            continue
        others = work.others.shapes.total()
        checked, found = choose_labels(one.annotated, one.checked, one.findings, recipe, work.others)
        work.findings.extend(found)
        annotated = _count(one.annotated.document, task)
        readable += 1
        chosen += checked is not None or one.checked is None
        shapes += annotated
        chosen_shapes += annotated - (work.others.shapes.total() - others)
        if checked is not None:
            parts += len(checked.parts)
            work.images.append(join_parts(checked, one.file))
    work.images.sort(key=lambda image: image.name)
    work.stages.append(StageRow(STAGES[0], len(files), readable, shapes, shapes))
    work.count(chosen, chosen_shapes)
    work.count(len(work.images), parts)
    work.advance(work.images, ())
    work.advance(*find_rare_labels(work.images, recipe))
    return work


def _count(document: Document, task: Task) -> int:
    """How many annotations an image has before anything is checked."""
    return len(document.shapes) if _has_regions(task) else sum(map(bool, document.flags.values()))


def _has_regions(task: Task) -> bool:
    """Whether an annotation covers a part of its image."""
    return task.data.ANNOTATED_BY == "shapes"


def _nothing_annotated(folder: Path, findings: Sequence[Finding]) -> str:
    reasons = ", ".join(f"{count} x {code}" for code, count in count_findings(findings).items())
    first = f" First: {findings[0].file}: {findings[0].message}" if findings else ""
    return f"{folder}: no annotated image is left ({reasons or 'no shapes at all'}).{first}"


def _split_images(
    images: Iterable[DatasetImage],
    annotation_dir: Path,
    digests: Mapping[str, str],
    recipe: Recipe,
    earlier: Sequence[SplitImage],
) -> tuple[list[SplitImage], list[SplitImage]]:
    """The images as the splits see them, by the files that were annotated, and the history's other contents."""
    known = {split_image.sha256 for split_image in earlier}
    newest = max((split_image.generation for split_image in earlier), default=-1) + 1
    split_images = []
    for image in images:
        sha256 = digests[image.source]
        alike = recipe.near_duplicates is not None and sha256 not in known
        looks = perceptual_hash(annotation_dir / image.source, recipe.max_pixels) if alike else ""
        labels = frozenset(instance.label for instance in image.instances)
        split_images.append(SplitImage(image.source, sha256, looks, labels, newest))
    return as_first_published(split_images, earlier)


def _write(
    annotation_dir: Path,
    target: Path,
    prepared: _Prepared,
    recipe: Recipe,
    facts: Mapping[str, str],
    inputs: Inputs,
) -> DatasetSummary:
    work = prepared.work
    target.mkdir(parents=True, exist_ok=True)
    classes = choose_classes(work.images, recipe)
    split_of = {source: part for part in SPLITS for source in prepared.splitting.split.names(part)}
    task = Task(inputs.task)
    counts, measures = _write_splits(task, target, work.images, split_of, classes)
    stages = [asdict(stage) for stage in work.stages]
    write_json(target / "findings.json", _findings_json(work.findings, inputs.findings))
    statistics = assemble_statistics(
        measures, classes, stages, work.others.to_json(), prepared.splitting, task.facts.ANNOTATED
    )
    write_json(target / "statistics.json", statistics)
    content = {"classes": classes, "recipe": prepared.recipe, "stages": stages, "counts": counts}
    write_json(target / "dataset.json", {key: facts[key] for key in FACTS} | content)
    to_pack = {
        image.name: prepared.transformed.files.get(image.name, annotation_dir / image.source) for image in work.images
    }
    pack_images(to_pack, target)
    changed = prepared.transformed.files
    packed = {
        image.name: hash_image(changed[image.name]) if image.name in changed else prepared.files[image.source]
        for image in work.images
    }
    return DatasetSummary(
        classes=classes,
        counts=counts,
        digest=_digest(target, content, packed),
        images=tuple(_rows(prepared, split_of, packed)),
        findings=tuple(work.findings),
        stages=tuple(work.stages),
        recipe=prepared.recipe,
    )


def _write_splits(
    task: Task, target: Path, images: Iterable[DatasetImage], split_of: Mapping[str, str], classes: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, Measures]]:
    """Write each split's COCO file, one at a time for the sake of memory, count and measure."""
    counts, measures = {}, {}
    members: dict[str, list[DatasetImage]] = {part: [] for part in SPLITS}
    for image in images:
        members[split_of[image.source]].append(image)
    for part in SPLITS:
        coco = task.data.truth_of(members[part], classes)
        write_truth(target / f"{part}.json", coco)
        per_class = Counter(annotation["category_id"] for annotation in coco["annotations"])
        counts[part] = {
            "images": len(coco["images"]),
            "annotations": len(coco["annotations"]),
            "per_class": {label: per_class[number] for number, label in enumerate(classes, start=1)},
        }
        measures[part] = measure_split(coco)
    return counts, measures


def _findings_json(own: Iterable[Finding], published: Sequence[FindingRow]) -> list[dict[str, Any]]:
    """All findings by file and shape, and which steps found them."""
    found_by: dict[FindingRow, list[str]] = {row: ["publish"] for row in published}
    for finding in own:
        found_by.setdefault(FindingRow(**finding.to_json()), []).append("record")
    rows = sorted(found_by.items(), key=lambda item: position(item[0]))
    return [asdict(row) | {"found_in": " and ".join(steps)} for row, steps in rows]


def write_json(path: Path, content: Any) -> None:
    """Write a readable JSON file; same content, same bytes."""
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _digest(target: Path, content: dict[str, Any], packed: Mapping[str, PackedImage]) -> str:
    """sha256 over every file's name and sha256; images count as themselves, however they are packed."""
    files = {f"{IMAGES}/{name}": file.sha256 for name, file in packed.items()}
    files["dataset.json"] = hashlib.sha256(orjson.dumps(content)).hexdigest()
    for name in ("findings.json", "statistics.json", *(f"{split}.json" for split in SPLITS)):
        files[name] = hashlib.sha256((target / name).read_bytes()).hexdigest()
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items())).encode()).hexdigest()


def _rows(prepared: _Prepared, split_of: Mapping[str, str], packed: Mapping[str, PackedImage]) -> Iterator[ImageRow]:
    for image in prepared.work.images:
        file = packed[image.name]
        as_published = image.name not in prepared.transformed.files
        yield ImageRow(
            name=image.name,
            split=split_of[image.source],
            width=image.width,
            height=image.height,
            bytes=file.size,
            sha256=file.sha256,
            annotation_count=len(image.instances),
            perceptual_hash=prepared.split_images[image.source].perceptual_hash or None if as_published else None,
            labels=image.count_labels(),
        )
