"""Charts as inline SVG that scales with its box: nothing is measured in the browser, so a hidden or narrow frame draws right.

Every chart is drawn 420 units wide, about what a card is wide in pixels on a laptop and in a frame of 480 px, so that
its text keeps its size in both.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

from sightline.reports.colours import colour
from sightline.reports.page import block, legend, number

WIDTH = 420
HEIGHT = 250
CHARACTER = 6.3  # width of an average character of the charts' text
LINE = 14  # height of a line of that text
TOP, RIGHT, BOTTOM = 10, 14, 40
MOST_POINTS = 240  # of a curve; longer ones are averaged down, for the page's size
MOST_HOVERED = 60  # points of a curve that get a tooltip of their own
NARROWEST_CELL = 30  # a confusion matrix with smaller cells scrolls instead
WIDEST_CELL = 64
SLANT = 0.72  # of a slanted label's length, how far it reaches up and to the side
FEWEST_TICKS = 4  # of a logarithmic axis, if round values allow
FEW = 8  # counts up to this are shown from 0 on, so that a single bar does not fill the chart


@dataclass(frozen=True, slots=True)
class Series:
    """A named curve. Values that are not finite break the line.

    Attributes:
        faint: a thin pale line, for raw values behind a smoothed curve; it is left out of the legend.
        points: mark each value with a dot.
        colour_index: the curve's colour, by default its place in the chart.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    faint: bool = False
    points: bool = False
    colour_index: int | None = None


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where data values lie in the drawing."""

    x_ticks: list[float]
    y_ticks: list[float]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    left: float = field(init=False)

    def __post_init__(self) -> None:
        longest = max((len(_tick(value)) for value in self.y_ticks), default=1)
        object.__setattr__(self, "left", 24 + longest * CHARACTER)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * (WIDTH - RIGHT - self.left), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP), 1)


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    marked_x: float | None = None,
    whole_x: bool = False,
    note: str = "",
) -> Markup:
    """Curves over a common axis, with a legend where there are several.

    Args:
        y_range: fixed limits; by default from 0 (or the lowest value, if negative) to the highest value.
        x_range: fixed limits; by default the data's.
        marked_x: draws a dashed upright line there.
        whole_x: ticks at whole numbers only (epochs).
        note: a line below the chart.
    """
    curves = [_finite(one) for one in series]
    every_x = np.concatenate([x for x, _ in curves]) if curves else np.zeros(0)
    every_y = np.concatenate([y for _, y in curves]) if curves else np.zeros(0)
    if not np.isfinite(every_y).any():
        return _no_data(title)
    finite_y = every_y[np.isfinite(every_y)]
    x_low, x_high = _widened(x_range or (float(every_x.min()), float(every_x.max())))
    y_low, y_high = _widened(y_range or (min(0.0, float(finite_y.min())), float(finite_y.max())))
    y_ticks = nice_ticks(y_low, y_high, 5) if y_range else _covering_ticks(y_low, y_high)
    y_low, y_high = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])
    axes = _Axes(nice_ticks(x_low, x_high, 6, whole=whole_x), y_ticks, (x_low, x_high), (y_low, y_high))
    indices = [index if one.colour_index is None else one.colour_index for index, one in enumerate(series)]
    parts = [_frame(axes, x_label, y_label)]
    if marked_x is not None:
        at = axes.x(marked_x)
        parts.append(_tag("line", class_="mark", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM))
    for one, (x, y), index in zip(series, curves, indices, strict=True):
        parts.append(_curve(one, x, y, axes, colour(index)))
    named = [(one.name, index) for one, index in zip(series, indices, strict=True) if not one.faint]
    key = legend([name for name, _ in named], [index for _, index in named]) if len(named) > 1 else Markup()
    return _chart(title, parts, HEIGHT, key, note)


def precision_recall_chart(
    title: str,
    curves: Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray, float]],
    indices: Sequence[int],
    note: str = "",
) -> Markup:
    """Precision over recall, a curve per class.

    Args:
        curves: class -> (recall, precision, average precision).
        indices: the classes' colours.
    """
    series = []
    for index, (name, (recall, precision, average)) in zip(indices, curves.items(), strict=True):
        defined = np.asarray(precision, dtype=float) >= 0  # COCO's mark for "no such object" is -1
        series.append(
            Series(
                f"{name} ({number(float(average) if average >= 0 else None)})",
                np.asarray(recall, dtype=float)[defined].tolist(),
                np.asarray(precision, dtype=float)[defined].tolist(),
                colour_index=index,
            )
        )
    return line_chart(title, series, "recall", "precision", x_range=(0, 1), y_range=(0, 1.02), note=note)


def bar_chart(title: str, labels: Sequence[str], values: Sequence[float], x_label: str, note: str = "") -> Markup:
    """One bar per label, each in its class's colour (the label's place)."""
    colours = [colour(index) for index in range(len(labels))]
    return _bars(title, labels, {"": list(values)}, x_label, colours, Markup(), note)


def grouped_bar_chart(
    title: str, labels: Sequence[str], groups: Mapping[str, Sequence[float]], x_label: str, note: str = ""
) -> Markup:
    """For each label one bar per group (such as a split), with a legend of the groups; nan shows as a dash."""
    return _bars(title, labels, groups, x_label, [], legend(list(groups)), note)


def histogram(
    title: str,
    values: Sequence[float] | np.ndarray,
    x_label: str,
    y_label: str,
    *,
    bins: int = 24,
    whole: bool = False,
    limits: tuple[float, float] | None = None,
    note: str = "",
) -> Markup:
    """How often values fall where.

    Args:
        bins: about how many bars.
        limits: the least and the most that a value can be; by default the values' own.
        whole: the values are counts: bars stand on whole numbers.
    """
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return _no_data(title)
    edges = _edges(*(limits or (float(finite.min()), float(finite.max()))), bins, whole)
    counts, _ = np.histogram(finite, edges)
    y_ticks = _covering_ticks(0, float(counts.max()), whole=True)
    shift = 0.5 if whole else 0.0
    ticks = nice_ticks(edges[0] + shift, edges[-1] - shift, 6, whole=whole)
    axes = _Axes(ticks, y_ticks, (edges[0], edges[-1]), (0, y_ticks[-1]))
    parts = [_frame(axes, x_label, y_label)]
    for low, high, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
        if not count:
            continue
        first, last = math.ceil(low), math.floor(high)
        span = _tick(first) if whole and first == last else f"{_tick(low + shift)}–{_tick(high - shift)}"
        parts.append(
            _tag(
                "rect",
                _tag("title", f"{span}: {number(count)}"),
                x=axes.x(low) + 0.5,
                y=axes.y(count),
                width=round(max(axes.x(high) - axes.x(low) - 1, 0.8), 1),
                height=round(axes.y(0) - axes.y(count), 1),
                fill=colour(0),
                rx=1.5,
            )
        )
    return _chart(title, parts, HEIGHT, Markup(), note)


def compared_histogram(
    title: str,
    edges: Sequence[float],
    counts: Mapping[str, Sequence[int]],
    x_label: str,
    y_label: str,
    *,
    doubling: bool = False,
    whole: bool = False,
    note: str = "",
) -> Markup:
    """How several groups (such as splits) spread over the same bins, each as a share of its own total.

    Args:
        edges: of the bins, one more than there are bins; a bin goes up to, and without, the next edge.
        counts: group -> how many of it lie in each bin.
        doubling: the axis is logarithmic.
        whole: the values are counts, and a bin of one value is named by it.
    """
    totals = {group: sum(own) for group, own in counts.items()}
    if len(edges) < 2 or not any(totals.values()):
        return _no_data(title)
    shares = {group: [100 * count / max(totals[group], 1) for count in own] for group, own in counts.items()}
    y_ticks = _covering_ticks(0, max(max(own) for own in shares.values()))
    positions = [math.log2(max(edge, 0.5)) if doubling else edge - (0.5 if whole else 0) for edge in edges]
    tick_at = _powers_of_ten(edges) if doubling else nice_ticks(edges[0], edges[-1] - whole, 6, whole=whole)
    axes = _Axes(tick_at, y_ticks, (positions[0], positions[-1]), (0, y_ticks[-1]))
    shown_at = [(math.log2(tick) if doubling else tick, tick) for tick in tick_at]
    parts = [_frame(axes, x_label, y_label, shown_at)]
    for index, (group, own) in enumerate(shares.items()):
        if totals[group]:
            parts.extend(_steps(group, positions, own, axes, colour(index)))
    for index, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        span = _tick(low) if whole and high == low + 1 else f"{_tick(round(low, 1))} to {_tick(round(high, 1))}"
        told = ", ".join(
            f"{number(own[index])} {group} ({shares[group][index]:.1f} %)" for group, own in counts.items()
        )
        left, right = axes.x(positions[index]), axes.x(positions[index + 1])
        width = round(right - left, 1)
        parts.append(
            _tag(
                "rect",
                _tag("title", f"{span}: {told}"),
                class_="hover",
                x=left,
                y=TOP,
                width=width,
                height=HEIGHT - BOTTOM - TOP,
            )
        )
    return _chart(title, parts, HEIGHT, legend(list(counts)), note)


def _powers_of_ten(edges: Sequence[float]) -> list[float]:
    """Round values on a logarithmic axis; with few decades also those between."""
    low, high = max(edges[0], 0.5), edges[-1]
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        values = [factor * 10.0**power for power in range(-1, 13) for factor in factors]
        ticks = [value for value in values if low <= value <= high]
        if len(ticks) >= FEWEST_TICKS:
            break
    return ticks or [low]


def _steps(
    group: str, positions: Sequence[float], shares: Sequence[float], axes: _Axes, stroke: str
) -> Iterable[Markup]:
    """A histogram's outline, its area tinted."""
    outline = [f"M{axes.x(positions[0]):g} {axes.y(0):g}"]
    for low, high, share in zip(positions[:-1], positions[1:], shares, strict=True):
        outline.append(f"L{axes.x(low):g} {axes.y(share):g}L{axes.x(high):g} {axes.y(share):g}")
    outline.append(f"L{axes.x(positions[-1]):g} {axes.y(0):g}")
    path = "".join(outline)
    yield _tag("path", d=path, fill=stroke, fill_opacity=0.13)
    yield _tag("path", _tag("title", group), class_="curve", d=path, stroke=stroke)


