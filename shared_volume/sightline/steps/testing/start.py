"""The test step as the door starts it: a small process that watches the one that tests."""

from pathlib import Path

from sightline.references import DatasetReference, ModelReference
from sightline.services.runs.supervise import Step, run_step
from sightline.steps.testing.request import Tested, TestRequest


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

    Args:
        code: folder of this step's frozen helper code.
        category: what the run works on.
        dataset: reference to the dataset version whose test split is used when `images` is empty.
        images: a path, file:// or gs:// prefix.
        images_digest: of what lies there; for the cache alone.
        model: reference to the bundle to use.
        model_uri: a bundle's URI instead of a reference.
        model_digest: of what lies there; for the cache alone.
        score_threshold: detections below it are not drawn; the predictions file holds all.
        device: cpu, cuda, …; empty for a GPU when there is one.

    Raises:
        SightlineError: no model, no images, one that cannot be read, or not enough memory.
    """
    name = Path(code).name
    chosen = ModelReference.from_text(model) if model else None
    given = None if images else DatasetReference.from_text(dataset)
    request = TestRequest(name, category, chosen, model_uri, given, images, score_threshold, device)
    return run_step(Step("test", name, category), _test, request)


def _test(request: TestRequest) -> Tested:
    from sightline.steps.testing.run import test  # with torch, in the child only

    return test(request)
