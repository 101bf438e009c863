"""How long requests to a bucket are repeated."""

import logging
import threading
import time
from http import HTTPStatus
from typing import Any

import requests
from google.cloud.storage.retry import DEFAULT_RETRY

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 8.0  # between two attempts
SECONDS_BETWEEN_LINES = 1.0  # in the log
ASK_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Patience:
    """Says whether a failed request is worth repeating: while the service has not been failing for a whole deadline.

    Counted from the first failure since something was last achieved, over all threads, so that a long transfer survives
    many short faults and a thousand files do not wait for a dead service one after the other.

    Args:
        seconds: the deadline.
        silence: seconds without a byte after which a request fails.
        connecting: seconds without a connection after which it fails.
        pause: seconds at most between two attempts.
    """

    def __init__(self, seconds: float, silence: float, connecting: float, pause: float) -> None:
        self._seconds, self._silence, self._connecting, self._pause = seconds, silence, connecting, pause
        self._failing_since: float | None = None
        self._failed_last = 0.0
        self._told = float("-inf")
        self._lock = threading.Lock()

    def restart(self) -> None:
        """Something was achieved, or begins: a file arrived whole, a page of a listing."""
        with self._lock:
            self._failing_since = None

    def heard(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """Take note of an answer (a hook of requests), and wait as long as it asks for."""
        if response.status_code == HTTPStatus.PERMANENT_REDIRECT:  # a piece of a large upload arrived
            self.restart()
        wait = response.headers.get("Retry-After", "")
        if response.status_code in ASK_LATER and wait.isdigit():
            time.sleep(min(int(wait), max(0.0, self._seconds - self._failing(0.0))))

    def __call__(self, error: Exception) -> bool:
        if not DEFAULT_RETRY._predicate(error):  # Google's own list of what passes
            return False
        waited = 0.0
        if isinstance(error, requests.Timeout):
            waited = self._connecting if isinstance(error, requests.ConnectTimeout) else self._silence
        failing = self._failing(waited)
        self._tell(error, failing)
        return failing < self._seconds

    def _tell(self, error: Exception, failing: float) -> None:
        now = time.monotonic()
        with self._lock:
            quiet, self._told = now - self._told < SECONDS_BETWEEN_LINES, now
        level = logging.DEBUG if quiet else logging.WARNING
        log.log(level, "storage: %s; failing for %.0f s of %g s", cause_of(error), failing, self._seconds)

    def _failing(self, waited: float) -> float:
        """Seconds for which the service has been failing; the newest failure became known after `waited` seconds."""
        now = time.monotonic()
        with self._lock:
            # A download that lasted longer than a silence may have brought bytes all the time.
            if self._failing_since is None or now - self._failed_last > self._silence + self._pause + 1:
                self._failing_since = now - waited
            self._failed_last = now
            return now - self._failing_since


def cause_of(error: BaseException) -> str:
    """The innermost reason, in one line."""
    text = str(getattr(error, "message", "") or error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
