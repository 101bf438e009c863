"""Stage 8: which images train, validate and test.

The split of a group of images (see `sightline.steps.record.groups`) is drawn from the content of its first image and the seed,
so it is the same on every machine, and an image added later never moves another.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from sightline.annotations.findings import Code, Finding, Policy
from sightline.annotations.recipe import Fractions, Recipe
from sightline.errors import SightlineError, counted, did_you_mean, some_of
from sightline.services.versioning.shards import SPLITS
from sightline.steps.record.groups import Group, Images, group_contents, join_linked, merge_images
from sightline.steps.record.stratify import stratify_groups

LARGE_GROUP: Final = 0.2  # of all images
SMALL_SET: Final = 30  # images; of fewer, chance leaves a split empty too often to leave it to the user
_SEEDS_TO_TRY: Final = 1000
_NEAR_ENOUGH: Final = 0.1  # of all images in another split than their shares say
_MOST_NAMED: Final = 3

Parts = dict[str, list[str]]
"""Split -> names of images in it, sorted."""
Here = Mapping[int, Sequence[str]]
"""Position of a content -> its names in this dataset, sorted."""
Sides = Mapping[str, str]
"""Name of an image -> its split."""


class EmptySplitError(SightlineError):
    """A split with a share above zero got no image; `better` is a seed with which every split gets some, if there is one."""

    def __init__(self, message: str, better: int | None = None):
        super().__init__(message)
        self.better = better


@dataclass(frozen=True, slots=True)
class Splitting:
    """The split, and what a reader should know about it."""

    split: Mapping[str, tuple[str, ...]]  # train, val and test -> names of the images that are in it, sorted
    groups: tuple[tuple[str, ...], ...]  # 2 and more names that share a split for a reason other than chance; sorted
    findings: tuple[Finding, ...]  # on images apart from some that they resemble, and on listed ones that are not there
    warnings: tuple[str, ...]  # sentences about the whole
    chosen_from: int = 0  # how many images there were; of a smoke test only


def assign_splits(images: Images, earlier: Images, recipe: Recipe, listed: Sides, strays: str = "") -> Splitting:
    """Assign every image to a split, so that neither added nor removed images ever move another.

    Equal files share a split. So do images that look alike or whose names give the same key, as the recipe says: they
    go where the first of them that was published is. `earlier` is what else was ever published in this category, up to
    this annotation version: it holds its places, but is not in the result. A listed image stays there
    whatever else holds; where `strays` names a split, an image that is not listed goes there instead of following listed ones
    into a split without a share. EmptySplitError when a split with a share above zero got no image.
    """
    contents = merge_images([*images, *earlier])
    groups = group_contents(contents, recipe.near_duplicates, recipe.group_by, listed)
    positions = {content.sha256: position for position, content in enumerate(contents)}
    here: dict[int, list[str]] = {}
    for image in sorted(images, key=lambda image: image.name):
        here.setdefault(positions[image.sha256], []).append(image.name)

    shares = with_share(recipe.fractions)

    def split_of(seed: int) -> dict[str, str]:
        placed = _divide(groups, contents, recipe, seed)
        if strays:
            placed = [part if part in shares else strays for part in placed]
        return {
            name: listed.get(name) or placed[number]
            for number, group in enumerate(groups)
            for member in group.members
            for name in here.get(member, ())
        }

    sides = split_of(recipe.seed)
    if empty := [part for part in shares if part not in sides.values()]:
        better = _better_seed(split_of, {image.name: image.labels for image in images}, recipe.fractions)
        apart = sum(any(member in here for member in group.members) for group in groups)
        raise _empty_split(empty, len(images), apart, recipe, better, bool(listed))
    split = {part: tuple(sorted(name for name, side in sides.items() if side == part)) for part in SPLITS}
    parts = [_part_group(group, here, sides) for group in groups]
    joined = _join_alike(groups, parts, here, sides)
    return Splitting(
        split=split,
        groups=joined,
        findings=tuple(_find_conflicts(groups, parts, here, sides, listed, Policy.of(recipe.policy))),
        warnings=tuple(_warn_of_large([names for names in joined if listed.keys().isdisjoint(names)], len(images))),
    )


def assign_few(
    images: Images, earlier: Images, recipe: Recipe, listed: Sides, known: int | None, strays: str = ""
) -> tuple[Splitting, int]:
    """As `assign_splits`, and under which seed: of few images another than the recipe's, where that leaves a split empty.

    `known` is the seed that an earlier version of the category was given so: it stays, so that no image ever moves.
    """
    seed = recipe.seed if known is None else known
    try:
        splitting = assign_splits(images, earlier, recipe.model_copy(update={"seed": seed}), listed, strays)
    except EmptySplitError as empty:
        if empty.better is None or len(images) >= SMALL_SET:
            raise
        seed = empty.better
        splitting = assign_splits(images, earlier, recipe.model_copy(update={"seed": seed}), listed, strays)
    if seed == recipe.seed:
        return splitting, seed
    warning = (
        f"Under the seed {recipe.seed} a split got no image, as happens where there are few, so the seed {seed} is used, here and "
        f"in later versions while it leaves none empty. To say so yourself: --recipe seed={seed}."
    )
    return replace(splitting, warnings=(warning, *splitting.warnings)), seed


def keep_splits(source: Mapping[str, str], recipe: Recipe) -> tuple[dict[str, str], Recipe]:
    """What of a source's own splits (name -> split, one of them train) is listed, and the recipe for the other images.

    A split that the source lacks is cut from its train, whose images go nowhere else.
    """
    there = set(source.values())
    lacking = {split: share for split, share in with_share(recipe.fractions).items() if split not in there}
    if not lacking:
        return dict(source), recipe
    rest = {"train": 1 - sum(lacking.values()), "val": 0.0, "test": 0.0} | lacking
    fixed = {name: split for name, split in source.items() if split != "train"}
    return fixed, recipe.model_copy(update={"fractions": Fractions(**rest)})


def warn_of_alike(splitting: Splitting) -> Splitting:
    """The same, with a warning where the splits that a source had of its own hold images that look alike."""
    apart = sum(found.code in (Code.LISTED_APART, Code.SIMILAR_TO_SEVERAL) for found in splitting.findings)
    if not apart:
        return splitting
    warning = (
        f"{'1 image looks' if apart == 1 else f'{apart} images look'} like images in another of the splits that the folder came "
        "with, so that scores may be too good. `--recipe keep_splits=false` makes new splits."
    )
    return replace(splitting, warnings=(*splitting.warnings, warning))


def missing_classes(
    counts: Mapping[str, Mapping[str, int]], annotated: str = "object", others: Iterable[str] = ()
) -> list[str]:
    """A sentence for every class that nothing has, with the label among `others`, those left out, that may be meant.

    And one for every split (-> class -> how many) that has something annotated, but nothing of some class.
    """
    totals = sum((Counter(objects) for objects in counts.values()), Counter[str]())
    nowhere = [label for label in next(iter(counts.values()), {}) if not totals[label]]
    sentences = [f"No {annotated} at all is of the class {label}.{did_you_mean(label, others)}" for label in nowhere]
    for part, objects in counts.items():
        missing = [label for label, count in objects.items() if not count and label not in nowhere]
        if missing and any(objects.values()):
            loss = "it cannot be learnt" if part == "train" else "scores there say nothing about it"
            sentences.append(
                f"No {annotated} of {_some(missing)} is in {part}: {loss}. Add images, set `stratify: true`, or choose another seed."
            )
    return sentences


def _divide(groups: Sequence[Group], contents: Images, recipe: Recipe, seed: int) -> list[str]:
    """The split of each group."""
    if recipe.stratify:
        return stratify_groups(groups, contents, with_share(recipe.fractions), seed)
    return [group.listed or draw_split(contents[group.founders[0]].sha256, recipe.fractions, seed) for group in groups]


def draw_split(sha256: str, fractions: Fractions, seed: int) -> str:
    """The split that a content falls to by chance: the same for the same content and seed, anywhere."""
    drawn = hashlib.sha256(f"{seed}:{sha256}".encode()).digest()
    position = int.from_bytes(drawn[:6], "big") / 2**48  # 0 to 1, evenly
    shares = with_share(fractions)
    bounds = zip(shares, accumulate(shares.values()), strict=True)
    return next((split for split, bound in bounds if position < bound), list(shares)[-1])


def with_share(fractions: Fractions) -> dict[str, float]:
    """The splits that are to get images, and the share of each."""
    return {split: share for split in SPLITS if (share := getattr(fractions, split)) > 0}


def _warn_of_large(groups: Iterable[Sequence[str]], images: int) -> Iterable[str]:
    for names in groups:
        if len(names) > LARGE_GROUP * images:
            yield (
                f"{len(names)} of the {images} images are one group, that of {names[0]}: they resemble each other, step by "
                "step, and all go to one split. Set near_duplicates lower (or to null) if they are different scenes."
            )


def _better_seed(
    split_of: Callable[[int], Sides], labels: Mapping[str, frozenset[str]], fractions: Fractions
) -> int | None:
    """The seed under which every split gets images, train as many classes as can be, and all about their shares."""
    wanted, every = with_share(fractions), frozenset().union(*labels.values())
    best: tuple[int, float, int] | None = None
    for seed in range(_SEEDS_TO_TRY):
        sides = split_of(seed)
        counts = Counter(sides.values())
        if not all(counts[part] for part in wanted):
            continue
        learnt = frozenset().union(*(labels.get(name, frozenset()) for name, side in sides.items() if side == "train"))
        off = sum(abs(counts[part] / len(sides) - getattr(fractions, part)) for part in SPLITS)
        best = min(best or (len(every) + 1, 0.0, 0), (len(every - learnt), round(off, 6), seed))
        if best[0] == 0 and best[1] <= _NEAR_ENOUGH:
            break
    return best[2] if best else None


def _empty_split(
    empty: Sequence[str], images: int, count: int, recipe: Recipe, better: int | None, are_listed: bool
) -> EmptySplitError:
    """What to do about it; the images form so many groups (`count`)."""
    wanted, alike = with_share(recipe.fractions), ""
    if count < images:
        alike = f", which form {counted(count, 'group')} of images that resemble each other or belong together"
    found = f"{' and '.join(empty)} got none of the {counted(images, 'image')}{alike} (seed {recipe.seed})."
    if count < len(wanted):
        fewer = "train: 0.8, val: 0.2, test: 0" if count > 1 or are_listed else "train: 1, val: 0, test: 0"
        return EmptySplitError(
            f"{found} {len(wanted)} splits need {len(wanted)} images at least that do not resemble each other: annotate more, or "
            f"give fewer splits a share: --recipe 'fractions={{{fewer}}}'"
        )
    if better is not None:
        return EmptySplitError(
            f"{found} Add images, or choose another seed, with which every split gets some: --recipe seed={better} (or "
            f"`seed: {better}` in the recipe).",
            better,
        )
    return EmptySplitError(
        f"{found} Add images, or give {' and '.join(empty)} a larger share in the recipe's fractions."
    )


def _part_group(group: Group, here: Here, sides: Sides) -> Parts:
    """Where a group's images are; in more than one split only when a list says so."""
    parts: Parts = {}
    for name in sorted(name for member in group.members for name in here.get(member, ())):
        parts.setdefault(sides[name], []).append(name)
    return parts


