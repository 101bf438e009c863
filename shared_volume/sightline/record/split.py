"""Stage 3: which images train, validate and test."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sightline.errors import SightlineError
from sightline.record.recipe import Fractions

SPLITS: Final = ("train", "val", "test")
_SEEDS_TO_TRY: Final = 1000


class EmptySplitError(SightlineError):
    """A split with a share above zero got no image."""


@dataclass(frozen=True, slots=True)
class Split:
    """Which images of a dataset version train, validate and test. Names, sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def names(self, split: str) -> tuple[str, ...]:
        """The images of `split`: train, val or test."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]


def split_images(digests: Mapping[str, str], fractions: Fractions, seed: int) -> Split:
    """Assign every image to a split by its content, so that an added image never moves another.

    Args:
        digests: image name -> hex sha256 of its file. Equal files come into the same split.
        fractions: shares of train, val and test; they add up to 1.
        seed: changes the whole assignment.

    Raises:
        EmptySplitError: a split with a share above zero got no image.
    """
    images: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in sorted(digests):
        images[_choose(digests[name], fractions, seed)].append(name)
    empty = [split for split in _wanted(fractions) if not images[split]]
    if empty:
        raise _empty_split(empty, set(digests.values()), fractions, seed)
    return Split(train=tuple(images["train"]), val=tuple(images["val"]), test=tuple(images["test"]))


def _wanted(fractions: Fractions) -> list[str]:
    return [split for split in SPLITS if getattr(fractions, split) > 0]


def _choose(digest: str, fractions: Fractions, seed: int) -> str:
    drawn = hashlib.sha256(f"{seed}:{digest}".encode()).digest()
    position = int.from_bytes(drawn[:6], "big") / 2**48  # 0 to 1, evenly
    wanted = _wanted(fractions)
    bound = 0.0
    for split in wanted[:-1]:
        bound += getattr(fractions, split)
        if position < bound:
            return split
    return wanted[-1]


def _empty_split(empty: list[str], contents: Iterable[str], fractions: Fractions, seed: int) -> EmptySplitError:
    contents = sorted(contents)
    wanted = _wanted(fractions)
    found = f"{' and '.join(empty)} got none of the {len(contents)} different images (seed {seed})."
    if len(contents) < len(wanted):
        return EmptySplitError(
            f"{found} {len(wanted)} splits need {len(wanted)} images at least: "
            f"annotate more, or set the recipe's fractions so that fewer splits get a share."
        )
    for other in range(_SEEDS_TO_TRY):
        if {_choose(content, fractions, other) for content in contents} == set(wanted):
            return EmptySplitError(
                f"{found} Add images, or choose another seed: with `seed: {other}` in the recipe every split gets some."
            )
    return EmptySplitError(
        f"{found} Add images, or give {' and '.join(empty)} a larger share in the recipe's fractions."
    )
