"""The test step as its component starts it: a small process that watches the one that tests."""

from dataclasses import dataclass
from typing import Any

from sightline.references import DatasetReference, ModelReference
from sightline.supervise import Step, run_step


@dataclass(frozen=True, slots=True)
class Tested:
    """What testing leaves: facts for the reference (where the predictions lie, …), and the report's HTML."""

    reference: dict[str, Any]
    report: str


def test_model(
    code: str,
    category: str,
    model: ModelReference | None,
    dataset: DatasetReference | None,
    images: str,
    score_threshold: float,
    device: str = "",
) -> Tested:
    """Find objects on the test split, or on any folder or storage prefix of images; no annotation is needed.

    Args:
        code: name of this step's release.
        category: what the run works on.
        model: the bundle to use.
        dataset: the dataset version whose test split is used when `images` is empty.
        images: a path, file:// or gs:// prefix.
        score_threshold: detections below it are not drawn; the predictions file holds all.
        device: cpu, cuda, …; empty for a GPU when there is one.

    Raises:
        SightlineError: no model, no images, one that cannot be read, or not enough memory.
    """
    request = {
        "code": code,
        "category": category,
        "model": model.to_json() if model else None,
        "dataset": dataset.to_json() if dataset else None,
        "images": images,
        "score_threshold": score_threshold,
        "device": device,
    }
    return Tested(**run_step(Step("test", code, category), "sightline.test.run:test", request))
