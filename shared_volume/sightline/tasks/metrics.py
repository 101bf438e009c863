"""Metrics beside the task's own scoring: a file each, users' in `custom/metrics/`, ours in the task's folder `metrics/`.

A metric's file has a function `score(truth, results, outputs=())` as the part `scoring` has; it must do with no results at all.
It returns `Scores`, or the overall values by name alone; every name is the file's, or begins with it: `f1.py` gives `f1`,
`f1_small`. So the name of a value tells whose it is, and a step's release holds the metrics that it computes and no other:
evaluate those that the category's recipe names, train and evaluate the one that selects.
"""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Final

from sightline.errors import SightlineError, clause, nearest
from sightline.tasks.task import Scores, Task, try_import

LONGEST_NAME: Final = 100  # characters of a value's name; SQL takes 255
# What tells a metric's file from other files in its folder.
SCORES = re.compile(r"^(def score\b|score\s*=|from .* import .*\bscore\b)", re.MULTILINE)


class MetricError(SightlineError):
    """A metric does not exist, or does not keep to its contract."""


def metric_modules(task: str, name: str) -> list[str]:
    """Dotted names of a metric's module, wherever it may lie; the users' own comes first."""
    return [f"custom.metrics.{name}", f"sightline.tasks.{task}.metrics.{name}"]


def selecting_modules(task: str, select_by: str) -> list[str]:
    """The same for every metric that a value's name may belong to."""
    return [module for name in _owners(select_by) for module in metric_modules(task, name)]


def _owners(value: str) -> list[str]:
    """The names of the files that may give a value: `dv_mAP_50` is `dv_mAP_50.py`'s, `dv_mAP.py`'s or `dv.py`'s."""
    parts = value.split("_")
    return ["_".join(parts[:length]) for length in range(len(parts), 0, -1) if parts[0].isidentifier()]


def require_metrics(code: Path, task: str, names: Iterable[str]) -> None:
    """Make sure that the metrics that a recipe names are in the helper code, live or frozen; none is imported.

    Raises:
        MetricError: names the one that is missing, and the nearest.
    """
    known = sorted(file.stem for file in _files(code, task))
    for name in names:
        if name not in known:
            raise MetricError(
                f"The recipe names the metric {name!r}, and neither custom/metrics/{name}.py nor "
                f"sightline/tasks/{task}/metrics/{name}.py is in the helper code.{nearest(name, known)}"
            )


def require_selecting(code: Path, task: str, select_by: str) -> None:
    """Make sure that a value can select: the task's own, or one that a metric's file in the helper code may give.

    No metric is imported. An empty name is the task's own choice.

    Raises:
        MetricError: there is no such value; names the nearest.
    """
    names = getattr(Task(task).facts, "NAMES", None)
    if not select_by or names is None or select_by in names:
        return
    metrics = {file.stem for file in _files(code, task) if SCORES.search(file.read_text(errors="replace"))}
    if metrics.isdisjoint(_owners(select_by)):
        raise MetricError(f"There is no metric {select_by!r} to select by.{nearest(select_by, {*names, *metrics})}")


def _files(code: Path, task: str) -> list[Path]:
    homes = [code.joinpath(*module.split(".")[:-1]) for module in metric_modules(task, "x")]
    return [file for home in homes for file in home.glob("[!_]*.py")]


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores results by the task's own numbers, by named metrics, and by the one that selects."""

    task: Task
    named: Sequence[str] = ()
    select_by: str = ""  # a value's name; the metric that gives it is added where it is not the task's own

    def __call__(self, truth: Any, results: Any, outputs: Sequence[str] | None = None) -> Scores:
        """All scores; what the results hold (`outputs`) is None when it is unknown, as when there are none.

        Raises:
            MetricError: a metric is missing, failed, or gives a value that is not its own.
        """
        arguments = (truth, results) if outputs is None else (truth, results, outputs)
        own = self.task.scoring.score(*arguments)
        values, per_class = dict(own.values), {name: dict(found) for name, found in own.per_class.items()}
        names = list(self.named)
        if self.select_by not in values:
            names += [name for name in _owners(self.select_by) if name not in names]
        for name in names:
            scores = self._scores_of(name, arguments, required=name in self.named)
            if strange := sorted(scores.per_class.keys() - per_class.keys()):
                raise MetricError(f"The metric {name} scores the class {strange[0]!r}, which the truth does not have.")
            of_classes = ((found, per_class[label]) for label, found in scores.per_class.items())
            for found, all_values in ((scores.values, values), *of_classes):
                if clash := sorted(found.keys() & all_values.keys()):
                    raise MetricError(
                        f"The metric {name} gives {clash[0]}, which the task's own numbers or another metric have already. "
                        "Give it another name."
                    )
                all_values |= found
        return Scores(values, per_class)

    def _scores_of(self, name: str, arguments: Sequence[Any], required: bool) -> Scores:
        for module in metric_modules(self.task.name, name):
            try:
                if (score := getattr(try_import(module), "score", None)) is not None:
                    # Copies: what a metric does to its arguments must not reach the others, nor what is delivered.
                    return _checked(name, score(*copy.deepcopy(arguments)))
            except MetricError:
                raise
            except Exception as error:
                raise MetricError(
                    f"{module.replace('.', '/')}.py failed: {type(error).__name__}: {clause(error)}. Correct it."
                ) from error
        if required:
            raise MetricError(f"There is no metric {name!r} with a function score in custom/metrics/{name}.py.")
        return Scores({}, {})


def _checked(metric: str, returned: Any) -> Scores:
    """What a metric returned, if it may."""
    scores = returned if isinstance(returned, Scores) else Scores(returned, {})
    per_class = scores.per_class
    if not isinstance(per_class, Mapping) or not all(isinstance(each, Mapping) for each in per_class.values()):
        raise MetricError(
            f"The metric {metric}: values per class are a dict by class of dicts by name, not {per_class!r}."
        )
    return Scores(_own(metric, scores.values), {str(name): _own(metric, values) for name, values in per_class.items()})


def _own(metric: str, values: Any) -> dict[str, float]:
    """A metric's values as plain numbers."""
    if not isinstance(values, Mapping):
        raise MetricError(f"The metric {metric} must return its values by name, a dict, or Scores; not {values!r:.80}.")
    for name, value in values.items():
        if not isinstance(name, str) or (name != metric and not name.startswith(f"{metric}_")):
            raise MetricError(
                f"The metric {metric} names a value {name!r:.80}: the names of its values are {metric}, or begin with {metric}_."
            )
        if not re.fullmatch(r"[\w.@:-]+", name) or len(name) > LONGEST_NAME:
            raise MetricError(
                f"The metric {metric} names a value {name!r:.80}: at most {LONGEST_NAME} letters, digits and _ . : @ -"
            )
        if isinstance(value, bool) or not isinstance(value, Real):
            raise MetricError(f"The metric {metric} gives {value!r:.80} for {name}: a value is a plain number (float).")
    return {name: float(value) for name, value in values.items()}
