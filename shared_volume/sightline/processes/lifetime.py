"""How a process ends: with the one that started it, or by a request (SIGTERM), as an error, so that whoever is at work can
say so in SQL before it goes.

kfp's local runner starts a step below a shell; killing the runner would leave the step running, unseen, and the next run
would wait for it. A data loading process whose training was killed can hang for good on its full queue. Kubernetes asks when a
run is terminated and when a pod is deleted, and kills what is left some seconds later.
"""

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

VARIABLE = "SIGHTLINE_PARENT"
SECONDS_BETWEEN = 0.5
ENDING_SECONDS = 5.0  # that a process whose parent is gone may take to record that it ends
PR_SET_PDEATHSIG = 1  # linux/prctl.h
TERMINATED: Final = "terminated"  # the reason that is recorded


@cache
def die_with_parent() -> None:
    """Watch the process that SIGHTLINE_PARENT names, where it is set, and end this one as soon as that is gone: asked first, then killed."""
    if parent := os.environ.get(VARIABLE):
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
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # without permission it lives, and belongs to somebody else
    return True


class Terminated(BaseException):
    """This process was asked to end. No Exception: nothing but an end follows."""


@contextlib.contextmanager
def ends_when_asked() -> Iterator[None]:
    """Raise Terminated in the block when this process is asked to end; after the block it ends as it was asked to.

    Within another such block that one ends the process. Only the main thread can be asked; in another one nothing changes.
    """
    within = signal.getsignal(signal.SIGTERM) in (
        _raise,
        signal.SIG_IGN,
    )  # such a block, or the process is ending already
    if within or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    except Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(_number: int, _frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what is being recorded must not be cut off
    raise Terminated
