"""From options to a run's arguments: every parameter, each of its declared type, before anything is sent."""

import argparse
import difflib
import json
from collections.abc import Collection, Mapping
from typing import Any

from components.parameters import CATEGORY, PARAMETERS, STEPS
from laptop.kubeflow.package import Package, Parameter
from laptop.options import EXAMPLE_PARAMETER, given_values, suit, value_of
from laptop.request import require_inputs
from sightline.errors import SightlineError

TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "STRING": ((str,), "a text"),
    "NUMBER_INTEGER": ((int,), "a whole number"),
    "NUMBER_DOUBLE": ((int, float), "a number"),
    "BOOLEAN": ((bool,), "true or false"),
    "LIST": ((list,), "a list, like '[1, 2]'"),
    "STRUCT": ((dict,), """an object, like '{"key": "value"}'"""),
}


def arguments_of(options: argparse.Namespace, package: Package) -> dict[str, Any]:
    """The value of every parameter of the pipeline: given, or its default.

    Raises:
        SightlineError: an unknown parameter, a value of another type, or none where one is needed.
    """
    given = _given(options, package)
    if _is_ours(package):
        require_inputs(package.steps, given)
    unknown = [name for name in given if name not in package.parameters]
    if unknown:
        raise SightlineError(_unknown(unknown[0], package.parameters))
    for name, value in given.items():
        _require_type(name, package.parameters[name], value)
    if CATEGORY.name in package.parameters and CATEGORY.name not in given:
        raise SightlineError("Say what to train on: --category desk. `python pipeline.py versions` lists categories.")
    missing = [name for name, each in package.parameters.items() if not each.optional and name not in given]
    if missing:
        raise SightlineError(f"The pipeline needs a value for {', '.join(missing)}: --param {missing[0]}=VALUE.")
    # In full, defaults included: the UI's comparison shows the parameters that were passed, and no others.
    defaults = {name: each.default for name, each in package.parameters.items() if each.default is not None}
    return dict(sorted({**defaults, **given}.items()))


def _is_ours(package: Package) -> bool:
    return CATEGORY.name in package.parameters and set(package.steps) <= set(STEPS)


def _given(options: argparse.Namespace, package: Package) -> dict[str, Any]:
    given = suit(given_values(options), package.parameters, package.steps)
    for text in options.param or ():
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise SightlineError(f"--param {text!r} is not NAME=VALUE. Write it like --param {EXAMPLE_PARAMETER}")
        if name not in package.parameters:
            raise SightlineError(_unknown(name, package.parameters))
        given[name] = _read(package.parameters[name], value)
    return given


def _read(parameter: Parameter, text: str) -> Any:
    """A text parameter takes the text as it stands: two CPUs are the text 2."""
    if parameter.kind == "STRING":
        return text
    value = value_of(text)
    if parameter.kind == "NUMBER_INTEGER" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _require_type(name: str, parameter: Parameter, value: object) -> None:
    types, words = TYPES.get(parameter.kind, ((object,), "something"))
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types and object not in types):
        raise SightlineError(f"The parameter {name} is {words}, not {json.dumps(value, ensure_ascii=False)}.")
    if isinstance(value, int | float) and value < 0:
        raise SightlineError(f"The parameter {name} is {value}. Give 0 or more.")
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise SightlineError(f"The parameter {name} holds NaN or an infinity, which no server can be sent.") from None


def _unknown(name: str, known: Collection[str]) -> str:
    for each in PARAMETERS:
        if name == each.was and each.name in known:
            return f"The parameter {name} is now called {each.name}. Write --param {each.name}=VALUE."
        if name == each.name and each.was in known:
            return (
                f"This pipeline was compiled when {name} was still called {each.was}. Compile it anew, or write "
                f"--param {each.was}=VALUE."
            )
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(sorted(known))}."
    return f"The pipeline has no parameter {name}. {hint}"
