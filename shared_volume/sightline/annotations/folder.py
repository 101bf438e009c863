"""An annotation folder, read and checked file by file, and stage 3: parts on an image joined to instances."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sightline.annotations.check import WHOLE_IMAGE, AnnotatedBy, Checked, Part, check_document
from sightline.annotations.findings import Finding, Policy
from sightline.annotations.instances import DatasetImage, Instance
from sightline.annotations.labels import find_rare_labels
from sightline.annotations.read import Annotated, read_annotations
from sightline.annotations.recipe import Recipe
from sightline.annotations.regions import encode_region, merge_regions

if TYPE_CHECKING:
    from sightline.services.database.versions import FindingRow

CROWD_FLAG: Final = "iscrowd"  # of a labelme shape: a region with objects that nobody told apart


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file of an annotation folder: what was found, and what is left of it.

    Attributes:
        file: the JSON, or an image without one.
        annotated: as read; None when it cannot be.
        checked: the image with its usable shapes; None when it must stay out.
    """

    file: str
    annotated: Annotated | None
    checked: Checked | None
    findings: list[Finding]


def check_annotations(
    annotation_dir: Path, recipe: Recipe, annotated_by: AnnotatedBy = "shapes"
) -> Iterator[CheckedFile]:
    """Read and check an annotation folder, file by file; errors as in `read_annotations`."""
    for read in read_annotations(annotation_dir, recipe.max_pixels, Policy.of(recipe.policy)):
        if isinstance(read, Annotated):
            yield CheckedFile(read.file, read, *check_document(read, recipe, annotated_by))
        else:
            yield CheckedFile(read.file, None, None, [read])


def read_usable(
    annotation_dir: Path, recipe: Recipe, annotated_by: AnnotatedBy = "shapes"
) -> tuple[list[DatasetImage], list[Finding]]:
    """The usable images, sorted by name, and everything found up to the join of their groups, by file and shape.

    The recipe is one that chooses no labels; errors as in `read_annotations`.
    """
    images: list[DatasetImage] = []
    findings: list[Finding] = []
    for one in check_annotations(annotation_dir, recipe, annotated_by):
        findings += one.findings
        if one.checked:
            images.append(join_parts(one.checked, one.file))
    usable, rare = find_rare_labels(sorted(images, key=lambda image: image.name), recipe)
    return usable, sorted([*findings, *rare], key=position)


def join_parts(checked: Checked, file: str) -> DatasetImage:
    """The image with its parts joined: those of one label and group are one instance."""
    groups: dict[tuple[str, int] | int, list[Part]] = {}
    for position, part in enumerate(checked.parts):
        key = position if part.group_id is None else (part.label, part.group_id)
        groups.setdefault(key, []).append(part)
    instances = tuple(_join(parts, checked) for parts in groups.values())
    return DatasetImage(checked.image, checked.image, file, checked.width, checked.height, instances)


def _join(parts: list[Part], checked: Checked) -> Instance:
    region = merge_regions([part.region for part in parts], checked.width, checked.height)
    crowd = any(part.flags.get(CROWD_FLAG) is True for part in parts)
    if crowd:  # COCO's crowds are run-length encoded
        region = encode_region(region, checked.width, checked.height)
    return Instance(parts[0].label, region, crowd, None if parts[0].index == WHOLE_IMAGE else parts[0].index)


def position(found: "Finding | FindingRow") -> tuple[str, int, str]:
    """Sorts findings by file and shape."""
    return found.file, -1 if found.shape_index is None else found.shape_index, str(found.code)
