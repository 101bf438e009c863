"""The record step: from a published annotation version to a published dataset version."""

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from sightline.annotations.recipe import Recipe, read_recipe
from sightline.errors import SightlineError
from sightline.processes.folders import private_folder
from sightline.references import DatasetReference, task_of
from sightline.services.database.connection import Database
from sightline.services.database.versions import (
    FindingRow,
    ImageRow,
    VersionRow,
    VersionTakenError,
    find_version,
    list_findings,
    list_images,
    list_versions,
)
from sightline.services.runs.homes import recipe_file, recipe_folder
from sightline.services.runs.running_step import open_step, results_prefix
from sightline.services.storage.access import open_storage
from sightline.services.versioning.datasets import pull_dataset
from sightline.services.versioning.publication import Content, Services, publish
from sightline.services.versioning.repository import DatasetRepo, WorkingCopy
from sightline.services.versioning.shards import SPLITS_FILE
from sightline.settings import read_settings
from sightline.steps.record.ahead import LeftOutError, choose_ahead
from sightline.steps.record.build import Inputs, build_dataset, read_listed
from sightline.steps.record.groups import read_first_published
from sightline.steps.record.report import render_data_report
from sightline.steps.record.write import DatasetSummary, write_json
from sightline.versions import make_tag, next_version, smoke_category

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The dataset version, and the report's HTML."""

    dataset: DatasetReference
    report: str


def record_dataset(
    code: str,
    category: str,
    annotation_version: str,
    annotation_commit: str,
    recipe: Mapping[str, Any] | None = None,
) -> Recorded:
    """Validate an annotation version, convert it to COCO, split it, and publish the result as a dataset version.

    The dataset version is called like the annotation version, or the next free one when that is taken by another recipe.
    The same annotations and recipe give the version that is there already. `code` is this step's frozen helper code, in
    which the category's recipe lies; the values of `recipe` stand in for the file's. A recipe with `smoke` publishes under the
    category's name for smoke tests. A SightlineError where the version is not published, its tag names another commit, or
    nothing usable is in it.
    """
    settings, release = read_settings(), Path(code)
    own = smoke_category(category) if (recipe or {}).get("smoke") else category
    with open_step(settings, "record", release.name, own) as step:
        file, folder = recipe_file(release, category), recipe_folder(release, category)
        wanted = read_recipe(release / file if file else None, recipe, file)
        services, storage = Services(DatasetRepo.of(settings), step.database), open_storage(settings.storage)
        annotations = _published(step.database, category, annotation_version)
        with services.repo.working_copy(make_tag(category, "annotation", annotation_version)) as copy:
            _require_commit(services.repo, annotations, annotation_commit)
            inputs = Inputs(
                recipe_folder=release / folder,
                shown_folder=folder,
                earlier=read_first_published(step.database, annotations, wanted),
                findings=list_findings(step.database, annotations.id),
                task=task_of(annotations.recipe),
                chosen_seed=_chosen_seed(list_versions(step.database, category, "dataset"), wanted),
            )
            facts = {"category": own, "version": "", "annotation_version": annotation_version}
            with private_folder(settings.volume / "work", "record-") as private:
                built, rows = private / "dataset", list_images(step.database, annotations.id) if wanted.smoke else []
                summary = _build(
                    copy, copy.category_folder("annotations", category), rows, built, wanted, facts, inputs
                )
                found = _finding_rows(summary, inputs.findings)
                dataset = _publish(services, own, annotations, built, summary, found, release.name)
        dataset_dir = pull_dataset(settings, dataset)
        shown = {
            "task": dataset.task,
            "category": own,
            "dataset version": dataset.version,
            "annotation version": annotation_version,
            "code": release.name,
        }
        report = render_data_report(dataset_dir, summary.splits, shown)
        prefix = f"{results_prefix(own, dataset.version, step.run)}/record"
        storage.write_bytes(f"{prefix}/report.html", report.encode())
        storage.write_bytes(f"{prefix}/statistics.json", (dataset_dir / "statistics.json").read_bytes())
        return Recorded(dataset, report)


