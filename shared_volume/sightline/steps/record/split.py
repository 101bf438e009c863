"""Stage 8: which images train, validate and test.

The split of a group of images (see `sightline.steps.record.groups`) is drawn from the content of its first image and the seed,
so it is the same on every machine, and an image added later never moves another.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sightline.annotations.findings import Finding, Policy
from sightline.annotations.recipe import Fractions, Recipe
from sightline.errors import SightlineError
from sightline.services.versioning.shards import SPLITS
from sightline.steps.record.conflicts import find_conflicts, join_alike, part_group, some
from sightline.steps.record.groups import Group, SplitImage, group_contents, merge_images
from sightline.steps.record.stratify import stratify_groups

LARGE_GROUP: Final = 0.2  # of all images
_SEEDS_TO_TRY: Final = 1000


class EmptySplitError(SightlineError):
    """A split with a share above zero got no image."""


@dataclass(frozen=True, slots=True)
class Splitting:
    """The split, and what a reader should know about it.

    Attributes:
        split: train, val and test -> names of the images that are in it, sorted.
        groups: names of images that share a split for a reason other than chance, for groups of 2 and more; sorted.
        findings: images that could not be kept together with all that they resemble, and listed ones that are not there.
        warnings: sentences about the whole.
    """

    split: Mapping[str, tuple[str, ...]]
    groups: tuple[tuple[str, ...], ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]


def assign_splits(
    images: Sequence[SplitImage], earlier: Sequence[SplitImage], recipe: Recipe, listed: Mapping[str, str]
) -> Splitting:
    """Assign every image to a split, so that neither added nor removed images ever move another.

    Equal files share a split. So do images that look alike or whose names give the same key, as the recipe says: they
    go where the first of them that was published is.

    Args:
        images: those of this dataset; names are unique.
        earlier: all other images that were ever published in this category, up to this annotation version. They hold
            their places, but are not in the result.
        recipe: shares, seed, and what keeps images together.
        listed: image name -> split, from the split file. A listed image stays there whatever else holds.

    Raises:
        EmptySplitError: a split with a share above zero got no image; proposes a seed that helps.
    """
    contents = merge_images([*images, *earlier])
    groups = group_contents(contents, recipe.near_duplicates, recipe.group_by, listed)
    here = _names_here(images, contents)

    def split_of(seed: int) -> dict[str, str]:
        placed = _divide(groups, contents, recipe, seed)
        return {
            name: listed.get(name) or placed[number]
            for number, group in enumerate(groups)
            for member in group.members
            for name in here.get(member, ())
        }

    sides = split_of(recipe.seed)
    split = {part: tuple(sorted(name for name, side in sides.items() if side == part)) for part in SPLITS}
    empty = [part for part in _wanted(recipe.fractions) if not split[part]]
    if empty:
        raise _empty_split(empty, len(images), groups, here, recipe, split_of)
    parts = [part_group(group, here, sides) for group in groups]
    joined = join_alike(groups, parts, here, sides)
    return Splitting(
        split=split,
        groups=joined,
        findings=tuple(find_conflicts(groups, parts, here, sides, listed, Policy.of(recipe.policy))),
        warnings=tuple(_warn_of_large(joined, len(images))),
    )


def missing_classes(counts: Mapping[str, Mapping[str, int]], annotated: str = "object") -> list[str]:
    """A sentence for every split that has images, but none with some class.

    Args:
        counts: split -> class -> number of its objects there.
        annotated: what the task calls one of them.
    """
    sentences = []
    for part, objects in counts.items():
        missing = [label for label, count in objects.items() if not count]
        if missing and any(objects.values()):
            loss = "it cannot be learnt" if part == "train" else "scores there say nothing about it"
            sentences.append(
                f"No {annotated} of {some(missing)} is in {part}: {loss}. Add images, set `stratify: true`, or choose another seed."
            )
    return sentences


def _divide(groups: Sequence[Group], contents: Sequence[SplitImage], recipe: Recipe, seed: int) -> list[str]:
    """The split of each group."""
    if recipe.stratify:
        shares = {split: getattr(recipe.fractions, split) for split in _wanted(recipe.fractions)}
        return stratify_groups(groups, contents, shares, seed)
    return [group.listed or draw_split(contents[group.founders[0]].sha256, recipe.fractions, seed) for group in groups]


def draw_split(sha256: str, fractions: Fractions, seed: int) -> str:
    """The split that a content falls to by chance: the same for the same content and seed, anywhere."""
    drawn = hashlib.sha256(f"{seed}:{sha256}".encode()).digest()
    position = int.from_bytes(drawn[:6], "big") / 2**48  # 0 to 1, evenly
    wanted = _wanted(fractions)
    bound = 0.0
    for split in wanted[:-1]:
        bound += getattr(fractions, split)
        if position < bound:
            return split
    return wanted[-1]


def _wanted(fractions: Fractions) -> list[str]:
    return [split for split in SPLITS if getattr(fractions, split) > 0]


def _names_here(images: Iterable[SplitImage], contents: Sequence[SplitImage]) -> dict[int, list[str]]:
    """Position of a content -> its names in this dataset, for those that are in it."""
    positions = {content.sha256: position for position, content in enumerate(contents)}
    here: dict[int, list[str]] = {}
    for name, position in sorted((image.name, positions[image.sha256]) for image in images):
        here.setdefault(position, []).append(name)
    return here


def _warn_of_large(groups: Iterable[Sequence[str]], images: int) -> Iterable[str]:
    for names in groups:
        if len(names) > LARGE_GROUP * images:
            yield (
                f"{len(names)} of the {images} images are one group, that of {names[0]}: they resemble each other, step by "
                "step, and all go to one split. Set near_duplicates lower (or to null) if they are different scenes."
            )


def _empty_split(
    empty: Sequence[str],
    images: int,
    groups: Sequence[Group],
    here: Mapping[int, list[str]],
    recipe: Recipe,
    split_of: Callable[[int], Mapping[str, str]],
) -> EmptySplitError:
    wanted = _wanted(recipe.fractions)
    count = sum(any(member in here for member in group.members) for group in groups)
    alike = "" if count == images else f", which form {count} groups that resemble each other or belong together,"
    found = f"{' and '.join(empty)} got none of the {images} images{alike} (seed {recipe.seed})."
    if count < len(wanted):
        return EmptySplitError(
            f"{found} {len(wanted)} splits need {len(wanted)} images at least that do not resemble each other: "
            f"annotate more, or set the recipe's fractions so that fewer splits get a share."
        )
    for other in range(_SEEDS_TO_TRY):
        if set(split_of(other).values()) >= set(wanted):
            return EmptySplitError(
                f"{found} Add images, or choose another seed: with `seed: {other}` in the recipe every split gets some."
            )
    return EmptySplitError(
        f"{found} Add images, or give {' and '.join(empty)} a larger share in the recipe's fractions."
    )
