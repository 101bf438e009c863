"""The base of every error that a user can cause."""

import difflib
import re
from collections.abc import Iterable, Sequence


class SightlineError(Exception):
    """What is wrong, where (file, version, setting), and what to do next, in one message."""


def clause(said: object) -> str:
    """What somebody else's error says, to be put into a sentence of ours: in one line, of one sentence, without its full stop."""
    text = re.sub(r"\[Errno -?\d+\] ", "", " ".join(str(said).split()))
    return re.sub(r"\. (?=[A-Z])", "; ", text).rstrip(". ")


def counted(number: int, noun: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some_of(names: Sequence[str], most: int) -> str:
    """`a, b, c and 2,000 more`: the first names, at most so many."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: ` Did you mean 'x'?`, or the known names, or nothing when there are none."""
    known = sorted(known)
    return did_you_mean(name, known) or (f" Known: {', '.join(known)}." if known else "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint like ` Did you mean 'AdamW'?`; nothing when no name is near, and then names that are many are not listed."""
    close = difflib.get_close_matches(name, sorted(known), n=5)
    if not close:
        return ""
    # Of names that are equally near the one of the same length: letters that changed places.
    best = max(
        close, key=lambda other: (difflib.SequenceMatcher(None, other, name).ratio(), -abs(len(other) - len(name)))
    )
    return f" Did you mean {best!r}?"


class ConfigError(SightlineError):
    """A model config cannot be used: there is none of that name, or a key, a value or a base in it is wrong."""


class NoConfigError(ConfigError):
    """There is no config of that name."""