def _join_alike(
    groups: Sequence[Group], parts: Sequence[Parts], here: Here, sides: Sides
) -> tuple[tuple[str, ...], ...]:
    """Groups of 2 and more names as a reader sees them: also joined with the older ones that they resemble, within a split."""
    links = [names for own in parts for names in own.values()]
    for group in groups:
        for member, older in group.resembles.items():
            for name in here.get(member, ()):
                links += [[name, *parts[other].get(sides[name], ())[:1]] for other in older]
    return tuple(tuple(names) for names in join_linked(sorted(sides), links) if len(names) > 1)


def _find_conflicts(
    groups: Sequence[Group], parts: Sequence[Parts], here: Here, sides: Sides, listed: Sides, policy: Policy
) -> Iterator[Finding]:
    """Images that are in another split than some that they belong to, and listed names that no image has."""
    for group, own in zip(groups, parts, strict=True):
        for name in sorted(name for names in own.values() for name in names if name in listed):
            others = {part: names for part, names in own.items() if part != sides[name]}
            if others:
                message = f"stays in {sides[name]} as listed, though it belongs to {_names_of_parts(others)}."
                yield policy.finding(Code.LISTED_APART, name, None, message)
        for member, older in sorted(group.resembles.items()):
            away: Parts = {}
            for part, names in (item for other in older for item in parts[other].items()):
                away.setdefault(part, []).extend(names)
            for name in here.get(member, ()):
                others = {part: names for part, names in away.items() if part != sides[name]}
                if others:
                    why = "as listed" if name in listed else "with the group that was published first"
                    message = (
                        f"resembles images of several splits: it goes to {sides[name]} {why}, but {_names_of_parts(others)} do not "
                        "move, since they were published before. Leave the image out if scores must not profit from it."
                    )
                    yield policy.finding(Code.SIMILAR_TO_SEVERAL, name, None, message)
    for name in sorted(listed.keys() - sides.keys()):
        message = f"listed for {listed[name]}, but the dataset has no such image. Correct the name in the split file."
        yield policy.finding(Code.LISTED_UNKNOWN, name, None, message)


def _some(names: Sequence[str]) -> str:
    return some_of(names, _MOST_NAMED)


def _names_of_parts(parts: Parts) -> str:
    return " and ".join(f"{_some(sorted(names))} in {part}" for part, names in sorted(parts.items()))
