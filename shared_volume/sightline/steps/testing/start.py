"""The test step as the door starts it: a small process that watches the one that tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.references import DatasetReference, ModelReference
from sightline.services.runs.supervise import Step, run_step


@dataclass(frozen=True, slots=True)
class Tested:
    """What testing leaves: facts for the reference (where the predictions lie, …), and the report's HTML."""

    reference: dict[str, Any]
    report: str


def test_model(
    code: str,
    category: str,
    dataset: str = "",
    images: str = "",
    images_digest: str = "",
    model: str = "",
    model_uri: str = "",
    model_digest: str = "",
    score_threshold: float = 0.3,
    device: str = "",
) -> Tested:
    """Find objects on the test split, or on any folder or storage prefix of images; no annotation is needed.

    `code` is the folder of this step's frozen helper code, `dataset` and `model` are references, and the digests of what lies
    at the URIs `images` and `model_uri` are for the cache alone. Detections below the threshold are not drawn; the predictions
    file holds all. A SightlineError for no model, no images, one that cannot be read, or not enough memory.
    """
    name = Path(code).name
    used = ModelReference.from_text(model) if model else model_uri
    seen = images or DatasetReference.from_text(dataset)
    if isinstance(used, ModelReference):
        category = used.category  # of a smoke test that is not the pipeline's
    return run_step(Step("test", name, category), _test, name, category, used, seen, score_threshold, device)


def _test(*asked: Any) -> Tested:
    from sightline.steps.testing.run import test  # with torch, in the child only

    return Tested(*test(*asked))
