"""The recipe: what a category's YAML file says about turning its annotations into a dataset."""

import difflib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from sightline.annotations.findings import Code, Policy
from sightline.errors import SightlineError, did_you_mean, nearest
from sightline.images.limits import MAX_PIXELS
from sightline.services.runs.homes import NOT_RECORDED, load_yaml

MOST_BITS: Final = 20  # by which perceptual hashes of near-duplicates may differ; further apart all images are alike


def _plain_name(name: str) -> str:
    if name != Path(name).name or "\\" in name or name.startswith(".") or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a file in the category's own folder beside its recipe")
    return name


def _pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


def _known_codes(policy: dict[str, str]) -> dict[str, str]:
    Policy.of(policy)
    return policy


Name = Annotated[str, Field(min_length=1)]
FileName = Annotated[str, Field(min_length=1), AfterValidator(_plain_name)]
NamePattern = Annotated[str, Field(min_length=1), AfterValidator(_pattern)]
Pixels = Annotated[FiniteFloat, Field(ge=0)]


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


class Plugin(BaseModel):
    """A function of the user's own that every image and its annotations go through."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: FileName = Field(description="A Python file in the folder <category>/ beside the recipe.")
    function: Name = Field(default="transform", description="Called as (image, annotations, **arguments).")
    arguments: dict[Name, JsonValue] = Field(default={}, description="Handed to the function by name.")

    @field_validator("arguments")
    @classmethod
    def _plain(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(arguments, allow_nan=False)
        except ValueError:
            raise ValueError("an argument is not a finite number") from None
        return arguments

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.file.endswith(".py"):
            raise ValueError(f"{self.file} is not a Python file (.py)")
        if not self.function.isidentifier():
            raise ValueError(f"{self.function!r} is not the name of a function")
        return self


class Recipe(BaseModel):
    """How a category's annotations become a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_map: dict[str, Name] = Field(default={}, description="Renames labels before anything else: {old: new}.")
    classes: tuple[Name, ...] | None = Field(default=None, description="Order of the category ids; else by name.")
    valid_labels: tuple[Name, ...] | None = Field(default=None, description="Labels (after the map) to keep; else all.")
    other_labels: Literal["background", "drop"] = Field(
        default="background",
        description="Images that have only labels not chosen: kept as background, or dropped with their shapes.",
    )
    policy: Annotated[dict[str, str], AfterValidator(_known_codes)] = Field(
        default={}, description="What becomes of a finding: {code: fix, drop or fail}."
    )
    plugin: Plugin | None = Field(default=None, description="Pre-processing: {file, function, arguments}.")
    min_area: Pixels = Field(default=0, description="Objects that cover fewer square pixels are left out.")
    min_side: Pixels = Field(default=0, description="Likewise objects whose box has a shorter side of fewer pixels.")
    max_aspect: Annotated[FiniteFloat, Field(ge=1)] | None = Field(
        default=None, description="Likewise objects whose box is more than this many times as long as its shorter side."
    )
    empty_images: Literal["keep", "drop"] = Field(default="keep", description="Images with no object left.")
    min_image_side: int = Field(default=0, ge=0, description="Images whose shorter side has fewer pixels are left out.")
    max_pixels: int = Field(default=MAX_PIXELS, gt=0, le=MAX_PIXELS, description="Larger images are left out.")
    fractions: Fractions = Field(default=Fractions(), description="Shares of train, val and test.")
    seed: int = Field(default=0, description="Another seed, another split.")
    near_duplicates: Annotated[int, Field(ge=0, le=MOST_BITS)] | None = Field(
        default=6, description="Images whose perceptual hashes differ in at most so many bits share a split; null: off."
    )
    group_by: NamePattern | None = Field(
        default=None, description="Images in whose names this regular expression captures the same share a split."
    )
    stratify: bool = Field(default=False, description="Keep rare classes in every split where counts allow.")
    split_file: FileName | None = Field(
        default=None, description="A file in the folder <category>/ beside the recipe that names images' splits."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for key in ("classes", "valid_labels"):
            names = getattr(self, key)
            if len(set(names or ())) < len(names or ()):
                raise ValueError(f"{key} names a label twice")
            if names == ():
                raise ValueError(f"{key} is empty; leave it out instead")
        strange = set(self.valid_labels or ()) - set(self.classes or self.valid_labels or ())
        if strange:
            raise ValueError(f"valid_labels has {', '.join(sorted(strange))}, which classes does not have")
        return self

    def rename(self, label: str) -> str:
        """A label as the dataset calls it."""
        label = self.label_map.get(label, label).strip()
        return self.label_map.get(label, label)

    def wants(self, label: str) -> bool:
        """Whether a label (after the map) belongs to the dataset."""
        chosen = self.chosen_labels()
        return not chosen or label in chosen

    def chosen_labels(self) -> tuple[str, ...]:
        """The labels (after the map) that belong to the dataset; none when all do."""
        return (self.valid_labels if self.valid_labels is not None else self.classes) or ()


def read_recipe(path: Path | None, overrides: Mapping[str, Any] | None = None, shown_as: Path | None = None) -> Recipe:
    """Read a recipe file; None gives the defaults.

    Args:
        overrides: values that stand in for the file's, by key, as KFP can hand them on: a whole number may be a float, and
            the text `null` is null.
        shown_as: what messages call the file, where its own path says nothing to a user.

    Raises:
        RecipeError: missing, not YAML, a key that does not exist (names the nearest), or a value that does not fit.
    """
    shown = shown_as or path
    content = _read_content(path, shown) if path else {}
    recipe = _validate(content, str(shown), "Correct it there.")
    if not overrides:
        return recipe
    return _validate(content | _as_meant(overrides), "This run's recipe values", "")


def _read_content(path: Path, shown: Path | None) -> dict[str, Any]:
    try:
        content = load_yaml(path.read_bytes())
    except OSError as error:
        raise RecipeError(f"{shown}: the recipe cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise RecipeError(f"{shown}: not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RecipeError(f"{shown}: a recipe is made of `key: value` lines. Keys: {', '.join(Recipe.model_fields)}.")
    return {key: value for key, value in content.items() if key not in NOT_RECORDED}


def _validate(content: Mapping[str, Any], source: str, next_step: str) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            _problem(problem["type"], problem["loc"], problem["msg"], problem["input"], ": " if next_step else "=")
            for problem in error.errors()
        )
        sentence = problems if problems.endswith(("?", ".")) else f"{problems}."
        raise RecipeError(f"{source}: {sentence} {next_step}".rstrip()) from None


def _as_meant(value: Any) -> Any:
    """The same with 3 for 3.0, since KFP makes every number inside a dictionary a float, and null, which it cannot carry."""
    if isinstance(value, Mapping):
        return {key: _as_meant(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_meant(item) for item in value]
    if value == "null":
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


_NESTED: Final[dict[int | str, type[BaseModel]]] = {"fractions": Fractions, "plugin": Plugin}


MAPPINGS: Final = {
    "policy": '{"zero_area": "fail"}',
    "label_map": '{"old": "new"}',
    "fractions": '{"train": 0.7, "val": 0.2, "test": 0.1}',
    "plugin": '{"file": "flip.py"}',
}
"""Key whose value is a mapping -> how one is written, as JSON and so as YAML too."""


def _problem(kind: str, location: tuple[int | str, ...], message: str, value: Any, sign: str) -> str:
    """One problem in words; `sign` stands between a key and its value, where it was written."""
    where = ".".join(str(part) for part in location)
    if kind in ("dict_type", "model_type") and where in MAPPINGS:
        return f"{where} is {value!r} and must be a mapping, like {where}{sign}{MAPPINGS[where]}{_nearest_inside(where, value)}"
    key, _, inner = where.partition(".")
    if kind == "extra_forbidden" and inner and len(location) == 1 and key in MAPPINGS:
        return f"there is no key {where!r}. What lies in {key} is written as a mapping, like {key}{sign}{_example(key, inner, value)}"
    if kind != "extra_forbidden":
        message = message.removeprefix("Value error, ").removeprefix(f"{where}: ")
        return f"{where}: {message}" if where else message
    known = _NESTED.get(location[0], Recipe).model_fields if len(location) > 1 else Recipe.model_fields
    if where in NOT_RECORDED:
        return f"the key {where!r} is not record's: it counts in the category's recipe file alone"
    names = [*known, *(NOT_RECORDED if known is Recipe.model_fields else ())]
    return f"there is no key {where!r}.{nearest(str(location[-1]), names).rstrip('.')}"


def _example(key: str, inner: str, value: Any) -> str:
    close = difflib.get_close_matches(inner, _names_inside(key), n=1)
    return MAPPINGS[key] if "." in inner else json.dumps({(close or [inner])[0]: value}, default=str)


def _names_inside(key: str) -> list[str]:
    """The names that a mapping of the recipe may hold; none where they are the user's own."""
    return list(map(str, Code)) if key == "policy" else list(_NESTED[key].model_fields) if key in _NESTED else []


def _nearest_inside(key: str, value: Any) -> str:
    """A hint at the misspelt name in a text that was to be a mapping."""
    known = _names_inside(key)
    words = re.findall(r"(\w+)\s*[:=]", value) if isinstance(value, str) and known else []
    return "".join(f". There is no {word!r}.{did_you_mean(word, known)}" for word in words if word not in known)
