"""What `submit` and `schedule` look at before anything is sent: on the cluster each of these costs a minute or two."""

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.cluster import VOLUME
from components.parameters import ANNOTATION_VERSION, CATEGORY, DATASET_VERSION, PARAMETERS, TEST_IMAGES
from laptop.compiling import require_named_images
from laptop.kubeflow.package import Package
from laptop.kubeflow.sql import open_metadata, rows_of_runs
from laptop.request import asked_of, reads_dataset
from laptop.workspace import LIBRARY
from sightline.errors import NoConfigError, SightlineError, did_you_mean, nearest
from sightline.models.weights.chosen import find_weights
from sightline.processes.devices import check_device
from sightline.references import DETECTION, task_of
from sightline.services.runs.config_chains import config_task
from sightline.services.runs.trainings import LATEST
from sightline.services.storage.folder import local_path
from sightline.services.versioning.git import remote_tags
from sightline.steps.snapshot.check import (
    Asked,
    check_beginning,
    check_gpus,
    check_recipe,
    check_scores,
    check_training,
)
from sightline.tasks.metrics import MetricError
from sightline.tasks.task import OURS, UnknownTaskError
from sightline.versions import BadNameError, Kind, check_category, parse_tag, parse_version

QUANTITY = re.compile(r"\+?(\d+(\.\d*)?|\.\d+)(m|k|[KMGTPE]i?|[eE][+-]?\d+)?")  # as Kubernetes writes amounts
EXAMPLES = {"cpu": "2 or 500m", "memory": "8Gi or 512Mi", "gpus": "0 or 1"}
# Parameter -> what it is the size of.
SIZES = {each.name: kind for each in PARAMETERS for kind in each.pod.values() if kind in EXAMPLES}
# Step -> the parameter that gives its pod GPUs.
GPUS = {step: each.name for each in PARAMETERS for step, kind in each.pod.items() if kind == "gpus"}
OUT_OF_SIGHT = (
    "{option} is a {what} on this machine, which pods cannot see. Give a gs:// prefix, or a {what} below "
    f"{VOLUME}, where a pod has the volume."
)
MOST_BYTES = 10_000  # of a run's parameters together, as JSON: what older servers take
GIT_SECONDS = 10.0  # for a repository to list its tags: a glance before a run, which does not depend on it
NOBODY = ("", "")  # reading tags makes no commit
MADE_BY: Mapping[Kind, str] = {"annotation": "`publish` makes one.", "dataset": "A run with record makes one."}


def require_sound(options: argparse.Namespace, package: Package, arguments: Mapping[str, Any]) -> None:
    """Refuse a run that would fail, before it is sent. What cannot be known from here is passed over."""
    if options.no_check:
        return
    require_named_images(package.text)
    if wrong := wrong_quantity(arguments):
        raise SightlineError(wrong)
    _require_size(arguments)
    if CATEGORY.name not in arguments:
        return  # somebody else's pipeline
    try:
        images = str(arguments.get(TEST_IMAGES.name) or "")
        if images and not images.startswith("gs://") and not local_path(images).is_relative_to(VOLUME):
            raise SightlineError(OUT_OF_SIGHT.format(option=f"--images {images}", what="folder"))
        gpus = {step: str(arguments[name]) for step, name in GPUS.items() if name in arguments}
        asked = replace(asked_of(arguments), gpus=gpus)
        require_keys(asked, package.steps)
        _require_run(options.workspace, asked.resume_from)
        version, task = _require_published(options.workspace, package.steps, arguments)
        require_names(asked, package.steps, task, f"{asked.category} {version}".strip())
    except SightlineError as error:
        raise SightlineError(f"{error} --no-check sends it all the same.") from None


def wrong_quantity(arguments: Mapping[str, Any]) -> str:
    """What is wrong with the first size of a pod that Kubernetes would not read; empty when all are well."""
    for name, kind in SIZES.items():
        value = arguments.get(name)
        if isinstance(value, str) and not (value.isdecimal() if kind == "gpus" else QUANTITY.fullmatch(value)):
            return f"{name}={value} is not an amount that Kubernetes can read. Write it like {EXAMPLES[kind]}."
    return ""


def _require_size(arguments: Mapping[str, Any]) -> None:
    if (whole := _bytes(dict(arguments))) > MOST_BYTES:
        largest = max(arguments, key=lambda name: _bytes(arguments[name]))
        raise SightlineError(
            f"The run's parameters have {whole} bytes, and servers take {MOST_BYTES}. Shorten {largest} "
            f"({_bytes(arguments[largest])} bytes): what is long belongs in a config or a recipe in shared_volume/custom, "
            "which `sync` puts on the volume."
        )


def _bytes(value: Any) -> int:
    return len(json.dumps(value).encode())


