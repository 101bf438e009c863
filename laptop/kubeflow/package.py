"""A compiled pipeline, and the arguments of a run of it: from options, each of its declared type, before anything is sent."""

import argparse
import difflib
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from components.parameters import CATEGORY, PARAMETERS, STEPS
from laptop.compiling import INSTALLATION, apply_installation, compiled
from laptop.options import EXAMPLE_PARAMETER, given_values, suit, value_of
from laptop.request import require_inputs
from laptop.smoke import smoke_values
from sightline.annotations.recipe import whole
from sightline.errors import SightlineError

DIGEST = 12  # hex digits in a version's description
SHORT = 8  # and in its name
TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "STRING": ((str,), "a text"),
    "NUMBER_INTEGER": ((int,), "a whole number"),
    "NUMBER_DOUBLE": ((int, float), "a number"),
    "BOOLEAN": ((bool,), "true or false"),
    "LIST": ((list,), "a list, like '[1, 2]'"),
    "STRUCT": ((dict,), """an object, like '{"key": "value"}'"""),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the pipeline; `kind` is KFP's, like STRING or STRUCT."""

    kind: str
    optional: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Package:
    """A compiled pipeline."""

    text: bytes = field(repr=False)
    name: str
    steps: tuple[str, ...]
    parameters: Mapping[str, Parameter]

    @property
    def version(self) -> str:
        """Tells it on a server, in a version's description: equal bytes, equal text. Older versions are named so."""
        return f"digest-{hashlib.sha256(self.text).hexdigest()[:DIGEST]}"

    @property
    def short(self) -> str:
        """The beginning of its digest, which ends the name of its version on a server."""
        return self.version.removeprefix("digest-")[:SHORT]


def package_of(options: argparse.Namespace) -> Package:
    """The file that --pipeline names, or this checkout's pipeline, compiled; refuses options that say what a file fixes."""
    if options.pipeline is None:
        apply_installation(options)
        return read_package(compiled(options.steps or STEPS), "the compiled pipeline")
    if fixed := next((name for name in ("steps", *INSTALLATION) if getattr(options, name, None) is not None), None):
        flag = f"--{fixed.replace('_', '-')}"
        raise SightlineError(
            f"{flag} is for compiling, and --pipeline {options.pipeline} is compiled. Leave one of the two out, or make the "
            f"file again with: python pipeline.py compile {flag} …"
        )
    try:
        text = options.pipeline.read_bytes()
    except OSError as error:
        raise SightlineError(f"--pipeline {options.pipeline} cannot be read: {error.strerror}.") from None
    return read_package(text, f"--pipeline {options.pipeline}")


def read_package(text: bytes, what: str) -> Package:
    """What a compiled pipeline says of itself; refuses what is none."""
    import yaml

    try:
        spec = next(iter(yaml.safe_load_all(text)))
        name, root = spec["pipelineInfo"]["name"], spec["root"]
        parameters = root.get("inputDefinitions", {}).get("parameters", {})
        return Package(
            text=text,
            name=name,
            steps=tuple(root["dag"]["tasks"]),
            parameters={each: _parameter(definition) for each, definition in parameters.items()},
        )
    except (yaml.YAMLError, StopIteration, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise SightlineError(
            f"{what} is not a compiled pipeline. Make one with: python pipeline.py compile -o pipeline.yaml"
        ) from None


def _parameter(definition: Mapping[str, Any]) -> Parameter:
    kind, default = definition["parameterType"], definition.get("defaultValue")
    optional = "defaultValue" in definition or bool(definition.get("isOptional"))
    return Parameter(kind, optional, _typed(kind, default))


def arguments_of(options: argparse.Namespace, package: Package) -> dict[str, Any]:
    """The value of every parameter of the pipeline: given, or its default. Refuses a wrong type, and what is missing."""
    given = _given(options, package)
    if CATEGORY.name in package.parameters and set(package.steps) <= set(STEPS):  # our own pipeline
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


def _given(options: argparse.Namespace, package: Package) -> dict[str, Any]:
    given = suit(given_values(options), package.parameters, package.steps)
    for text in options.param or ():
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise SightlineError(f"--param {text!r} is not NAME=VALUE. Write it like --param {EXAMPLE_PARAMETER}")
        if name not in package.parameters:
            raise SightlineError(_unknown(name, package.parameters))
        kind = package.parameters[name].kind
        given[name] = value if kind == "STRING" else _typed(kind, value_of(value))  # two CPUs are the text 2
    if not getattr(options, "smoke", False):
        return given
    return smoke_values(given, {name: each.default for name, each in package.parameters.items()})


def _typed(kind: str, value: Any) -> Any:
    return whole(value) if kind == "NUMBER_INTEGER" else value


def _require_type(name: str, parameter: Parameter, value: object) -> None:
    types, words = TYPES.get(parameter.kind, ((object,), "something"))
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types and object not in types):
        raise SightlineError(f"The parameter {name} is {words}, not {json.dumps(value, ensure_ascii=False)}.")
    if isinstance(value, int | float) and value < 0:
        raise SightlineError(f"The parameter {name} is {value}. Give 0 or more.")
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise SightlineError(
            f"The parameter {name} holds NaN or an infinity, which cannot be sent to a server."
        ) from None


def _unknown(name: str, known: Collection[str]) -> str:
    for each in PARAMETERS:
        if name == each.was and each.name in known:
            return f"The parameter {name} is now called {each.name}. Write --param {each.name}=VALUE."
        if name == each.name and each.was in known:
            return (
                f"This pipeline was compiled when {name} was still called {each.was}. Compile it again, or write "
                f"--param {each.was}=VALUE."
            )
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(sorted(known))}."
    return f"The pipeline has no parameter {name}. {hint}"
