"""A child process that works, and the small parent that tells how it ended."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import SightlineError
from sightline.processes import memory
from sightline.processes.child import ChildDiedError, run_in_child
from sightline.processes.memory import OutOfMemoryError
from sightline.services.database.connection import connect
from sightline.services.database.runs import list_steps, start_step
from sightline.services.runs import supervise
from sightline.services.runs.supervise import Step, run_step
from tests import child_work
from tests.workspace import REPOSITORY, find_run

STEP = Step("train", "train-0", "desk")


@pytest.fixture(autouse=True)
def child_finds_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been written to SQL."""
    found: list[Any] = []
    monkeypatch.setattr(supervise, "_write_end", lambda *given: found.append(given))
    return found


def test_a_child_answers_and_belongs_to_its_parent():
    found = run_in_child(child_work.answer, STEP, {"overrides": {"lr": (0.1, math.nan)}})
    assert found["given"][0] == STEP and found["given"][1]["overrides"]["lr"][0] == 0.1
    assert found["parent"] == os.getpid() == int(found["watched"])
    assert int(found["threads"]) >= 1
    assert found["first_to_go"] > int(Path("/proc/self/oom_score_adj").read_text())
    assert found["path"][0] == str(REPOSITORY / "shared_volume"), "the parent's own library, not the current folder"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "given", "error", "message"),
    [
        (child_work.fail, (), SightlineError, "The file a.json is wrong. Line 3. Correct it."),
        (child_work.break_down, (), ChildDiedError, "failed: ValueError: y"),
        (child_work.run_out, (), OutOfMemoryError, "The process ran out of GPU memory."),
        (child_work.die, (signal.SIGKILL,), OutOfMemoryError, "was killed by signal 9, most likely for memory"),
        (child_work.die, (signal.SIGSEGV,), ChildDiedError, "was ended by signal 11 (Segmentation fault)."),
        (child_work.die, (signal.SIGBUS,), ChildDiedError, "ran out of shared memory"),
        (child_work.leave, (), ChildDiedError, "ended with exit status 7 and no result."),
    ],
)
def test_how_a_child_ended_is_told_in_one_line(work, given, error, message):
    with pytest.raises(error) as raised:
        run_in_child(work, *given)
    assert type(raised.value) is error
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("begin", [False, True], ids=["at its start", "at work"])
def test_work_that_ran_out_of_memory_before_it_began_is_not_started_again(recorded, begin):
    with pytest.raises(OutOfMemoryError) as raised:
        run_in_child(child_work.die, signal.SIGKILL, begin)
    assert raised.value.began is begin
    if not begin:
        with pytest.raises(SightlineError, match=r"give it more memory \(train_memory\)"):
            run_step(STEP, child_work.die, signal.SIGKILL, begin, shrinks=True)
        assert len(recorded) == 1


def test_work_that_shrinks_is_started_again_until_it_fits(tmp_path, recorded):
    found = run_step(STEP, child_work.shrink, tmp_path / "starts", shrinks=True)
    assert found is not None
    assert found.reason.startswith("was killed by signal 9")
    assert found.worker is False
    assert (tmp_path / "starts").read_text().split() == ["once"] * 4
    assert recorded == []


def test_work_that_does_not_shrink_fails_with_a_sentence_that_is_recorded(tmp_path, recorded):
    with pytest.raises(SightlineError) as raised:
        run_step(STEP, child_work.shrink, tmp_path / "starts", advice="or wait")
    assert str(raised.value).endswith("give it more memory (train_memory), or wait.")
    ((step, sentence, stopped),) = recorded
    assert (step, sentence, stopped.gpu) == (STEP, str(raised.value), False)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_parent_that_ends_takes_its_child_with_it(tmp_path, number, status):
    place = tmp_path / "child"
    script = "import sys; from sightline.processes.child import run_in_child; from tests.child_work import sleep; run_in_child(sleep, sys.argv[1])"
    path = os.pathsep.join([str(REPOSITORY / "shared_volume"), str(REPOSITORY)])
    parent = subprocess.Popen([sys.executable, "-c", script, str(place)], env=os.environ | {"PYTHONPATH": path})
    until = time.monotonic() + 60
    while not (place.is_file() and place.read_text()) and time.monotonic() < until:
        time.sleep(0.02)
    child = int(place.read_text())
    parent.send_signal(number)
    assert parent.wait(timeout=30) == status
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()


