"""The scores that a terminal shows at a run's end: the task's headlines, and all that metrics of a recipe give."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from sightline.tasks.task import OURS, Task, UnknownTaskError, headlines_of


def shown_scores(values: Mapping[str, Any], task: str = "") -> list[str]:
    """The names of the values to show, in order; the task is empty when unknown."""
    headlines = headlines_of(values, task)
    return [*headlines, *(name for name in _further(values, headlines, task) if values[name] is not None)]


def scores_table(title: str, values: Mapping[str, Any], names: list[str]) -> Table:
    """A line per score."""
    table = Table(title=title)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name in names:
        table.add_row(name, f"{values[name]:.3f}")
    return table


def _further(values: Mapping[str, Any], headlines: list[str], task: str) -> list[str]:
    """The values that are not the task's own numbers, so some metric's; none where a task does not say which are its own."""
    for known in filter(None, (task, *OURS)):
        try:
            facts = Task(known).facts
        except UnknownTaskError:  # it was frozen with a run, and is gone from the live code
            continue
        if not set(headlines).isdisjoint(facts.HEADLINES):
            names = getattr(facts, "NAMES", None)
            return [name for name in values if name not in names and name not in headlines] if names else []
    return []
