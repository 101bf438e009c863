"""What a category's annotation versions published up to one of them, in order: where the splits come from."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sightline.annotations.recipe import Recipe
from sightline.services.database.connection import Database
from sightline.services.database.versions import ImageRow, VersionRow, list_images, list_versions
from sightline.steps.record.groups import SplitImage


def read_first_published(database: Database, annotations: VersionRow, recipe: Recipe) -> tuple[SplitImage, ...]:
    """Every content that the category's annotation versions published up to the given one, once per sha256, as at first.

    Later versions do not count, so recording an older version again gives what it gave before. Contents that were left
    out of later versions keep their place. The recipe's label map and choice of labels are applied.
    """
    versions = sorted(list_versions(database, annotations.category, "annotation"), key=_moment)
    until = _moment(annotations)
    return assemble_first_published(
        (list_images(database, one.id) for one in versions if _moment(one) <= until), recipe
    )


def assemble_first_published(versions: Iterable[Iterable[ImageRow]], recipe: Recipe) -> tuple[SplitImage, ...]:
    """As `read_first_published`, from the images of each version, the version published first coming first."""
    first: dict[str, SplitImage] = {}
    generations: dict[str, set[int]] = {}
    for generation, rows in enumerate(versions):
        new: dict[str, list[ImageRow]] = {}
        for row in rows:
            generations.setdefault(row.sha256, set()).add(generation)
            if row.sha256 not in first:
                new.setdefault(row.sha256, []).append(row)
        first |= {sha256: _first_published(own, generation, recipe) for sha256, own in new.items()}
    return tuple(replace(one, generations=frozenset(generations[sha256])) for sha256, one in first.items())


def as_first_published(
    images: Iterable[SplitImage], earlier: Sequence[SplitImage]
) -> tuple[list[SplitImage], list[SplitImage]]:
    """A dataset's images as they were published first, and the other contents of the history (`read_first_published`).

    Those that the history does not know stay as they are.
    """
    known = {one.sha256: one for one in earlier}
    placed = [replace(known.get(image.sha256, image), name=image.name) for image in images]
    here = {image.sha256 for image in placed}
    return placed, [one for one in earlier if one.sha256 not in here]


def _moment(version: VersionRow) -> tuple[datetime, int]:
    return version.published_at or datetime.max.replace(tzinfo=UTC), version.id


def _first_published(rows: Sequence[ImageRow], generation: int, recipe: Recipe) -> SplitImage:
    names = tuple(sorted(row.name for row in rows))
    labels = {recipe.rename(label) for row in rows for label in row.labels or {}}
    return SplitImage(
        name=names[0],
        sha256=rows[0].sha256,
        perceptual_hash=min(row.perceptual_hash or "" for row in rows),
        labels=frozenset(label for label in labels if recipe.wants(label)),
        generation=generation,
        first_names=names,
    )
