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
    Field,
    FiniteFloat,
    JsonValue,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from sightline.annotations.findings import Code, Policy
from sightline.errors import SightlineError, did_you_mean, nearest
from sightline.images.limits import MAX_PIXELS
from sightline.services.runs.homes import NOT_RECORDED, load_yaml

OF_ONE_RUN: Final = ("smoke",)  # keys that no recipe's file may have
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


def _finite(arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(arguments, allow_nan=False)
    except ValueError:
        raise ValueError("an argument is not a finite number") from None
    return arguments


Name = Annotated[str, Field(min_length=1)]
FileName = Annotated[str, Field(min_length=1), AfterValidator(_plain_name)]
NamePattern = Annotated[str, Field(min_length=1), AfterValidator(_pattern)]
Pixels = Annotated[FiniteFloat, Field(ge=0)]
Arguments = Annotated[dict[Name, JsonValue], AfterValidator(_finite)]


class RecipeError(SightlineError):
    """A recipe that cannot be used."""


class Fractions(BaseModel, frozen=True, extra="forbid"):
    """Shares of the splits; they add up to 1."""

    train: float = Field(default=0.7, ge=0, le=1)
    val: float = Field(default=0.2, ge=0, le=1)
    test: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = self.train + self.val + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"train, val and test add up to {total:g}, not to 1")
        return self


