"""The evaluate step as the door starts it: a small process that watches the one that evaluates."""

from collections.abc import Sequence
from pathlib import Path

from sightline.references import DatasetReference, ModelReference
from sightline.services.runs.homes import frozen_metrics
from sightline.services.runs.supervise import Step, run_step
from sightline.steps.evaluate.request import Evaluated, EvaluationRequest
from sightline.tasks.task import Task


def evaluate_models(
    code: str,
    dataset: str,
    model: str = "",
    candidates: Sequence[str] = (),
    candidates_digest: str = "",
    split: str = "test",
    select_by: str = "",
    device: str = "",
) -> Evaluated:
    """Score the best and the last bundle of a training, and bundles given by URI, on one split; select one.

    `code` is the folder of this step's frozen helper code, `dataset` and `model` are references, and the digest of what lies
    at the candidates' URIs is for the cache alone. A SightlineError for no candidate, an unknown split or metric, an empty
    split, classes that are not the dataset's, or not enough memory.
    """
    given = DatasetReference.from_text(dataset)
    trained = ModelReference.from_text(model) if model else None
    name = Path(code).name
    chosen = select_by or Task(given.task).facts.SELECT_BY
    metrics = frozen_metrics(Path(code))
    request = EvaluationRequest(name, given, trained, tuple(candidates), split, metrics, chosen, device)
    return run_step(Step("evaluate", name, given.category), _evaluate, request)


def _evaluate(request: EvaluationRequest) -> Evaluated:
    from sightline.steps.evaluate.compare import evaluate  # with torch, in the child only

    return evaluate(request)
