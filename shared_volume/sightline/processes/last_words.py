"""How a process ends by an error that its user can correct: with the sentence in a frame, and without a traceback."""

import os
import sys
from types import TracebackType

from sightline.errors import SightlineError

# Set to 1 for the traceback all the same; read here, because it must work where other settings are wrong.
DEBUG = "SIGHTLINE_DEBUG"
# The laptop finds the sentence in a log by both.
RULE = "-" * 80
ERROR = "error: "


def end_framed() -> None:
    """From now on an error with a sentence that nobody catches is printed as the last thing, between two rules."""
    sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    framed = isinstance(error, SightlineError)
    if not framed or os.environ.get(DEBUG, "").lower() not in ("", "0", "false", "no", "off"):
        sys.__excepthook__(kind, error, trace)
    if framed:
        print(f"{RULE}\n{ERROR}{' '.join(str(error).split())}\n{RULE}", file=sys.stderr, flush=True)
