"""A report's page: blocks of HTML put together into one file that needs no network and no script."""

import colorsys
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
NO_VALUE = "–"
LONGEST_UNBROKEN = 28  # characters of a table's cell
# Told apart by most colour-blind readers, and readable on white as well as on near-black.
PALETTE = "#3b82f6 #f97316 #10b981 #e5484d #a855f7 #d9a406 #06a8c4 #ec4899 #7cb518 #a8714a".split()  # noqa: SIM905
_GOLDEN_ANGLE = 0.618033988749895  # of a turn: hues after the palette's never come close to their neighbours'


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline fact: a big value, what it is, and an optional line below it."""

    label: str
    value: object
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One card of a gallery, with one or more pictures side by side."""

    title: str  # usually the file's name
    note: str  # one line below it
    images: tuple[tuple[str, str], ...]  # (data URI, what it shows)


def number(value: object) -> str:
    """A value as a reader wants to see it: 12 345, 0.832, 1.2e-05; text as it is, a dash for nothing."""
    if value is None or value != value:
        return NO_VALUE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u2009")
    if value != 0 and (abs(value) < 0.001 or abs(value) >= 1e6):
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def score(values: Mapping[str, Any], name: str) -> float:
    """One of these values, or NaN, which shows as a dash: there is none, or -1 stands for a score that does not exist."""
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and value != -1 and math.isfinite(value) else math.nan


def duration(seconds: float) -> str:
    """Seconds as `45.2 s`, `3 min 04 s` or `2 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(count: int, noun: str) -> str:
    """`1 image`, `2 images`, `2 boxes`."""
    return f"{number(count)} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """`images`, `boxes`."""
    return f"{noun}es" if noun.endswith(("x", "s", "ch")) else f"{noun}s"


def title_from(facts: Mapping[str, str], names: Sequence[str], otherwise: str) -> str:
    """Those of the named facts that there are, as a page's title."""
    known = {name.replace("_", " "): value for name, value in facts.items()}
    return " · ".join(known[name] for name in names if known.get(name)) or otherwise


def colour(index: int) -> str:
    """The colour of the class (or series) with this index, as `#rrggbb`. Never changes with the number of classes."""
    if index < len(PALETTE):
        return PALETTE[index]
    extra = index - len(PALETTE)
    parts = colorsys.hls_to_rgb((extra * _GOLDEN_ANGLE) % 1, (0.45, 0.6)[extra % 2], 0.7)
    return "#" + "".join(f"{round(part * 255):02x}" for part in parts)


def tiles(*headline: Tile) -> Markup:
    """A row of headline facts."""
    return block("tiles", headline)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], highlighted: Collection[int] = ()) -> Markup:
    """A table that scrolls in its own box where it is too wide; the rows of these indices are stressed.

    Numbers are formatted and set flush right, None shows as a dash.
    """
    return block("table", columns, [list(row) for row in rows], highlighted)


def grid(*blocks: Markup) -> Markup:
    """Charts (or any blocks) side by side where there is room, below each other where there is not."""
    return block("grid", blocks)


def gallery(pictures: Sequence[Picture]) -> Markup:
    """Cards with one or more pictures each."""
    return block("gallery", pictures)


def legend(names: Sequence[str], indices: Sequence[int] | None = None) -> Markup:
    """Coloured dots with names; `indices` are the colours' where they are not 0, 1, 2, …"""
    shown = range(len(names)) if indices is None else indices
    return block("legend", [(name, colour(index)) for name, index in zip(names, shown, strict=True)])


def details(summary: str, *blocks: Markup, unfolded: bool = False) -> Markup:
    """Blocks that the reader unfolds."""
    return block("details", summary, blocks, unfolded)


def notice(text: str, kind: str = "warning") -> Markup:
    """A box the reader must not miss (`kind` is warning) or one that explains (`kind` is info)."""
    return block("notice", text, kind)


def section(title: str, *blocks: Markup, intro: str = "") -> Markup:
    """A part of the page with its heading."""
    return block("section", title, blocks, intro)


def render_page(kind: str, title: str, facts: Mapping[str, str], blocks: Sequence[Markup]) -> str:
    """The whole page: what report it is (`Record report`), of what (`desk v0.1.0`), what made it (run, version, …), and its body."""
    shown = {name.replace("_", " "): value for name, value in facts.items()}
    return _environment().get_template("page.html").render(kind=kind, title=title, facts=shown, blocks=blocks)


def block(macro: str, *arguments: Any) -> Markup:
    """One macro of blocks.html with its arguments."""
    return Markup(getattr(_environment().get_template("blocks.html").module, macro)(*arguments))


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "cell_kind": _cell_kind}
    return environment


def _cell_kind(value: object) -> str:
    """How a table sets a value: numbers flush right, short text on one line, long text wrapped in a column of some width."""
    if value is None or isinstance(value, int | float) and not isinstance(value, bool):
        return "right"
    return "short" if len(str(value)) <= LONGEST_UNBROKEN else "long"
