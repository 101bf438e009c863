"""Charts as inline SVG that scales with its box and has tooltips without a script."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from sightline.reports.drawing import (
    CHARACTER,
    FLOOR,
    TOP,
    WIDTH,
    Axes,
    box,
    chart,
    covering_ticks,
    empty_chart,
    line,
    logarithmic_ticks,
    nice_ticks,
    tag,
    text,
    tick_text,
    widened,
)
from sightline.reports.page import colour, legend, number

MOST_POINTS = 240  # of a curve; longer ones are averaged down, for the page's size
MOST_HOVERED = 60  # points of a curve that get a tooltip of their own
NARROWEST_CELL = 30  # a confusion matrix with smaller cells scrolls instead
WIDEST_CELL = 64
LINE = 14  # height of a line of text
SLANT = 0.72  # of a slanted label's length, how far it reaches up and to the side


@dataclass(frozen=True, slots=True)
class Series:
    """A named curve. Values that are not finite break the line."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    faint: bool = False  # thin and pale, for raw values behind a smoothed curve; not in the legend
    points: bool = False  # mark each value with a dot
    colour_index: int | None = None  # by default the curve's place in the chart


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    y_range: tuple[float, float] | None = None,
    marked_x: float | None = None,
    turn_x: float | None = None,
    whole_x: bool = False,
    note: str = "",
) -> Markup:
    """Curves over a common axis, with a legend where there are several.

    `y_range` are fixed limits, by default from 0 (or the lowest value, if negative) to the highest; `marked_x` is where a dashed
    upright line stands, `turn_x` a dotted one, `whole_x` means ticks at whole numbers only (epochs), the note is a line below the chart.
    """
    curves = [_averaged(one) for one in series]
    every_x, every_y = np.concatenate(curves, axis=1) if curves else np.zeros((2, 0))
    every_y = every_y[np.isfinite(every_y)]
    if not every_y.size:
        return empty_chart(title)
    x_range = widened(float(every_x.min()), float(every_x.max()))
    y_low, y_high = widened(*(y_range or (min(0.0, float(every_y.min())), float(every_y.max()))))
    y_ticks = nice_ticks(y_low, y_high, 5) if y_range else covering_ticks(y_low, y_high)
    y_range = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])
    axes = Axes(nice_ticks(*x_range, 6, whole=whole_x), y_ticks, x_range, y_range)
    parts = axes.frame(x_label, y_label)
    for kind, at in (("mark", marked_x), ("turn", turn_x)):
        if at is not None:
            parts.append(line(kind, axes.x(at), TOP, axes.x(at), FLOOR))
    indices = [at if one.colour_index is None else one.colour_index for at, one in enumerate(series)]
    for one, (x, y), index in zip(series, curves, indices, strict=True):
        parts += _curve(one, x, y, axes, colour(index))
    named = [(one.name, index) for one, index in zip(series, indices, strict=True) if not one.faint]
    return chart(title, parts, legend(*zip(*named, strict=True)) if len(named) > 1 else None, note)


def bar_chart(title: str, labels: Sequence[str], values: Sequence[float], x_label: str, note: str = "") -> Markup:
    """One bar per label, each in its class's colour (the label's place)."""
    return grouped_bar_chart(title, labels, {"": values}, x_label, note)


