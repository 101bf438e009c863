"""How long a request to a bucket is repeated, by a clock that the test moves."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from google.api_core.exceptions import Forbidden, ServiceUnavailable, TooManyRequests

from sightline.services.storage import patience
from sightline.services.storage.base import in_parallel
from sightline.services.storage.patience import Patience

DEADLINE = 60.0


class Clock:
    """Time as our module sees it, and how long it slept."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    # Google's retry draws its pauses from here.
    monkeypatch.setattr("google.api_core.retry.retry_unary.time", SimpleNamespace(monotonic=clock.monotonic, sleep=int))
    yield clock


def attempts_until_given_up(clock: Clock, lasting: float, error: Exception) -> int:
    """How often a request is made that fails so after so many seconds, each time."""
    made = []

    def request() -> None:
        clock.now += lasting
        made.append(clock.now)
        raise error

    with pytest.raises(type(error)):
        Patience(DEADLINE)(request)()
    return len(made)


def test_a_request_is_given_up_a_deadline_after_its_first_failure(clock: Clock) -> None:
    assert attempts_until_given_up(clock, 10.0, requests.ConnectionError()) == 7


def test_silence_counts_from_its_beginning(clock: Clock) -> None:
    assert attempts_until_given_up(clock, DEADLINE / 2, requests.ReadTimeout()) == 2
    assert attempts_until_given_up(clock, 10.0, requests.ConnectTimeout()) == 6


def test_a_refusal_is_not_repeated(clock: Clock) -> None:
    assert attempts_until_given_up(clock, 1.0, Forbidden("no")) == 1


def test_a_download_of_many_deadlines_survives_a_fault_in_each(clock: Clock) -> None:
    """Google's retry alone would end at the first: it counts from where the download began."""
    faults: list[Exception] = [requests.exceptions.ChunkedEncodingError()] * 5

    def download() -> str:
        clock.now += 3 * DEADLINE
        if faults:
            raise faults.pop()
        return "whole"

    assert Patience(DEADLINE)(download)() == "whole"


def test_requests_have_a_deadline_each(clock: Clock) -> None:
    patient = Patience(DEADLINE)
    for _ in range(3):
        answers: list[Any] = [ServiceUnavailable("busy"), "done"]

        def request(answers: list[Any] = answers) -> Any:
            clock.now += DEADLINE / 3
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        assert patient(request)() == "done"


@pytest.mark.parametrize(("asked", "slept"), [("5", 5.0), ("900", DEADLINE), ("soon", 0.0), (None, 0.0)])
def test_a_service_that_asks_to_wait_is_obeyed_within_the_deadline(
    clock: Clock, asked: str | None, slept: float
) -> None:
    headers = {} if asked is None else {"Retry-After": asked}
    answers: list[Any] = [TooManyRequests("later", response=SimpleNamespace(headers=headers)), "done"]

    def request() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert Patience(DEADLINE)(request)() == "done"
    assert clock.slept == [slept]


def test_after_the_first_failure_no_other_piece_of_work_begins() -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 2:
            raise ValueError(item)

    with pytest.raises(ValueError, match="2"):
        in_parallel(work, range(1000), workers=1)
    assert begun == [0, 1, 2]
