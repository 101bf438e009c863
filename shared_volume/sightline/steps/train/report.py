"""The train report: losses, learning rate, validation curves, the best epoch, time."""

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from markupsafe import Markup

from sightline.reports.charts import Series, line_chart
from sightline.reports.page import Tile, duration, grid, notice, number, render_page, section, table, tiles, title_from
from sightline.tasks.task import Task

SMOOTHING = 0.02  # share of all values that one smoothed value averages on either side
OTHER_METRICS = "Scores"  # title of the chart of those that the task has no other for
NOT_CURVES = frozenset({"kind", "epoch", "iter", "step"})

Line = Mapping[str, Any]


def render_training_report(
    task: Task,
    history: Sequence[Mapping[str, object]],
    facts: Mapping[str, str],
    best_by: str = "",
    events: Sequence[Line] = (),
) -> str:
    """The page for one training, one self-contained HTML document.

    Args:
        task: which metrics share a chart.
        history: lines as the training wrote them: `kind` train or val, `epoch`, `iter`, and values by name. A line
            that a resumed training wrote again replaces the earlier one.
        facts: what made it, name -> value, for the page's head.
        best_by: metric that names the best epoch; by default the first that was written.
        events: what happened beside training, as `at`, `kind`, `iter` and `message`.
    """
    train, val = _lines(history, "train"), _lines(history, "val")
    metrics = _metric_names(val)
    best_by = best_by or next(iter(metrics), "")
    scored = [line for line in val if _value(line, best_by) is not None]
    best = max(scored, key=lambda line: (_value(line, best_by) or 0.0, -line["epoch"]), default=None)
    blocks = [_headline(train, val, best, best_by, _seconds(train, facts))]
    if not train:
        blocks.append(notice("The history holds no training iteration."))
    blocks.append(section("Losses", grid(*_loss_charts(train))))
    if val:
        charts = grid(*_metric_charts(task, val, metrics, best))
        blocks.append(section("Validation", charts, _epoch_table(train, val, metrics, best)))
    else:
        blocks.append(section("Validation", notice("This training was never validated.", kind="info")))
    if events:
        rows = [[str(one["at"])[:19].replace("T", " "), one["iter"], one["kind"], one["message"]] for one in events]
        blocks.append(section("Events", table(["when (UTC)", "iteration", "what", "how"], rows)))
    title = title_from(facts, ("category", "dataset version", "config"), "Training")
    return render_page("Train report", title, facts, blocks)


def _lines(history: Sequence[Mapping[str, Any]], kind: str) -> list[Line]:
    """One line per iteration, in order; the last written wins."""
    newest = {(line["epoch"], line.get("iter", 0)): line for line in history if line.get("kind") == kind}
    return [newest[key] for key in sorted(newest)]


def _value(line: Line, name: str) -> float | None:
    """A finite value, or None; -1 stands for a score that does not exist."""
    value = line.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return None if value == -1 else float(value)


def _metric_names(val: Sequence[Line]) -> list[str]:
    names = dict.fromkeys(name for line in val for name in line if name not in NOT_CURVES)
    return [name for name in names if any(_value(line, name) is not None for line in val)]


def _headline(
    train: Sequence[Line], val: Sequence[Line], best: Line | None, best_by: str, seconds: float | None
) -> Markup:
    losses = [loss for line in train if (loss := _value(line, "loss")) is not None]
    shown = []
    if best is not None:
        shown.append(Tile(f"Best {best_by}", _value(best, best_by), f"after epoch {best['epoch']}"))
    last = max((line["epoch"] for line in (*train, *val)), default=0)
    shown.append(Tile("Epochs", last, f"{number(len(train))} logged iterations"))
    shown.append(Tile("Loss", losses[-1] if losses else None, f"from {number(losses[0])}" if losses else ""))
    if seconds is not None:
        per_iteration = f"{seconds / len(train):.2f} s per logged iteration" if train else ""
        shown.append(Tile("Time", duration(seconds), per_iteration))
    return tiles(*shown)


def _seconds(train: Sequence[Line], facts: Mapping[str, str]) -> float | None:
    """How long it took: as the facts say, or as the iterations' own times add up."""
    try:
        return float(facts["seconds"])
    except (KeyError, ValueError):
        times = [seconds for line in train if (seconds := _value(line, "time")) is not None]
        return sum(times) if times else None


def _positions(lines: Sequence[Line]) -> list[float]:
    """Iteration numbers; where they start again each epoch, running numbers."""
    iterations = [float(line.get("iter", index + 1)) for index, line in enumerate(lines)]
    rising = all(later > earlier for earlier, later in zip(iterations, iterations[1:], strict=False))
    return iterations if rising else [float(index + 1) for index in range(len(lines))]


def _column(lines: Sequence[Line], name: str) -> list[float]:
    return [math.nan if (value := _value(line, name)) is None else value for line in lines]


def _smoothed(values: Sequence[float]) -> list[float]:
    """The mean around each value; values that are not finite do not count."""
    reach = max(1, round(len(values) * SMOOTHING))
    windows = (np.array(values[max(0, index - reach) : index + reach + 1]) for index in range(len(values)))
    return [float(window[np.isfinite(window)].mean()) if np.isfinite(window).any() else math.nan for window in windows]


def _loss_charts(train: Sequence[Line]) -> list[Markup]:
    x = _positions(train)
    names = dict.fromkeys(name for line in train for name in line)
    parts = [name for name in names if "loss" in name and name != "loss"]
    total = _column(train, "loss")
    each = Series("each logged iteration", x, total, faint=True, colour_index=0)
    charts = [line_chart("Loss", [each, Series("smoothed", x, _smoothed(total), colour_index=0)], "iteration", "loss")]
    if parts:
        curves = [Series(name, x, _smoothed(_column(train, name))) for name in parts]
        charts.append(line_chart("Its parts, smoothed", curves, "iteration", "loss"))
    for name, title, unit in (
        ("lr", "Learning rate", "rate"),
        ("grad_norm", "Gradient norm", "norm"),
        ("time", "Time per iteration", "s"),
    ):
        if name in names:
            charts.append(line_chart(title, [Series(title, x, _column(train, name))], "iteration", unit))
    return charts


def _metric_charts(task: Task, val: Sequence[Line], metrics: Sequence[str], best: Line | None) -> list[Markup]:
    epochs = [float(line["epoch"]) for line in val]
    groups: dict[str, list[str]] = {}
    for name in metrics:
        fitting = (title for pattern, title in task.facts.CHARTS.items() if fnmatchcase(name, pattern))
        groups.setdefault(next(fitting, OTHER_METRICS), []).append(name)
    return [
        line_chart(
            title,
            [Series(name, epochs, _column(val, name), points=True) for name in names],
            "epoch",
            "score",
            y_range=(0, 1) if all(0 <= (_value(line, name) or 0) <= 1 for line in val for name in names) else None,
            marked_x=float(best["epoch"]) if best else None,
            whole_x=True,
            note=f"Dashed: the best epoch, {best['epoch']}." if best else "",
        )
        for title, names in groups.items()
    ]


def _epoch_table(train: Sequence[Line], val: Sequence[Line], metrics: Sequence[str], best: Line | None) -> Markup:
    rows: list[list[object]] = []
    for line in val:
        losses = [loss for one in train if one["epoch"] == line["epoch"] and (loss := _value(one, "loss")) is not None]
        mean = float(np.mean(losses)) if losses else None
        rows.append([line["epoch"], mean, *[_value(line, name) for name in metrics]])
    highlighted = {index for index, line in enumerate(val) if line is best}
    return table(["epoch", "mean loss", *metrics], rows, highlighted)
