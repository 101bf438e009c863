"""Work for a supervised child process; `tests.child_work:NAME`."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.memory import OutOfMemoryError
from sightline.supervise import tell_began


def answer(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked, and what the child's process is like."""
    return {
        "given": dict(given),
        "parent": os.getppid(),
        "watched": os.environ["SIGHTLINE_PARENT"],
        "threads": os.environ["OMP_NUM_THREADS"],
        "first_to_go": int(Path("/proc/self/oom_score_adj").read_text()),
        "path": sys.path,
    }


def fail(given: Mapping[str, Any]) -> None:
    raise SightlineError("The file a.json is wrong.\n  Line 3.\nCorrect it.")


def break_down(given: Mapping[str, Any]) -> None:
    raise ValueError(
        "Caught ValueError in DataLoader worker process 0.\nTraceback (most recent call last):\n  x\nValueError: y"
    )


def run_out(given: Mapping[str, Any]) -> None:
    raise OutOfMemoryError("ran out of GPU memory", gpu=True)


def die(given: Mapping[str, Any]) -> None:
    """Of the given signal; at first tell that it began when asked."""
    if given.get("begin"):
        tell_began()
    os.kill(os.getpid(), given["signal"])


def leave(given: Mapping[str, Any]) -> None:
    os._exit(7)


def shrink(given: Mapping[str, Any]) -> list[Any]:
    """Killed until it has been told so three times; leaves what it was told in a file."""
    path = Path(given["path"])
    with path.open("a") as file:
        file.write("once\n")
    tell_began()
    if len(path.read_text().split()) <= 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return [given["stopped"]["reason"], given["stopped"]["worker"]]


def sleep(given: Mapping[str, Any]) -> None:
    """Tell who one is, and never end."""
    Path(given["path"]).write_text(str(os.getpid()))
    signal.pause()
