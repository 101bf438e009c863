"""What is trained on what; everything that can change the result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.models.shipped import shipped_digest
from sightline.references import CheckpointReference, DatasetReference, WeightsReference
from sightline.services.runs.closure import digest_files, reach, read_imports
from sightline.services.runs.config_chains import modules_imported
from sightline.services.runs.homes import CONFIGS
from sightline.tasks.metrics import selecting_modules
from sightline.tasks.task import computing_parts

KEY_LENGTH = 16


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What `train_model` is asked to train, with the task's own config and metric where it is asked for none."""

    code: Path  # the step's release, which holds the config
    dataset: DatasetReference
    config: str
    overrides: Mapping[str, Any]
    epochs: int
    select_by: str
    weights: WeightsReference | None = None  # to begin from; None for random ones
    few_allowed: bool = False  # whether less than half of the model may get a value from them
    origin: CheckpointReference | None = None  # another run's training to go on from

    def key(self) -> str:
        """Names the work folder: equal for equal inputs, so that a repeated attempt finds its checkpoints."""
        overrides = json.dumps(dict(self.overrides), sort_keys=True)
        parts = [self._computing(), self.dataset.digest, overrides, str(self.epochs), self.select_by]
        if self.weights:  # a bundle also tells its classes, which decide what of a head is kept
            parts.append(self.weights.bundle or self.weights.sha256)
        if self.origin:
            parts.append(self.origin.sha256)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:KEY_LENGTH]

    def _computing(self) -> str:
        """The digest of the code that computes the result: not of what reports, uploads or records it."""
        task = self.dataset.task
        modules = ["sightline.steps.train.compute", *computing_parts(task), *selecting_modules(task, self.select_by)]
        files = [path.relative_to(self.code) for path in self.code.rglob("*.py")]
        named = [tuple(name.split(".")) for name in modules] + modules_imported(self.code, self.config)
        reached = reach(self.code, named, read_imports(self.code, files))
        configs = [path for path in files if any(path.is_relative_to(home) for home in CONFIGS)]
        return digest_files(self.code, sorted(reached | set(configs))) + shipped_digest(self.code, self.config)
