"""A request to end this process (SIGTERM), as an error: whoever is at work can say so in SQL before it goes.

Kubernetes sends it when a run is terminated and when a pod is deleted, and kills what is left some seconds later.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, Final

TERMINATED: Final = "terminated"
"""The reason that is recorded."""


class Terminated(BaseException):
    """This process was asked to end. No Exception: nothing but an end follows."""


@contextlib.contextmanager
def ends_when_asked() -> Iterator[None]:
    """Raise Terminated in the block when this process is asked to end; after the block it ends as it was asked to.

    Within another such block that one ends the process. Only the main thread can be asked; in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) in OURS:
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


OURS: Final = (_raise, signal.SIG_IGN)
"""Handlers that say that such a block is entered, or that the process is ending already."""
