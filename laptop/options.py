"""Options that several commands share, and how their texts become values."""

import argparse
import ast
import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import yaml

from components.parameters import CANDIDATE_MODELS, CATEGORY, MODEL, PARAMETERS, RECIPE, STEPS, TRAIN_MEMORY, Parameter
from sightline.errors import SightlineError, did_you_mean

MOST_DAYS = 36_500  # a hundred years; dates do not go back much further
EXAMPLE_PARAMETER = f"{TRAIN_MEMORY.name}=8Gi"


def add_pipeline_options(parser: argparse.ArgumentParser, category_required: bool = True) -> None:
    """The options that are parameters of the pipeline, whole or in part. One that is not given says nothing."""
    for parameter in PARAMETERS:
        if option := parameter.option:
            required = parameter is CATEGORY and category_required
            metavar = option.metavar or option.flag.removeprefix("--").replace("-", "_").upper()
            parser.add_argument(option.flag, dest=parameter.name, required=required, **_how(parameter, metavar))
        if parameter is RECIPE:
            parser.add_argument(
                "--group-by",
                metavar="PATTERN",
                help="images share a split if this regular expression captures the same text in their names, like '^(.+)_frame'",
            )
            parser.add_argument(
                "--stratify", action="store_true", help="keep rare classes in every split where counts allow"
            )


def add_smoke(parser: argparse.ArgumentParser) -> None:
    """The option that makes a run a smoke test; see `laptop/smoke.py`."""
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="run a small test of the same run instead: 20 images, one epoch, published under a name of its own (CATEGORY--smoke)",
    )


def _how(parameter: Parameter, metavar: str) -> dict[str, Any]:
    """What argparse is told of a parameter's option."""
    how: dict[str, Any] = {"help": parameter.help}
    how |= {"choices": parameter.choices} if parameter.choices else {"metavar": metavar}
    if parameter.kind in (list, dict):
        how["action"] = "append"
    elif parameter.kind in (int, float):
        # A whole number is a count, whose 0 nobody needs to type.
        how["type"] = positive if parameter.kind is int else float
    otherwise = parameter.empty or parameter.default
    # A laptop's user says what to train on; the form alone has an example filled in.
    if otherwise and parameter is not CATEGORY:
        how["help"] += f" (default: {otherwise})"
    return how


def given_values(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say, by the names of the parameters that they are."""
    values: dict[str, Any] = {}
    for parameter in PARAMETERS:
        if parameter.option is None:
            continue
        value = getattr(options, parameter.name)
        if parameter.kind is dict:
            value = pairs_of(parameter.option.flag, value or (), parameter.option.example)
        if parameter is RECIPE:
            value = recipe_of(options, value)
        if parameter.kind is dict:
            value = _without_null(value)
        if value not in (None, {}):
            values[parameter.name] = value
    return values


def suit(values: Mapping[str, Any], known: Collection[str], steps: Collection[str]) -> dict[str, Any]:
    """The values as a pipeline of these steps takes them, of whose parameters the names are known.

    Evaluate compares the model of an omitted train step before other candidates.
    """
    suited = dict(values)
    if suited.get(MODEL.name) and MODEL.name not in known and "train" not in steps:
        suited[CANDIDATE_MODELS.name] = [suited.pop(MODEL.name), *suited.get(CANDIDATE_MODELS.name, ())]
    return suited


def recipe_of(options: argparse.Namespace, replaced: Mapping[str, object]) -> dict[str, object]:
    """What the options say instead of the category's recipe file: --recipe, and --group-by and --stratify, keys of it too."""
    values = dict(replaced)
    if options.group_by is not None:
        values["group_by"] = options.group_by
    if options.stratify:
        values["stratify"] = True
    return values


def _without_null(value: object) -> object:
    """KFP cannot carry null inside a dictionary; the library knows the word."""
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    return "null" if value is None else value


def pairs_of(option: str, pairs: Sequence[str], example: str) -> dict[str, object]:
    values: dict[str, object] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise SightlineError(f"{option} {pair!r} is not KEY=VALUE. Write it like {option} {example}")
        values[key] = value_of(value)
    return values


def value_of(text: str) -> object:
    """Numbers, true/false/null, lists and mappings as JSON, Python or (in brackets) YAML writes them; all else is a text."""
    readers: list[Callable[[str], object]] = [json.loads, ast.literal_eval]
    if text.lstrip()[:1] in ("[", "{"):
        readers.append(yaml.safe_load)
    for read in readers:
        with contextlib.suppress(ValueError, SyntaxError, yaml.YAMLError):
            return read(text)
    return text


def not_negative(text: str) -> int:
    """A whole number, not below 0."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or above")
    return int(text)


def positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def days(text: str) -> int:
    if (number := positive(text)) > MOST_DAYS:
        raise argparse.ArgumentTypeError(f"must be {MOST_DAYS:,} or less")
    return number


def steps(text: str) -> tuple[str, ...]:
    chosen = [step.strip() for step in text.split(",") if step.strip()]
    unknown = [step for step in chosen if step not in STEPS]
    if unknown or not chosen:
        hint = did_you_mean(unknown[0], STEPS) if unknown else ""
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'} is not among {', '.join(STEPS)}.{hint}")
    return tuple(chosen)
