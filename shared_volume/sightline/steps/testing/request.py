"""What the step is asked, and what it leaves."""

from dataclasses import dataclass
from typing import Any

from sightline.references import DatasetReference, ModelReference


@dataclass(frozen=True, slots=True)
class TestRequest:
    """What is tried on what.

    Attributes:
        code: name of the step's release.
        category: what the run works on.
        model: reference to a model, as text; empty for none.
        model_uri: a bundle's URI instead.
        dataset: the dataset version whose test split is used when `images` is empty.
        images: a path, file:// or gs:// prefix.
        score_threshold: what is drawn.
        device: empty for a GPU when there is one.
    """

    __test__ = False  # pytest: this is no test

    code: str
    category: str
    model: ModelReference | None
    model_uri: str
    dataset: DatasetReference | None
    images: str
    score_threshold: float
    device: str


@dataclass(frozen=True, slots=True)
class Tested:
    """What testing leaves: facts for the reference (where the predictions lie, …), and the report's HTML."""

    reference: dict[str, Any]
    report: str
