"""What finding, reading and matching trained weights share: the error, and words for what a stranger's file says."""

from sightline.errors import SightlineError

SHOWN = 120  # characters of a stranger's text in a message


class WeightsError(SightlineError):
    """Weights to begin from that are not there, are not what they should be, cannot be read, or do not fit the model."""


def shown(text: object) -> str:
    """A stranger's text for a message or a log: one line of characters that a terminal can show, cut where it is long."""
    line = "".join(letter if letter.isprintable() else "?" for letter in str(text)[: SHOWN + 1])
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