def confusion_chart(title: str, labels: Sequence[str], matrix: np.ndarray, note: str = "") -> Markup:
    """How often an object of one class was found as which: a row per true class, a column per predicted one.

    A cell is the stronger, the larger its share of the row; what is right and what is wrong differ in colour.

    Args:
        labels: the classes; the last may be the background.
        matrix: (N, N) counts, [truth, predicted].
    """
    counts = np.asarray(matrix)
    if counts.sum() == 0:
        return _no_data(title)
    longest = max(len(label) for label in labels) * CHARACTER
    room = min(110.0, longest + 8)
    left, over = LINE + room, room * SLANT
    cell = min(WIDEST_CELL, max(NARROWEST_CELL, (WIDTH - left - over) / (len(labels) - 0.5)))
    slanted = min(longest, room - 8) > cell - 4
    top = LINE + 6 + (over if slanted else LINE)
    width = left + cell * len(labels) + (max(6, over - cell / 2) if slanted else 6)
    height = top + cell * len(labels) + 4
    parts = [
        _text("found as", left, 11, "start"),
        _text("truth", 11, top + cell * len(labels) / 2, "middle", turned=-90),
    ]
    for index, label in enumerate(labels):
        middle = (index + 0.5) * cell
        short = _shortened(label, room - 8)
        parts.append(_text(short, left - 6, top + middle + 4, "end", full=label, strong=True))
        anchor, turned = ("start", -45) if slanted else ("middle", 0)
        parts.append(_text(short, left + middle, top - 6, anchor, turned=turned, full=label, strong=True))
    parts.extend(_cells(labels, counts, left, top, cell))
    return _chart(title, parts, height, Markup(), note, width=width)


