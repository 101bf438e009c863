"""The small JSON that steps hand on: a reference to what lies in our storage.

As a parameter it is what KFP's cache sees of a step's input: an artifact would be seen by its id, which changes when the
step that made it runs again, whatever it gives. As an artifact's file it is readable in the UI.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from sightline.errors import SightlineError

DETECTION = "detection"  # the task of all that was made before there were others

Fact = str | int | float | None


def task_of(described: Mapping[str, Any] | None) -> str:
    """The task that a recipe as recorded, or a bundle's facts, name."""
    return str((described or {}).get("task") or DETECTION)


LINEAGE = ("weights_sha256", "weights_origin", "parent_sha256")


def lineage_of(described: Mapping[str, Any]) -> dict[str, str]:
    """What a bundle's facts or a model's reference say of the weights that its training began from; nothing for random ones."""
    return {name: str(described[name]) for name in LINEAGE if described.get(name)}


class BadReferenceError(SightlineError):
    """A reference's file is missing, or is not what it should be."""


def write_reference(artifact: Any, reference: Mapping[str, Fact]) -> None:
    """Write one line of JSON to a KFP artifact's file, and the same facts to its metadata.

    Its `uri` is never set: the launcher refuses one outside the pipeline root. A number that JSON has no word for (NaN,
    infinity) is written as null; metadata, which KFP lets hold strings and numbers only, leaves a null out.
    """
    facts = with_nulls(reference)
    write_artifact(artifact, json.dumps(facts, ensure_ascii=False) + "\n")
    artifact.metadata.update({name: value for name, value in facts.items() if value is not None})


def write_artifact(artifact: Any, text: str) -> None:
    """Write a KFP artifact's file."""
    Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
    Path(artifact.path).write_text(text, encoding="utf-8")


def with_nulls(reference: Mapping[str, Fact]) -> dict[str, Fact]:
    """The same, with None for numbers that JSON has no word for."""
    strange = {name for name, value in reference.items() if isinstance(value, float) and not math.isfinite(value)}
    return {**reference, **dict.fromkeys(strange)}


def kind_of(text: str) -> str:
    """The kind of thing that a reference is to, as its text says it; empty for a text that is none."""
    return str((_read(text) or {}).get("kind", ""))


def _read(text: str) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


class _Reference:
    """Reads and writes the fields of a dataclass, with the kind of thing it refers to."""

    KIND = ""

    def to_text(self) -> str:
        """One line of JSON, the same for the same facts."""
        return json.dumps(with_nulls(self.to_json()), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The inverse of `to_text`; a BadReferenceError for what is no whole reference to this kind of thing."""
        content = _read(text)
        if content is not None:
            return cls.from_json(content)
        raise BadReferenceError(
            f"This is not a reference (one JSON object): {text[:100]!r}. Run the step that should have given it again."
        )

    def to_json(self) -> dict[str, Fact]:
        """The fields, and `kind`."""
        return {**asdict(self), "kind": self.KIND}  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; raises like `from_text`. Unknown keys are ignored, so that newer writers can be read."""
        if content.get("kind") != cls.KIND:
            raise BadReferenceError(
                f"This is a reference to a {content.get('kind')!r}, not to a {cls.KIND!r}: {dict(content)}"
            )
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        try:
            return cls(**{name: value for name, value in content.items() if name in known})
        except TypeError as error:
            raise BadReferenceError(f"The reference to a {cls.KIND} is incomplete ({error}): {dict(content)}") from None


@dataclass(frozen=True, slots=True)
class DatasetReference(_Reference):
    """A published dataset version: its tag and commit in the dataset repository, and DVC's digest of its content."""

    category: str
    version: str
    tag: str
    commit: str
    digest: str
    task: str = DETECTION

    KIND = "dataset"

    @classmethod
    def of(cls, row: Any) -> Self:
        """The reference to a published version, by its row in the database."""
        return cls(row.category, row.version, str(row.tag), str(row.commit), str(row.digest), task_of(row.recipe))


@dataclass(frozen=True, slots=True)
class WeightsReference(_Reference):
    """Trained weights that lie on the volume, for a training to begin from."""

    sha256: str  # of the file
    origin: str  # where it is from, as it may be printed
    file_name: str
    bundle: str = ""  # the manifest's sha256, where it is a model that Sightline trained
    model_uri: str = ""  # where that model lies

    KIND = "weights"

    @property
    def folder(self) -> str:
        """Where the file is on the volume."""
        return f"models/{self.bundle}" if self.bundle else f"weights/{self.sha256}"


@dataclass(frozen=True, slots=True)
class CheckpointReference(_Reference):
    """Another run's training as far as it came, kept on the volume for a longer one to go on from."""

    sha256: str  # of its manifest
    run: str  # which run's it is
    checkpoint: str  # the checkpoint's sha256
    parent: str = ""  # the last model that came of it, by its bundle's sha256; empty where it did not end

    KIND = "checkpoint"

    @property
    def folder(self) -> str:
        """Where it is on the volume."""
        return f"resumed/{self.sha256}"


@dataclass(frozen=True, slots=True)
class ModelReference(_Reference):
    """A model bundle: where it lies, its manifest's sha256, what it was trained on, and how good it was."""

    uri: str
    sha256: str
    category: str
    dataset_version: str
    config: str
    metric_name: str | None = None
    metric_value: float | None = None
    last_uri: str | None = None
    last_sha256: str | None = None
    task: str = DETECTION
    # What its training began from, None for random weights: a file, and the model that it is of, if Sightline trained that.
    # Of a training that went on from another: that one's checkpoint and last model.
    weights_sha256: str | None = None
    weights_origin: str | None = None
    parent_sha256: str | None = None

    KIND = "model"
