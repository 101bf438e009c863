"""An annotation folder, read and checked file by file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sightline.annotations.check import AnnotatedBy, Checked, check_document
from sightline.annotations.findings import Finding, Policy
from sightline.annotations.instances import DatasetImage
from sightline.annotations.join import join_parts
from sightline.annotations.labels import find_rare_labels
from sightline.annotations.read import Annotated, read_annotations
from sightline.annotations.recipe import Recipe


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file of an annotation folder: what was found, and what is left of it.

    Attributes:
        file: the JSON, or an image without one.
        annotated: as read; None when it cannot be.
        checked: the image with its usable shapes; None when it must stay out.
        findings: about this file.
    """

    file: str
    annotated: Annotated | None
    checked: Checked | None
    findings: list[Finding]


def check_annotations(
    annotation_dir: Path, recipe: Recipe, annotated_by: AnnotatedBy = "shapes"
) -> Iterator[CheckedFile]:
    """Read and check an annotation folder, file by file.

    Raises:
        SightlineError: no such folder, or no JSON in it.
    """
    for annotated in read_annotations(annotation_dir, recipe.max_pixels, Policy.of(recipe.policy)):
        if not isinstance(annotated, Annotated):
            yield CheckedFile(annotated.file, None, None, [annotated])
            continue
        checked, found = check_document(annotated, recipe, annotated_by)
        yield CheckedFile(annotated.file, annotated, checked, found)


def read_usable(
    annotation_dir: Path, recipe: Recipe, annotated_by: AnnotatedBy = "shapes"
) -> tuple[list[DatasetImage], list[Finding]]:
    """The usable images, sorted by name, and everything found up to the join of their groups, by file and shape.

    Args:
        annotation_dir: labelme JSON and images.
        recipe: one that chooses no labels.

    Raises:
        SightlineError: no such folder, or no JSON in it.
    """
    images: list[DatasetImage] = []
    findings: list[Finding] = []
    for one in check_annotations(annotation_dir, recipe, annotated_by):
        findings += one.findings
        if one.checked:
            images.append(join_parts(one.checked, one.file))
    usable, rare = find_rare_labels(sorted(images, key=lambda image: image.name), recipe)
    return usable, sorted([*findings, *rare], key=position)


class Found(Protocol):
    """A finding, or its row in SQL."""

    @property
    def file(self) -> str: ...
    @property
    def shape_index(self) -> int | None: ...
    @property
    def code(self) -> str: ...


def position(found: Found) -> tuple[str, int, str]:
    """Sorts findings by file and shape."""
    return found.file, -1 if found.shape_index is None else found.shape_index, str(found.code)
