"""Tables on a terminal, and in full where the output is none."""

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table

WIDE = 160  # columns, where the output is no terminal

LONGEST_RULE = 100


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their titles; a cell that is too long goes on below."""
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)


def print_framed(text: str, out: TextIO) -> None:
    """A sentence between two rules, so that the eye finds it; it stays one line, which a program finds."""
    console = Console(file=out, highlight=False, markup=False, emoji=False, soft_wrap=True)
    rule = ("\N{BOX DRAWINGS LIGHT HORIZONTAL}" if console.is_terminal else "-") * min(console.width, LONGEST_RULE)
    console.print(f"{rule}\n{text}\n{rule}")
