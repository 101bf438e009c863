"""How long the outside world may be silent before a step gives up on it."""

import contextlib
import os
from typing import Final

from sightline.errors import SightlineError

LONGEST: Final = 86_400  # seconds; the systems' own clocks overflow far above


def deadline_seconds() -> float:
    """Seconds without an answer from a bucket or a database after which it counts as out of reach.

    Read from the environment variable SIGHTLINE_TIMEOUT, which must be a number above zero, at every call.
    """
    text = os.environ.get("SIGHTLINE_TIMEOUT") or "60"
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= LONGEST:
            return float(text)
    raise SightlineError(
        f"SIGHTLINE_TIMEOUT is {text!r}: set it to a number of seconds above zero, of a day at most ({LONGEST}), such as 60."
    )
