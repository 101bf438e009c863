"""What computes a model: from a config, a dataset and a seed to weights. A training's work folder is named by these modules
and what they import, so what reports, uploads or records must not be imported here.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from sightline.errors import SightlineError, nearest
from sightline.steps.train.data import evaluation_loader, train_loader
from sightline.steps.train.history import History
from sightline.steps.train.loop import LoopOptions, ResumableTrainLoop
from sightline.steps.train.types import types_known
from sightline.tasks.metrics import Scorer
from sightline.tasks.task import Task

if TYPE_CHECKING:
    from sightline.steps.train.events import Events


def fit(
    task: Task,
    config: Config,
    dataset_dir: Path,
    classes: tuple[str, ...],
    folder: Path,
    select_by: str,
    device: torch.device,
    images: int | None = None,
    events: "Events | None" = None,
    board: Path | None = None,
) -> tuple[ResumableTrainLoop, float]:
    """Train in a work folder, from its newest checkpoint if it has one. Returns the loop, and how many seconds it took.

    Args:
        images: how many of a batch are taken at a time; by default the whole batch.
        events: where a resumption is told.
        board: where TensorBoard finds it; by default within the work folder.
    """
    score = Scorer(task, select_by=select_by)
    _require_metric(score, dataset_dir)
    with types_known(config, task.fit.SCOPE):
        runner = _runner(task, config, dataset_dir, classes, folder, score, device)
        batches = train_loader(config, task.fit.training_dataset(config, dataset_dir, classes), config.seed)
    iterations = config.max_epochs * len(batches)
    history = History(folder, board or folder / "tensorboard", iterations, config.max_epochs, task.facts.SHORTEST)
    options = LoopOptions(
        folder=folder,
        select_by=select_by,
        checkpoint_seconds=config.checkpoint_seconds,
        patience=config.early_stopping.patience,
        min_delta=config.early_stopping.min_delta,
        images=images or config.train_batch_size,
    )
    loop = ResumableTrainLoop(runner, batches, config.max_epochs, config.val_interval, options, history, events)
    runner._train_loop = loop
    began = time.monotonic()
    try:
        runner.train()
    finally:
        history.close()
    return loop, time.monotonic() - began


def _require_metric(score: Scorer, dataset_dir: Path) -> None:
    known = score(json.loads((dataset_dir / "val.json").read_text()), []).values
    if score.select_by not in known:
        raise SightlineError(
            f"There is no metric {score.select_by!r} to select the best epoch by.{nearest(score.select_by, known)}"
        )


class _QuietRunner(Runner):
    """mmengine's Runner, but for its look at the machine: it calls a compiler, and complains where there is none."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Nothing: the log would not show it anyway."""


def _runner(
    task: Task,
    config: Config,
    dataset_dir: Path,
    classes: tuple[str, ...],
    folder: Path,
    score: Scorer,
    device: torch.device,
) -> Runner:
    validation = evaluation_loader(config, task.fit.evaluation_dataset(config, dataset_dir, "val", classes))
    validates = len(validation.dataset) > 0  # type: ignore[arg-type]
    runner = _QuietRunner(
        model=config.model,
        work_dir=str(folder / "mmengine"),
        train_dataloader={},  # the loop brings its own; mmengine wants all three named
        train_cfg={"by_epoch": True, "max_epochs": config.max_epochs},
        optim_wrapper=config.optim_wrapper,
        param_scheduler=config.param_scheduler,
        val_dataloader=validation if validates else None,
        val_cfg={} if validates else None,
        val_evaluator=task.fit.evaluator(dataset_dir, "val", score) if validates else None,
        default_hooks={"timer": None, "logger": None, "checkpoint": None},
        randomness={"seed": config.seed},
        log_level="ERROR",
        default_scope=task.fit.SCOPE,
        experiment_name=folder.name,
    )
    runner.model.to(device)
    return runner
