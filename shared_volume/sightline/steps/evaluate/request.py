"""What the step is asked, and what it leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sightline.references import DatasetReference, ModelReference


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What is evaluated on what.

    Attributes:
        code: name of the step's release.
        dataset: the dataset version whose split is used.
        trained: what the train step left, or None.
        uris: further bundles.
        split: train, val or test.
        metrics: by name, beside the task's own.
        select_by: the metric that the selected candidate is best at.
        device: empty for a GPU when there is one.
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
