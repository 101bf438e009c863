"""SQL over a connection that breaks after the server has committed: the call is repeated, and counts once."""

from collections.abc import Iterator
from typing import Any

import pytest

from sightline.services.database.connection import Database, connect
from sightline.services.database.runs import beat, end_step, find_step, list_steps, start_step, stop_steps, write_event
from tests.sql_wire import SqlWire, sql_wire

RUN: dict[str, Any] = {"category": "desk", "code": "train-12ab", "code_digest": "e" * 64, "parameters": {}}


@pytest.fixture
def wire(mariadb_url: str) -> Iterator[SqlWire]:
    with sql_wire(mariadb_url) as wire:
        yield wire


@pytest.fixture
def database(wire: SqlWire) -> Iterator[Database]:
    database = connect(wire.url)
    database.migrate()
    yield database
    database.close()


def lose_answers(wire: SqlWire, times: int) -> None:
    wire.lose = wire.lost + times


@pytest.mark.parametrize("times", [1, 2])
def test_a_start_whose_answer_is_lost_counts_as_one_attempt(wire: SqlWire, database: Database, times: int) -> None:
    lose_answers(wire, times)
    assert start_step(database, "run-1", "train", **RUN) is None
    assert wire.lost == times
    (first,) = list_steps(database, "run-1")
    assert (first.attempt, first.state) == (0, "running")
    end_step(database, "run-1", "train", "failed", "no luck")
    lose_answers(wire, times)
    before = start_step(database, "run-1", "train", **RUN)
    assert before is not None and (before.attempt, before.state, before.reason) == (0, "failed", "no luck")
    (second,) = list_steps(database, "run-1")
    assert (second.attempt, second.state, second.reason) == (1, "running", "")
    assert second.started_at > first.started_at


def test_a_process_that_goes_on_is_told_of_the_one_before_though_the_answer_is_lost(
    wire: SqlWire, database: Database
) -> None:
    start_step(database, "run-1", "train", **RUN)
    write_event(database, "run-1", "train", "out of memory", "was killed")
    beat(database, "run-1", "train")
    earlier = find_step(database, "run-1", "train")
    lose_answers(wire, 1)
    before = start_step(database, "run-1", "train", **RUN, goes_on=True)
    assert wire.lost == 1
    assert earlier is not None and before is not None
    assert (before.heartbeat_at, before.attempt, len(before.events)) == (earlier.heartbeat_at, 0, 1)
    found = find_step(database, "run-1", "train")
    assert found is not None and (found.attempt, found.started_at) == (0, earlier.started_at)


def test_who_stops_a_run_is_told_which_steps_though_the_answer_is_lost(wire: SqlWire, database: Database) -> None:
    for step in ("record", "train", "evaluate"):
        start_step(database, "run-1", step, **RUN)
    end_step(database, "run-1", "record", "done")
    lose_answers(wire, 1)
    assert stop_steps(database, "run-1") == ["train", "evaluate"]
    assert wire.lost == 1
    assert [step.state for step in list_steps(database, "run-1")] == ["done", "stopped", "stopped"]
    assert stop_steps(database, "run-1") == []
