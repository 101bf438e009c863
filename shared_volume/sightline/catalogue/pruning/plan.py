"""What may go, and why: found without changing anything, then removed one by one."""

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sightline.services.database.connection import Database
from sightline.services.database.uses import SignOfLife, living, signs_of_life
from sightline.settings import Settings

HOUR_SECONDS: Final = 3600.0
DAY_SECONDS: Final = 86_400.0
SHA256_NAME: Final = re.compile(r"[0-9a-f]{64}")  # of models' folders; what is called otherwise is not ours
NEWEST_SECONDS: Final = DAY_SECONDS  # what nothing refers to may be about to be referred to, while it is younger


@dataclass(frozen=True, slots=True)
class Prunable:
    """One thing that may go. `remove` looks again whether it may, and says whether it did; killed, it can be repeated."""

    what: str  # of which kind, in plural, like `work folders`
    name: str
    size: int  # bytes
    reason: str
    remove: Callable[[], bool] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that may go, and sentences on what was not looked at."""

    items: tuple[Prunable, ...]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many bytes it would free."""
        return sum(item.size for item in self.items)


@dataclass(frozen=True, slots=True)
class Look:
    """What everything is judged by; see `find_prunable`."""

    settings: Settings
    database: Database
    keep: int
    older_than: float | None  # days
    named: Collection[str] = ()
    now: float = field(default_factory=time.time)
    notes: list[str] = field(default_factory=list)

    @property
    def days(self) -> float:
        """For how many days nobody needs what may be taken up again."""
        return self.settings.keep_days if self.older_than is None else self.older_than

    @contextmanager
    def noting(self, path: Path) -> Iterator[None]:
        """What this machine's file system refuses to tell of one thing is noted, and all else is looked at."""
        try:
            yield
        except OSError as error:
            self.notes.append(
                f"{path} stays: it cannot be looked at ({error.strerror or error}). Check its owner and mode"
            )

    def signs(self) -> list[SignOfLife]:
        """Every step's last sign of life, just now."""
        return signs_of_life(self.database)

    def busy_categories(self) -> set[str]:
        """The categories whose data a step may be reading just now."""
        return {sign.category for sign in living(self.signs())}

    def busy_with(self, *steps: str) -> bool:
        """Whether one of these steps may be at work just now."""
        return any(sign.step in steps for sign in living(self.signs()))


def last_signs(signs: Sequence[SignOfLife]) -> dict[str, datetime]:
    """When each run was last heard of."""
    last: dict[str, datetime] = {}
    for sign in signs:
        last[sign.run] = max(sign.at, last.get(sign.run, sign.at))
    return last


def moment(seconds: float) -> datetime:
    """A time in seconds since 1970, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files below a folder."""
    if not path.is_dir():
        return path.lstat().st_size if os.path.lexists(path) else 0
    return sum(size_of(Path(parent, name)) for parent, _, names in os.walk(path) for name in names)


def shown_days(days: float) -> str:
    """So many days, for people."""
    return f"{days:g} day{'' if days == 1 else 's'}"
