"""The trained weights that a training begins from: matched and applied once, before its first iteration, and what of them fitted."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from sightline.models.weights.base import shown
from sightline.models.weights.checkpoints import Weights, read_weights
from sightline.models.weights.heads import new_classes
from sightline.models.weights.matching import Match, match
from sightline.references import LINEAGE, WeightsReference, lineage_of
from sightline.services.runs.trainings import read_json, write_json

if TYPE_CHECKING:
    from sightline.models.weights.taken import Taken

log = logging.getLogger(__name__)

FILE: Final = "began_from.json"
MOST: Final = 1000  # names of tensors that are kept for the report


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a training begins from."""

    reference: WeightsReference
    take: Callable[[], "Taken"]  # finds the file; a training that resumes does without it
    classes: tuple[str, ...]  # of the model, by label
    few_allowed: bool = False  # whether less than half of the model may get a value

    def apply(self, model: torch.nn.Module, folder: Path) -> None:
        """Give a new model its first weights, and leave in its work folder what came of it.

        Raises:
            WeightsError: the file is gone, cannot be read, or fits too little of the model.
        """
        taken = self.take()
        weights = read_weights(taken.path)
        theirs = taken.classes or weights.facts.get("classes")
        found = match(model, weights.tensors, self.classes, theirs, few_allowed=self.few_allowed)
        found.apply(model)
        log.info("begins from %s", self.reference.origin)
        for line in found.summary():
            log.info("%s", line)
        if theirs and (new := new_classes(self.classes, theirs)):
            log.info("new classes, random at first: %s", ", ".join(new))
        facts = self._facts(taken, weights, found, theirs)
        write_json(folder / FILE, facts)

    def _facts(self, taken: "Taken", weights: Weights, found: Match, theirs: Sequence[str] | None) -> dict[str, Any]:
        reference = self.reference
        return {
            "sha256": reference.sha256,
            "origin": reference.origin,
            "file_name": reference.file_name,
            "bundle": reference.bundle,
            "trained_on": taken.trained_on,
            "told": {name: value for name, value in weights.facts.items() if name != "classes"},
            "classes": list(map(shown, theirs[:MOST])) if theirs else None,
            "tensors": len(found.taken),
            "share": found.share,
            "part": found.part,
            "share_of_part": found.share_of_part,
            "modules": {shown(name): list(counts) for name, counts in found.counts.items()},
            "reshaped": [[shown(each.name), each.how] for each in found.reshaped[:MOST]],
            "left": [[shown(each.source), each.reason] for each in found.left[:MOST]],
            "missing": list(found.missing[:MOST]),
            "skipped": list(weights.skipped[:MOST]),
        }


def read_began(folder: Path) -> dict[str, Any] | None:
    """What a work folder's training began from, as `Beginning.apply` left it; None where it began from random weights."""
    return read_json(folder / FILE) or None


def lineage(began: Mapping[str, Any] | None) -> dict[str, str]:
    """What a model's bundle and its references say of its beginning; nothing for random weights."""
    if began is None:
        return {}
    return lineage_of(dict(zip(LINEAGE, (began["sha256"], began["origin"], began["bundle"]), strict=True)))
