"""What computes a model: from a config, a dataset and a seed to weights. A training's work folder is named by these modules
and what they import, so what reports, uploads or records must not be imported here.
"""

import copy
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from sightline.errors import SightlineError, nearest
from sightline.models.imports import import_live
from sightline.steps.train.checkpoints import newest_checkpoint
from sightline.steps.train.data import loader
from sightline.steps.train.history import History
from sightline.steps.train.loop import ResumableTrainLoop, Training, epochs_of
from sightline.steps.train.types import types_known
from sightline.tasks.metrics import Scorer

log = logging.getLogger(__name__)

LEFT_OUT: Final = ("timer", "logger", "checkpoint")  # hooks of mmengine whose work the loop does itself
OURS: Final = (*LEFT_OUT, "visualization")
# Other hooks of mmengine, unless a config names None for one.
ALWAYS_THERE: Final = ("runtime_info", "sampler_seed", "param_scheduler")
RUNNER_KEYS: Final = ("activation_checkpointing", "efficient_conv_bn_eval")

if TYPE_CHECKING:
    from sightline.steps.train.events import Events


def fit(
    training: Training, events: "Events | None" = None, board: Path | None = None
) -> tuple[ResumableTrainLoop, float]:
    """Train in a work folder, from its newest checkpoint if it has one. Returns the loop, and how many seconds it took.

    A resumption is told to `events`; TensorBoard finds the training in `board`, or else within the work folder.
    """
    task, config, folder = training.task, training.config, training.folder
    score = Scorer(task, select_by=training.select_by)
    _require_metric(score, training.dataset_dir)
    if register := getattr(task.fit, "register", None):  # what the config's own imports build upon
        register()
    import_live(config, "The config")
    # Parts of mmdet write into their own description while they are built, and could not be built again from what they leave.
    building = replace(training, config=copy.deepcopy(config))
    with types_known(config, task.fit.SCOPE):
        runner = _runner(building, score)
        dataset = task.fit.training_dataset(building.config, training.dataset_dir, training.classes)
        batches = loader(config, dataset, config.seed)
    epochs = epochs_of(config, len(batches))
    iterations = config.get("max_iters") or epochs * len(batches)
    history = History(folder, board or folder / "tensorboard", iterations, epochs, task.facts.SHORTEST)
    loop = ResumableTrainLoop(runner, batches, training, history, events)
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
    """mmengine's Runner, but for its look at the machine: it calls a compiler, and complains where there is none.

    Trained weights come right after its random ones, unless a checkpoint will replace both.
    """

    training: Training
    tensors_built: frozenset[str]  # names of the model's tensors before it trains

    def _init_model_weights(self) -> None:
        super()._init_model_weights()
        training = self.training
        if training.beginning and newest_checkpoint(training.checkpoints) is None:
            training.beginning.apply(self.model, training.folder)

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Nothing: the log would not show it anyway."""


def _default_hooks(config: Config) -> dict[str, Any]:
    """The config's, but for those whose work the loop does itself; one that is None removes mmengine's of that name."""
    given = {name: hook for name, hook in (config.get("default_hooks") or {}).items() if name not in OURS}
    kept = {name: hook for name, hook in given.items() if hook or name in ALWAYS_THERE}
    return {**kept, **dict.fromkeys(LEFT_OUT)}


def _runner(training: Training, score: Scorer) -> Runner:
    task, config, dataset_dir = training.task, training.config, training.dataset_dir
    validation = loader(config, task.fit.evaluation_dataset(config, dataset_dir, "val", training.classes))
    validates = len(validation.dataset) > 0  # type: ignore[arg-type]
    extra = {key: config[key] for key in RUNNER_KEYS if config.get(key)}
    runner = _QuietRunner(
        model=config.model,
        work_dir=str(training.folder / "mmengine"),
        # The loop brings its own; mmengine wants all three named, and scales rates by the batch.
        train_dataloader={"batch_size": config.train_batch_size},
        train_cfg={"by_epoch": True, "max_epochs": config.get("max_epochs", 1)},
        optim_wrapper=on_device(config.optim_wrapper, training.device),
        param_scheduler=config.get("param_scheduler"),
        auto_scale_lr=config.get("auto_scale_lr"),
        val_dataloader=validation if validates else None,
        val_cfg={} if validates else None,
        val_evaluator=task.fit.evaluator(dataset_dir, "val", score) if validates else None,
        default_hooks=_default_hooks(config),
        custom_hooks=config.get("custom_hooks"),
        randomness={"seed": config.seed, "deterministic": config.get("deterministic", False)},
        log_level="ERROR",
        default_scope=task.fit.SCOPE,
        experiment_name=training.folder.name,
        cfg=Config(extra),
    )
    runner.training = training
    runner.tensors_built = frozenset(runner.model.state_dict())
    runner.model.to(training.device)
    return runner


def on_device(optim_wrapper: ConfigDict, device: torch.device) -> ConfigDict:
    """Mixed precision only where mmengine has it: on a CPU everything is computed in full."""
    if device.type != "cpu" or str(optim_wrapper.get("type")).rpartition(".")[2] != "AmpOptimWrapper":
        return optim_wrapper
    log.info("a CPU computes in full precision: AmpOptimWrapper is for a GPU")
    kept = {key: value for key, value in optim_wrapper.items() if key not in ("dtype", "loss_scale", "use_fsdp")}
    return ConfigDict({**kept, "type": "OptimWrapper"})