def nice_ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round values within the limits, about so many: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / max(about, 1) or 1.0
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    if whole:
        step = max(1, math.ceil(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)] or [low]


def _covering_ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Round values of which the first is at or below `low` and the last at or above `high`."""
    ticks = nice_ticks(low, high, 5, whole)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else max(high - low, 1 if whole else 0)
    below = [round(ticks[0] - step, 12)] if ticks[0] > low else []
    above = [round(ticks[-1] + step, 12)] if ticks[-1] < high else []
    return [*below, *ticks, *above]


def _finite(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """The curve's values, averaged down to what a page can carry."""
    x, y = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    y = np.where(np.isfinite(y), y, np.nan)
    if len(x) <= MOST_POINTS:
        return x, y
    pieces = np.array_split(np.arange(len(x)), MOST_POINTS)
    means = [
        float(np.mean(y[piece][np.isfinite(y[piece])])) if np.isfinite(y[piece]).any() else math.nan for piece in pieces
    ]
    return np.array([x[piece].mean() for piece in pieces]), np.array(means)


def _widened(limits: tuple[float, float]) -> tuple[float, float]:
    """Limits that are apart, so that a single value has a scale."""
    low, high = limits
    if high > low:
        return low, high
    return (low - 1, low + 1) if low else (0.0, 1.0)


