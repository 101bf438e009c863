"""The base of every error that a user can cause."""

import difflib
from collections.abc import Iterable


class SightlineError(Exception):
    """What is wrong, where (file, version, setting), and what to do next, in one message."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: ` Did you mean 'x'?`, or the known names, or nothing when there are none."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known)}." if known else ""
