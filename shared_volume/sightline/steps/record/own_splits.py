"""Stage 8, before and after: the splits that a source had of its own."""

from collections.abc import Mapping
from dataclasses import replace

from sightline.annotations.findings import Code
from sightline.annotations.recipe import Fractions, Recipe
from sightline.steps.record.split import Splitting, with_share


def keep_splits(source: Mapping[str, str], recipe: Recipe) -> tuple[dict[str, str], Recipe]:
    """What of a source's own splits is listed, and the recipe for the rest: a split that it lacks is cut from its train.

    Args:
        source: image's name -> split; train is one of them.
    """
    there = set(source.values())
    lacking = [split for split in with_share(recipe.fractions) if split not in there]
    if not lacking:
        return dict(source), recipe
    cut = {split: getattr(recipe.fractions, split) for split in lacking}
    rest = {"train": 1 - sum(cut.values()), "val": 0.0, "test": 0.0} | cut
    fixed = {name: split for name, split in source.items() if split != "train"}
    return fixed, recipe.model_copy(update={"fractions": Fractions(**rest)})


def warn_of_alike(splitting: Splitting) -> Splitting:
    """The same, with a warning where the splits that a source had of its own hold images that look alike."""
    apart = sum(found.code in (Code.LISTED_APART, Code.SIMILAR_TO_SEVERAL) for found in splitting.findings)
    if not apart:
        return splitting
    warning = (
        f"{'1 image looks' if apart == 1 else f'{apart} images look'} like images in another of the splits that the folder came "
        "with, so that scores may be too good. `--recipe keep_splits=false` splits anew."
    )
    return replace(splitting, warnings=(*splitting.warnings, warning))
