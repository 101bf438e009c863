"""A training's state, with hooks; and code that a bundle brings."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner

from sightline.errors import ConfigError, SightlineError
from sightline.models.imports import CODE, import_kept, import_live
from sightline.steps.train.checkpoints import load_plain, save_whole
from sightline.steps.train.state import go_on_from, seen_weights, state_of


class Tiny(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, inputs: torch.Tensor, data_samples: Any = None, mode: str = "loss") -> Any:
        return {"loss": self.layer(inputs).square().mean()}


class Place(BaseLoop):
    """Where a training is, as hooks ask the runner."""

    iter, epoch, max_epochs, max_iters = 0, 0, 9, 99

    def __init__(self) -> None:
        """Without data."""

    def run(self) -> None:
        """Not here: the tests train."""


class Counting(Hook):
    seen: Any = 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.seen += 1
        runner.message_hub.update_info("told", self.seen)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint["counting"] = self.seen

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.seen = checkpoint["counting"]


def runner_of(folder: Path, name: str) -> tuple[Runner, Counting]:
    torch.manual_seed(0)
    hook = Counting()
    runner = Runner(
        model=Tiny(),
        work_dir=str(folder / name),
        train_dataloader={"batch_size": 1},
        train_cfg={"by_epoch": True, "max_epochs": 9},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}, "accumulative_counts": 2},
        param_scheduler=None,
        default_hooks={"timer": None, "logger": None, "checkpoint": None},
        custom_hooks=[hook, {"type": "EMAHook", "momentum": 0.5}],
        log_level="ERROR",
        default_scope="mmdet",  # as a training has it; it stays for whatever is built next in this process
        experiment_name=f"{folder.name}-{name}",
    )
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner._train_loop = Place()
    runner.call_hook("before_run")
    runner.optim_wrapper.initialize_count_status(runner.model, 0, 99)
    return runner, hook


def train(runner: Runner, iterations: int) -> None:
    for _ in range(iterations):
        number = runner._train_loop.iter
        batch = torch.tensor([[1.0, float(number % 5)]])
        outputs = runner.model.train_step({"inputs": batch, "data_samples": None}, runner.optim_wrapper)
        runner.call_hook("after_train_iter", batch_idx=number, data_batch=batch, outputs=outputs)
        runner._train_loop.iter += 1


def test_a_state_that_was_written_goes_on_to_the_bit_with_hooks_and_half_a_step(tmp_path: Path) -> None:
    whole, counted = runner_of(tmp_path, "whole")
    train(whole, 5)  # two batches make a step: the third is half done
    save_whole(tmp_path / "state.pth", state_of(whole) | {"iter": 5})
    train(whole, 4)

    again, hook = runner_of(tmp_path, "again")
    again._train_loop.iter = 5
    go_on_from(again, load_plain(tmp_path / "state.pth"), 99)
    assert (hook.seen, again.message_hub.get_info("told")) == (5, 5)
    assert len(again.message_hub.get_scalar("train/loss").data[0]) == 5
    train(again, 4)
    assert hook.seen == counted.seen == 9
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    averaged = seen_weights(whole)
    assert all(torch.equal(averaged[name], each) for name, each in seen_weights(again).items())
    assert not torch.equal(averaged["layer.weight"], whole.model.state_dict()["layer.weight"])


def test_the_weights_of_a_bundle_are_those_that_a_validation_sees(tmp_path: Path) -> None:
    runner, _ = runner_of(tmp_path, "averaged")
    train(runner, 4)
    bundled = {name: tensor.clone() for name, tensor in seen_weights(runner).items()}
    runner.call_hook("before_val_epoch")
    assert all(torch.equal(bundled[name], tensor) for name, tensor in runner.model.state_dict().items())


def test_a_hook_whose_state_could_not_be_read_again_is_named(tmp_path: Path) -> None:
    runner, hook = runner_of(tmp_path, "odd")
    hook.seen = Path("x")
    with pytest.raises(SightlineError, match="A hook puts counting into the checkpoint, a PosixPath"):
        state_of(runner)


def test_a_second_name_that_a_model_gives_its_tensors_while_it_trains_is_not_kept(tmp_path: Path) -> None:
    runner, _ = runner_of(tmp_path, "named-twice")
    runner.tensors_built = frozenset(runner.model.state_dict())
    train(runner, 2)
    runner.model.again = runner.model.layer
    assert seen_weights(runner).keys() == runner.tensors_built
    again, _ = runner_of(tmp_path, "built-anew")
    go_on_from(again, state_of(runner) | {"iter": 2}, 99)
    assert torch.equal(again.model.layer.weight, runner.model.layer.weight)


HOOK = """
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from custom.state_test.amount import AMOUNT


@HOOKS.register_module()
class OfABundle(Hook):
    amount = AMOUNT
"""


def test_code_that_a_bundle_brings_is_run_from_its_text_and_replaces_that_of_another() -> None:
    code = {"custom/state_test/part.py": HOOK, "custom/state_test/amount.py": "AMOUNT = 1\n"}
    bundle = {"custom_imports": {"imports": ["custom.state_test.part"]}, CODE: code}
    import_kept(bundle, "the model a")
    assert HOOKS.get("OfABundle").amount == 1
    import_kept(bundle | {CODE: code | {"custom/state_test/amount.py": "AMOUNT = 2\n"}}, "the model b")
    assert HOOKS.get("OfABundle").amount == 2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("custom.nowhere.part", "there is no custom/nowhere/part.py in the helper code"),
        ("mmpretrain_that_is_not_here.models", "no such module is installed here"),
    ],
)
def test_an_import_that_is_missing_is_named(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        import_live({"custom_imports": {"imports": [name]}}, "mine.py")
