"""Which frozen code is removed, and when: by number, by age, by the runs that may still use it."""

import json
import os
import time
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from sightline.services.runs.releases import remove_old_releases, take_release

KEEP, DAYS = 2, 30.0


def make_release(volume: Path, name: str, age: float) -> Path:
    """A release that was last taken so many days ago."""
    release = volume / "releases" / name
    (release / "sightline").mkdir(parents=True)
    (release / "sightline" / "__init__.py").touch()
    set_age(release, age)
    return release


def set_age(path: Path, age: float) -> None:
    os.utime(path, (time.time() - age * 86_400,) * 2)


def make_facts(volume: Path, run: str, age: float, *releases: str) -> Path:
    facts = volume / "runs" / f"{run}.json"
    facts.parent.mkdir(exist_ok=True)
    facts.write_text(json.dumps({"code_digest": "0" * 16, "parameters": {}, "releases": releases}))
    set_age(facts, age)
    return facts


def name(step: str, number: int) -> str:
    return f"{step}-{number:016x}"


def nobody(run: str, since: datetime) -> bool:
    return False


def names(volume: Path) -> set[str]:
    return {path.name for path in (volume / "releases").iterdir()} - {".lock"}


OLD = [name("train", number) for number in range(4)]
"""Four releases of one step, from the last taken to the one not taken for longest."""


@pytest.mark.parametrize(
    ("ages", "facts", "living", "removed"),
    [
        pytest.param((1, 2, 3, 4), {}, (), [], id="young ones stay, however many"),
        pytest.param((40, 50), {}, (), [], id="a few stay, however old"),
        pytest.param((1, 2, 31, 40), {}, (), [2, 3], id="beyond the number and older than the age"),
        pytest.param((1, 2, 29, 31), {}, (), [3], id="the age counts for each"),
        pytest.param((1, 2, 31, 40), {"young": (1, 3)}, (), [2], id="a run that started within the age names it"),
        pytest.param((1, 2, 31, 40), {"old": (35, 3)}, (), [2, 3], id="a run that is over names it"),
        pytest.param((1, 2, 31, 40), {"old": (35, 3)}, ("old",), [2], id="a run that started earlier and still lives"),
        pytest.param((1, 2, 31, 40), {"old": (35, 3)}, ("other",), [2, 3], id="another run that lives"),
    ],
)
def test_which_releases_are_removed(tmp_path, ages, facts, living, removed):
    for release, age in zip(OLD, ages, strict=False):
        make_release(tmp_path, release, age)
    for run, (age, number) in facts.items():
        make_facts(tmp_path, run, age, OLD[number])
    before = names(tmp_path)

    found = remove_old_releases(tmp_path, KEEP, DAYS, lambda run, since: run in living)

    assert sorted(found) == [OLD[number] for number in removed]
    assert names(tmp_path) == before - set(found)


def test_every_step_keeps_its_own_number(tmp_path):
    for step in ("record", "train"):
        for number in range(4):
            make_release(tmp_path, name(step, number), 40 + number)
    remove_old_releases(tmp_path, KEEP, DAYS, nobody)
    assert names(tmp_path) == {name(step, number) for step in ("record", "train") for number in (0, 1)}


def test_the_facts_of_a_run_that_is_over_go_and_those_of_others_stay(tmp_path):
    (tmp_path / "releases").mkdir()
    over, living, young = (make_facts(tmp_path, run, age) for run, age in (("over", 31), ("living", 31), ("young", 1)))
    asked: list[tuple[str, datetime]] = []

    def lives(run: str, since: datetime) -> bool:
        asked.append((run, since))
        return run == "living"

    remove_old_releases(tmp_path, KEEP, DAYS, lives)
    assert (over.exists(), living.exists(), young.exists()) == (False, True, True)
    assert sorted(run for run, _ in asked) == ["living", "over"]
    assert {(datetime.now(UTC) - since).days for _, since in asked} == {30}


def test_what_is_no_release_stays(tmp_path):
    for other in ("notes", ".freezing-0123", "train-by-hand", "train-0123"):
        make_release(tmp_path, other, 400)
    assert remove_old_releases(tmp_path, 0, DAYS, nobody) == []
    assert len(names(tmp_path)) == 4


def test_facts_that_are_being_written_do_not_stop_it(tmp_path):
    make_release(tmp_path, OLD[0], 40)
    make_facts(tmp_path, "starting", 0).write_text("")
    assert remove_old_releases(tmp_path, 0, DAYS, nobody) == [OLD[0]]


def test_a_release_that_is_taken_again_is_young_again(tmp_path):
    release = make_release(tmp_path, OLD[0], 40)
    assert take_release(release)
    assert remove_old_releases(tmp_path, 0, DAYS, nobody) == []
    assert not take_release(tmp_path / "releases" / OLD[1])


def remove_all_the_time(volume: Path, sweeps: Any) -> None:
    while True:
        remove_old_releases(volume, 0, DAYS, nobody)
        with sweeps.get_lock():
            sweeps.value += 1


@pytest.mark.slow
def test_a_release_that_a_run_has_taken_is_there_though_others_remove_old_ones_all_the_time(tmp_path):
    (tmp_path / "releases").mkdir()
    (tmp_path / "runs").mkdir()
    context = get_context("fork")
    sweeps = context.Value("l", 0)
    removers = [context.Process(target=remove_all_the_time, args=(tmp_path, sweeps)) for _ in range(2)]

    def let_them_sweep() -> None:
        """Until one of them has looked at everything that is here now; each may have been in the middle of a look."""
        enough, until = sweeps.value + len(removers) + 1, time.monotonic() + 60
        while sweeps.value < enough:
            assert time.monotonic() < until, "nobody removes anything"
            time.sleep(0.001)

    for remover in removers:
        remover.start()
    taken = gone = 0
    until = time.monotonic() + 60
    try:
        while (taken < 30 or gone < 30) and time.monotonic() < until:
            moment = (taken + gone) % 5
            release = make_release(tmp_path, name("train", taken + gone), 40)
            time.sleep(0.003 * moment)  # the moments are spread over what a sweep takes
            if moment == 4:
                let_them_sweep()
            if take_release(release):
                taken += 1
                let_them_sweep()
                assert (release / "sightline" / "__init__.py").is_file()
            else:
                gone += 1
    finally:
        for remover in removers:
            remover.kill()
            remover.join()
    assert taken and gone, "the race was never on"
