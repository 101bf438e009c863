"""What the step is asked, and what it leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sightline.references import DatasetReference, ModelReference


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What is evaluated on what; see `evaluate_models`."""

    code: str  # name of the step's release
    dataset: DatasetReference
    trained: ModelReference | None
    uris: tuple[str, ...]  # of further bundles
    split: str
    metrics: tuple[str, ...]  # beside the task's own
    select_by: str
    device: str


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What evaluation leaves: the selected model, its scores and confusion, and the report's HTML."""

    selected: ModelReference
    headline: Mapping[str, float]  # overall, as far as they are finite
    labels: Sequence[str]  # of the confusion
    confusion: Sequence[Sequence[int]]  # counts as [truth][predicted]
    report: str