def _build(
    copy: WorkingCopy,
    folder: Path,
    rows: Sequence[ImageRow],
    built: Path,
    recipe: Recipe,
    facts: Mapping[str, str],
    inputs: Inputs,
) -> DatasetSummary:
    """Fetch the annotation version and build the dataset; of a smoke test, only what it needs where that shows beforehand.

    `rows` are the version's images, none where all are wanted.
    """
    if rows:
        files = copy.names(folder)
        copy.pull(folder, {SPLITS_FILE} & set(files))
        listed, _ = read_listed(recipe, inputs)
        if ahead := choose_ahead(rows, files, inputs.earlier, recipe, listed, folder, inputs.chosen_seed):
            copy.pull(folder, ahead.files)
            try:
                return build_dataset(folder, built, recipe, facts, replace(inputs, ahead=ahead))
            except LeftOutError:
                log.info("some of %d images cannot be used: looking at all %d", len(ahead.images), len(rows))
        shutil.rmtree(folder, ignore_errors=True)
    return build_dataset(copy.pull(folder), built, recipe, facts, inputs)


def _chosen_seed(versions: Iterable[VersionRow], recipe: Recipe) -> int | None:
    """The seed that the first dataset version of this recipe's seed and shares was given, where that had too few images."""
    shares = recipe.fractions.model_dump()
    for row in versions:
        said = row.recipe or {}
        if said.get("chosen_seed") is not None and (said.get("seed"), said.get("fractions")) == (recipe.seed, shares):
            return int(said["chosen_seed"])
    return None


def _publish(
    services: Services,
    category: str,
    annotations: VersionRow,
    built: Path,
    summary: DatasetSummary,
    found: list[FindingRow],
    code: str,
) -> DatasetReference:
    """The content says whether it is published already, and only then is it given a version."""
    versions = list_versions(services.database, category, "dataset")
    for row in versions:
        if row.recipe and row.recipe.get("content") == summary.digest:
            log.info("dataset version %s has the same content already", row.version)
            return DatasetReference.of(row)
    version = annotations.version
    while version in {row.version for row in versions}:
        version = next_version(version)
    recipe_row = {
        "content": summary.digest,
        "annotation_version": annotations.version,
        "code": code,
        **summary.recipe,
        "classes": list(summary.classes),
    }

    def fill(target: Path) -> Content:
        shutil.copytree(built, target, dirs_exist_ok=True)
        description = target / "dataset.json"
        write_json(description, orjson.loads(description.read_bytes()) | {"version": version})
        return Content(summary.images, found, recipe_row, summary.stages)

    while True:
        try:
            return DatasetReference.of(publish(services, category, "dataset", version, fill, annotations.id).row)
        except VersionTakenError as taken:  # by another recipe's attempt, at the same time or interrupted
            log.info("%s", taken)
            version = taken.free


def _finding_rows(summary: DatasetSummary, published: Sequence[FindingRow]) -> list[FindingRow]:
    """The annotation version's findings, then what this dataset adds to them."""
    own = [FindingRow(**finding.to_json()) for finding in summary.findings]
    return list(dict.fromkeys([*published, *own]))


def _published(database: Database, category: str, version: str) -> VersionRow:
    found = find_version(database, category, "annotation", version)
    if found is None or found.status != "published":
        raise SightlineError(
            f"The annotation version {version} of {category} is not published in this database. "
            "Publish it again with the same content: python pipeline.py publish."
        )
    return found


def _require_commit(repo: DatasetRepo, annotations: VersionRow, commit: str) -> None:
    """The tag still names what was published, and what the run's snapshot saw."""
    named = repo.tags()[str(annotations.tag)]
    for wanted in (commit, annotations.commit):
        if wanted and named != wanted:
            raise SightlineError(
                f"The tag {annotations.tag} was moved: it names {named[:12]}, not {wanted[:12]}. "
                "Restore the tag; published versions never change."
            )
