"""The train report: losses, learning rate, validation curves, the best epoch, time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from markupsafe import Markup

from sightline.reports import page
from sightline.reports.charts import Series, line_chart
from sightline.tasks.task import Task

SMOOTHING = 0.02  # share of all values that one smoothed value averages on either side
OTHER_METRICS = "Scores"  # title of the chart of those that the task has no other for
NOT_CURVES = frozenset({"kind", "epoch", "iter"})

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a training went on from another run's: what is before it in the history is that run's."""

    epoch: int
    iteration: int
    best_carried: bool  # whether the best epoch may be one of before


NO_TURN = Turn(0, 0, True)


def render_training_report(
    task: Task,
    history: Sequence[Line],
    facts: Mapping[str, str],
    best_by: str,
    events: Sequence[Line] = (),
    more: Sequence[Markup] = (),
    turn: Turn = NO_TURN,
) -> str:
    """The page for one training, one self-contained HTML document, of lines as `History` and `Events` write them.

    The facts say what made it, for the page's head, and how many `seconds` it took. The best epoch is that by the metric
    `best_by`. `more` are further sections. A `turn` is marked in every chart.
    """
    train, val = _lines(history, "train"), _lines(history, "val")
    metrics = _metric_names(val)
    first = 0 if turn.best_carried else turn.iteration
    scored = [line for line in val if line["iter"] >= first and math.isfinite(page.score(line, best_by))]
    best = max(scored, key=lambda line: (page.score(line, best_by), -line["epoch"]), default=None)
    blocks = [_headline(train, val, best, best_by, facts, turn)]
    if not train:
        blocks.append(page.notice("The history holds no training iteration."))
    blocks.append(page.section("Losses", page.grid(*_loss_charts(train, turn))))
    if val:
        charts = page.grid(*_metric_charts(task, val, metrics, best, turn))
        blocks.append(page.section("Validation", charts, _epoch_table(train, val, metrics, best)))
    else:
        blocks.append(page.section("Validation", page.notice("This training was never validated.", kind="info")))
    blocks += more
    if events:
        rows = [[str(one["at"])[:19].replace("T", " "), one["iter"], one["kind"], one["message"]] for one in events]
        blocks.append(page.section("Events", page.table(["when (UTC)", "iteration", "what", "how"], rows)))
    title = page.title_from(facts, ("category", "dataset version", "config"), "Training")
    return page.render_page("Train report", title, facts, blocks)


def _lines(history: Sequence[Mapping[str, Any]], kind: str) -> list[Line]:
    """One line per iteration, in order; one that a resumed training wrote again replaces the earlier one."""
    newest = {(line["epoch"], line["iter"]): line for line in history if line["kind"] == kind}
    return [newest[key] for key in sorted(newest)]


def _metric_names(val: Sequence[Line]) -> list[str]:
    names = dict.fromkeys(name for line in val for name in line if name not in NOT_CURVES)
    return [name for name in names if any(math.isfinite(page.score(line, name)) for line in val)]


def _headline(
    train: Sequence[Line], val: Sequence[Line], best: Line | None, best_by: str, facts: Mapping[str, str], turn: Turn
) -> Markup:
    losses = [loss for loss in _column(train, "loss") if math.isfinite(loss)]
    shown = []
    if best is not None:
        shown.append(page.Tile(f"Best {best_by}", page.score(best, best_by), f"after epoch {best['epoch']}"))
    last = max((line["epoch"] for line in (*train, *val)), default=0)
    shown.append(page.Tile("Epochs", last, f"{page.number(len(train))} logged iterations"))
    shown.append(page.Tile("Loss", losses[-1] if losses else None, f"from {page.number(losses[0])}" if losses else ""))
    if "seconds" in facts:
        seconds = float(facts["seconds"])
        own = sum(line["iter"] > turn.iteration for line in train)
        per_iteration = f"{seconds / own:.2f} s per logged iteration" if own else ""
        shown.append(page.Tile("Time", page.duration(seconds), per_iteration))
    return page.tiles(*shown)


def _column(lines: Sequence[Line], name: str) -> list[float]:
    return [page.score(line, name) for line in lines]


def _smoothed(values: Sequence[float]) -> list[float]:
    """The mean around each value."""
    reach = max(1, round(len(values) * SMOOTHING))
    return [_mean(values[max(0, index - reach) : index + reach + 1]) for index in range(len(values))]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _loss_charts(train: Sequence[Line], turn: Turn) -> list[Markup]:
    x = _column(train, "iter")
    names = dict.fromkeys(name for line in train for name in line)
    parts = [name for name in names if "loss" in name and name != "loss"]
    total = _column(train, "loss")
    each = Series("each logged iteration", x, total, faint=True, colour_index=0)
    smoothed = Series("smoothed", x, _smoothed(total), colour_index=0)
    marked: dict[str, Any] = {"turn_x": turn.iteration or None, "note": _turned(turn)}
    charts = [line_chart("Loss", [each, smoothed], "iteration", "loss", **marked)]
    if parts:
        curves = [Series(name, x, _smoothed(_column(train, name))) for name in parts]
        charts.append(line_chart("Its parts, smoothed", curves, "iteration", "loss", **marked))
    if train:
        rates = Series("Learning rate", x, _column(train, "lr"))
        charts.append(line_chart("Learning rate", [rates], "iteration", "rate", **marked))
    return charts


def _turned(turn: Turn) -> str:
    return "Dotted: where it went on from another run's training." if turn.iteration else ""


def _metric_charts(
    task: Task, val: Sequence[Line], metrics: Sequence[str], best: Line | None, turn: Turn
) -> list[Markup]:
    epochs = _column(val, "epoch")
    groups: dict[str, list[Series]] = {}
    for name in metrics:
        fitting = (title for pattern, title in task.facts.CHARTS.items() if fnmatchcase(name, pattern))
        curve = Series(name, epochs, _column(val, name), points=True)
        groups.setdefault(next(fitting, OTHER_METRICS), []).append(curve)
    note, marked = (f"Dashed: the best epoch, {best['epoch']}.", float(best["epoch"])) if best else ("", None)
    note = " ".join(filter(None, (note, _turned(turn))))
    charts = []
    for title, curves in groups.items():
        within = None if any(value < 0 or value > 1 for curve in curves for value in curve.y) else (0, 1)
        marks: dict[str, Any] = {"marked_x": marked, "turn_x": turn.epoch or None, "note": note}
        charts.append(line_chart(title, curves, "epoch", "score", y_range=within, whole_x=True, **marks))
    return charts


def _epoch_table(train: Sequence[Line], val: Sequence[Line], metrics: Sequence[str], best: Line | None) -> Markup:
    rows: list[list[object]] = []
    for line in val:
        losses = [page.score(one, "loss") for one in train if one["epoch"] == line["epoch"]]
        rows.append([line["epoch"], _mean(losses), *[page.score(line, name) for name in metrics]])
    highlighted = {index for index, line in enumerate(val) if line is best}
    return page.table(["epoch", "mean loss", *metrics], rows, highlighted)
