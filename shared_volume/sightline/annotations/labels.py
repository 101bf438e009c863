"""Labels that look misspelt: the one probably meant, and rare ones beside a frequent one spelt almost the same."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from sightline.annotations.findings import Code, Finding, Outcome, Policy
from sightline.annotations.instances import DatasetImage
from sightline.annotations.recipe import Recipe

SHORTEST: Final = 4  # letters; one letter of fewer makes another word
RARE: Final = 2  # objects at most
TIMES_AS_MANY: Final = 10  # objects of the other label


def resembling_label(label: str, known: Iterable[str]) -> str | None:
    """The one known label that a misspelt one probably means; None when there is none, or several.

    Labels resemble each other when they differ in case, blanks, hyphens or underscores only, or in one letter: another,
    missing, added, or two swapped. Digits tell labels apart.
    """
    found = [other for other in known if other != label and _resemble(label, other)]
    return found[0] if len(found) == 1 else None


def _resemble(one: str, other: str) -> bool:
    if len({re.sub(r"[\s_-]+", "", label.casefold()) for label in (one, other)}) == 1:
        return True
    if min(len(one), len(other)) < SHORTEST or re.findall(r"\d", one) != re.findall(r"\d", other):
        return False
    return _one_letter_apart(one.casefold(), other.casefold())


def _one_letter_apart(one: str, other: str) -> bool:
    start = next((position for position, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if start is None:
        return abs(len(one) - len(other)) == 1
    rest, others = one[start:], other[start:]
    return (
        rest[1:] == others[1:]
        or rest[1:] == others
        or rest == others[1:]
        or (rest[:2] == others[:2][::-1] and rest[2:] == others[2:])
    )


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
