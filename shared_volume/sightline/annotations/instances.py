"""What the stages hand on: an image on its way into the dataset, and the instances on it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sightline.annotations.recipe import Recipe
from sightline.annotations.regions import Region


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotation of the dataset.

    Attributes:
        region: what it covers; run-length encoded when it is a crowd.
        crowd: a region that training and evaluation ignore.
        shape_index: the document's shape that it comes from (the first, when drawn in parts); None from a plug-in.
    """

    label: str
    region: Region
    crowd: bool
    shape_index: int | None


@dataclass(frozen=True, slots=True)
class DatasetImage:
    """An image on its way into the dataset.

    Attributes:
        name: in the dataset, with forward slashes.
        source: its file in the annotation folder; `name` differs when a plug-in changed the pixels.
        file: its JSON there.
        width: of the upright image, in pixels, as `height`.
        instances: in the order drawn.
    """

    name: str
    source: str
    file: str
    width: int
    height: int
    instances: tuple[Instance, ...]

    def count_labels(self) -> dict[str, int]:
        """Label -> number of instances, by label."""
        return dict(sorted(Counter(instance.label for instance in self.instances).items()))


def choose_classes(images: Iterable[DatasetImage], recipe: Recipe) -> tuple[str, ...]:
    """The classes in the order of their category ids: the recipe's, else every label that occurs, by name."""
    if recipe.classes is not None:
        return recipe.classes
    return tuple(sorted({instance.label for image in images for instance in image.instances}))
