"""A training's state, fitted to a longer training: the weights' and the optimizer's memory stay, rates follow the new schedule."""

import warnings
from typing import Any

from mmengine.optim import _ParamScheduler
from mmengine.runner import Runner

from sightline.errors import SightlineError
from sightline.steps.train.state import input_sizes


def fitted(runner: Runner, state: dict[str, Any], batches: int, batch: int) -> dict[str, Any]:
    """A state of another training as `state.go_on_from` takes it, for a new `runner` whose epochs have so many batches.

    Rates, momentum and decay are those that the runner's own schedules and optimizer have after as many epochs, as if it had
    trained them all. Gradients of a step that is not whole stay where the place within the epoch does.

    Raises:
        SightlineError: a schedule follows the scores, so that nobody can say where it would be.
    """
    schedules = runner.param_schedulers or []
    _forward(schedules, state["epoch"], batches, batch)
    own, theirs = runner.optim_wrapper.state_dict(), state["optimizer"]
    memory = {name: theirs[name] for name in ("state", "loss_scaler") if name in own and name in theirs}
    kept = state.get("gradients", {}) if batch == state["batch"] else {}
    return {
        **state,
        "optimizer": {**own, **memory},
        "param_schedulers": [schedule.state_dict() for schedule in schedules],
        "input_sizes": {name: state["input_sizes"].get(name, size) for name, size in input_sizes(runner).items()},
        "gradients": kept,
    }


def _forward(schedules: list[_ParamScheduler], epochs: int, batches: int, batch: int) -> None:
    """Step schedules as the hook of mmengine does that steps them while a training goes on."""
    for schedule in schedules:
        if getattr(schedule, "need_val_args", False):
            raise SightlineError(
                f"The config's schedule {type(schedule).__name__} follows the scores of earlier validations, so that a longer training "
                "cannot take it up. Choose another schedule, or begin a new training with the weights: --pretrained"
            )
    by_epoch = [schedule for schedule in schedules if schedule.by_epoch]
    by_iteration = [schedule for schedule in schedules if not schedule.by_epoch]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch expects a step of the optimizer before
        for _ in range(epochs):
            _step(by_iteration, batches)
            _step(by_epoch, 1)
        _step(by_iteration, batch)


def _step(schedules: list[_ParamScheduler], times: int) -> None:
    for _ in range(times):
        for schedule in schedules:
            schedule.step()
