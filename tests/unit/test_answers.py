"""What a server says of runs is read whatever it leaves out: recorded answers whole, and with fields missing, null or strange."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptop.kubeflow.answers import Run, read
from laptop.kubeflow.tasks import nothing_new, state_of, steps_of

RECORDED = Path(__file__).parents[1] / "data" / "kfp_server" / "runs_of_sightline.json"
RUNS: dict[str, dict[str, Any]] = {each["doing"]: each["run"] for each in json.loads(RECORDED.read_text())}
STRANGE = [None, "", "SOMETHING_NEW", 7, -1.5, True, [], {}, [None], {"a": None}, "2026-13-45", "0001-01-01T00:00:00Z"]

WHOLE = "snapshot done, record done, train done, evaluate done, test done"
CACHED = "snapshot done, record reused, train reused, evaluate reused, test reused"
EXPECTED = {
    "the product's whole pipeline": ("done", WHOLE),
    "the same again": ("done", CACHED),
    "one line of evaluate edited": (
        "done", "snapshot done, record reused, train reused, evaluate done, test done",
    ),
    "the train pod was deleted in mid-epoch": ("done", WHOLE),
    "unknown category": (
        "failed", "snapshot failed, record not begun, train not begun, evaluate not begun, test not begun",
    ),
    "train_memory=lots": (
        "failed", "snapshot done, record reused, train failed, evaluate not begun, test not begun",
    ),
    "train_memory=1100Mi": (
        "failed", "snapshot done, record reused, train failed, evaluate not begun, test not begun",
    ),
    "terminated in mid-training": (
        "stopped", "snapshot done, record done, train stopped, evaluate not begun, test not begun",
    ),
    "images that cannot be pulled": (
        "stopped", "snapshot stopped, record not begun, train not begun, evaluate not begun, test not begun",
    ),
    "a firing of a recurring run": ("done", CACHED),
    "evaluate's pod was deleted gracefully": (
        "failed", "snapshot done, record reused, train reused, evaluate failed, test not begun",
    ),
    "failed after a graceful deletion": (
        "done", "snapshot done, record reused, train done, evaluate done, test done",
    ),
    "the API server restarted": (
        "failed", "snapshot done, record reused, train reused, evaluate failed, test not begun",
    ),
    "its schedule was deleted": ("running", ""),
    "train_memory=64Gi": (
        "stopped", "snapshot done, record reused, train stopped, evaluate not begun, test not begun",
    ),
}  # fmt: skip


def recorded(begins: str) -> dict[str, Any]:
    (found,) = (run for doing, run in RUNS.items() if doing.startswith(begins))
    return found


@pytest.mark.parametrize("begins", EXPECTED)
def test_a_recorded_run_is_told_in_our_words(begins: str) -> None:
    run = read(Run, recorded(begins))
    assert (state_of(run), ", ".join(f"{step.name} {step.state}" for step in steps_of(run))) == EXPECTED[begins]


def test_a_drivers_failure_is_known_from_the_steps_own() -> None:
    failed = {
        begins: next(step for step in steps_of(read(Run, recorded(begins))) if step.state == "failed")
        for begins in ("train_memory=lots", "train_memory=1100Mi", "the API server restarted")
    }
    assert [step.by_driver for step in failed.values()] == [True, False, True]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in an answer."""
    found = [path] if path else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found += places(child, (*path, key))
    return found


PLACES = {doing: places(run) for doing, run in RUNS.items()}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_a_server_leaves_out_or_says_otherwise_is_read(data: st.DataObject) -> None:
    doing = data.draw(st.sampled_from(list(RUNS)))
    run = copy.deepcopy(RUNS[doing])
    for _ in range(data.draw(st.integers(1, 6))):
        path = data.draw(st.sampled_from(PLACES[doing]))
        spoil(run, path, data)
    found = read(Run, run)
    assert isinstance(state_of(found), str)
    for step in steps_of(found):
        assert step.name and step.state
        assert step.seconds() >= 0
    nothing_new(steps_of(found))
    assert found.began.tzinfo is not None


def spoil(run: Any, path: tuple[Any, ...], data: st.DataObject) -> None:
    """Take a field away, or put something else there."""
    for key in path[:-1]:
        try:
            run = run[key]
        except (KeyError, IndexError, TypeError):
            return  # an earlier one is gone
    key = path[-1]
    if isinstance(run, dict) and data.draw(st.booleans()):
        run.pop(key, None)
    elif isinstance(run, dict) or (isinstance(run, list) and isinstance(key, int) and key < len(run)):
        run[key] = copy.deepcopy(data.draw(st.sampled_from(STRANGE)))  # a later one may spoil what is in it
