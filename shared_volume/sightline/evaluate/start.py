"""The evaluate step as its component starts it: a small process that watches the one that evaluates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sightline.references import DatasetReference, ModelReference
from sightline.supervise import Step, run_step

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class ConfusionTable:
    """How often which class was taken for which: the labels, background last, and counts as [truth, predicted]."""

    labels: tuple[str, ...]
    matrix: "np.ndarray"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What evaluation leaves: the selected model, its finite overall metrics, its confusion, and the report's HTML."""

    selected: ModelReference
    headline: Mapping[str, float]
    confusion: ConfusionTable
    report: str


def evaluate_models(
    code: str,
    dataset: DatasetReference,
    trained: ModelReference | None,
    uris: Sequence[str],
    split: str,
    select_by: str,
    device: str = "",
) -> Evaluated:
    """Score the best and the last bundle of a training, and bundles given by URI, on one split; select one.

    Args:
        code: name of this step's release.
        dataset: the dataset version whose split is used.
        trained: what the train step left, or None.
        uris: further bundles.
        split: train, val or test.
        select_by: the metric (bbox_mAP, segm_mAP_50, …) that the selected candidate is best at.
        device: cpu, cuda, …; empty for a GPU when there is one.

    Raises:
        SightlineError: no candidate, an unknown split or metric, an empty split, classes that are not the dataset's, or
            not enough memory.
    """
    request = {
        "code": code,
        "dataset": dataset.to_json(),
        "trained": trained.to_json() if trained else None,
        "uris": list(uris),
        "split": split,
        "select_by": select_by,
        "device": device,
    }
    result = run_step(Step("evaluate", code, dataset.category), "sightline.evaluate.compare:evaluate", request)
    import numpy as np  # only now: it has no place in a process that waits

    confusion = ConfusionTable(tuple(result["labels"]), np.array(result["matrix"], dtype=np.int64))
    return Evaluated(ModelReference.from_json(result["selected"]), result["headline"], confusion, result["report"])
