"""What can be wrong with a version, in words that say where and what to do."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NAMES_SHOWN: Final = 10


class Trouble(StrEnum):
    """Kinds of problems, in the order in which they are repaired: bytes first, then the tag, then the rows."""

    OBJECTS_MISSING = "objects-missing"
    OBJECTS_CUT = "objects-cut"
    OBJECTS_DAMAGED = "objects-damaged"
    IMAGES_DIFFER = "images-differ"
    TAG_MISSING = "tag-missing"
    TAG_MOVED = "tag-moved"
    POINTER_MISSING = "pointer-missing"
    ROWS_MISSING = "rows-missing"
    ROWS_DIFFER = "rows-differ"
    PARENT_MISSING = "parent-missing"
    CLAIM_EXPIRED = "claim-expired"
    COPY_DIFFERS = "copy-differs"


OBJECTS: Final = frozenset({Trouble.OBJECTS_MISSING, Trouble.OBJECTS_CUT, Trouble.OBJECTS_DAMAGED})

PUBLISHING: Final = frozenset({Trouble.TAG_MISSING, Trouble.TAG_MOVED, Trouble.ROWS_MISSING})
"""Repairing one of these makes a version public again."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a version."""

    trouble: Trouble
    message: str
    remedy: str  # what to do, or what `--repair` does
    repairable: bool  # whether `--repair` mends it
    files: tuple[str, ...] = ()  # paths inside the version that it concerns
    digests: tuple[str, ...] = ()  # of its objects
