"""A training's state as mmengine's checkpoints hold it, so that hooks find in it what they put there; plain data on the disk."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from sightline.errors import SightlineError
from sightline.steps.train import checkpoints

PLAIN: Final = (str, int, float, bool, torch.Tensor, type(None))
WEIGHTS: Final = "state_dict"


def state_of(runner: Runner) -> dict[str, Any]:
    """Weights, optimizer, schedules, gradients of a step that is not whole yet, random states, and what hooks add or exchange.

    `state_dict` holds the weights that a validation sees: a hook that averages weights puts the average there.
    """
    optim_wrapper = runner.optim_wrapper
    state: dict[str, Any] = {
        "meta": {"epoch": runner.epoch, "iter": runner.iter},
        WEIGHTS: _weights_as_built(runner),
        "message_hub": runner.message_hub.state_dict(),
        "optimizer": optim_wrapper.state_dict(),
        "param_schedulers": [schedule.state_dict() for schedule in runner.param_schedulers or []],
    }
    runner.call_hook("before_save_checkpoint", checkpoint=state)
    state["message_hub"] = _plain_hub(state["message_hub"])
    if getattr(optim_wrapper, "_accumulative_counts", 1) > 1:
        named = runner.model.named_parameters()
        state["gradients"] = {name: each.grad for name, each in named if each.grad is not None}
    state["input_sizes"] = input_sizes(runner)
    state["random"] = checkpoints.random_states()
    for key, value in state.items():
        _require_plain(value, key)
    return state


def go_on_from(runner: Runner, state: dict[str, Any], max_iters: int) -> None:
    """Put everything back where `state_of` found it."""
    state["message_hub"] = _hub(state["message_hub"])
    runner._resume = True  # hooks ask for it
    runner.call_hook("after_load_checkpoint", checkpoint=state)
    runner.model.load_state_dict(state[WEIGHTS])
    runner.message_hub.load_state_dict(state["message_hub"])
    for name, module in _resizers(runner):
        module._input_size = tuple(state["input_sizes"][name])
    runner.optim_wrapper.load_state_dict(state["optimizer"])
    for schedule, saved in zip(runner.param_schedulers or [], state["param_schedulers"], strict=True):
        schedule.load_state_dict(saved)
    runner.optim_wrapper.initialize_count_status(runner.model, state["iter"], max_iters)
    parameters = dict(runner.model.named_parameters())
    for name, gradient in state.get("gradients", {}).items():
        parameters[name].grad = gradient.to(parameters[name].device)
    checkpoints.set_random_states(state["random"])


def seen_weights(runner: Runner) -> Mapping[str, torch.Tensor]:
    """The model's weights as a validation sees them."""
    return state_of(runner)[WEIGHTS]


def _weights_as_built(runner: Runner) -> dict[str, torch.Tensor]:
    """Without second names that some models give to their tensors while they train: a model that is built anew has none of these."""
    weights = runner.model.state_dict()
    built = getattr(runner, "tensors_built", weights)
    known = {weights[name].data_ptr() for name in built}
    return {name: tensor for name, tensor in weights.items() if name in built or tensor.data_ptr() not in known}


def input_sizes(runner: Runner) -> dict[str, list[int]]:
    """The sizes that the model's resizers have at the moment."""
    return {name: list(module._input_size) for name, module in _resizers(runner)}


def _resizers(runner: Runner) -> list[tuple[str, Any]]:
    """Multi-scale batch resizers keep the size of the moment outside the weights."""
    return [(name, module) for name, module in runner.model.named_modules() if hasattr(module, "_input_size")]


def _plain_hub(hub: Mapping[str, Any]) -> dict[str, Any]:
    scalars = {
        name: [torch.from_numpy(np.array(part)) for part in each.data] + [each.max_length]
        for name, each in hub["log_scalars"].items()
    }
    # What the runner itself says anew.
    info = {name: value for name, value in hub["runtime_info"].items() if name not in ("cfg", "dataset_meta")}
    kept = {name: resumed for name, resumed in hub["resumed_keys"].items() if name in scalars or name in info}
    return {"log_scalars": scalars, "runtime_info": info, "resumed_keys": kept}


def _hub(plain: Mapping[str, Any]) -> dict[str, Any]:
    scalars = {}
    for name, (values, counts, length) in plain["log_scalars"].items():
        scalars[name] = HistoryBuffer(max_length=length)
        scalars[name]._log_history, scalars[name]._count_history = values.numpy(), counts.numpy()
    return {**plain, "log_scalars": scalars}


def _require_plain(value: Any, where: str) -> None:
    """Refuse what could not be read again without running code."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            _require_plain(each, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for each in value:
            _require_plain(each, where)
    elif not isinstance(value, PLAIN):
        raise SightlineError(
            f"A hook puts {where} into the checkpoint, a {type(value).__name__}. Checkpoints hold tensors, numbers, texts, lists and "
            "dicts only: nothing else could be read again without running code. Make it one of these in before_save_checkpoint, or "
            "in what the hook tells runner.message_hub."
        )
