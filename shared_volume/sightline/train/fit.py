"""The train step: from a dataset version and a config to two model bundles and a report."""

import contextlib
import fcntl
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from sightline.datasets import pull_dataset
from sightline.detectors.configure import config_text, load_config, set_epochs
from sightline.detectors.registry import register
from sightline.devices import choose_device
from sightline.errors import SightlineError, nearest
from sightline.metrics import score_results
from sightline.references import DatasetReference, ModelReference
from sightline.settings import Settings, settings
from sightline.step_record import RunningStep, record_step, results_prefix
from sightline.storage import open_storage
from sightline.train.bundles import Candidate, write_candidate
from sightline.train.checkpoints import load_plain
from sightline.train.data import split_loader, train_loader
from sightline.train.history import History
from sightline.train.loop import LoopOptions, ResumableTrainLoop
from sightline.train.report import render_training_report

log = logging.getLogger(__name__)

KEY_LENGTH = 16


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What is trained on what; everything that can change the result.

    Attributes:
        code: the step's release folder; its configs/ holds the config.
        config: name of the model config.
        overrides: dotted config keys and their values.
        epochs: 0 for the config's own.
        select_by: the validation metric that decides which epoch is best.
    """

    code: Path
    dataset: DatasetReference
    config: str
    overrides: Mapping[str, Any]
    epochs: int
    select_by: str

    def key(self) -> str:
        """Names the work folder: equal for equal inputs, so that a repeated attempt finds its checkpoints."""
        parts = [
            self.code.name,
            self.dataset.digest,
            self.config,
            json.dumps(dict(self.overrides), sort_keys=True),
            str(self.epochs),
            self.select_by,
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True, slots=True)
class Trained:
    """What training leaves: a reference to its best bundle (naming the last one too) and the report's HTML."""

    model: ModelReference
    report: str


def train_model(
    code: Path,
    dataset: DatasetReference,
    config: str,
    overrides: Mapping[str, Any],
    epochs: int = 0,
    select_by: str = "bbox_mAP",
    device: str = "",
    on_out_of_memory: str = "shrink",
) -> Trained:
    """Fit the configured detector on a dataset version, from the newest checkpoint of the same inputs if there is one.

    Args:
        code: this step's frozen helper code.
        dataset: what to train on.
        config: name of a config in code/configs.
        overrides: dotted config keys and values that replace the config's.
        epochs: training length; 0 for the config's own.
        select_by: validation metric (bbox_mAP, segm_mAP_50, …) that decides which epoch is best.
        device: cpu, cuda, cuda:1, …; empty for a GPU when there is one.

    Raises:
        SightlineError: the config, an override, the dataset or the device cannot be used.
    """
    request = TrainingRequest(code, dataset, config, overrides, epochs, select_by)
    place = settings()
    with record_step(place, "train", code.name, dataset.category) as step:
        register()
        dataset_dir = pull_dataset(place, dataset)
        classes = tuple(json.loads((dataset_dir / "dataset.json").read_text())["classes"])
        resolved = load_config(code / "configs" / f"{config.removesuffix('.py')}.py", overrides, classes)
        if epochs:
            set_epochs(resolved, epochs)
        folder = place.volume / "work" / f"train-{request.key()}"
        with _only_one_at_a_time(folder):
            loop, seconds = fit(resolved, dataset_dir, classes, folder, select_by, choose_device(device))
            return _deliver(place, request, resolved, dataset_dir, classes, loop, seconds, step)


def fit(
    config: Config, dataset_dir: Path, classes: tuple[str, ...], folder: Path, select_by: str, device: torch.device
) -> tuple[ResumableTrainLoop, float]:
    """Train in a work folder, from its newest checkpoint if it has one. Returns the loop, and how many seconds it took."""
    _require_metric(select_by, dataset_dir)
    runner = _runner(config, dataset_dir, classes, folder, device)
    batches = train_loader(config, dataset_dir, classes, config.seed)
    history = History(folder, config.max_epochs * len(batches), config.max_epochs)
    options = LoopOptions(
        folder=folder,
        select_by=select_by,
        checkpoint_seconds=config.checkpoint_seconds,
        patience=config.early_stopping.patience,
        min_delta=config.early_stopping.min_delta,
    )
    loop = ResumableTrainLoop(runner, batches, config.max_epochs, config.val_interval, options, history)
    runner._train_loop = loop
    began = time.monotonic()
    try:
        runner.train()
    finally:
        history.close()
    return loop, time.monotonic() - began


