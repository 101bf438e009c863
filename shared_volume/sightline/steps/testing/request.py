"""What the step is asked, and what it leaves."""

from dataclasses import dataclass
from typing import Any

from sightline.references import DatasetReference, ModelReference


@dataclass(frozen=True, slots=True)
class TestRequest:
    """What is tried on what; see `test_model`. `code` is the name of the step's release."""

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
