"""How far a step has come, for whoever watches: a small JSON file that is replaced as a whole."""

import json
import os
import time
from pathlib import Path

VARIABLE = "SIGHTLINE_PROGRESS"
SECONDS_BETWEEN = 0.2


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