def _edges(low: float, high: float, bins: int, whole: bool) -> np.ndarray:
    if whole:
        low, high = (0, high + 1) if high <= FEW else (low, high)
        step = max(1, math.ceil((high - low + 1) / bins))
        return np.arange(math.floor(low), math.floor(high) + step + 1, step) - 0.5
    if low == high:
        low, high = (low * 0.9, high * 1.1) if low > 0 else (low - 0.5, high + 0.5)
    return np.linspace(low, high, bins + 1)


def _curve(series: Series, x: np.ndarray, y: np.ndarray, axes: _Axes, stroke: str) -> Markup:
    path, drawing = [], False
    for x_value, y_value in zip(x.tolist(), y.tolist(), strict=True):
        if math.isnan(y_value):
            drawing = False
            continue
        path.append(f"{'L' if drawing else 'M'}{axes.x(x_value):g} {axes.y(y_value):g}")
        drawing = True
    line = _tag(
        "path",
        _tag("title", series.name),
        class_="curve faint" if series.faint else "curve",
        d="".join(path),
        stroke=stroke,
    )
    if series.faint or len(x) > MOST_HOVERED:
        return line
    dots = [
        _tag(
            "circle",
            _tag("title", f"{series.name}: {number(float(y_value))} at {number(_whole(float(x_value)))}"),
            class_="point" if series.points or len(x) == 1 else "hover",
            cx=axes.x(x_value),
            cy=axes.y(y_value),
            r=3.2 if series.points or len(x) == 1 else 6,
            **({"fill": stroke} if series.points or len(x) == 1 else {}),
        )
        for x_value, y_value in zip(x, y, strict=True)
        if not math.isnan(y_value)
    ]
    return line + Markup().join(dots)


