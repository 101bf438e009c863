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

    Args:
        code: folder of this step's frozen helper code.
        dataset: reference to the dataset version whose split is used.
        model: reference to what the train step left; empty when there is none.
        candidates: URIs of further bundles.
        candidates_digest: of what lies there; for the cache alone.
        split: train, val or test.
        select_by: the metric that the selected candidate is best at; empty for the task's own.
        device: cpu, cuda, …; empty for a GPU when there is one.

    Raises:
        SightlineError: no candidate, an unknown split or metric, an empty split, classes that are not the dataset's, or
            not enough memory.
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
