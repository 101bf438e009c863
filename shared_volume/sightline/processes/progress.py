"""How far work has come, for whoever watches: a step's in a small JSON file, a command's on the terminal."""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

VARIABLE = "SIGHTLINE_PROGRESS"
SECONDS_BETWEEN = 0.2
SECONDS_BETWEEN_LINES: Final = 10.0  # of a log
SHOWN_AFTER: Final = 2  # seconds

log = logging.getLogger(__name__)

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


def told(items: Iterable[Item], doing: str, total: int, unit: str) -> Iterator[Item]:
    """Like `track`, in a step: whoever watches it sees how far it is, and its log has a line every ten seconds."""
    progress, began = Progress(total), time.monotonic()
    for done, item in enumerate(track(items, doing, total, unit), 1):
        yield item
        progress.report(done)
        if time.monotonic() - began >= SECONDS_BETWEEN_LINES and done < total:
            began = time.monotonic()
            log.info("%s: %d of %d %ss", doing, done, total, unit)


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
