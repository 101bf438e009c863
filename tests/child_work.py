"""Work for a child process."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.processes.child import tell_began
from sightline.processes.memory import OutOfMemoryError
from sightline.services.runs.supervise import Stopped


def answer(*given: Any) -> dict[str, Any]:
    """What was asked, and what the child's process is like."""
    return {
        "given": given,
        "parent": os.getppid(),
        "watched": os.environ["SIGHTLINE_PARENT"],
        "threads": os.environ["OMP_NUM_THREADS"],
        "first_to_go": int(Path("/proc/self/oom_score_adj").read_text()),
        "path": sys.path,
    }


def fail() -> None:
    raise SightlineError("The file a.json is wrong.\n  Line 3.\nCorrect it.")


def break_down() -> None:
    raise ValueError(
        "Caught ValueError in DataLoader worker process 0.\nTraceback (most recent call last):\n  x\nValueError: y"
    )


def run_out() -> None:
    raise OutOfMemoryError("ran out of GPU memory", gpu=True)


def die(number: int, begin: bool = False, stopped: Stopped | None = None) -> None:
    """Of the given signal; at first tell that it began when asked."""
    if begin:
        tell_began()
    os.kill(os.getpid(), number)


def leave() -> None:
    os._exit(7)


def shrink(path: Path, stopped: Stopped | None = None) -> Stopped | None:
    """Killed until it has been told so three times; leaves what it was told in a file."""
    with path.open("a") as file:
        file.write("once\n")
    tell_began()
    if len(path.read_text().split()) <= 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return stopped


def sleep(path: str) -> None:
    """Tell who one is, and never end."""
    Path(path).write_text(str(os.getpid()))
    signal.pause()
