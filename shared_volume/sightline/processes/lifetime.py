"""End a process with the one that started it.

kfp's local runner starts a step below a shell; killing the runner would leave the step running, unseen, and the next run
would wait for it. A data loading process whose training was killed can hang for good on its full queue.
"""

import contextlib
import ctypes
import os
import signal
import threading
import time
from functools import cache

VARIABLE = "SIGHTLINE_PARENT"
SECONDS_BETWEEN = 0.5
ENDING_SECONDS = 5.0
"""How long a process whose parent is gone may take to record that it ends."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@cache
def die_with_parent() -> None:
    """Watch the process that SIGHTLINE_PARENT names, where it is set, and end this one as soon as that is gone: asked first, then killed."""
    parent = os.environ.get(VARIABLE)
    if parent:
        threading.Thread(target=_watch, args=(int(parent),), name="parent-watch", daemon=True).start()


def die_with_direct_parent(*_ignored: object) -> None:
    """Have the kernel kill this process when its direct parent ends (Linux only; elsewhere nothing happens).

    A `worker_init_fn` of torch's DataLoader, which passes the worker's number.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(parent: int) -> None:
    while lives(parent):
        time.sleep(SECONDS_BETWEEN)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ENDING_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def lives(process: int) -> bool:
    """Whether there is a process of that number on this machine, whoever owns it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and belongs to somebody else
        pass
    return True