class Plugin(BaseModel, frozen=True, extra="forbid"):
    """A function of the user's own that every image and its annotations go through."""

    file: FileName = Field(description="A Python file in the folder <category>/ beside the recipe.")
    function: Name = Field(default="transform", description="Called as (image, annotations, **arguments).")
    arguments: Arguments = Field(default={}, description="Handed to the function by name.")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.file.endswith(".py"):
            raise ValueError(f"{self.file} is not a Python file (.py)")
        if not self.function.isidentifier():
            raise ValueError(f"{self.function!r} is not the name of a function")
        return self


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """How a category's annotations become a dataset."""

    label_map: dict[str, Name] = Field(default={}, description="Renames labels before anything else: `{old: new}`.")
    classes: tuple[Name, ...] | None = Field(
        default=None, description="The chosen labels, in the order of their category ids; `null`: all, by name."
    )
    valid_labels: tuple[Name, ...] | None = Field(
        default=None, description="The labels (after `label_map`) to keep, in no particular order; `null`: all."
    )
    other_labels: Literal["background", "drop"] = Field(
        default="background",
        description="What becomes of images that have only other labels: `background` keeps them as background, `drop` leaves them out.",
    )
    policy: Annotated[dict[str, str], AfterValidator(_known_codes)] = Field(
        default={}, description="What to do about a finding: `{zero_area: fail}`, or `fix` or `drop`."
    )
    plugin: Plugin | None = Field(default=None, description="A function of your own, `{file, function, arguments}`.")
    min_area: Pixels = Field(default=0, description="Objects that cover fewer square pixels than this are left out.")
    min_side: Pixels = Field(
        default=0, description="Objects whose box is narrower than this many pixels (its shorter side) are left out."
    )
    max_aspect: Annotated[FiniteFloat, Field(ge=1)] | None = Field(
        default=None,
        description="Objects whose box is longer than this many times its width are left out; `null`: off.",
    )
    empty_images: Literal["keep", "drop"] = Field(
        default="keep",
        description="What becomes of images without any object left: `keep` uses them as background, `drop` leaves them out.",
    )
    min_image_side: int = Field(
        default=0, ge=0, description="Images whose shorter side has fewer pixels than this are left out."
    )
    max_pixels: int = Field(
        default=MAX_PIXELS, gt=0, le=MAX_PIXELS, description="Larger images are left out (width times height)."
    )
    fractions: Fractions = Field(default=Fractions(), description="Shares of the splits; they add up to 1.")
    seed: int = Field(default=0, description="Another seed gives another split.")
    near_duplicates: Annotated[int, Field(ge=0, le=MOST_BITS)] | None = Field(
        default=6,
        description="Images share a split if their perceptual hashes differ in at most this many bits; `null`: only if their files are equal.",
    )
    group_by: NamePattern | None = Field(
        default=None,
        description="Regular expression that is searched in image names; images with equal captured parts share a split.",
    )
    stratify: bool = Field(default=False, description="Keep rare classes in every split where counts allow.")
    keep_splits: bool = Field(
        default=True,
        description="A folder that comes with splits of its own (train, val and test folders or lists) keeps them; a split that it "
        "lacks is cut from its train. `false`: all images are split by content.",
    )
    split_file: FileName | None = Field(
        default=None,
        description="A file in the folder `<category>/` beside the recipe: YAML or JSON `test: [a.jpg]`, or lines `name,split`; "
        "listed images stay there.",
    )
    smoke: int = Field(
        default=0, ge=0, description="For one run only: a smoke test of this many images, published under another name."
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

    `overrides` stand in for the file's values, by key, as KFP can hand them on: a whole number may be a float, and the text
    `null` is null. Messages call the file `shown_as`, where its own path says nothing to a user. RecipeError when it is
    missing or not YAML, at a key that does not exist (with the nearest that does), or a value that does not fit.
    """
    shown = shown_as or path
    content = _read_content(path, shown) if path else {}
    recipe = _validate(content, str(shown), "Correct it there.")
    if not set(OF_ONE_RUN).isdisjoint(content):
        raise RecipeError(
            f"{shown}: smoke is for a single run, and a recipe's file is for every run. Take it out there, and "
            "type: python pipeline.py local --smoke"
        )
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
    if not isinstance(content, dict | None):
        raise RecipeError(f"{shown}: a recipe is made of `key: value` lines. Keys: {', '.join(Recipe.model_fields)}.")
    return {key: value for key, value in (content or {}).items() if key not in NOT_RECORDED}


def _validate(content: Mapping[str, Any], source: str, next_step: str) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_problem(one, ": " if next_step else "=") for one in error.errors())
        problems = problems.replace("?; the", "? The").replace("?; ", "? ")
        sentence = problems if problems.endswith(("?", ".")) else f"{problems}."
        raise RecipeError(f"{source}: {sentence} {next_step}".rstrip()) from None


def _as_meant(value: Any) -> Any:
    """The same with 3 for 3.0, since KFP makes every number inside a dictionary a float, and null, which it cannot carry."""
    if isinstance(value, Mapping):
        return {key: _as_meant(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_meant(item) for item in value]
    return None if value == "null" else whole(value)


def whole(value: Any) -> Any:
    """A number as it was meant: KFP's YAML and JSON write whole ones as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_NESTED: Final[dict[int | str, type[BaseModel]]] = {"fractions": Fractions, "plugin": Plugin}
MAPPINGS: Final = {
    "policy": '{"zero_area": "fail"}',
    "label_map": '{"old": "new"}',
    "fractions": '{"train": 0.7, "val": 0.2, "test": 0.1}',
    "plugin": '{"file": "flip.py"}',
}
"""Key whose value is a mapping -> how one is written, as JSON and so as YAML too."""


def _problem(problem: ErrorDetails, sign: str) -> str:
    """One problem in words; `sign` stands between a key and its value, where it was written."""
    kind, location, message, value = problem["type"], problem["loc"], problem["msg"], problem["input"]
    where = ".".join(str(part) for part in location)
    if kind in ("dict_type", "model_type") and where in MAPPINGS:
        return f"{where} is {value!r} and must be a mapping, like {where}{sign}{MAPPINGS[where]}{_nearest_inside(where, value)}"
    key, _, inner = where.partition(".")
    if kind == "extra_forbidden" and inner and len(location) == 1 and key in MAPPINGS:
        close = difflib.get_close_matches(inner, _names_inside(key), n=1)
        example = MAPPINGS[key] if "." in inner else json.dumps({(close or [inner])[0]: value}, default=str)
        return f"there is no key {where!r}. What lies in {key} is written as a mapping, like {key}{sign}{example}"
    if kind != "extra_forbidden":
        message = message.removeprefix("Value error, ").removeprefix(f"{where}: ")
        return f"{where}: {message}" if where else message
    if where in NOT_RECORDED:
        return (
            f"the key {where!r} counts only in the file of the category's recipe, custom/recipes/<category>.yaml, since evaluate "
            "reads it and record does not"
        )
    model = _NESTED.get(location[0], Recipe) if len(location) > 1 else Recipe
    names = [*model.model_fields, *(NOT_RECORDED if model is Recipe else ())]
    return f"there is no key {where!r}.{nearest(str(location[-1]), names).rstrip('.')}"


def _names_inside(key: str) -> list[str]:
    """The names that a mapping of the recipe may hold; none where they are the user's own."""
    return list(map(str, Code)) if key == "policy" else list(_NESTED[key].model_fields) if key in _NESTED else []


def _nearest_inside(key: str, value: Any) -> str:
    """A hint at the misspelt name in a text that was to be a mapping."""
    known = _names_inside(key)
    words = re.findall(r"(\w+)\s*[:=]", value) if isinstance(value, str) and known else []
    return "".join(f". There is no {word!r}.{did_you_mean(word, known)}" for word in words if word not in known)