def _require_published(workspace: Path, steps: Collection[str], arguments: Mapping[str, Any]) -> tuple[str, str]:
    """The version to train on and its task; empty where the installation's SQL and Git do not tell."""
    kind: Kind
    if "record" in steps:
        kind, wanted = "annotation", ANNOTATION_VERSION
    elif reads_dataset(steps, arguments.get(TEST_IMAGES.name) or ""):
        kind, wanted = "dataset", DATASET_VERSION
    else:
        return "", ""  # these steps read no version
    tasks = _by_sql(workspace, kind) or _by_tags(kind)
    if not tasks:
        return "", ""
    category, version = str(arguments.get(CATEGORY.name)), str(arguments.get(wanted.name) or "")
    versions = [each for name, each in tasks if name == category]
    if not versions:
        near = nearest(category, {name for name, _ in tasks})
        raise SightlineError(f"There is no {kind} version of the category {category}.{near} {MADE_BY[kind]}")
    newest = max(versions, key=parse_version)
    if version and version not in versions:
        raise SightlineError(f"There is no {kind} version {version} of {category}; the newest is {newest}.")
    return version or newest, tasks[category, version or newest]


def _require_run(workspace: Path, words: str) -> None:
    """Refuse to go on from a run that the installation's SQL, where it can be read from here, does not know."""
    if words in ("", LATEST) or not os.environ.get("SIGHTLINE_DATABASE_URL"):
        return
    runs = rows_of_runs(open_metadata(workspace))
    if runs and not any(run.startswith(words) for run in runs):
        raise SightlineError(
            f"--resume-from {words} begins no run's id.{did_you_mean(words, runs)} `python pipeline.py runs` lists runs."
        )


def _by_sql(workspace: Path, kind: Kind) -> Mapping[tuple[str, str], str]:
    """Category and version -> task, of what the installation that the environment names has published.

    A laptop's own database and repository know nothing of a cluster's, and are not asked. One in which nothing is published
    is likely not the one that the cluster uses either.
    """
    database = open_metadata(workspace).database if os.environ.get("SIGHTLINE_DATABASE_URL") else None
    if database is None:
        return {}
    from sightline.services.database.versions import list_versions

    return {(row.category, row.version): task_of(row.recipe) for row in list_versions(database, kind=kind)}


def _by_tags(kind: Kind) -> Mapping[tuple[str, str], str]:
    """The same by the dataset repository, which does not tell the task."""
    found: dict[tuple[str, str], str] = {}
    if url := os.environ.get("SIGHTLINE_DATASET_REPO"):
        with contextlib.suppress(SightlineError):
            for name in remote_tags(url, NOBODY, GIT_SECONDS):
                with contextlib.suppress(BadNameError):  # a tag that people made for themselves
                    tag = parse_tag(name)
                    if tag.kind == kind:
                        found[tag.category, tag.version] = ""
    return found


def require_keys(asked: Asked, steps: Collection[str]) -> None:
    """Look at what holds for every task, by the checks with which snapshot begins: here they cost a second."""
    check_category(asked.category)
    check_gpus(asked)
    check_device(asked.device)
    check_beginning(asked)
    if "record" in steps and asked.recipe:
        check_recipe(LIBRARY, asked)


def require_names(asked: Asked, steps: Collection[str], task: str, version: str) -> None:
    """Look at config, its values and metric. What is not in this checkout may lie on the volume: a warning, unless it looks misspelt.

    The run trains on that `version`, whose `task` is empty where it cannot be told from here.
    """
    if asked.is_usual:
        return
    candidates = [_problems(asked, steps, each, version) for each in ([task] if task else _tasks(asked))]
    # Of tasks that are equally likely the one for which something looks misspelt: `acuracy` is no detector's own metric.
    for problem in min(candidates, key=lambda found: (len(found), all(map(_may_lie_there, found)))):
        if not _may_lie_there(problem):
            raise problem
        print(
            f"warning: {problem} That is so in this checkout; the run ends at once unless it lies on the volume.",
            file=sys.stderr,
        )


def _problems(asked: Asked, steps: Collection[str], task: str, version: str) -> list[SightlineError]:
    found = []
    try:
        if "train" in steps:
            config = check_training(LIBRARY, asked, task, version)
            # A training that goes on has its weights.
            where = (
                None if asked.resume_from else find_weights(LIBRARY, config, asked.overrides or {}, asked.pretrained)
            )
            if where and where.uri.startswith("file://") and not local_path(where.uri).is_relative_to(VOLUME):
                raise SightlineError(OUT_OF_SIGHT.format(option=f"--pretrained {where.text}", what="file"))
    except SightlineError as error:
        found.append(error)
    try:
        check_scores(LIBRARY, asked, task)
    except SightlineError as error:
        found.append(error)
    return found


def _may_lie_there(problem: SightlineError) -> bool:
    return isinstance(problem, NoConfigError | MetricError | UnknownTaskError) and "Did you mean" not in str(problem)


def _tasks(asked: Asked) -> list[str]:
    """The tasks that it may be, where nothing says which: the config's, or all."""
    if asked.config:
        with contextlib.suppress(NoConfigError):
            return [config_task(LIBRARY, asked.config) or DETECTION]
    own = sorted(folder.parent.name for folder in LIBRARY.glob("custom/tasks/*/facts.py"))
    return list(dict.fromkeys([*OURS, *own]))