WATCHED = """
import sys
from sightline.services.runs.supervise import Step, run_step
from tests.child_work import sleep
run_step(Step("train", "train-0", "desk"), sleep, sys.argv[1])
"""
UNWATCHED = """
import os, sys
from pathlib import Path
from sightline.services.runs.running_step import open_step
from sightline.settings import read_settings
from tests.child_work import sleep
with open_step(read_settings(), "train", "train-0", "desk"):
    sleep(sys.argv[1])
"""


@pytest.mark.parametrize("script", [WATCHED, UNWATCHED], ids=["with a child", "alone"])
def test_a_step_that_is_asked_to_end_is_recorded_as_stopped_and_runs_when_it_is_started_again(tmp_path, script):
    """Kubernetes asks so when a run is terminated and when a pod is deleted, and kills after some 12 seconds."""
    place = tmp_path / "child"
    url = f"sqlite:///{tmp_path / 'sightline.db'}"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "shared_volume"), str(REPOSITORY)]),
        "SIGHTLINE_DATABASE_URL": url,
        "SIGHTLINE_STORAGE": str(tmp_path / "storage"),
        "SIGHTLINE_DATASET_REPO": str(tmp_path / "dataset.git"),
        "SIGHTLINE_VOLUME": str(tmp_path / "volume"),
        "SIGHTLINE_RUN": "run-1",
    }
    parent = subprocess.Popen([sys.executable, "-c", script, str(place)], env=environment)
    until = time.monotonic() + 60
    while not (place.is_file() and place.read_text()) and time.monotonic() < until:
        time.sleep(0.02)
    began = time.monotonic()
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(timeout=30) == -signal.SIGTERM
    assert time.monotonic() - began < 12
    assert not Path("/proc", place.read_text()).exists()
    database = connect(url)
    (step,), run = list_steps(database, "run-1"), find_run(database, "run-1")
    assert (step.step, step.state, step.reason) == ("train", "stopped", "terminated")
    assert run is not None and run.state == "stopped" and run.ended_at is not None
    start_step(database, "run-1", "train", category="desk", code="train-0", code_digest="", parameters={}, attempt=1)
    run = find_run(database, "run-1")
    assert run is not None and (run.state, run.ended_at) == ("running", None)
    database.close()


def test_a_failure_after_a_retry_is_not_taken_for_that_of_the_pod_before(tmp_path, monkeypatch):
    """Kubeflow calls both pods the first of their task; the second one's child dies before it can tell anything."""
    url = f"sqlite:///{tmp_path / 'sightline.db'}"
    for name, value in (("DATABASE_URL", url), ("STORAGE", f"{tmp_path}/s"), ("DATASET_REPO", f"{tmp_path}/d.git")):
        monkeypatch.setenv(f"SIGHTLINE_{name}", value)
    monkeypatch.setenv("SIGHTLINE_VOLUME", str(tmp_path / "volume"))
    monkeypatch.setenv("SIGHTLINE_RUN", "run-1")
    monkeypatch.setenv("KFP_RETRY_INDEX", "0")
    database, told = connect(url), []
    database.migrate()
    for number in (signal.SIGSEGV, signal.SIGKILL):
        with pytest.raises(SightlineError):
            run_step(Step("train", "train-0", "desk"), child_work.die, number, False)
        (step,) = list_steps(database, "run-1")
        told.append((step.state, step.attempt, step.reason))
    assert [each[:2] for each in told] == [("failed", 0), ("failed", 1)]
    assert "signal 11" in told[0][2] and "signal 9, most likely for memory" in told[1][2]
    database.close()


def test_where_the_kernel_would_kill_the_parent_too_the_child_is_stopped_before(tmp_path, monkeypatch):
    """The container's files are made up: a container of cgroup v2 is nothing that a test can count on."""
    files = {"memory.oom.group": "1", "memory.max": str(2**30), "memory.current": str(2**29), "memory.stat": ""}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    assert run_in_child(child_work.answer)["given"] == (), "plenty of memory: nobody is stopped"

    def fill() -> None:
        until = time.monotonic() + 60
        while not (tmp_path / "pid").is_file() and time.monotonic() < until:
            time.sleep(0.01)
        (tmp_path / "memory.current").write_text(str(2**30 - 2**20))

    filling = threading.Thread(target=fill)
    filling.start()
    with pytest.raises(OutOfMemoryError, match=r"was stopped just below the memory limit \(1\.0 GiB\)"):
        run_in_child(child_work.sleep, str(tmp_path / "pid"))
    filling.join()
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()