def grouped_bar_chart(
    title: str, labels: Sequence[str], groups: Mapping[str, Sequence[float]], x_label: str, note: str = ""
) -> Markup:
    """For each label one bar per group (such as a split), with a legend of the groups; nan shows as a dash.

    The bars lie: names of any length and any number of classes stay readable in a narrow frame.
    """
    every = [value for values in groups.values() for value in values]
    highest = max((value for value in every if not math.isnan(value)), default=0)
    if not labels or highest <= 0:
        return empty_chart(title)
    room = min(150.0, max(map(len, labels)) * CHARACTER + 10)
    value_room = max(len(number(value)) for value in every) * CHARACTER + 8
    thickness = 15 if len(groups) == 1 else 12
    row = thickness * len(groups) + 10
    floor = 4 + row * len(labels)
    scale = (WIDTH - room - value_room) / highest
    parts = []
    for tick in nice_ticks(0, highest, 4, whole=highest >= 4):
        at = room + tick * scale
        parts += [line("gridline", at, 2, at, floor), text(tick_text(tick), at, floor + 15)]
    for position, label in enumerate(labels):
        top = 4 + position * row
        parts.append(text(label, room - 8, top + row / 2, "end", room=room - 10, kind="strong"))
        for index, (group, values) in enumerate(groups.items()):
            value, y = values[position], top + index * thickness + 2
            shown = f"{label}, {group}: {number(value)}" if group else f"{label}: {number(value)}"
            width = 0.0 if math.isnan(value) else max(value * scale, 0.0)
            fill = colour(index if group else position)
            parts.append(box(shown, room, y, width, thickness - 1.5, fill=fill, rx=1.5))
            parts.append(text(number(value), room + width + 4, y + thickness / 2 + 3, "start"))
    parts.append(text(x_label, (room + WIDTH - value_room) / 2, floor + 31))
    return chart(title, parts, None if "" in groups else legend(list(groups)), note, height=floor + 36)


