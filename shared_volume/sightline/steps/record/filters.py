"""Stages that leave out what the recipe does not want: labels, objects, images. Each says so in findings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sightline.annotations.check import Checked
from sightline.annotations.findings import Code, Finding, Policy
from sightline.annotations.instances import DatasetImage, Instance
from sightline.annotations.read import Annotated
from sightline.annotations.recipe import Recipe


@dataclass(slots=True)
class OtherLabels:
    """Labels that occur and were not chosen, and what became of them: label -> how many."""

    shapes: Counter[str] = field(default_factory=Counter)  # that were left out
    images: Counter[str] = field(default_factory=Counter)  # that have such shapes
    images_left_out: Counter[str] = field(default_factory=Counter)  # because they have no other

    def to_json(self) -> list[dict[str, object]]:
        """As in statistics.json, by label."""
        counts = {"shapes": self.shapes, "images": self.images, "images_left_out": self.images_left_out}
        return [
            {"label": label, **{name: count[label] for name, count in counts.items()}} for label in sorted(self.shapes)
        ]


def choose_labels(
    annotated: Annotated, checked: Checked | None, found: Sequence[Finding], recipe: Recipe, others: OtherLabels
) -> tuple[Checked | None, list[Finding]]:
    """What the choice of labels makes of a checked image: None when it goes with its labels.

    `checked` is None when it is out already, `found` what the check found. Labels not chosen are counted in `others`.
    """
    shapes = annotated.document.shapes
    labels = Counter(
        recipe.rename(shapes[one.shape_index].label)
        for one in found
        if one.code is Code.LABEL_NOT_VALID and one.shape_index is not None
    )
    others.shapes.update(labels)
    others.images.update(labels.keys())
    if checked is None or checked.parts or not labels or recipe.other_labels == "background":
        return checked, []
    others.images_left_out.update(labels.keys())
    names = ", ".join(repr(label) for label in sorted(labels))
    message = f"it has only {names}, which the recipe does not choose; other_labels: drop leaves such images out."
    return None, [Policy.of(recipe.policy).finding(Code.ONLY_OTHER_LABELS, annotated.file, None, message)]


def filter_objects(images: Sequence[DatasetImage], recipe: Recipe) -> tuple[list[DatasetImage], list[Finding]]:
    """Leave out objects that are too small or too long. Crowds stay: they are no objects."""
    policy = Policy.of(recipe.policy)
    kept, findings = [], []
    for image in images:
        instances = []
        for instance in image.instances:
            if instance.crowd or not (unwanted := _unwanted(instance, recipe)):
                instances.append(instance)
            else:
                code, message = unwanted
                findings.append(policy.finding(code, image.file, instance.shape_index, message))
        all_stay = len(instances) == len(image.instances)
        kept.append(image if all_stay else replace(image, instances=tuple(instances)))
    return kept, findings


def _unwanted(instance: Instance, recipe: Recipe) -> tuple[Code, str] | None:
    x, y, *sides = instance.region.box
    shorter, longer = sorted(sides)
    who = f"{instance.label!r} at ({x:.0f}, {y:.0f})"
    if instance.region.area < recipe.min_area:
        covered = f"covers {instance.region.area:.4g} square pixels"
        return Code.AREA_BELOW, f"{who} {covered}; the recipe's min_area is {recipe.min_area:g}."
    if shorter < recipe.min_side:
        measures = f"measures {sides[0]:.4g} x {sides[1]:.4g} pixels"
        return Code.SIDE_BELOW, f"{who} {measures}; the recipe's min_side is {recipe.min_side:g}."
    if recipe.max_aspect is not None and longer > recipe.max_aspect * shorter:
        ratio = f"is {longer / shorter:.4g} times as long as wide" if shorter else "has no width"
        return Code.ASPECT_ABOVE, f"{who} {ratio}; the recipe's max_aspect is {recipe.max_aspect:g}."
    return None


def filter_images(images: Sequence[DatasetImage], recipe: Recipe) -> tuple[list[DatasetImage], list[Finding]]:
    """Leave out images that are too small or, when asked to, have nothing annotated on them."""
    policy = Policy.of(recipe.policy)
    kept, findings = [], []
    for image in images:
        if min(image.width, image.height) < recipe.min_image_side:
            size = f"it measures {image.width} x {image.height} pixels"
            message = f"{size}; the recipe's min_image_side is {recipe.min_image_side}."
            findings.append(policy.finding(Code.IMAGE_BELOW, image.file, None, message))
        elif recipe.empty_images == "drop" and not image.instances:
            message = "nothing annotated is left on it; empty_images: drop leaves such images out."
            findings.append(policy.finding(Code.NO_OBJECT_LEFT, image.file, None, message))
        else:
            kept.append(image)
    return kept, findings
