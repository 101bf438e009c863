"""Labels that look misspelt."""

import re
from collections.abc import Iterable
from typing import Final

SHORTEST: Final = 4  # letters; one letter of fewer makes another word


def resembling_label(label: str, known: Iterable[str]) -> str | None:
    """The one known label that a misspelt one probably means; None when there is none, or several.

    Labels resemble each other when they differ in case, blanks, hyphens or underscores only, or in one letter: another,
    missing, added, or two swapped. Digits tell labels apart.
    """
    found = [other for other in known if other != label and _resemble(label, other)]
    return found[0] if len(found) == 1 else None


def _resemble(one: str, other: str) -> bool:
    if _plain(one) == _plain(other):
        return True
    if min(len(one), len(other)) < SHORTEST or re.findall(r"\d", one) != re.findall(r"\d", other):
        return False
    return _one_letter_apart(one.casefold(), other.casefold())


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]+", "", label.casefold())


def _one_letter_apart(one: str, other: str) -> bool:
    start = next((position for position, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if start is None:
        return abs(len(one) - len(other)) == 1
    rest, others = one[start:], other[start:]
    return (
        rest[1:] == others[1:]
        or rest[1:] == others
        or rest == others[1:]
        or (rest[:2] == others[:2][::-1] and rest[2:] == others[2:])
    )
