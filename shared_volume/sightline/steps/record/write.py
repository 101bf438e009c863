"""The last stage: what the others have left, as a dataset folder."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from sightline.annotations.findings import Finding
from sightline.annotations.instances import DatasetImage, position
from sightline.annotations.truth import write_truth
from sightline.services.database.versions import FindingRow, ImageRow, StageRow
from sightline.services.versioning.shards import IMAGES, SPLITS, PackedImage, hash_image, pack_images
from sightline.steps.record.split import Splitting
from sightline.steps.record.statistics import Measures, assemble_statistics, measure_split
from sightline.tasks.task import Task


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


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that is to be written; what `DatasetSummary` has as well is explained there."""

    images: list[DatasetImage]
    classes: tuple[str, ...]
    findings: list[Finding]
    stages: list[StageRow]
    others: list[dict[str, object]]  # labels that were not chosen, as in statistics.json
    files: Mapping[str, tuple[Path, PackedImage]]  # name of an image -> where it lies, its size and its digest
    looks: Mapping[str, str | None]  # name -> perceptual hash; None without one, or where a plug-in changed the pixels
    splitting: Splitting  # by the images' sources
    recipe: dict[str, Any]


def write_dataset(
    target: Path, prepared: Prepared, task: Task, facts: Mapping[str, str], published: Sequence[FindingRow]
) -> DatasetSummary:
    """Write a dataset folder; the same input gives the same bytes on every machine.

    dataset.json says the `facts` beside, findings.json what was found when the annotation version was `published`.
    """
    target.mkdir(parents=True, exist_ok=True)
    classes, splitting = prepared.classes, prepared.splitting
    split_of = {source: part for part, sources in splitting.split.items() for source in sources}
    counts, measures = _write_splits(task, target, prepared.images, split_of, classes)
    stages = [asdict(stage) for stage in prepared.stages]
    statistics = assemble_statistics(measures, classes, stages, prepared.others, splitting, task.facts.ANNOTATED)
    write_json(target / "statistics.json", statistics)
    write_json(target / "findings.json", _findings_json(prepared.findings, published))
    content = {"classes": classes, "recipe": prepared.recipe, "stages": stages, "counts": counts}
    write_json(target / "dataset.json", {**facts, **content})
    pack_images({name: path for name, (path, _) in prepared.files.items()}, target)
    return DatasetSummary(
        classes=classes,
        counts=counts,
        digest=_digest(target, content, {name: file.sha256 for name, (_, file) in prepared.files.items()}),
        images=tuple(_rows(prepared, split_of)),
        findings=tuple(prepared.findings),
        stages=tuple(prepared.stages),
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


def _digest(target: Path, content: dict[str, Any], images: Mapping[str, str]) -> str:
    """sha256 over every file's name and sha256; images count as themselves, however they are packed."""
    files = {f"{IMAGES}/{name}": sha256 for name, sha256 in images.items()}
    files["dataset.json"] = hashlib.sha256(orjson.dumps(content)).hexdigest()
    for name in ("findings.json", "statistics.json", *(f"{split}.json" for split in SPLITS)):
        files[name] = hash_image(target / name).sha256
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items())).encode()).hexdigest()


def _rows(prepared: Prepared, split_of: Mapping[str, str]) -> Iterator[ImageRow]:
    for image in prepared.images:
        file = prepared.files[image.name][1]
        yield ImageRow(
            name=image.name,
            split=split_of[image.source],
            width=image.width,
            height=image.height,
            bytes=file.size,
            sha256=file.sha256,
            annotation_count=len(image.instances),
            perceptual_hash=prepared.looks[image.name],
            labels=image.count_labels(),
        )
