"""The stages in order: an annotation folder in, a dataset folder out."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from sightline.coco import write_coco
from sightline.errors import SightlineError
from sightline.record.check import Checked, check_document
from sightline.record.convert import choose_classes, convert_images, count_instances
from sightline.record.findings import Finding, count_findings
from sightline.record.read import Annotated, read_annotations
from sightline.record.recipe import Recipe
from sightline.record.split import SPLITS, Split, split_images
from sightline.shards import IMAGES, PackedImage, hash_image, pack_images

logger = logging.getLogger(__name__)

FACTS: Final = ("category", "version", "annotation_version")


class NothingAnnotatedError(SightlineError):
    """No annotated image remains."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image of a dataset version.

    Attributes:
        name: relative to the dataset's images/, with forward slashes.
        split: train, val or test.
        width: of the upright image, in pixels.
        height: likewise.
        size: of the file, in bytes.
        sha256: of the file, in hex.
        annotations: how many instances are on it.
    """

    name: str
    split: str
    width: int
    height: int
    size: int
    sha256: str
    annotations: int


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What was built.

    Attributes:
        classes: in the order of their category ids.
        counts: as in dataset.json: split -> images, annotations, per_class.
        digest: hex sha256 over the content, whatever the version is called.
        images: sorted by name.
        findings: what was fixed or left out, by file.
    """

    classes: tuple[str, ...]
    counts: dict[str, Any]
    digest: str
    images: tuple[ImageRow, ...]
    findings: tuple[Finding, ...]


def build_dataset(annotation_dir: Path, target: Path, recipe: Recipe, facts: Mapping[str, str]) -> DatasetSummary:
    """Turn an annotation folder into a dataset folder; the same input gives the same bytes on every machine.

    Nothing is written before every check has passed.

    Args:
        annotation_dir: labelme JSON and images, nested as they like.
        target: an empty or new folder: dataset.json, train.json, val.json, test.json, findings.json, image shards.
        recipe: splits, classes and labels.
        facts: category, version and annotation_version, for dataset.json.

    Raises:
        SightlineError: no such folder, no JSON, no annotated image left, or a split without images.
    """
    if target.is_dir() and any(target.iterdir()):
        raise SightlineError(f"{target}: the folder for the dataset is not empty. Empty it, or name another.")
    images, findings = read_and_check(annotation_dir, recipe)
    if not any(image.parts for image in images):
        raise NothingAnnotatedError(_nothing_annotated(annotation_dir, findings))
    packed = {image.image: hash_image(annotation_dir / image.image) for image in images}
    split = split_images({name: file.sha256 for name, file in packed.items()}, recipe.fractions, recipe.seed)
    classes = choose_classes(images, recipe)
    target.mkdir(parents=True, exist_ok=True)
    counts = _write_splits(target, split, {image.image: image for image in images}, classes)
    write_json(target / "findings.json", [finding.to_json() for finding in findings])
    content = {"classes": classes, "recipe": recipe.model_dump(mode="json"), "counts": counts}
    write_json(target / "dataset.json", {key: facts[key] for key in FACTS} | content)
    pack_images(annotation_dir, packed, target)
    logger.info("built %s: %d images, %d findings", target, len(images), len(findings))
    return DatasetSummary(
        classes=classes,
        counts=counts,
        digest=_digest(target, content, packed),
        images=tuple(_rows(images, split, packed)),
        findings=tuple(findings),
    )


def read_and_check(annotation_dir: Path, recipe: Recipe) -> tuple[list[Checked], list[Finding]]:
    """The usable images, sorted by name, and everything found, by file and shape.

    Raises:
        SightlineError: no such folder, or no JSON in it.
    """
    images: list[Checked] = []
    findings: list[Finding] = []
    for annotated in read_annotations(annotation_dir, recipe.max_pixels):
        if not isinstance(annotated, Annotated):
            findings.append(annotated)
            continue
        checked, found = check_document(annotated, recipe)
        findings.extend(found)
        if checked is not None:
            images.append(checked)
    images.sort(key=lambda image: image.image)
    findings.sort(key=lambda found: (found.file, -1 if found.shape_index is None else found.shape_index, found.code))
    return images, findings


def _nothing_annotated(folder: Path, findings: Sequence[Finding]) -> str:
    reasons = ", ".join(f"{count} x {code}" for code, count in count_findings(findings).items())
    first = f" First: {findings[0].file}: {findings[0].message}" if findings else ""
    return f"{folder}: no annotated image is left ({reasons or 'no shapes at all'}).{first}"


def _write_splits(
    target: Path, split: Split, images: Mapping[str, Checked], classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Write each split's COCO file, one at a time for the sake of memory, and count."""
    counts = {}
    for name in SPLITS:
        coco = convert_images([images[image] for image in split.names(name)], classes)
        write_coco(target / f"{name}.json", coco)
        per_class = Counter(annotation["category_id"] for annotation in coco["annotations"])
        counts[name] = {
            "images": len(coco["images"]),
            "annotations": len(coco["annotations"]),
            "per_class": {label: per_class[number] for number, label in enumerate(classes, start=1)},
        }
    return counts


def write_json(path: Path, content: Any) -> None:
    """Write a readable JSON file; same content, same bytes."""
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _digest(target: Path, content: dict[str, Any], packed: Mapping[str, PackedImage]) -> str:
    """sha256 over every file's name and sha256; images count as themselves, however they are packed."""
    files = {f"{IMAGES}/{name}": file.sha256 for name, file in packed.items()}
    files["dataset.json"] = hashlib.sha256(orjson.dumps(content)).hexdigest()
    for name in ("findings.json", *(f"{split}.json" for split in SPLITS)):
        files[name] = hashlib.sha256((target / name).read_bytes()).hexdigest()
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items())).encode()).hexdigest()


def _rows(images: Sequence[Checked], split: Split, packed: Mapping[str, PackedImage]) -> list[ImageRow]:
    split_of = {name: part for part in SPLITS for name in split.names(part)}
    rows = []
    for image in images:
        file = packed[image.image]
        row = ImageRow(
            name=image.image,
            split=split_of[image.image],
            width=image.width,
            height=image.height,
            size=file.size,
            sha256=file.sha256,
            annotations=count_instances(image),
        )
        rows.append(row)
    return rows