def histogram(
    title: str,
    values: Sequence[float] | np.ndarray,
    x_label: str,
    y_label: str,
    *,
    bins: int = 24,
    limits: tuple[float, float] | None = None,
) -> Markup:
    """How often values fall where; `limits` are the least and the most that a value can be, by default the values' own."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return empty_chart(title)
    low, high = limits or (float(finite.min()), float(finite.max()))
    if low == high:
        low, high = (low * 0.9, high * 1.1) if low > 0 else (low - 0.5, high + 0.5)
    edges = np.linspace(low, high, bins + 1)
    counts, _ = np.histogram(finite, edges)
    y_ticks = covering_ticks(0, float(counts.max()), whole=True)
    axes = Axes(nice_ticks(edges[0], edges[-1], 6), y_ticks, (edges[0], edges[-1]), (0, y_ticks[-1]))
    parts = axes.frame(x_label, y_label)
    for low, high, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
        if count:
            told = f"{tick_text(low)}–{tick_text(high)}: {number(count)}"
            left, top = axes.x(low), axes.y(count)
            width = max(axes.x(high) - left - 1, 0.8)
            parts.append(box(told, left + 0.5, top, width, axes.y(0) - top, fill=colour(0), rx=1.5))
    return chart(title, parts)


def compared_histogram(
    title: str,
    edges: Sequence[float],
    counts: Mapping[str, Sequence[int]],
    x_label: str,
    y_label: str,
    *,
    doubling: bool = False,
    whole: bool = False,
) -> Markup:
    """How several groups (such as splits) spread over the same bins, each as a share of its own total.

    There is one edge more than there are bins; a bin goes up to, and without, the next edge. `counts` are by group, `doubling`
    makes the axis logarithmic, and `whole` values are counts: a bin of one value is named by it.
    """
    totals = {group: sum(own) for group, own in counts.items()}
    if len(edges) < 2 or not any(totals.values()):
        return empty_chart(title)
    shares = {group: [100 * count / max(totals[group], 1) for count in own] for group, own in counts.items()}
    y_ticks = covering_ticks(0, max(map(max, shares.values())))
    drawn = [max(edge, 0.5) if doubling else edge - 0.5 * whole for edge in edges]
    ticks = logarithmic_ticks(drawn[0], edges[-1]) if doubling else nice_ticks(edges[0], edges[-1] - whole, 6, whole)
    axes = Axes(ticks, y_ticks, (drawn[0], drawn[-1]), (0, y_ticks[-1]), math.log2 if doubling else float)
    parts = axes.frame(x_label, y_label)
    for index, (group, own) in enumerate(shares.items()):
        if totals[group]:
            corners = zip(np.repeat(drawn, 2), [0, *np.repeat(own, 2), 0], strict=True)
            path = "M" + "L".join(f"{axes.x(x):g} {axes.y(y):g}" for x, y in corners)
            parts.append(tag("path", d=path, fill=colour(index), fill_opacity=0.13))
            parts.append(tag("path", tag("title", group), class_="curve", d=path, stroke=colour(index)))
    for index, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        span = f"{tick_text(round(low, 1))} to {tick_text(round(high, 1))}"
        told = ", ".join(f"{number(own[index])} {name} ({shares[name][index]:.1f} %)" for name, own in counts.items())
        told = f"{tick_text(low) if whole and high == low + 1 else span}: {told}"
        left, right = axes.x(drawn[index]), axes.x(drawn[index + 1])
        parts.append(box(told, left, TOP, right - left, FLOOR - TOP, class_="hover"))
    return chart(title, parts, legend(list(counts)))


def confusion_chart(title: str, labels: Sequence[str], matrix: np.ndarray, note: str = "") -> Markup:
    """How often an object of one class was found as which: a row per true class, a column per predicted one.

    A cell is the stronger, the larger its share of the row; what is right and what is wrong differ in colour. `matrix` is
    (N, N), [truth, predicted]; the last of the labels may be the background.
    """
    counts = np.asarray(matrix)
    if not counts.sum():
        return empty_chart(title)
    longest = max(map(len, labels)) * CHARACTER
    room = min(110.0, longest + 8)
    left, over = LINE + room, room * SLANT
    cell = min(WIDEST_CELL, max(NARROWEST_CELL, (WIDTH - left - over) / (len(labels) - 0.5)))
    slanted = min(longest, room - 8) > cell - 4
    top = LINE + 6 + (over if slanted else LINE)
    side = cell * len(labels)
    anchor, turned = ("start", -45) if slanted else ("middle", 0)
    parts = [text("found as", left, 11, "start"), text("truth", 11, top + side / 2, turned=-90)]
    for index, label in enumerate(labels):
        middle = (index + 0.5) * cell
        parts.append(text(label, left - 6, top + middle + 4, "end", room=room - 8, kind="strong"))
        parts.append(text(label, left + middle, top - 6, anchor, turned=turned, room=room - 8, kind="strong"))
    parts.append(tag("rect", class_="cell", x=left, y=top, width=side, height=side))
    for truth, found in zip(*np.nonzero(counts), strict=True):
        count, share = counts[truth, found].item(), counts[truth, found] / counts[truth].sum()
        x, y = left + found * cell, top + truth * cell
        told = f"truth {labels[truth]}, found as {labels[found]}: {number(count)} ({share:.0%} of the row)"
        kind = "right-cell" if truth == found else "wrong-cell"
        opacity = 0.12 + 0.83 * share
        parts.append(box(told, x + 0.5, y + 0.5, cell - 1, cell - 1, class_=kind, fill_opacity=opacity))
        strength = "on-dark" if share > 0.5 else "strong"
        parts.append(text(number(count), x + cell / 2, y + cell / 2 + 4, kind=strength))
    width = left + side + (max(6, over - cell / 2) if slanted else 6)
    return chart(title, parts, note=note, height=top + side + 4, width=width)


def _averaged(series: Series) -> np.ndarray:
    """(2, n): the curve's x and y, nan where y is not finite, averaged down to what a page can carry."""
    x, y = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    known = np.isfinite(y)
    if len(x) <= MOST_POINTS:
        return np.stack([x, np.where(known, y, np.nan)])
    pieces = np.array_split(np.arange(len(x)), MOST_POINTS)
    means = [y[piece][known[piece]].mean() if known[piece].any() else np.nan for piece in pieces]
    return np.array([[x[piece].mean() for piece in pieces], means])


def _curve(series: Series, x: np.ndarray, y: np.ndarray, axes: Axes, stroke: str) -> list[Markup]:
    dotted = series.points or len(x) == 1
    mark = {"class_": "point", "r": 3.2, "fill": stroke} if dotted else {"class_": "hover", "r": 6}
    path, dots, pen = "", [], "M"
    for at, value in zip(x.tolist(), y.tolist(), strict=True):
        if math.isnan(value):
            pen = "M"
            continue
        cx, cy = axes.x(at), axes.y(value)
        path += f"{pen}{cx:g} {cy:g}"
        pen = "L"
        told = f"{series.name}: {number(value)} at {number(int(at) if at.is_integer() else at)}"
        dots.append(tag("circle", tag("title", told), cx=cx, cy=cy, **mark))
    kind = "curve faint" if series.faint else "curve"
    curve = tag("path", tag("title", series.name), class_=kind, d=path, stroke=stroke)
    return [curve] if series.faint or len(x) > MOST_HOVERED else [curve, *dots]
