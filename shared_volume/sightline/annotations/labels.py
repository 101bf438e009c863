"""Labels that occur once or twice beside a frequent one that is spelt almost the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sightline.annotations.findings import Code, Finding, Outcome, Policy
from sightline.annotations.instances import DatasetImage
from sightline.annotations.recipe import Recipe
from sightline.annotations.spelling import resembling_label

RARE: Final = 2  # objects at most
TIMES_AS_MANY: Final = 10  # objects of the other label


def find_rare_labels(images: Sequence[DatasetImage], recipe: Recipe) -> tuple[list[DatasetImage], list[Finding]]:
    """Report labels that occur once or twice and resemble a frequent one, where the recipe does not list the labels.

    Returns:
        The images, without these objects when the policy drops them, and what was found.
    """
    if recipe.chosen_labels():
        return list(images), []
    policy = Policy.of(recipe.policy)
    counts = Counter(instance.label for image in images for instance in image.instances)
    meant: dict[str, str] = {}
    for label, count in counts.items():
        frequent = [other for other, others in counts.items() if others >= TIMES_AS_MANY * count]
        likely = resembling_label(label, frequent) if count <= RARE else None
        if likely:
            meant[label] = likely
    findings = [
        policy.finding(
            Code.RARE_LABEL,
            image.file,
            instance.shape_index,
            f"{instance.label!r} occurs {counts[instance.label]} times, {meant[instance.label]!r} "
            f"{counts[meant[instance.label]]} times. If it is a slip, rename it with the recipe's label_map.",
        )
        for image in images
        for instance in image.instances
        if instance.label in meant
    ]
    if not findings or policy.outcome(Code.RARE_LABEL) is not Outcome.DROP:
        return list(images), findings
    return [
        replace(image, instances=tuple(one for one in image.instances if one.label not in meant)) for image in images
    ], findings
