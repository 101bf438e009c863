"""What the step is asked, and what it leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sightline.references import DatasetReference, ModelReference


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What is evaluated on what; see `evaluate_models`.

    Attributes:
        code: name of the step's release.
        uris: bundles beside what was trained.
        metrics: by name, beside the task's own.
    """

    code: str
    dataset: DatasetReference
    trained: ModelReference | None
    uris: tuple[str, ...]
    split: str
    metrics: tuple[str, ...]
    select_by: str
    device: str


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What evaluation leaves.

    Attributes:
        selected: the selected model.
        headline: its finite overall metrics.
        labels: its confusion's, background last.
        confusion: counts as [truth][predicted].
        report: HTML.
    """

    selected: ModelReference
    headline: Mapping[str, float]
    labels: Sequence[str]
    confusion: Sequence[Sequence[int]]
    report: str
