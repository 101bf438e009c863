"""The last stage: what the others have left, as a dataset folder."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from sightline.annotations.findings import Finding
from sightline.annotations.instances import DatasetImage, position
from sightline.annotations.truth import TruthFile
from sightline.services.database.versions import FindingRow, ImageRow, StageRow
from sightline.services.versioning.shards import IMAGES, SPLITS, PackedImage, hash_image, pack_images
from sightline.steps.record.split import Splitting
from sightline.steps.record.statistics import Measures, assemble_statistics, join_measures, measure_split
from sightline.tasks.task import Task

AT_ONCE: Final = 500  # images whose annotations are in memory
SAMPLES_PER_SPLIT: Final = 12

Sample = tuple[dict[str, Any], list[dict[str, Any]]]
"""An image to show, as in the split's file, and its annotations."""


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What was built; counts and recipe as in dataset.json."""

    classes: tuple[str, ...]  # in the order of their category ids
    counts: dict[str, Any]  # split -> images, annotations, per_class
    digest: str  # hex sha256 over the content, whatever the version is called
    images: tuple[ImageRow, ...]  # sorted by name
    findings: tuple[Finding, ...]  # by file; the annotation version's own are not among them
    stages: tuple[StageRow, ...]  # in the order of `STAGES`
    recipe: dict[str, Any]  # with the digests of the files that it names
    splits: Mapping[str, "ShownSplit"]


@dataclass(frozen=True, slots=True)
class ShownSplit:
    """What a reader of the report is shown of a split."""

    sizes: Counter[tuple[int, int]]  # width and height in pixels -> how many images
    samples: list[Sample]  # images spread evenly over the split


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that is to be written; what `DatasetSummary` has as well is explained there."""

    images: list[DatasetImage]
    classes: tuple[str, ...]
    findings: list[Finding]
    stages: list[StageRow]
    others: list[dict[str, object]]  # labels that were not chosen, as in statistics.json
    folder: Path  # where the images lie by their sources
    changed: Mapping[str, Path]  # name of an image whose pixels a plug-in changed -> where it lies
    files: Mapping[str, PackedImage]  # name of an image -> its size and its digest
    looks: Mapping[str, str | None]  # name -> perceptual hash; None without one, or where a plug-in changed the pixels
    splitting: Splitting  # by the images' sources
    recipe: dict[str, Any]

    def path_of(self, image: DatasetImage) -> str:
        """Where an image lies."""
        return str(self.changed.get(image.name) or f"{self.folder}/{image.source}")


def write_dataset(
    target: Path, prepared: Prepared, task: Task, facts: Mapping[str, str], published: Sequence[FindingRow]
) -> DatasetSummary:
    """Write a dataset folder; the same input gives the same bytes on every machine.

    dataset.json says the `facts` beside, findings.json what was found when the annotation version was `published`.
    """
    target.mkdir(parents=True, exist_ok=True)
    classes, splitting = prepared.classes, prepared.splitting
    split_of = {source: part for part, sources in splitting.split.items() for source in sources}
    written = _write_splits(task, target, prepared.images, split_of, classes)
    measures = {part: measured for part, (measured, _) in written.items()}
    counts = {part: _counts(one, classes) for part, one in measures.items()}
    stages = [asdict(stage) for stage in prepared.stages]
    statistics = assemble_statistics(measures, classes, stages, prepared.others, splitting, task.facts.ANNOTATED)
    write_json(target / "statistics.json", statistics)
    write_json(target / "findings.json", _findings_json(prepared.findings, published))
    content = {"classes": classes, "recipe": prepared.recipe, "stages": stages, "counts": counts}
    write_json(target / "dataset.json", {**facts, **content})
    pack_images({image.name: prepared.path_of(image) for image in prepared.images}, target)
    return DatasetSummary(
        classes=classes,
        counts=counts,
        digest=_digest(target, content, {name: file.sha256 for name, file in prepared.files.items()}),
        images=tuple(_rows(prepared, split_of)),
        findings=tuple(prepared.findings),
        stages=tuple(prepared.stages),
        recipe=prepared.recipe,
        splits={part: shown for part, (_, shown) in written.items()},
    )


def _counts(measures: Measures, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "images": measures.images,
        "annotations": measures.annotations.total(),
        "per_class": {label: measures.annotations[number] for number, label in enumerate(classes, start=1)},
    }


def _write_splits(
    task: Task, target: Path, images: Iterable[DatasetImage], split_of: Mapping[str, str], classes: Sequence[str]
) -> dict[str, tuple[Measures, ShownSplit]]:
    """Write each split's COCO file, a few images at a time for the sake of memory, count and measure."""
    members: dict[str, list[DatasetImage]] = {part: [] for part in SPLITS}
    for image in images:
        members[split_of[image.source]].append(image)
    return {part: _write_split(task, target / f"{part}.json", members[part], classes) for part in SPLITS}


def _write_split(
    task: Task, path: Path, images: Sequence[DatasetImage], classes: Sequence[str]
) -> tuple[Measures, ShownSplit]:
    file, measures, samples = TruthFile(path), list[Measures](), list[Sample]()
    sizes = Counter((image.width, image.height) for image in images)
    shown = np.unique(np.linspace(0, len(images) - 1, min(SAMPLES_PER_SPLIT, len(images))).round().astype(int)).tolist()
    for start in range(0, max(len(images), 1), AT_ONCE):
        coco = task.data.truth_of(images[start : start + AT_ONCE], classes)
        file.add(coco)
        measures.append(measure_split(coco))
        samples += choose_samples(coco, [index - start for index in shown if start <= index < start + AT_ONCE])
    file.close()
    return join_measures(measures), ShownSplit(sizes, samples)


def choose_samples(coco: Mapping[str, Any], positions: Iterable[int]) -> list[Sample]:
    """The images at these positions of a truth, each with its annotations."""
    chosen: dict[int, Sample] = {coco["images"][one]["id"]: (coco["images"][one], []) for one in positions}
    for annotation in coco["annotations"]:
        if annotation["image_id"] in chosen:
            chosen[annotation["image_id"]][1].append(annotation)
    return list(chosen.values())


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


def _digest(target: Path, content: dict[str, Any], images: Mapping[str, str]) -> str:
    """sha256 over every file's name and sha256; images count as themselves, however they are packed."""
    files = {f"{IMAGES}/{name}": sha256 for name, sha256 in images.items()}
    files["dataset.json"] = hashlib.sha256(orjson.dumps(content)).hexdigest()
    for name in ("findings.json", "statistics.json", *(f"{split}.json" for split in SPLITS)):
        files[name] = hash_image(target / name).sha256
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items())).encode()).hexdigest()


def _rows(prepared: Prepared, split_of: Mapping[str, str]) -> Iterator[ImageRow]:
    counted: dict[tuple[str, ...], dict[str, int]] = {}  # most images have the same few
    for image in prepared.images:
        file, labels = prepared.files[image.name], image.labels
        yield ImageRow(
            name=image.name,
            split=split_of[image.source],
            width=image.width,
            height=image.height,
            bytes=file.size,
            sha256=file.sha256,
            annotation_count=len(labels),
            perceptual_hash=prepared.looks[image.name],
            labels=counted.setdefault(labels, dict(sorted(Counter(labels).items()))),
        )
