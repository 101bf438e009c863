"""A training's state, fitted to a longer one: the optimizer's memory stays, and rates are those of the longer schedule."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper, ReduceOnPlateauLR

from sightline.errors import SightlineError
from sightline.steps.train.carried import fitted
from sightline.steps.train.origin import differences

BATCHES = 5


def runner_of(epochs: int, rate: float = 0.1) -> Any:
    """As much of mmengine's runner as a state needs, at the start of a training of so many epochs."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9))
    schedules = [
        LinearLR(optimizer, start_factor=0.1, by_epoch=False, end=7),
        CosineAnnealingLR(optimizer, T_max=epochs, end=epochs, by_epoch=True),
    ]
    return SimpleNamespace(model=model, optim_wrapper=optimizer, param_schedulers=schedules)


def train(runner: Any, epochs: int, batches: int = 0) -> list[float]:
    """Train so many epochs and batches. Returns the rate of each batch."""
    rates = []
    for length in [BATCHES] * epochs + [batches]:
        for _ in range(length):
            rates.append(runner.optim_wrapper.get_lr()["lr"][0])
            runner.optim_wrapper.update_params(runner.model(torch.ones(2, 3)).square().mean())
            runner.param_schedulers[0].step()
        if length == BATCHES:
            runner.param_schedulers[1].step()
    return rates


def state_of(runner: Any, epoch: int, batch: int) -> dict[str, Any]:
    state = {"epoch": epoch, "batch": batch, "optimizer": runner.optim_wrapper.state_dict(), "input_sizes": {}}
    return state | {"param_schedulers": [], "gradients": {"weight": torch.ones(1, 3)}}


@pytest.mark.parametrize(("epoch", "batch"), [(2, 0), (1, 3)])
def test_rates_are_those_of_the_longer_schedule_from_its_start(epoch: int, batch: int) -> None:
    short, longer, whole = runner_of(2), runner_of(4), runner_of(4)
    train(short, epoch, batch)
    at_once = train(whole, 4)[epoch * BATCHES + batch :]
    state = fitted(longer, state_of(short, epoch, batch), BATCHES, batch)
    longer.optim_wrapper.load_state_dict(state["optimizer"])
    longer.model.load_state_dict(short.model.state_dict())
    for schedule, saved in zip(longer.param_schedulers, state["param_schedulers"], strict=True):
        schedule.load_state_dict(saved)
    rest = [longer.optim_wrapper.get_lr()["lr"][0]]
    momentum = next(iter(longer.optim_wrapper.state_dict()["state"].values()))["momentum_buffer"]
    assert torch.equal(momentum, next(iter(short.optim_wrapper.state_dict()["state"].values()))["momentum_buffer"])
    assert rest == at_once[:1]
    if not batch:
        assert train(longer, 4 - epoch) == at_once
    assert state["gradients"].keys() == {"weight"}


def test_another_rate_holds_and_gradients_of_another_place_do_not() -> None:
    short, longer = runner_of(2), runner_of(4, rate=0.5)
    train(short, 1, 3)
    state = fitted(longer, state_of(short, 1, 3), BATCHES, 0)
    assert state["optimizer"]["param_groups"][0]["initial_lr"] == 0.5
    assert state["gradients"] == {}


def test_a_schedule_that_follows_scores_is_refused() -> None:
    longer = runner_of(4)
    longer.param_schedulers.append(ReduceOnPlateauLR(longer.optim_wrapper, by_epoch=True))
    with pytest.raises(SightlineError, match="ReduceOnPlateauLR follows the scores"):
        fitted(longer, state_of(runner_of(2), 0, 0), BATCHES, 0)


def test_what_differs_is_named_by_its_dotted_key() -> None:
    facts = {"category": "desk", "dataset_version": "v0.1.0", "code": "train-1"}
    before = facts | {"values": {"seed": 0, "steps": [{"scale": [96, 96]}], "schedule": [], "hooks": None}}
    now = facts | {"code": "train-2", "values": {"seed": 0, "steps": [{"scale": [96, 64]}], "hooks": None, "new": 1}}
    assert list(differences(before, now)) == [
        ("code", "train-1", "train-2"),
        ("steps.0.scale.1", "96", "64"),
        ("schedule", "[]", "not there"),
        ("new", "not there", "1"),
    ]
    assert list(differences(before, before)) == []