def _frame(axes: _Axes, x_label: str, y_label: str, shown_at: Sequence[tuple[float, float]] | None = None) -> Markup:
    """Grid, ticks and axis titles. On an axis that is not even, `shown_at` tells where each tick's value lies."""
    floor = HEIGHT - BOTTOM
    parts = []
    for tick in axes.y_ticks:
        at = axes.y(tick)
        parts.append(_tag("line", class_="gridline", x1=axes.left, x2=WIDTH - RIGHT, y1=at, y2=at))
        parts.append(_text(_tick(tick), axes.left - 6, at + 4, "end"))
    parts.append(_tag("line", class_="axis", x1=axes.left, x2=WIDTH - RIGHT, y1=floor, y2=floor))
    for position, tick in shown_at or [(tick, tick) for tick in axes.x_ticks]:
        at = axes.x(position)
        parts.append(_tag("line", class_="axis", x1=at, x2=at, y1=floor, y2=floor + 4))
        parts.append(_text(_tick(tick), min(at, WIDTH - len(_tick(tick)) * CHARACTER / 2 - 1), floor + 17, "middle"))
    parts.append(_text(x_label, (axes.left + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle"))
    parts.append(_text(y_label, 12, (TOP + floor) / 2, "middle", turned=-90))
    return Markup().join(parts)


def _bars(
    title: str,
    labels: Sequence[str],
    groups: Mapping[str, Sequence[float]],
    x_label: str,
    colours: Sequence[str],
    key: Markup,
    note: str,
) -> Markup:
    """Lying bars: names of any length and any number of classes stay readable in a narrow frame."""
    highest = max((value for values in groups.values() for value in values if not math.isnan(value)), default=0)
    if not labels or highest <= 0:
        return _no_data(title)
    room = min(150.0, max(len(label) for label in labels) * CHARACTER + 10)
    value_room = max(len(number(value)) for values in groups.values() for value in values) * CHARACTER + 8
    thickness = 15 if len(groups) == 1 else 12
    row = thickness * len(groups) + 10
    floor = 4 + row * len(labels)
    scale = (WIDTH - room - value_room) / highest
    parts = []
    for tick in nice_ticks(0, highest, 4, whole=highest >= 4):
        at = round(room + tick * scale, 1)
        parts.append(_tag("line", class_="gridline", x1=at, x2=at, y1=2, y2=floor))
        parts.append(_text(_tick(tick), at, floor + 15, "middle"))
    for position, label in enumerate(labels):
        top = 4 + position * row
        parts.append(
            _text(_shortened(label, room - 10), room - 8, top + (row - 6) / 2 + 3, "end", full=label, strong=True)
        )
        for index, (group, values) in enumerate(groups.items()):
            value, y = values[position], top + index * thickness + 2
            shown = f"{label}, {group}: {number(value)}" if group else f"{label}: {number(value)}"
            fill = colours[position] if colours else colour(index)
            width = 0.0 if math.isnan(value) else round(max(value * scale, 0), 1)
            parts.append(
                _tag(
                    "rect",
                    _tag("title", shown),
                    x=round(room, 1),
                    y=y,
                    width=width,
                    height=thickness - 1.5,
                    fill=fill,
                    rx=1.5,
                )
            )
            parts.append(_text(number(value), room + width + 4, y + thickness / 2 + 3, "start"))
    parts.append(_text(x_label, (room + WIDTH - value_room) / 2, floor + 31, "middle"))
    return _chart(title, parts, floor + 36, key, note)


def _cells(labels: Sequence[str], counts: np.ndarray, left: float, top: float, cell: float) -> Iterable[Markup]:
    side = round(cell * len(labels), 1)
    yield _tag("rect", class_="cell", x=left, y=top, width=side, height=side)
    for truth, row in enumerate(counts.tolist()):
        total = sum(row)
        for found, count in enumerate(row):
            if not count:
                continue
            share = count / total
            x, y = round(left + found * cell, 1), round(top + truth * cell, 1)
            told = f"truth {labels[truth]}, found as {labels[found]}: {number(count)} ({share:.0%} of the row)"
            kind = "right-cell" if truth == found else "wrong-cell"
            yield _tag(
                "rect",
                _tag("title", told),
                class_=kind,
                x=x + 0.5,
                y=y + 0.5,
                width=cell - 1,
                height=cell - 1,
                fill_opacity=round(0.12 + 0.83 * share, 2),
            )
            strength = "on-dark" if share > 0.5 else "strong"
            yield _tag("text", number(count), class_=strength, x=x + cell / 2, y=y + cell / 2 + 4, text_anchor="middle")


def _chart(title: str, parts: Iterable[Markup], height: float, key: Markup, note: str, width: float = WIDTH) -> Markup:
    scrolls = width > WIDTH + 1
    drawing = _tag(
        "svg",
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=title,
        **({"style": f"width:{width:g}px"} if scrolls else {}),
    )
    return block("chart", title, key, drawing, note, scrolls)


def _no_data(title: str) -> Markup:
    return block("chart", title, Markup(), Markup('<p class="muted">No values.</p>'), "", False)


def _text(
    text: str, x: float, y: float, anchor: str, *, turned: int = 0, full: str = "", strong: bool = False
) -> Markup:
    """A line of text; `full` shows as its tooltip where the text is a shortened form of it."""
    attributes: dict[str, object] = {"x": round(x, 1), "y": round(y, 1), "text_anchor": anchor}
    if turned:
        attributes["transform"] = f"rotate({turned} {x:.1f} {y:.1f})"
    if strong:
        attributes["class_"] = "strong"
    tooltip = [_tag("title", full)] if full and full != text else []
    return _tag("text", *tooltip, text, **attributes)


def _shortened(text: str, width: float) -> str:
    most = max(int(width / CHARACTER), 3)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _tick(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-4):
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.6g}"


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element; text and attribute values are escaped, `class_` is class and `text_anchor` is text-anchor."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}>{''.join(escape(child) for child in children)}</{name}>")
