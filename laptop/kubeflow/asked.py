"""What a run is asked for, looked at by the checks with which snapshot begins: here they cost a second."""

import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from components.parameters import CATEGORY, CONFIG, DEVICE, OVERRIDES, PARAMETERS, RECIPE, SELECT_BY
from laptop.workspace import LIBRARY
from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.steps.snapshot.check import Asked

SENT_ANYWAY = "--no-check sends it all the same."
GPUS = {step: each.name for each in PARAMETERS for step, kind in each.pod.items() if kind == "gpus"}
"""Step -> the parameter that gives its pod GPUs."""


def asked_of(arguments: Mapping[str, Any]) -> "Asked":
    """What a run's arguments ask for."""
    from sightline.steps.snapshot.check import Asked

    category, config, recipe, changed, metric, device = (
        each.default if (value := each.value_in(arguments)) is None else value
        for each in (CATEGORY, CONFIG, RECIPE, OVERRIDES, SELECT_BY, DEVICE)
    )
    gpus = {step: str(arguments[name]) for step, name in GPUS.items() if name in arguments}
    return Asked(category, config, recipe, changed, metric, device, gpus)


def require_keys(asked: "Asked", steps: Collection[str]) -> None:
    """Look at what holds for every task.

    Raises:
        SightlineError: a category that cannot be one, more GPUs than a step uses, no device, a misspelt key of the recipe.
    """
    from sightline.processes.devices import check_device
    from sightline.steps.snapshot.check import check_gpus, check_recipe
    from sightline.versions import check_category

    try:
        check_category(asked.category)
        check_gpus(asked)
        check_device(asked.device)
        if "record" in steps and asked.recipe:
            check_recipe(LIBRARY, asked)
    except SightlineError as error:
        raise SightlineError(f"{error} {SENT_ANYWAY}") from None


def require_names(asked: "Asked", steps: Collection[str], task: str, version: str) -> None:
    """Look at config, its values and metric. What is not in this checkout may lie on the volume: a warning, unless it looks misspelt.

    Args:
        asked: for the run.
        steps: of the pipeline.
        task: of what it trains on; empty when that cannot be told from here.
        version: what it trains on, for messages.

    Raises:
        SightlineError: a misspelt name or key, or a config for another task.
    """
    if asked.is_usual:
        return
    candidates = [_problems(asked, steps, each, version) for each in ([task] if task else _tasks(asked))]
    # Of tasks that are equally likely the one for which something looks misspelt: `acuracy` is no detector's own metric.
    for problem in min(candidates, key=lambda found: (len(found), all(map(_may_lie_there, found)))):
        if not _may_lie_there(problem):
            raise SightlineError(f"{problem} {SENT_ANYWAY}")
        print(
            f"warning: {problem} That is this checkout's; the run ends at once unless it lies on the volume.",
            file=sys.stderr,
        )


def _problems(asked: "Asked", steps: Collection[str], task: str, version: str) -> list[SightlineError]:
    from sightline.steps.snapshot.check import check_scores, check_training

    found = []
    try:
        if "train" in steps:
            check_training(LIBRARY, asked, task, version)
    except SightlineError as error:
        found.append(error)
    try:
        check_scores(LIBRARY, asked, task)
    except SightlineError as error:
        found.append(error)
    return found


def _may_lie_there(problem: SightlineError) -> bool:
    from sightline.errors import NoConfigError
    from sightline.tasks.metrics import MetricError
    from sightline.tasks.task import UnknownTaskError

    return isinstance(problem, NoConfigError | MetricError | UnknownTaskError) and "Did you mean" not in str(problem)


def _tasks(asked: "Asked") -> list[str]:
    """The tasks that it may be, where nothing says which: the config's, or all."""
    from sightline.errors import NoConfigError
    from sightline.references import DETECTION
    from sightline.services.runs.freeze import config_task
    from sightline.tasks.task import OURS

    if asked.config:
        try:
            return [config_task(LIBRARY, asked.config) or DETECTION]
        except NoConfigError:
            pass
        except SightlineError as error:
            raise SightlineError(f"{error} {SENT_ANYWAY}") from None
    own = sorted(folder.parent.name for folder in LIBRARY.glob("custom/tasks/*/facts.py"))
    return list(dict.fromkeys([*OURS, *own]))