def _require_metric(select_by: str, dataset_dir: Path) -> None:
    known = score_results(json.loads((dataset_dir / "val.json").read_text()), []).values
    if select_by not in known:
        raise SightlineError(
            f"There is no metric {select_by!r} to select the best epoch by.{nearest(select_by, known)}"
        )


def _runner(config: Config, dataset_dir: Path, classes: tuple[str, ...], folder: Path, device: torch.device) -> Runner:
    validation = split_loader(config, dataset_dir, "val", classes)
    validates = len(validation.dataset) > 0  # type: ignore[arg-type]
    runner = Runner(
        model=config.model,
        work_dir=str(folder / "mmengine"),
        train_dataloader={},  # the loop brings its own; mmengine wants all three named
        train_cfg={"by_epoch": True, "max_epochs": config.max_epochs},
        optim_wrapper=config.optim_wrapper,
        param_scheduler=config.param_scheduler,
        val_dataloader=validation if validates else None,
        val_cfg={} if validates else None,
        val_evaluator={"type": "SightlineCocoMetric", "ann_file": str(dataset_dir / "val.json")} if validates else None,
        default_hooks={"timer": None, "logger": None, "checkpoint": None},
        randomness={"seed": config.seed},
        log_level="ERROR",
        default_scope="mmdet",
        experiment_name=folder.name,
    )
    runner.model.to(device)
    return runner


@contextlib.contextmanager
def _only_one_at_a_time(folder: Path) -> Iterator[None]:
    """Two runs that train the same thing: the second waits, then finds everything done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            # Not flock: data loading processes would inherit that, and hold it when this process is killed.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            log.info("another run is training the same model; waiting for it")
            fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def _deliver(
    place: Settings,
    request: TrainingRequest,
    config: Config,
    dataset_dir: Path,
    classes: tuple[str, ...],
    loop: ResumableTrainLoop,
    seconds: float,
    step: RunningStep,
) -> Trained:
    """Upload bundles, logs and report; record both models."""
    dataset = request.dataset
    storage = open_storage(place.storage)
    prefix = f"{results_prefix(dataset.category, dataset.version, step.run)}/train"
    facts = {
        "category": dataset.category,
        "dataset_version": dataset.version,
        "config": request.config,
        "code": request.code.name,
        "run": step.run,
    }
    model = loop.runner.model
    candidates = {"last": Candidate("last", loop.epoch, _state(model))}
    if loop.options.best_weights.is_file():
        weights = load_plain(loop.options.best_weights)
        candidates["best"] = Candidate("best", loop.best.epoch, weights)
    else:
        candidates["best"] = Candidate("best", loop.epoch, candidates["last"].weights)
    metric = loop.best.value if loop.best.epoch else None
    written = {}
    for name, candidate in candidates.items():
        bundle = loop.options.folder / "bundles" / name
        sha256 = write_candidate(bundle, candidate, model, config, classes, dataset_dir, facts)
        storage.upload_folder(bundle, f"{prefix}/{name}")
        written[name] = (storage.uri(f"{prefix}/{name}"), sha256)
        step.record_model(candidate.name, *written[name], dataset=dataset, config=request.config)
    history = loop.history.read()
    report = render_training_report(history, _report_facts(facts, config, loop, seconds), request.select_by)
    storage.write_bytes(f"{prefix}/report.html", report.encode())
    storage.write_bytes(f"{prefix}/logs/history.jsonl", loop.history.path.read_bytes())
    storage.write_bytes(f"{prefix}/logs/config.py", config_text(config).encode())
    storage.upload_folder(loop.history.tensorboard, f"{prefix}/tensorboard")
    reference = ModelReference(
        uri=written["best"][0],
        sha256=written["best"][1],
        category=dataset.category,
        dataset_version=dataset.version,
        config=request.config,
        metric_name=request.select_by if metric is not None else None,
        metric_value=metric,
        last_uri=written["last"][0],
        last_sha256=written["last"][1],
    )
    return Trained(reference, report)


def _state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _report_facts(facts: Mapping[str, str], config: Config, loop: ResumableTrainLoop, seconds: float) -> dict[str, str]:
    return (
        dict(facts)
        | {
            "epochs": str(loop.epoch),
            "iterations": str(loop.iter),
            "batch size": str(config.train_batch_size),
            "seed": str(config.seed),
            "best epoch": str(loop.best.epoch or loop.epoch),
            "seconds": f"{seconds:.0f}",
            "device": str(next(loop.runner.model.parameters()).device),
        }
        | ({"resumed at iteration": str(loop.resumed_at)} if loop.resumed_at else {})
    )
