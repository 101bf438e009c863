"""What a user asked for, looked at before anything runs: a misspelt name costs seconds, not the time of the steps before.

A laptop that only submits looks at it as well, and has no numpy: nothing here may need it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.annotations.recipe import read_recipe
from sightline.errors import SightlineError
from sightline.models.config_files import check_config, read_values
from sightline.references import DETECTION
from sightline.services.runs.config_chains import config_task
from sightline.services.runs.homes import read_metrics, recipe_file
from sightline.tasks.metrics import require_metrics, require_selecting
from sightline.tasks.task import Task, is_known

ONE_GPU = ("", "0", "1")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run was asked for; an empty config or metric is the task's own, an empty device what is there."""

    category: str
    config: str = ""
    recipe: Mapping[str, Any] | None = None
    overrides: Mapping[str, Any] | None = None  # dotted config keys and their values
    select_by: str = ""  # the metric that selects
    device: str = ""
    pretrained: str = ""  # trained weights to begin from, as `weights/places.py` reads it
    resume_from: str = ""  # the run whose training goes on
    gpus: Mapping[str, str] = field(default_factory=dict)  # step -> how many its pod gets, as Kubernetes writes it

    @property
    def is_usual(self) -> bool:
        """Whether config, its values and the metric are the task's own, and neither weights nor a run to go on from are named."""
        return not (self.config or self.overrides or self.select_by or self.pretrained or self.resume_from)


def check_recipe(code: Path, asked: Asked) -> None:
    """Make sure that record will be able to read the recipe in the live helper code; errors as in `read_recipe`."""
    file = recipe_file(code, asked.category)
    read_recipe(code / file if file else None, asked.recipe, file)


def check_training(code: Path, asked: Asked, task: str, trained_on: str) -> str:
    """Make sure that the config is one of the task of what is `trained_on`, and has the keys that are set. Returns its name.

    Raises:
        SightlineError: there is no such config or key (names the nearest), nothing reads a key, or it is another task's.
    """
    config = asked.config or Task(task).facts.CONFIG
    named = config_task(code, config) or DETECTION
    if named != task and not is_known(named):
        raise SightlineError(
            f"The config {config} says task = {named!r}, and there is no such task in sightline/tasks or custom/tasks. Correct it."
        )
    if named != task:
        raise SightlineError(
            f"The config {config} is for the task {named}, and {trained_on} is annotated for {task}. Choose a config for {task}, "
            "or leave it out: then the task's own is used."
        )
    check_config(code, config, task, asked.overrides or {})
    return config


def planned_epochs(code: Path, config: str, overrides: Mapping[str, Any], epochs: int) -> int | None:
    """How many epochs a run will train: those that are asked for, else the config's; None where its files do not tell them."""
    values = read_values(code, config, overrides)
    planned = epochs or (None if values.get("max_iters") else values.get("max_epochs"))
    return planned if isinstance(planned, int) else None


def check_scores(code: Path, asked: Asked, task: str) -> tuple[str, ...]:
    """The metrics that the recipe names; a SightlineError where one of them, or what selects, is not there."""
    metrics = read_metrics(code, asked.category)
    require_metrics(code, task, metrics)
    require_selecting(code, task, asked.select_by)
    return metrics


def check_at_once(code: Path, asked: Asked, record: bool, train: bool) -> None:
    """Refuse what cannot be used as files alone tell, before Git and SQL are asked anything, of a run that records or trains."""
    check_gpus(asked)
    check_beginning(asked)
    if record:
        check_recipe(code, asked)
    if train and asked.config:
        task = config_task(code, asked.config) or DETECTION
        if is_known(task):
            check_config(code, asked.config, task, asked.overrides or {})


def check_beginning(asked: Asked) -> None:
    """Refuse two things to begin from."""
    if asked.pretrained and asked.resume_from:
        raise SightlineError(
            f"--pretrained {asked.pretrained} and --resume-from {asked.resume_from} exclude each other: a training that goes on has the weights "
            "of that run's checkpoint. Leave one of them out."
        )


def check_gpus(asked: Asked) -> None:
    """Refuse more GPUs than a step uses."""
    for step, gpus in asked.gpus.items():
        if str(gpus).strip() not in ONE_GPU:
            raise SightlineError(f"{step}_gpus is {gpus}: a step can use one GPU at most. Give 1, or 0 for none.")
