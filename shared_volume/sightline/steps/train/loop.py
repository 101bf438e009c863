"""mmengine's epoch loop, able to stop anywhere and go on at the very next iteration."""

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from sightline.errors import SightlineError
from sightline.steps.train import checkpoints
from sightline.steps.train.beginning import Beginning
from sightline.steps.train.history import History
from sightline.steps.train.micro_batches import train_in_parts
from sightline.tasks.task import Task

if TYPE_CHECKING:
    from sightline.steps.train.events import Events

log = logging.getLogger(__name__)

LIGHT_PERIOD = 50  # a light checkpoint is due after so many times what one costs: 2 % of the training's time


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained on what, and where."""

    task: Task
    config: Config
    dataset_dir: Path
    classes: tuple[str, ...]  # names, by label
    folder: Path  # the work folder
    select_by: str  # the validation metric that decides which epoch is best
    device: torch.device
    images: int  # how many of a batch are taken at a time; the whole batch, unless memory is short
    beginning: Beginning | None = None  # trained weights; None for random ones

    @property
    def best_weights(self) -> Path:
        """Where the best epoch's weights lie."""
        return self.folder / "best.pth"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.folder / "checkpoints"


@dataclass(slots=True)
class Best:
    """The best validation so far, and how many there have been since without improvement."""

    value: float = -math.inf
    epoch: int = 0
    stale: int = 0


class ResumableTrainLoop(EpochBasedTrainLoop):
    """An `EpochBasedTrainLoop` that saves everything an exact continuation needs, and continues from it by itself.

    A checkpoint holds weights, optimizer, schedules, random states, and the position within the epoch. It is written at
    each epoch's end (before validation, which is repeated when it was cut off) and after `checkpoint_seconds`; a light one
    every few seconds.
    """

    def __init__(
        self, runner: Runner, dataloader: DataLoader[Any], training: Training, history: History, events: "Events | None"
    ) -> None:
        config = training.config
        super().__init__(runner, dataloader, max_epochs=config.max_epochs, val_interval=config.val_interval)
        self.training = training
        # Read here: a config that lacks one of them ends now, not after an epoch.
        self._checkpoint_seconds = config.checkpoint_seconds
        self._patience, self._min_delta = config.early_stopping.patience, config.early_stopping.min_delta
        self.history = history
        self.events = events
        self.best = Best()
        self.resumed_at = 0
        self._batch = 0
        self._validation_due = False
        self._saved = self._saved_lightly = time.monotonic()
        self._light_cost = 0.0
        self._loss = math.nan

    def run(self) -> torch.nn.Module:
        """Train from the newest whole checkpoint, or from the start, to the last epoch."""
        self.runner.call_hook("before_train")
        self._resume()
        self.history.open(self._iter)
        if self.events:
            self.events.going_on(self._iter)
        self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate()
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """One epoch, or what is left of it."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        first = self._batch
        self.dataloader.sampler.start = first * self.dataloader.batch_size
        batches = iter(self.dataloader)
        for index in range(first, len(self.dataloader)):
            self.run_iter(index, next(batches))
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1
        self._batch = 0
        self._validation_due = self.runner.val_loop is not None and (
            self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        )
        self.history.epoch_ended(self._epoch, self._iter, self._loss)
        self._save()

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One iteration, its record, and a checkpoint when the last one is old."""
        self.runner.call_hook("before_train_iter", batch_idx=idx, data_batch=data_batch)
        outputs = self._train_step(data_batch)
        rate = self.runner.optim_wrapper.get_lr()["lr"][0]
        self.runner.call_hook("after_train_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1
        self._batch = idx + 1
        values = {name: float(torch.as_tensor(value).detach()) for name, value in outputs.items()}
        self._loss = values["loss"]
        if not math.isfinite(self._loss):
            raise SightlineError(
                f"The loss became {self._loss} at iteration {self._iter} (epoch {self._epoch + 1}). "
                "Lower the learning rate: --set optim_wrapper.optimizer.lr=…"
            )
        self.history.train(self._epoch + 1, self._iter, values | {"lr": rate})
        self._save_within_epoch()

    def _train_step(self, batch: Any) -> dict[str, torch.Tensor]:
        model, optim_wrapper = self.runner.model, self.runner.optim_wrapper
        if len(batch["inputs"]) <= self.training.images:
            return model.train_step(batch, optim_wrapper=optim_wrapper)
        return train_in_parts(model, optim_wrapper, batch, self.training.images)

    def _validate(self) -> None:
        if not self._validation_due:
            return
        select_by = self.training.select_by
        values = {name: float(value) for name, value in self.runner.val_loop.run().items()}
        self._validation_due = False
        self.history.validation(self._epoch, self._iter, values)
        if select_by not in values:
            raise SightlineError(
                f"There is no metric {select_by!r} to select by. This model has: {', '.join(sorted(values))}."
            )
        value = values[select_by]
        if math.isnan(value):
            value = -math.inf  # nothing compares with it: the first would stay the best for good
        if self.best.epoch == 0 or value > self.best.value + self._min_delta:
            self.best = Best(value, self._epoch)
            checkpoints.save_whole(self.training.best_weights, self.runner.model.state_dict())
        else:
            self.best.stale += 1
        if self._patience and self.best.stale >= self._patience:
            log.info("stopping early: no better %s in %d validations", select_by, self.best.stale)
            self.stop_training = True

    def _save_within_epoch(self) -> None:
        now = time.monotonic()
        if now - self._saved >= self._checkpoint_seconds:
            self._save()
        elif now - self._saved_lightly >= self._light_cost * LIGHT_PERIOD:
            checkpoints.save_whole(self.training.checkpoints / checkpoints.LIGHT, self._state(), flush=False)
            self._saved_lightly = time.monotonic()
            cost = self._saved_lightly - now
            self._light_cost = min(cost, self._light_cost or cost)  # a busy moment must not count for good

    def _save(self) -> None:
        checkpoints.save_checkpoint(self.training.checkpoints, self._iter, self._state())
        self._saved = time.monotonic()

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self._epoch,
            "iter": self._iter,
            "batch": self._batch,
            "validation_due": self._validation_due,
            "best": [self.best.value, self.best.epoch, self.best.stale],
            "model": self.runner.model.state_dict(),
            "input_sizes": {name: list(module._input_size) for name, module in self._resizers()},
            "optimizer": self.runner.optim_wrapper.state_dict(),
            "schedules": [schedule.state_dict() for schedule in self.runner.param_schedulers or []],
            "random": checkpoints.random_states(),
        }

    def _resume(self) -> None:
        state = checkpoints.newest_checkpoint(self.training.checkpoints)
        if state is None:
            return
        self._epoch, self._iter, self._batch = state["epoch"], state["iter"], state["batch"]
        self._validation_due = state["validation_due"]
        self.best = Best(*state["best"])
        self.resumed_at = self._iter
        self.runner.model.load_state_dict(state["model"])
        for name, module in self._resizers():
            module._input_size = tuple(state["input_sizes"][name])
        self.runner.optim_wrapper.load_state_dict(state["optimizer"])
        for schedule, saved in zip(self.runner.param_schedulers or [], state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        self.runner.optim_wrapper.initialize_count_status(self.runner.model, self._iter, self._max_iters)
        checkpoints.set_random_states(state["random"])
        log.info("resumed at iteration %d of %d (epoch %d)", self._iter, self._max_iters, self._epoch + 1)

    def _resizers(self) -> list[tuple[str, Any]]:
        """Multi-scale batch resizers keep the size of the moment outside the weights."""
        return [(name, module) for name, module in self.runner.model.named_modules() if hasattr(module, "_input_size")]
