"""The recipe: what a category's YAML file says about turning its annotations into a dataset."""

import math
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sightline.errors import SightlineError, nearest
from sightline.images import MAX_PIXELS

Name = Annotated[str, Field(min_length=1)]


class RecipeError(SightlineError):
    """A recipe that cannot be used."""


class Fractions(BaseModel):
    """Shares of the splits; they add up to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float = Field(default=0.7, ge=0, le=1)
    val: float = Field(default=0.2, ge=0, le=1)
    test: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = self.train + self.val + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"train, val and test add up to {total:g}, not to 1")
        return self


class Recipe(BaseModel):
    """How a category's annotations become a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fractions: Fractions = Field(default=Fractions(), description="Shares of train, val and test.")
    seed: int = Field(default=0, description="Another seed, another split.")
    classes: tuple[Name, ...] | None = Field(default=None, description="Order of the category ids; else by name.")
    label_map: dict[str, Name] = Field(default={}, description="Renames labels before anything else: {old: new}.")
    valid_labels: tuple[Name, ...] | None = Field(default=None, description="Labels (after the map) to keep; else all.")
    max_pixels: int = Field(default=MAX_PIXELS, gt=0, le=MAX_PIXELS, description="Larger images are left out.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for key in ("classes", "valid_labels"):
            names = getattr(self, key)
            if names is not None and len(set(names)) < len(names):
                raise ValueError(f"{key} names a label twice")
            if names is not None and not names:
                raise ValueError(f"{key} is empty; leave it out instead")
        strange = set(self.valid_labels or ()) - set(self.classes or self.valid_labels or ())
        if strange:
            raise ValueError(f"valid_labels has {', '.join(sorted(strange))}, which classes has not")
        return self

    def wants(self, label: str) -> bool:
        """Whether a label (after the map) belongs to the dataset."""
        chosen = self.valid_labels if self.valid_labels is not None else self.classes
        return chosen is None or label in chosen


def read_recipe(path: Path | None) -> Recipe:
    """Read a recipe file; None gives the defaults.

    Raises:
        RecipeError: missing, not YAML, a key that does not exist (names the nearest), or a value that does not fit.
    """
    if path is None:
        return Recipe()
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise RecipeError(f"{path}: the recipe cannot be read ({error.strerror}).") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return Recipe()
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe is made of `key: value` lines. Keys: {', '.join(Recipe.model_fields)}.")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_problem(problem["type"], problem["loc"], problem["msg"]) for problem in error.errors())
        raise RecipeError(f"{path}: {problems}. Correct it there.") from None


def _problem(kind: str, location: tuple[int | str, ...], message: str) -> str:
    where = ".".join(str(part) for part in location)
    if kind != "extra_forbidden":
        message = message.removeprefix("Value error, ")
        return f"{where}: {message}" if where else message
    known = Fractions.model_fields if len(location) > 1 else Recipe.model_fields
    return f"there is no key {where!r}.{nearest(str(location[-1]), known).rstrip('.')}"
