"""Training itself: from a dataset version and a config to two model bundles and a report."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from sightline.images.files import read_image
from sightline.models.bundle import write_bundle
from sightline.models.config import config_text, load_config, set_epochs
from sightline.models.shipped import config_path
from sightline.models.store import store_bundle, write_bundle_facts
from sightline.models.weights.configured import settle
from sightline.models.weights.taken import take
from sightline.processes.child import tell_began
from sightline.processes.devices import choose_device
from sightline.references import ModelReference
from sightline.services.database.scores import ModelKind
from sightline.services.runs.origins import take_checkpoint
from sightline.services.runs.running_step import OUT_OF_MEMORY, open_step, results_prefix
from sightline.services.runs.supervise import Stopped
from sightline.services.runs.trainings import introduce, note_models, read_json
from sightline.services.runs.work_folders import alone_in, finish, work_folder
from sightline.services.storage.access import open_storage
from sightline.services.versioning.datasets import pull_dataset
from sightline.settings import read_settings
from sightline.steps.train.began_report import began_from
from sightline.steps.train.beginning import Beginning, lineage, read_began
from sightline.steps.train.checkpoints import load_plain
from sightline.steps.train.compute import fit
from sightline.steps.train.events import Events
from sightline.steps.train.history import board_folder, last_iteration, read_lines
from sightline.steps.train.loop import ResumableTrainLoop, Training
from sightline.steps.train.micro_batches import halve, read_micro_batches, shown_as_parts
from sightline.steps.train.origin import FILE as WENT_ON
from sightline.steps.train.origin import Origin, facts_of
from sightline.steps.train.report import NO_TURN, Turn, render_training_report
from sightline.steps.train.request import TrainingRequest
from sightline.steps.train.state import seen_weights
from sightline.steps.train.went_on_report import went_on_from
from sightline.tasks.task import Task

log = logging.getLogger(__name__)

Weights = Mapping[str, torch.Tensor]


def train(request: TrainingRequest, device: str, stopped: Stopped | None = None) -> tuple[ModelReference, str]:
    """Train as `train_model` was asked to, in a process that may be killed. Returns the best bundle, and the report's HTML.

    `stopped` says how memory ran out in the process before this one.
    """
    dataset, settings = request.dataset, read_settings()
    with open_step(settings, "train", request.code.name, dataset.category, watched=True, goes_on=bool(stopped)) as step:
        dataset_dir = pull_dataset(settings, dataset)
        classes = tuple(json.loads((dataset_dir / "dataset.json").read_text())["classes"])
        file = config_path(request.code, request.config)
        config = load_config(file, request.overrides, classes)
        settle(request.config, config, given=bool(request.weights or request.origin))
        if request.epochs:
            set_epochs(config, request.epochs)
        chosen = choose_device(device)
        facts = _facts(request, config, classes)
        folder = work_folder(settings.volume, request.key())
        with alone_in(folder):
            introduce(folder, step.run, facts)
            events = Events(folder, step)
            images = _fit_into_memory(config, folder, stopped, chosen, events)
            task = Task(dataset.task)
            begins = _beginning(request, classes), _origin(request, facts)
            training = Training(task, config, dataset_dir, classes, folder, request.select_by, chosen, images, *begins)
            board = board_folder(settings.volume, folder, dataset, request.config)
            tell_began()
            loop, seconds = fit(training, events, board)
            delivered = _deliver(request, training, loop, seconds, events)
            finish(folder)
            return delivered


def _beginning(request: TrainingRequest, classes: tuple[str, ...]) -> Beginning | None:
    weights = request.weights
    if weights is None:
        return None
    return Beginning(weights, lambda: take(weights, read_settings()), classes, request.few_allowed)


def _facts(request: TrainingRequest, config: Config, classes: tuple[str, ...]) -> dict[str, Any]:
    """What the work folder says of the training, for those who go on from it."""
    dataset = request.dataset
    return facts_of(
        config,
        task=dataset.task,
        category=dataset.category,
        dataset_version=dataset.version,
        dataset_digest=dataset.digest,
        classes=classes,
        config=request.config,
        select_by=request.select_by,
        code=request.code.name,
    )


def _origin(request: TrainingRequest, facts: Mapping[str, Any]) -> Origin | None:
    origin = request.origin
    return Origin(origin, lambda: take_checkpoint(origin, read_settings()), facts) if origin else None


def _fit_into_memory(
    config: Config, folder: Path, stopped: Stopped | None, device: torch.device, events: Events
) -> int:
    """How many images to take at a time; `config` loads data as memory allows. Halved when memory ran out just now."""
    found = read_micro_batches(folder, device)
    if stopped:
        reached = last_iteration(folder)
        events.tell(OUT_OF_MEMORY, reached, f"training {stopped.reason}", stopped.at)
        found = halve(found, config.train_batch_size, config.get("num_workers", 0), stopped, device)
        found.write(folder)
        events.restarted = f"goes on with a batch of {shown_as_parts(config.train_batch_size, found.images)}"
        if found.without_workers:
            events.restarted += ", data loaded in the training's own process"
    if found is None:
        return config.train_batch_size
    if found.without_workers:
        config.num_workers = 0
    return min(found.images, config.train_batch_size)


def _deliver(
    request: TrainingRequest, training: Training, loop: ResumableTrainLoop, seconds: float, events: Events
) -> tuple[ModelReference, str]:
    """Upload bundles, logs and report; write both models' rows."""
    dataset, step = request.dataset, events.step
    storage = open_storage(read_settings().storage)
    prefix = f"{results_prefix(dataset.category, dataset.version, step.run)}/train"
    # A bundle says what makes it what it is, and is the same for the same training; which run it was, the run's reference says.
    described = {
        "task": dataset.task,
        "category": dataset.category,
        "dataset_version": dataset.version,
        "config": request.config,
    }
    began, went_on = read_began(training.folder), read_json(training.folder / WENT_ON)
    descent = lineage(began or went_on or None)
    facts = described | {"code": request.code.name, "run": step.run}
    written = {}
    for kind, (epoch, weights) in _moments(training, loop).items():
        bundle = training.folder / "bundles" / kind
        sha256 = _write_bundle(bundle, training, loop.runner.model, weights, described | descent | {"epoch": epoch})
        written[kind] = (store_bundle(storage, bundle, sha256), sha256)
        write_bundle_facts(storage, f"{prefix}/{kind}", sha256, facts | descent | {"epoch": epoch})
        step.write_model(kind, *written[kind], dataset, request.config, descent)
    note_models(training.folder, {kind: sha256 for kind, (_, sha256) in written.items()})
    happened = read_lines(events.path)
    shown = _shown_facts(facts, training, loop, seconds) | ({"went on from": went_on["origin"]} if went_on else {})
    lines = read_lines(loop.history.path)
    blocks = [began_from(began, training.classes)] if began else [went_on_from(went_on)] if went_on else []
    turn = Turn(went_on["epoch"], went_on["iter"], went_on["best_carried"]) if went_on else NO_TURN
    report = render_training_report(training.task, lines, shown, request.select_by, happened, blocks, turn)
    storage.write_bytes(f"{prefix}/report.html", report.encode())
    storage.write_bytes(f"{prefix}/logs/history.jsonl", loop.history.path.read_bytes())
    if happened:
        storage.write_bytes(f"{prefix}/logs/events.jsonl", events.path.read_bytes())
    storage.write_bytes(f"{prefix}/logs/config.py", config_text(training.config).encode())
    board = loop.history.tensorboard
    storage.upload_folder(board, f"{prefix}/tensorboard/{board.name}")
    (uri, sha256), (last_uri, last_sha256) = written["best"], written["last"]
    validated = math.isfinite(loop.best.value)
    reference = ModelReference(
        uri=uri,
        sha256=sha256,
        **described,
        **descent,
        metric_name=request.select_by if validated else None,
        metric_value=loop.best.value if validated else None,
        last_uri=last_uri,
        last_sha256=last_sha256,
    )
    return reference, report


