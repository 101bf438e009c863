"""What is trained on what; everything that can change the result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sightline.references import DatasetReference

KEY_LENGTH = 16


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What is trained on what; everything that can change the result.

    Attributes:
        code: the step's release folder; its configs/ holds the config.
        config: name of the model config.
        overrides: dotted config keys and their values.
        epochs: 0 for the config's own.
        select_by: the validation metric that decides which epoch is best.
    """

    code: Path
    dataset: DatasetReference
    config: str
    overrides: Mapping[str, Any]
    epochs: int
    select_by: str

    def key(self) -> str:
        """Names the work folder: equal for equal inputs, so that a repeated attempt finds its checkpoints."""
        parts = [
            self.code.name,
            self.dataset.digest,
            self.config,
            json.dumps(dict(self.overrides), sort_keys=True),
            str(self.epochs),
            self.select_by,
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:KEY_LENGTH]

    def to_json(self) -> dict[str, Any]:
        """Plain data for another process."""
        return {
            "code": str(self.code),
            "dataset": self.dataset.to_json(),
            "config": self.config,
            "overrides": dict(self.overrides),
            "epochs": self.epochs,
            "select_by": self.select_by,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            code=Path(content["code"]),
            dataset=DatasetReference.from_json(content["dataset"]),
            config=content["config"],
            overrides=content["overrides"],
            epochs=content["epochs"],
            select_by=content["select_by"],
        )
