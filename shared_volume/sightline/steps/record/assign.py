"""The splits of all of a dataset's images: by content, by the recipe's list, and by the splits that the source had."""

from collections.abc import Mapping
from pathlib import Path

from sightline.annotations.recipe import Recipe
from sightline.annotations.split_file import read_split_file
from sightline.services.versioning.shards import SPLITS_FILE
from sightline.steps.record.groups import Images
from sightline.steps.record.split import Splitting, assign_few, keep_splits, warn_of_alike


def assign_all(
    images: Images, earlier: Images, recipe: Recipe, listed: Mapping[str, str], source: Path, chosen_seed: int | None
) -> tuple[Splitting, int]:
    """The split of every image, and under which seed; `listed` is what the recipe's split file says.

    `source` is the annotation folder, in which a file may say which splits the published folder had. The others are as in
    `assign_few`.
    """
    file = source / SPLITS_FILE
    own, cut, strays = dict[str, str](), recipe, ""
    if file.is_file() and recipe.keep_splits:
        own, cut = keep_splits(read_split_file(file, Path(SPLITS_FILE)), recipe)
        listed = {one.name: own[one.name] for one in images if one.name in own} | dict(listed)
        strays = "train" if cut is not recipe else ""
    splitting, seed = assign_few(images, earlier, cut, listed, chosen_seed, strays)
    return (warn_of_alike(splitting) if own else splitting), seed
