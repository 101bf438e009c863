"""The images of a smoke test, chosen before any is fetched: by what SQL knows of a version's images and by its listing."""

import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.annotations.findings import Code, Outcome, Policy
from sightline.annotations.recipe import Recipe
from sightline.services.database.versions import ImageRow
from sightline.steps.record.assign import assign_all
from sightline.steps.record.few import choose_few
from sightline.steps.record.groups import Images
from sightline.steps.record.split import Splitting


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is known of a smoke test's dataset beforehand."""

    images: frozenset[str]  # the chosen ones' names
    files: frozenset[str]  # of the annotation version, that hold them and their annotations
    splitting: Splitting  # of all images
    seed: int  # that it was made by
    classes: tuple[str, ...]


class LeftOutError(Exception):
    """Not all of the images that were chosen ahead can be used, so that others must be looked at."""


def choose_ahead(
    rows: Sequence[ImageRow],
    files: Collection[str],
    earlier: Images,
    recipe: Recipe,
    listed: Mapping[str, str],
    source: Path,
    chosen_seed: int | None,
) -> Ahead | None:
    """Choose the images as `choose_few` does of a whole dataset; None where that takes the images themselves.

    `rows` and `files` are those of the annotation version, the others as in `assign_all`.
    """
    if recipe.plugin or Policy.of(recipe.policy).outcome(Code.RARE_LABEL) is Outcome.DROP:
        return None
    known = {one.sha256: one for one in earlier}
    labels = {row.name: _wanted_labels(row, recipe) for row in rows if _is_kept(row, recipe)}
    kept = [row for row in rows if row.name in labels]
    if not kept or len(rows) <= recipe.smoke or any(row.labels is None or row.sha256 not in known for row in rows):
        return None
    here = {row.sha256 for row in kept}
    images = [replace(known[row.sha256], name=row.name) for row in kept]
    others = [one for one in earlier if one.sha256 not in here]
    splitting, seed = assign_all(images, others, recipe, listed, source, chosen_seed)
    chosen = choose_few(splitting.split, labels, recipe.smoke)
    held = set(files)
    documents = {name: _document_of(name, held) for name in chosen}
    if not all(documents.values()):
        return None
    classes = recipe.classes or tuple(sorted(frozenset().union(*labels.values())))
    return Ahead(chosen, chosen | frozenset(documents.values()), splitting, seed, classes)


def _wanted_labels(row: ImageRow, recipe: Recipe) -> frozenset[str]:
    return frozenset(filter(recipe.wants, map(recipe.rename, row.labels or {})))


def _is_kept(row: ImageRow, recipe: Recipe) -> bool:
    """Whether the recipe keeps an image, as far as its row tells."""
    is_sized = min(row.width, row.height) >= recipe.min_image_side and row.width * row.height <= recipe.max_pixels
    drops_others = recipe.empty_images == "drop" or (recipe.other_labels == "drop" and bool(row.labels))
    return is_sized and not (drops_others and not _wanted_labels(row, recipe))


def _document_of(image: str, files: Collection[str]) -> str:
    """The JSON with an image's name, in its folder or the nearest above; empty where there is none.

    `a.png.json` is the one where `a.json` is of another image, like `a.jpg`.
    """
    folder, name = posixpath.split(image)
    while True:
        for document in (f"{name}.json", f"{name.rpartition('.')[0]}.json"):
            if (found := posixpath.join(folder, document)) in files:
                return found
        if not folder:
            return ""
        folder = posixpath.dirname(folder)
