"""The images of a smoke test: few, in the splits where the whole dataset has them, with as many classes as they can show."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sightline.steps.record.split import Splitting

ORDER: Final = ("train", "val", "test")


def choose_few(split: Mapping[str, Sequence[str]], labels: Mapping[str, Collection[str]], most: int) -> frozenset[str]:
    """Choose at most so many images, from every split that has some by its share, and one from each at the least.

    Of a split those are taken first that show the most classes which the taken ones lack, then by name: the same input
    gives the same images.
    """
    total = sum(map(len, split.values()))
    chosen: set[str] = set()
    left = most
    for part in sorted(split, key=ORDER.index, reverse=True):  # train last: it takes what the others leave
        names = split[part]
        share = left if part == ORDER[0] else most * len(names) // total
        taken = _widest(names, labels, min(len(names), max(1, share)))
        chosen |= set(taken)
        left -= len(taken)
    return frozenset(chosen)


def _widest(names: Sequence[str], labels: Mapping[str, Collection[str]], count: int) -> list[str]:
    """So many of the names, each time the one that shows the most labels that no earlier one does."""
    rest, seen, taken = sorted(names), set[str](), list[str]()
    while len(taken) < count:
        # Once every label is seen, images that show anything come before backgrounds.
        best = max(rest, key=lambda name: (len(set(labels.get(name, ())) - seen), bool(labels.get(name))))
        rest.remove(best)
        seen |= set(labels.get(best, ()))
        taken.append(best)
    return taken


def keep_few(splitting: Splitting, few: Collection[str]) -> Splitting:
    """The same of these images alone, with a sentence that says so instead of warnings about the whole."""
    kept = {part: tuple(name for name in names if name in few) for part, names in splitting.split.items()}
    groups = [tuple(name for name in group if name in few) for group in splitting.groups]
    counts = ", ".join(f"{part} {len(kept[part])} of {len(splitting.split[part])}" for part in ORDER if part in kept)
    sentence = (
        f"This is a smoke test of {len(few)} images ({counts}): its scores say nothing, and it is no version to use."
    )
    return replace(
        splitting,
        split=kept,
        groups=tuple(group for group in groups if len(group) > 1),
        warnings=(sentence,),
        chosen_from=sum(map(len, splitting.split.values())),
    )
