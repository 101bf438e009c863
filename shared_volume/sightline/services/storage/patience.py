"""How long requests to a bucket are repeated: Google's own retry, given up a deadline after something last arrived."""

import logging
import time
from collections.abc import Callable
from typing import Any

import requests
from google.api_core.retry import Retry
from google.cloud.storage.retry import DEFAULT_RETRY

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0  # without a byte on an open connection
LONGEST_PAUSE_SECONDS = 8.0  # between two attempts
SECONDS_BETWEEN_LINES = 1.0  # in the log, of all threads together


class Patience:
    """A retry for Google's client, whose own counts its timeout from where a request began.

    A download that takes longer than that would not be repeated at all. Here the time counts from a request's first failure,
    and again after a failure that came later than silence explains, since bytes came meanwhile.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # Half the deadline, so that a request that is never answered is repeated before it passes.
        self.silence = min(SILENCE_SECONDS, seconds / 2)
        self.connecting = min(CONNECT_SECONDS, self.silence)
        self.pause = min(LONGEST_PAUSE_SECONDS, seconds / 4)
        self._told = float("-inf")

    def __call__(self, request: Callable[[], Any]) -> Callable[[], Any]:
        """The request, repeated while it is worth it."""
        failing_since, failed_last = 0.0, float("-inf")

        def is_worth_repeating(error: Exception) -> bool:
            nonlocal failing_since, failed_last
            if not DEFAULT_RETRY._predicate(error):  # Google's own list of what passes
                return False
            now = time.monotonic()
            if now - failed_last > self.silence + self.pause + 1:
                failing_since = now - self._waited(error)
            failed_last, failing = now, now - failing_since
            quiet, self._told = now - self._told < SECONDS_BETWEEN_LINES, now
            level = logging.DEBUG if quiet else logging.WARNING
            log.log(level, "storage: %s; failing for %.0f s of %g s", cause_of(error), failing, self.seconds)
            time.sleep(max(0.0, min(_asked_to_wait(error), self.seconds - failing)))
            return failing < self.seconds

        return Retry(is_worth_repeating, initial=0.2, maximum=self.pause, timeout=None)(request)

    def _waited(self, error: Exception) -> float:
        """Seconds without an answer before this failure became known."""
        if isinstance(error, requests.ConnectTimeout):
            return self.connecting
        return self.silence if isinstance(error, requests.Timeout) else 0.0


def _asked_to_wait(error: Exception) -> float:
    """Seconds that an answer asks to wait, which Google's retry does not look at."""
    answer = getattr(error, "response", None)
    asked = "" if answer is None else answer.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0


def cause_of(error: BaseException) -> str:
    """The innermost reason, in one line."""
    text = str(getattr(error, "message", "") or error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
