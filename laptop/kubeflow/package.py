"""A compiled pipeline: its bytes, name, digest, steps and parameters."""

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.parameters import STEPS
from laptop.compiling import INSTALLATION, apply_installation, compiled
from sightline.errors import SightlineError

DIGEST = 12  # hex digits in a version's description
SHORT = 8  # and in its name


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
    """The file that --pipeline names, or this checkout's pipeline, compiled.

    Raises:
        SightlineError: the file is no compiled pipeline, or an option says what is fixed in it.
    """
    if options.pipeline is None:
        apply_installation(options)
        return read_package(compiled(options.steps or STEPS), "the compiled pipeline")
    fixed = next((name for name in ("steps", *INSTALLATION) if getattr(options, name, None) is not None), None)
    if fixed:
        flag = f"--{fixed.replace('_', '-')}"
        raise SightlineError(
            f"{flag} is for compiling, and --pipeline {options.pipeline} is compiled. Leave one of the two out, or make the "
            f"file anew with: python pipeline.py compile {flag} …"
        )
    try:
        text = options.pipeline.read_bytes()
    except OSError as error:
        raise SightlineError(f"--pipeline {options.pipeline} cannot be read: {error.strerror}.") from None
    return read_package(text, f"--pipeline {options.pipeline}")


def read_package(text: bytes, what: str) -> Package:
    """What a compiled pipeline says of itself.

    Raises:
        SightlineError: it is none.
    """
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
            f"{what} is no compiled pipeline. Make one with: python pipeline.py compile -o pipeline.yaml"
        ) from None


def _parameter(definition: Mapping[str, Any]) -> Parameter:
    kind, default = definition["parameterType"], definition.get("defaultValue")
    if kind == "NUMBER_INTEGER" and isinstance(default, float):
        default = int(default)  # KFP writes every number as a float
    return Parameter(kind, "defaultValue" in definition or bool(definition.get("isOptional")), default)


def write_package(package: Package, folder: Path) -> Path:
    """The file to upload, named like the pipeline."""
    path = folder / f"{package.name}.yaml"
    path.write_bytes(package.text)
    return path
