"""How far work has come, for whoever watches: a step's in a small JSON file, a command's on the terminal."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

VARIABLE = "SIGHTLINE_PROGRESS"
SECONDS_BETWEEN = 0.2
SHOWN_AFTER: Final = 2  # seconds

Item = TypeVar("Item")


class Progress:
    """Reports `done` of `total` with a few values; costs nothing when nobody watches.

    The file that the environment variable SIGHTLINE_PROGRESS names holds
    `{"done": 12, "total": 540, "loss": 0.7, …}`; it is written five times a second at most.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._path = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
        self._written = 0.0

    def report(self, done: int, **values: float | str) -> None:
        """Tell that `done` of the total is done."""
        now = time.monotonic()
        if self._path and (now - self._written >= SECONDS_BETWEEN or done >= self.total):
            self._written = now
            temporary = self._path.with_suffix(".new")
            temporary.write_text(json.dumps({"done": done, "total": self.total, **values}))
            temporary.replace(self._path)


def track(items: Iterable[Item], doing: str, total: int | None = None, unit: str = "image") -> Iterator[Item]:
    """The items one after the other, with a bar on the terminal while that takes longer than two seconds; elsewhere none.

    `total` is how many there are, where `items` does not say; without either the bar counts.
    """
    try:
        from tqdm import tqdm
    except ImportError:  # the environment that only talks to a cluster has none
        yield from items
        return
    bar = {"leave": False, "delay": SHOWN_AFTER, "disable": None, "unit": f" {unit}s"}
    yield from tqdm(items, doing, total, **bar)
