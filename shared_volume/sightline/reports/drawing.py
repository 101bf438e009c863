"""What charts are drawn with: SVG elements, round values and axes.

Every chart is drawn 420 units wide, about what a card is wide in pixels on a laptop and in a frame of 480 px, so that
its text keeps its size in both. Nothing is measured in the browser, so a hidden or narrow frame draws right.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup, escape

from sightline.reports.page import block

WIDTH = 420
HEIGHT = 250
TOP, RIGHT, FLOOR = 10, 14, 210  # how far the area within the axes reaches up, from the right edge, and down
CHARACTER = 6.3  # width of an average character of the charts' text
FEWEST_TICKS = 4  # of a logarithmic axis, if round values allow


@dataclass(frozen=True)
class Axes:
    """Where data values lie in the drawing; `x_scale` makes the lower axis uneven."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_scale: Callable[[float], float] = float

    @cached_property
    def left(self) -> float:
        return 24 + max(len(tick_text(value)) for value in self.y_ticks) * CHARACTER

    def x(self, value: float) -> float:
        low, high, at = map(self.x_scale, (*self.x_range, value))
        return round(self.left + (at - low) / (high - low) * (WIDTH - RIGHT - self.left), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(FLOOR - (value - low) / (high - low) * (FLOOR - TOP), 1)

    def frame(self, x_label: str, y_label: str) -> list[Markup]:
        """Grid, ticks and the axes' titles."""
        parts, right = [], WIDTH - RIGHT
        for value in self.y_ticks:
            at = self.y(value)
            parts += [line("gridline", self.left, at, right, at), text(tick_text(value), self.left - 6, at + 4, "end")]
        parts.append(line("axis", self.left, FLOOR, right, FLOOR))
        for value in self.x_ticks:
            at, shown = self.x(value), tick_text(value)
            inside = min(at, WIDTH - len(shown) * CHARACTER / 2 - 1)
            parts += [line("axis", at, FLOOR, at, FLOOR + 4), text(shown, inside, FLOOR + 17)]
        titles = text(x_label, (self.left + right) / 2, HEIGHT - 6), text(y_label, 12, (TOP + FLOOR) / 2, turned=-90)
        return [*parts, *titles]


def nice_ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round values within the limits, about so many: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / about or 1.0
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    if whole:
        step = max(1, math.ceil(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)] or [low]


def covering_ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Round values of which the first is at or below `low` and the last at or above `high`."""
    ticks = nice_ticks(low, high, 5, whole)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else max(high - low, 1 if whole else 0)
    below = [round(ticks[0] - step, 12)] if ticks[0] > low else []
    above = [round(ticks[-1] + step, 12)] if ticks[-1] < high else []
    return [*below, *ticks, *above]


def logarithmic_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within the limits; with few decades also round values between them."""
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        values = [factor * 10.0**power for power in range(-1, 13) for factor in factors]
        ticks = [value for value in values if low <= value <= high]
        if len(ticks) >= FEWEST_TICKS:
            break
    return ticks or [low]


def widened(low: float, high: float) -> tuple[float, float]:
    """Limits that are apart, so that a single value has a scale."""
    if high > low:
        return low, high
    return (low - 1, low + 1) if low else (0.0, 1.0)


def tick_text(value: float) -> str:
    """A value as an axis shows it."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-4):
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.6g}"


def chart(
    title: str,
    parts: Iterable[Markup],
    legend: Markup | None = None,
    note: str = "",
    height: float = HEIGHT,
    width: float = WIDTH,
) -> Markup:
    """The drawing with its title, legend and note; one that is wider than a card scrolls."""
    scrolls = width > WIDTH + 1
    style = {"style": f"width:{width:g}px"} if scrolls else {}
    drawing = tag("svg", *parts, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=title, **style)
    return block("chart", title, legend or Markup(), drawing, note, scrolls)


def empty_chart(title: str) -> Markup:
    """What stands in place of a chart without values."""
    return block("chart", title, Markup(), Markup('<p class="muted">No values.</p>'), "", False)


def text(
    shown: str,
    x: float,
    y: float,
    anchor: str = "middle",
    *,
    turned: int = 0,
    room: float | None = None,
    kind: str | None = None,
) -> Markup:
    """A line of text, turned by so many degrees; shortened to its room, it has the whole as its tooltip."""
    most = len(shown) if room is None else max(int(room / CHARACTER), 3)
    children = [shown] if len(shown) <= most else [tag("title", shown), f"{shown[: most - 1]}…"]
    transform = f"rotate({turned} {x:.1f} {y:.1f})" if turned else None
    return tag("text", *children, x=x, y=y, text_anchor=anchor, transform=transform, class_=kind)


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A straight line, as the style sheet draws its kind."""
    return tag("line", class_=kind, x1=x1, y1=y1, x2=x2, y2=y2)


def box(tooltip: str, x: float, y: float, width: float, height: float, **attributes: object) -> Markup:
    """A rectangle with a tooltip."""
    return tag("rect", tag("title", tooltip), x=x, y=y, width=width, height=height, **attributes)


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element. Text and attributes are escaped, None is left out; `class_` is class, `text_anchor` text-anchor."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(round(value, 2) if isinstance(value, float) else value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{''.join(escape(child) for child in children)}</{name}>")
