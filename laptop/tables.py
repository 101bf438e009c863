"""Tables on a terminal, and in full where the output is none."""

import io
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table

UNFOLDED = 100_000  # columns, where the output is no terminal: a program reads it, or a person copies a line
LONGEST_RULE = 100


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their titles; a cell that is too long goes on below."""
    print(as_table(titles, rows))


def as_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """What `print_table` prints, without a last line end."""
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    output = Console(file=sys.stdout)
    width = output.width if output.is_terminal else UNFOLDED
    text = io.StringIO()
    Console(file=text, width=width, highlight=False, markup=False, emoji=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def print_framed(text: str, out: TextIO) -> None:
    """A sentence between two rules, so that the eye finds it; it stays one line, which a program finds."""
    console = Console(file=out, highlight=False, markup=False, emoji=False, soft_wrap=True)
    rule = ("\N{BOX DRAWINGS LIGHT HORIZONTAL}" if console.is_terminal else "-") * min(console.width, LONGEST_RULE)
    console.print(f"{rule}\n{text}\n{rule}")
