"""What is trained on what; everything that can change the result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
