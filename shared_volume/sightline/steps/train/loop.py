"""mmengine's epoch loop, able to stop anywhere and go on at the very next iteration."""

import bisect
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from sightline.errors import SightlineError
from sightline.steps.train import checkpoints
from sightline.steps.train.beginning import Beginning
from sightline.steps.train.history import History
from sightline.steps.train.micro_batches import train_in_parts
from sightline.steps.train.origin import Longer, Origin
from sightline.steps.train.state import go_on_from, seen_weights, state_of
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
    origin: Origin | None = None  # another run's training to go on from

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

    A config that counts iterations (`max_iters`) ends at one and validates by them; an epoch is a pass through the data all the
    same. A checkpoint holds what `state.py` says, and the position within the epoch. It is written at each epoch's end, before
    each validation (which is repeated when it was cut off) and after `checkpoint_seconds`; a light one every few seconds.
    """

    def __init__(
        self, runner: Runner, dataloader: DataLoader[Any], training: Training, history: History, events: "Events | None"
    ) -> None:
        config = training.config
        intervals = [(begin, every) for begin, every in config.get("dynamic_intervals") or []]
        super().__init__(
            runner,
            dataloader,
            max_epochs=epochs_of(config, len(dataloader)),
            val_begin=config.get("val_begin", 1),
            val_interval=config.val_interval,
            dynamic_intervals=intervals or None,
        )
        self._max_iters: int = config.get("max_iters") or self.max_iters
        self._by_iteration = bool(config.get("max_iters"))
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
        """Train from the newest whole checkpoint, or from the start, to the end."""
        if not isinstance(self.runner.optim_wrapper, OptimWrapper):
            raise SightlineError(
                "The config's optim_wrapper makes several optimizers, and training takes one. Give it one for the whole model; "
                "rates that differ by module go into optim_wrapper.paramwise_cfg."
            )
        self._resume()
        self.runner.call_hook("before_train")
        self.history.open(self._iter)
        if self.events:
            self.events.going_on(self._iter, resumed=bool(self.resumed_at))
        self._validate()
        while self._iter < self._max_iters and not self.stop_training:
            self.run_epoch()
            self._validate()
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """One epoch, or what is left of it."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        first = self._batch
        self.dataloader.batch_sampler.start = first
        batches = iter(self.dataloader)
        for index in range(first, len(self.dataloader)):
            self.run_iter(index, next(batches))
            if self._by_iteration and self._validate_within_epoch():
                return
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1
        self._batch = 0
        self._validation_due = not self._by_iteration and self._is_validated(self._epoch, self._max_epochs)
        self.history.epoch_ended(self._epoch, self._iter, self._loss)
        self._save()

    def _validate_within_epoch(self) -> bool:
        """Validate after an iteration where one is due; whether training is over."""
        if self._is_validated(self._iter, self._max_iters):
            self._validation_due = True
            self._save()
            self._validate()
            self.runner.model.train()
        over = self._iter >= self._max_iters or self.stop_training
        if over:
            self.runner.call_hook("after_train_epoch")
            self._save()
        return over

    def _is_validated(self, done: int, last: int) -> bool:
        """Whether a validation follows so many epochs, or iterations."""
        every = self.dynamic_intervals[bisect.bisect(self.dynamic_milestones, done + 1) - 1]
        return self.runner.val_loop is not None and done >= self.val_begin and (done % every == 0 or done == last)

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One iteration, its record, and a checkpoint when the last one is old."""
        self.runner.call_hook("before_train_iter", batch_idx=idx, data_batch=data_batch)
        outputs = self._train_step(data_batch)
        rate = max(self.runner.optim_wrapper.get_lr()["lr"])  # of the parts that learn fastest
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
            self.best = Best(value, self._epoch + (self._batch > 0))
            checkpoints.save_whole(self.training.best_weights, seen_weights(self.runner))
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
        return state_of(self.runner) | {
            "epoch": self._epoch,
            "iter": self._iter,
            "batch": self._batch,
            "batches": len(self.dataloader),
            "validation_due": self._validation_due,
            "stopping": self.stop_training,
            "best": [self.best.value, self.best.epoch, self.best.stale],
        }

    def _resume(self) -> None:
        state = checkpoints.newest_checkpoint(self.training.checkpoints)
        origin = self.training.origin if state is None else None
        if origin:
            here = Longer(self.runner, len(self.dataloader), self._max_epochs, self._max_iters, self.training.folder)
            state = origin.begin(here)
        if state is None:
            return
        self._epoch, self._iter, self._batch = state["epoch"], state["iter"], state["batch"]
        self._validation_due, self.stop_training = state["validation_due"], state["stopping"]
        self.best = Best(*state["best"])
        go_on_from(self.runner, state, self._max_iters)
        if origin:
            if self.events:
                self.events.tell("went on", self._iter, f"from the run {origin.reference.run}")
            return
        self.resumed_at = self._iter
        log.info("resumed at iteration %d of %d (epoch %d)", self._iter, self._max_iters, self._epoch + 1)


def epochs_of(config: Config, batches: int) -> int:
    """How many times a training goes through its data of so many batches, the last time perhaps not to the end."""
    return math.ceil(config.max_iters / batches) if config.get("max_iters") else config.max_epochs
