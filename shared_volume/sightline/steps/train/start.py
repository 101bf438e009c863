"""The train step as the door starts it: a small process that lets a child train, and decides when memory runs out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError, nearest
from sightline.references import CheckpointReference, DatasetReference, ModelReference, WeightsReference, kind_of
from sightline.services.runs.supervise import Step, Stopped, run_step
from sightline.steps.train.request import TrainingRequest
from sightline.tasks.task import Task

SHRINK, FAIL = "shrink", "fail"
HALF, ANY = "half", "any"


@dataclass(frozen=True, slots=True)
class Trained:
    """What training leaves: a reference to its best bundle (naming the last one too) and the report's HTML."""

    model: ModelReference
    report: str


def train_model(
    code: str,
    dataset: str,
    config: str = "",
    overrides: Mapping[str, Any] | None = None,
    epochs: int = 0,
    select_by: str = "",
    device: str = "",
    on_out_of_memory: str = SHRINK,
    weights: str = "",
    pretrained_fit: str = HALF,
) -> Trained:
    """Fit the configured model on a dataset version, from the newest checkpoint of the same inputs if there is one.

    `code` is the folder of this step's frozen helper code, `dataset` a reference, `select_by` the validation metric that decides
    which epoch is best. `on_out_of_memory` says shrink (go on from the newest checkpoint, each batch in twice as many parts) or
    fail. `weights` is a reference to what is on the volume to begin from: trained weights, of which with `pretrained_fit` half at
    least half of the model must get a value, and with any need not; or another run's checkpoint, to go on from with more epochs. A SightlineError where the config, an override, the dataset or the device cannot be used, or memory ran out.
    """
    _require_choice("on_out_of_memory", on_out_of_memory, (SHRINK, FAIL))
    _require_choice("pretrained_fit", pretrained_fit, (HALF, ANY))
    given = DatasetReference.from_text(dataset)
    facts = Task(given.task).facts
    config, select_by = config or facts.CONFIG, select_by or facts.SELECT_BY
    goes_on = weights and kind_of(weights) == CheckpointReference.KIND
    begins_from = WeightsReference.from_text(weights) if weights and not goes_on else None
    origin = CheckpointReference.from_text(weights) if goes_on else None
    asked = (config, overrides or {}, epochs, select_by, begins_from, pretrained_fit == ANY, origin)
    request = TrainingRequest(Path(code), given, *asked)
    shrinks = on_out_of_memory == SHRINK
    advice = "" if shrinks else "or let it go on with a part of each batch (train_on_out_of_memory=shrink)"
    step = Step("train", Path(code).name, given.category)
    return run_step(step, _train, request, device, shrinks=shrinks, advice=advice)


def _require_choice(name: str, value: str, choices: tuple[str, str]) -> None:
    if value not in choices:
        raise SightlineError(f"{name} is {value!r}: say {' or '.join(choices)}.{nearest(value, choices)}")


def _train(request: TrainingRequest, device: str, stopped: Stopped | None = None) -> Trained:
    from sightline.steps.train.fit import train  # with torch, in the child only

    return Trained(*train(request, device, stopped))
