"""Stage 3: the objects on each image, joined from their parts; rare labels; and all three stages for a whole folder."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sightline.annotations.check import WHOLE_IMAGE, AnnotatedBy, Checked, Part, check_document, resembling_label
from sightline.annotations.findings import Code, Finding, Outcome, Policy
from sightline.annotations.kept import Instance, KeptInstances
from sightline.annotations.read import Annotated, read_annotations
from sightline.annotations.recipe import Recipe
from sightline.annotations.regions import encode_region, merge_regions

if TYPE_CHECKING:
    from sightline.services.database.versions import FindingRow

CROWD_FLAG: Final = "iscrowd"  # of a labelme shape: a region with objects that nobody told apart
_RARE: Final = 2  # objects at most
_TIMES_AS_MANY: Final = 10  # objects of the other label


@dataclass(frozen=True, slots=True)
class DatasetImage:
    """An image on its way into the dataset; width and height are the upright image's, in pixels."""

    name: str  # in the dataset, with forward slashes
    source: str  # its file in the annotation folder; `name` differs when a plug-in changed the pixels
    file: str  # its JSON there
    width: int
    height: int
    instances: Sequence[Instance]  # in the order drawn; a tuple, or kept in a file

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the instances, in their order."""
        if isinstance(self.instances, KeptInstances):
            return self.instances.labels
        return tuple(instance.label for instance in self.instances)


def choose_classes(images: Iterable[DatasetImage], recipe: Recipe) -> tuple[str, ...]:
    """The classes in the order of their category ids: the recipe's, else every label that occurs, by name."""
    if recipe.classes is not None:
        return recipe.classes
    return tuple(sorted({label for image in images for label in image.labels}))


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file of an annotation folder: what was found, and what is left of it."""

    file: str  # the JSON, or an image without one
    annotated: Annotated | None  # as read; None when it cannot be
    checked: Checked | None  # the image with its usable shapes; None when it must stay out
    findings: list[Finding]


def check_annotations(folder: Path, recipe: Recipe, annotated_by: AnnotatedBy = "shapes") -> Iterator[CheckedFile]:
    """Read and check an annotation folder, file by file; errors as in `read_annotations`."""
    for read in read_annotations(folder, recipe.max_pixels, Policy.of(recipe.policy)):
        if isinstance(read, Annotated):
            yield CheckedFile(read.file, read, *check_document(read, recipe, annotated_by))
        else:
            yield CheckedFile(read.file, None, None, [read])


def read_usable(
    folder: Path, recipe: Recipe, annotated_by: AnnotatedBy = "shapes"
) -> tuple[list[DatasetImage], list[Finding]]:
    """The usable images, sorted by name, and everything found, by file and shape, with a recipe that chooses no labels."""
    images: list[DatasetImage] = []
    findings: list[Finding] = []
    for one in check_annotations(folder, recipe, annotated_by):
        findings += one.findings
        images += [join_parts(one.checked, one.file)] if one.checked else []
    usable, rare = find_rare_labels(sorted(images, key=lambda image: image.name), recipe)
    return usable, sorted([*findings, *rare], key=position)


def join_parts(checked: Checked, file: str) -> DatasetImage:
    """The image with its parts joined: those of one label and group are one instance."""
    groups: dict[tuple[str, int] | int, list[Part]] = {}
    for number, part in enumerate(checked.parts):
        key = number if part.group_id is None else (part.label, part.group_id)
        groups.setdefault(key, []).append(part)
    instances = tuple(_join(parts, checked) for parts in groups.values())
    return DatasetImage(checked.image, checked.image, file, checked.width, checked.height, instances)


def _join(parts: list[Part], checked: Checked) -> Instance:
    region = merge_regions([part.region for part in parts], checked.width, checked.height)
    crowd = any(part.flags.get(CROWD_FLAG) is True for part in parts)
    if crowd:  # COCO's crowds are run-length encoded
        region = encode_region(region, checked.width, checked.height)
    return Instance(parts[0].label, region, crowd, None if parts[0].index == WHOLE_IMAGE else parts[0].index)


def find_rare_labels(images: Sequence[DatasetImage], recipe: Recipe) -> tuple[list[DatasetImage], list[Finding]]:
    """Report labels, where the recipe lists none, that occur once or twice and resemble a frequent one, or drop them."""
    if recipe.chosen_labels():
        return list(images), []
    policy = Policy.of(recipe.policy)
    counts = Counter(label for image in images for label in image.labels)
    meant: dict[str, str] = {}
    for rare, count in counts.items():
        frequent = [label for label, times in counts.items() if times >= _TIMES_AS_MANY * count]
        if count <= _RARE and (likely := resembling_label(rare, frequent)):
            meant[rare] = likely
    findings = []
    concerned = [image for image in images if not meant.keys().isdisjoint(image.labels)]
    for image in concerned:
        for label, index in [(one.label, one.shape_index) for one in image.instances if one.label in meant]:
            message = (
                f"{label!r} occurs {counts[label]} times, {meant[label]!r} {counts[meant[label]]} times. "
                "If it is a slip, rename it with the recipe's label_map."
            )
            findings.append(policy.finding(Code.RARE_LABEL, image.file, index, message))
    if findings and policy.outcome(Code.RARE_LABEL) is Outcome.DROP:
        kept = {image.name: tuple(one for one in image.instances if one.label not in meant) for image in concerned}
        images = [replace(one, instances=kept[one.name]) if one.name in kept else one for one in images]
    return list(images), findings


def position(found: "Finding | FindingRow") -> tuple[str, int, str]:
    """Sorts findings by file and shape."""
    return found.file, -1 if found.shape_index is None else found.shape_index, str(found.code)
