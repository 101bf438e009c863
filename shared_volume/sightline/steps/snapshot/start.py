"""The snapshot step: what a run uses, settled before any other step starts."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sightline.catalogue.pruning.find import tidy_volume
from sightline.errors import SightlineError, nearest
from sightline.models.store import given_model
from sightline.models.weights.chosen import bring_weights, find_weights
from sightline.references import DETECTION, CheckpointReference, WeightsReference, task_of
from sightline.services.database.connection import connect
from sightline.services.database.runs import list_steps
from sightline.services.database.versions import find_version
from sightline.services.runs.freeze import STEPS, Snapshot, freeze
from sightline.services.runs.origins import bring_checkpoint, find_origin, require_more, require_same_task
from sightline.services.runs.releases import remove_old_releases
from sightline.services.runs.running_step import write_run_facts
from sightline.services.storage.access import open_storage
from sightline.services.storage.base import ObjectExistsError
from sightline.services.versioning.datasets import find_dataset
from sightline.services.versioning.repository import DatasetRepo
from sightline.settings import Settings, read_settings
from sightline.steps.snapshot.check import Asked, check_at_once, check_scores, check_training, planned_epochs
from sightline.steps.snapshot.outside import images_digest, models_digest, require_images
from sightline.tasks.metrics import metric_modules, selecting_modules
from sightline.tasks.task import part_names, require_task
from sightline.versions import check_category, make_tag, newest_version, parse_version, version_tags

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
    weights_reference: str


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
    pretrained: str = "",
    resume_from: str = "",
) -> Frozen:
    """Freeze the helper code, turn "the newest version" into a version and a commit, and digest what lies elsewhere.

    Empty versions are the newest ones, an empty config is the task's own. `…_follows` says whether the run records, whether it
    reads a dataset version that it does not record itself, and whether it trains. `test_images` is a folder or prefix, when the
    test images are no dataset's; `candidate_models` and `model` (to test when this run selects none) are URIs of bundles that
    this run does not train. `pretrained` names weights that train begins from, as docs/weights.md says; they are fetched here. `resume_from` is the
    run whose training train goes on with. `…_gpus` is how many GPUs the step's pod gets. A SightlineError for broken live code, no such
    config, category, version, key, metric or run, no image to test on, or more than one GPU.
    """
    check_category(category)
    settings = read_settings()
    live = (settings.volume / "code").resolve()
    gpus = {"train": train_gpus, "evaluate": evaluate_gpus, "test": test_gpus}
    begins = {"pretrained": pretrained, "resume_from": resume_from}
    asked = Asked(category, config, recipe, overrides, select_by, **begins, gpus=gpus)
    check_at_once(live, asked, record=record_follows, train=train_follows)
    require_images(test_images)
    task, annotation_commit, dataset_reference = DETECTION, "", ""
    if record_follows:
        annotation_version, annotation_commit, task = find_annotation(settings, category, annotation_version)
    if dataset_follows:
        dataset = find_dataset(settings, category, dataset_version)
        dataset_version, dataset_reference, task = dataset.version, dataset.to_text(), dataset.task
        if (known := given_model(settings, model, category)) and known.task != task:
            raise SightlineError(
                f"The model {model} is for {known.task}, and {category} {dataset_version} for {task}. Choose a model for its task."
            )
    elif not record_follows:
        given = given_model(settings, next(filter(None, (model, *candidate_models)), ""), category)
        task = given.task if given else task
    require_task(task)
    bring = None
    if train_follows:
        config = check_training(live, asked, task, f"{category} {annotation_version or dataset_version}")
        bring = _find_beginning(settings, live, asked, config, epochs, task)
    frozen = _freeze(settings, live, asked, config, task, with_train=train_follows)
    begins_from = bring() if bring else None
    parameters = {
        "task": task,
        "config": config,
        "recipe": dict(recipe or {}),
        "overrides": dict(overrides or {}),
        "epochs": epochs,
        "select_by": select_by,
        "pretrained": begins_from.origin if isinstance(begins_from, WeightsReference) else "",
        "resume_from": begins_from.run if isinstance(begins_from, CheckpointReference) else "",
        "annotation_version": annotation_version,
        "dataset_version": dataset_version,
    }
    releases = [release.name for release in frozen.releases.values()]
    write_run_facts(settings, frozen.code_digest, parameters, releases, [begins_from.folder] if begins_from else [])
    _tidy_up(settings)
    log.info("code %s, annotations %s %s", frozen.code_digest, annotation_version, annotation_commit[:12])
    return Frozen(
        **{f"{step}_code": str(frozen.releases.get(step, "")) for step in STEPS},
        annotation_version=annotation_version,
        annotation_commit=annotation_commit,
        dataset_version=dataset_version,
        dataset_reference=dataset_reference,
        images_digest=images_digest(test_images),
        models_digest=models_digest([*candidate_models, model]),
        code_digest=frozen.code_digest,
        weights_reference=begins_from.to_text() if begins_from else "",
    )


def _find_beginning(
    settings: Settings, live: Path, asked: Asked, config: str, epochs: int, task: str
) -> Callable[[], WeightsReference | CheckpointReference | None]:
    """What brings to the volume what train begins from; what can be refused is refused before."""
    overrides = asked.overrides or {}
    if asked.resume_from:
        found = find_origin(settings, asked.resume_from, asked.category)
        require_same_task(found, task)
        require_more(found, planned_epochs(live, config, overrides, epochs))
        return lambda: bring_checkpoint(found, settings)
    where = find_weights(live, config, overrides, asked.pretrained)
    return lambda: bring_weights(where, settings)


def find_annotation(settings: Settings, category: str, version: str) -> tuple[str, str, str]:
    """A published annotation version (empty: the newest) and its commit, by the dataset repository's tags, and its task.

    A SightlineError for one that is not published names what is, and the nearest.
    """
    tags = DatasetRepo.of(settings).tags()
    published = [tag for tag in version_tags(tags).values() if tag.kind == "annotation"]
    versions = [tag.version for tag in published if tag.category == category]
    if not versions:
        categories = {tag.category for tag in published}
        raise SightlineError(
            f"There is no annotation version of the category {category}.{nearest(category, categories)} Publish a folder "
            f"first: python pipeline.py publish FOLDER --category {category} --version v0.1.0"
        )
    chosen = version or str(newest_version(versions))
    if chosen not in versions:
        raise SightlineError(
            f"There is no annotation version {chosen} of {category}. Published: "
            f"{', '.join(sorted(versions, key=parse_version))}."
        )
    with contextlib.closing(connect(settings.database_url.get_secret_value())) as database:
        database.migrate()
        row = find_version(database, category, "annotation", chosen)
    return chosen, tags[make_tag(category, "annotation", chosen)], task_of(row.recipe if row else None)


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


def _tidy_up(settings: Settings) -> None:
    """Tidy the volume up. What cannot be done now is done by a later run: nothing of it is worth failing for."""
    with contextlib.closing(connect(settings.database_url.get_secret_value())) as database:

        def lives(run: str, since: datetime) -> bool:
            database.migrate()
            return any(step.heartbeat_at > since for step in list_steps(database, run))

        try:
            remove_old_releases(settings.volume, settings.keep_releases, settings.keep_days, lives)
            tidy_volume(settings, database)
        except (SightlineError, OSError) as error:
            log.warning("old releases stay for now, and surplus folders: %s", error)
