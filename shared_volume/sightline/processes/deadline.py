"""How long the outside world may be silent before a step gives up on it."""

import os

from sightline.errors import SightlineError

DEFAULT_SECONDS = 60.0


def deadline_seconds() -> float:
    """Seconds without an answer from a bucket or a database after which it counts as out of reach.

    Read from the environment variable SIGHTLINE_TIMEOUT at every call; 60 when it is not set.

    Raises:
        SightlineError: the variable is not a number above zero.
    """
    text = os.environ.get("SIGHTLINE_TIMEOUT", "")
    if not text:
        return DEFAULT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SightlineError(f"SIGHTLINE_TIMEOUT is {text!r}: set it to a number of seconds above zero, such as 60.")
    return seconds
