"""The snapshot step: what a run uses, settled before any other step starts."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sightline.errors import SightlineError
from sightline.models.store import given_model
from sightline.references import DETECTION
from sightline.services.database.connection import connect
from sightline.services.database.runs import list_steps
from sightline.services.runs.freeze import STEPS, Snapshot, freeze
from sightline.services.runs.releases import remove_old_releases
from sightline.services.runs.running_step import write_run_facts
from sightline.services.storage.access import open_storage
from sightline.services.storage.base import ObjectExistsError
from sightline.services.versioning.datasets import find_dataset
from sightline.settings import Settings, read_settings
from sightline.steps.snapshot.check import Asked, check_at_once, check_scores, check_training
from sightline.steps.snapshot.find import find_annotation, find_task
from sightline.steps.snapshot.outside import images_digest, models_digest, require_images
from sightline.tasks.metrics import metric_modules, selecting_modules
from sightline.tasks.task import part_names, require_task
from sightline.versions import check_category

log = logging.getLogger(__name__)


class Frozen(NamedTuple):
    """What the snapshot step hands to the others; texts that a run has no use for are empty."""

    record_code: str
    train_code: str
    evaluate_code: str
    test_code: str
    annotation_version: str
    annotation_commit: str
    dataset_version: str
    dataset_reference: str
    images_digest: str
    models_digest: str
    code_digest: str


class _Data(NamedTuple):
    """What a run works on: versions as they are asked for, then as they are found."""

    annotation_version: str
    dataset_version: str
    annotation_commit: str = ""
    dataset_reference: str = ""
    task: str = DETECTION


def start_run(
    category: str,
    annotation_version: str = "",
    dataset_version: str = "",
    config: str = "",
    recipe: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    epochs: int = 0,
    select_by: str = "",
    record_follows: bool = True,
    dataset_follows: bool = False,
    train_follows: bool = True,
    test_images: str = "",
    candidate_models: Sequence[str] = (),
    model: str = "",
    train_gpus: str = "",
    evaluate_gpus: str = "",
    test_gpus: str = "",
) -> Frozen:
    """Freeze the helper code, turn "the newest version" into a version and a commit, and digest what lies elsewhere.

    Args:
        category: what the run works on.
        annotation_version: empty for the newest; looked up when `record_follows`.
        dataset_version: empty for the newest; looked up when `dataset_follows`.
        config: the model config whose files belong to the train step's code; empty for the task's own.
        recipe, overrides, epochs, select_by: for the run's row in SQL; see record, train and evaluate.
        record_follows: whether the run records, so that an annotation version is needed.
        dataset_follows: whether the run reads a dataset version that it does not record itself.
        train_follows: whether the run trains.
        test_images: folder or prefix of the test images, when they are no dataset's.
        candidate_models: URIs of bundles that this run does not train.
        model: a bundle to test when this run selects none.
        train_gpus, evaluate_gpus, test_gpus: how many GPUs the step's pod gets.

    Raises:
        SightlineError: broken live code; no such config, category, version, key or metric; no image to test on; or more than one GPU.
    """
    check_category(category)
    settings = read_settings()
    live = (settings.volume / "code").resolve()
    gpus = {"train": train_gpus, "evaluate": evaluate_gpus, "test": test_gpus}
    asked = Asked(category, config, recipe, overrides, select_by, gpus=gpus)
    check_at_once(live, asked, record=record_follows, train=train_follows)
    require_images(test_images)
    data = _Data(annotation_version, dataset_version)
    if record_follows:
        data = _find_annotations(settings, category, data)
    if dataset_follows:
        data = _find_dataset(settings, category, data, model)
    elif not record_follows:
        given = given_model(settings, next(filter(None, (model, *candidate_models)), ""), category)
        data = data._replace(task=given.task) if given else data
    require_task(data.task)
    if train_follows:
        config = check_training(live, asked, data.task, f"{category} {data.annotation_version or data.dataset_version}")
    frozen = _freeze(settings, live, asked, config, data.task, with_train=train_follows)
    parameters = {
        "task": data.task,
        "config": config,
        "recipe": dict(recipe or {}),
        "overrides": dict(overrides or {}),
        "epochs": epochs,
        "select_by": select_by,
        "annotation_version": data.annotation_version,
        "dataset_version": data.dataset_version,
    }
    write_run_facts(settings, frozen.code_digest, parameters, [release.name for release in frozen.releases.values()])
    _remove_old_releases(settings)
    log.info("code %s, annotations %s %s", frozen.code_digest, data.annotation_version, data.annotation_commit[:12])
    return Frozen(
        **{f"{step}_code": str(frozen.releases.get(step, "")) for step in STEPS},
        annotation_version=data.annotation_version,
        annotation_commit=data.annotation_commit,
        dataset_version=data.dataset_version,
        dataset_reference=data.dataset_reference,
        images_digest=images_digest(test_images),
        models_digest=models_digest([*candidate_models, model]),
        code_digest=frozen.code_digest,
    )


def _find_annotations(settings: Settings, category: str, data: _Data) -> _Data:
    version, commit = find_annotation(settings, category, data.annotation_version)
    found = find_task(settings, category, "annotation", version)
    task = found[1] if found else DETECTION
    return data._replace(annotation_version=version, annotation_commit=commit, task=task)


def _find_dataset(settings: Settings, category: str, data: _Data, model: str) -> _Data:
    dataset = find_dataset(settings, category, data.dataset_version)
    if (known := given_model(settings, model, category)) and known.task != dataset.task:
        raise SightlineError(
            f"The model {model} is for {known.task}, and {category} {dataset.version} for {dataset.task}. Choose a model for its task."
        )
    return data._replace(dataset_version=dataset.version, dataset_reference=dataset.to_text(), task=dataset.task)


def _freeze(settings: Settings, live: Path, asked: Asked, config: str, task: str, with_train: bool) -> Snapshot:
    """Give each step its release, and keep the whole live code in storage."""
    steps = [step for step in STEPS if with_train or step != "train"]
    metrics = check_scores(live, asked, task)
    parts = {step: names_of_parts(task, step, metrics, asked.select_by) for step in steps}
    frozen = freeze(settings.volume, config, asked.category, steps, parts, metrics)
    with contextlib.suppress(ObjectExistsError):
        key = f"code/{frozen.code_digest}.tar.gz"
        open_storage(settings.storage).write_bytes(key, frozen.tarball, create_only=True)
    return frozen


def names_of_parts(task: str, step: str, metrics: Sequence[str], select_by: str) -> list[str]:
    """Dotted names of what a step loads by name: parts of the task, and metrics."""
    parts = list(part_names(task, step))
    if step == "evaluate":
        parts += [module for name in metrics for module in metric_modules(task, name)]
    if step in ("train", "evaluate") and select_by:
        parts += selecting_modules(task, select_by)
    return parts


def _remove_old_releases(settings: Settings) -> None:
    """Tidy the volume up. What cannot be done now is done by a later run: nothing of it is worth failing for."""
    database = connect(settings.database_url.get_secret_value())

    def lives(run: str, since: datetime) -> bool:
        database.migrate()
        return any(step.heartbeat_at > since for step in list_steps(database, run))

    try:
        remove_old_releases(settings.volume, settings.keep_releases, settings.keep_days, lives)
    except (SightlineError, OSError) as error:
        log.warning("old releases stay for now: %s", error)
    finally:
        database.close()
