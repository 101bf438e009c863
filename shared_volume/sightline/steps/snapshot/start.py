"""The snapshot step: what a run uses, settled before any other step starts."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sightline.errors import SightlineError
from sightline.models.store import given_model
from sightline.references import DETECTION
from sightline.services.database.connection import connect
from sightline.services.database.runs import list_steps
from sightline.services.runs.freeze import freeze
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
        recipe: for the run's record in SQL, like the next three.
        overrides: see train.
        epochs: see train.
        select_by: see train and evaluate.
        record_follows: whether the run records, so that an annotation version is needed.
        dataset_follows: whether the run reads a dataset version that it does not record itself.
        train_follows: whether the run trains.
        test_images: folder or prefix of the test images, when they are no dataset's.
        candidate_models: URIs of bundles that this run does not train.
        model: a bundle to test when this run selects none.
        train_gpus: how many GPUs the step's pod gets, like the next two.
        evaluate_gpus: see train_gpus.
        test_gpus: see train_gpus.

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
    commit = reference = ""
    task = DETECTION
    if record_follows:
        annotation_version, commit = find_annotation(settings, category, annotation_version)
        found = find_task(settings, category, "annotation", annotation_version)
        task = found[1] if found else DETECTION
    if dataset_follows:
        dataset = find_dataset(settings, category, dataset_version)
        dataset_version, reference, task = dataset.version, dataset.to_text(), dataset.task
        if (known := given_model(settings, model, category)) and known.task != task:
            raise SightlineError(
                f"The model {model} is for {known.task}, and {category} {dataset_version} for {task}. Name a model of its task."
            )
    elif not record_follows and (
        known := given_model(settings, next(filter(None, (model, *candidate_models)), ""), category)
    ):
        task = known.task
    steps = ("record", "train", "evaluate", "test") if train_follows else ("record", "evaluate", "test")
    require_task(task)
    if train_follows:
        config = check_training(live, asked, task, f"{category} {annotation_version or dataset_version}")
    metrics = check_scores(live, asked, task)
    parts = {step: names_of_parts(task, step, metrics, select_by) for step in steps}
    frozen = freeze(settings.volume, config, category, steps, parts, metrics)
    with contextlib.suppress(ObjectExistsError):
        open_storage(settings.storage).write_bytes(
            f"code/{frozen.code_digest}.tar.gz", frozen.tarball, create_only=True
        )
    parameters = {
        "task": task,
        "config": config,
        "recipe": dict(recipe or {}),
        "overrides": dict(overrides or {}),
        "epochs": epochs,
        "select_by": select_by,
        "annotation_version": annotation_version,
        "dataset_version": dataset_version,
    }
    write_run_facts(settings, frozen.code_digest, parameters, [release.name for release in frozen.releases.values()])
    _remove_old_releases(settings)
    log.info("code %s, annotations %s %s", frozen.code_digest, annotation_version, commit[:12])
    return Frozen(
        record_code=str(frozen.releases["record"]),
        train_code=str(frozen.releases.get("train", "")),
        evaluate_code=str(frozen.releases["evaluate"]),
        test_code=str(frozen.releases["test"]),
        annotation_version=annotation_version,
        annotation_commit=commit,
        dataset_version=dataset_version,
        dataset_reference=reference,
        images_digest=images_digest(test_images),
        models_digest=models_digest([*candidate_models, model]),
        code_digest=frozen.code_digest,
    )


def names_of_parts(task: str, step: str, metrics: Sequence[str], select_by: str) -> list[str]:
    """Dotted names of what a step loads by name: parts of the task, and metrics."""
    parts = list(part_names(task, step))
    if step == "evaluate":
        parts += [settings for name in metrics for settings in metric_modules(task, name)]
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