def _moments(training: Training, loop: ResumableTrainLoop) -> dict[ModelKind, tuple[int, Weights]]:
    """The epoch and the weights of the last and the best moment."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in seen_weights(loop.runner).items()}
    last = loop.epoch, weights
    validated = training.best_weights.is_file()
    return {"last": last, "best": (loop.best.epoch, load_plain(training.best_weights)) if validated else last}


def _write_bundle(
    folder: Path, training: Training, model: torch.nn.Module, weights: Weights, facts: Mapping[str, Any]
) -> str:
    """Write a moment's bundle, with one validation image and what the model finds on it. Returns its sha256.

    Equal trainings give equal bundles: `facts` must say nothing of the run.
    """
    model.load_state_dict(weights, strict=False)  # of this very model, less what it calls by a second name
    sample = _sample_image(training.dataset_dir)
    predictions = None
    if sample is not None:
        predictor = training.task.predict.predictor_of(model, training.config, training.classes)
        predictions = predictor.results(read_image(sample), image_id=1)
    return write_bundle(folder, weights, config_text(training.config), training.classes, sample, predictions, facts)


def _sample_image(dataset_dir: Path) -> Path | None:
    for split in ("val", "train"):
        if images := json.loads((dataset_dir / f"{split}.json").read_text())["images"]:
            return dataset_dir / "images" / images[0]["file_name"]
    return None


def _shown_facts(facts: dict[str, str], training: Training, loop: ResumableTrainLoop, seconds: float) -> dict[str, str]:
    shown = {
        **facts,
        "epochs": str(loop.epoch),
        "iterations": str(loop.iter),
        "batch size": shown_as_parts(training.config.train_batch_size, training.images),
        "seed": str(training.config.seed),
        "best epoch": str(loop.best.epoch or loop.epoch),
        "seconds": f"{seconds:.0f}",
        "device": str(next(loop.runner.model.parameters()).device),
    }
    return shown | ({"resumed at iteration": str(loop.resumed_at)} if loop.resumed_at else {})
