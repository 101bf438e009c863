"""A step whose process is killed in the middle of its work: what it does next, and what SQL, the report and the log tell."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.component import evaluate
from components.train.component import train
from sightline.references import DatasetReference
from sightline.services.database.connection import connect
from sightline.services.database.runs import StepRow, find_step
from sightline.services.database.versions import find_version
from sightline.steps.train.report import render_training_report
from tests.executor import executor_command
from tests.live_code import LIVE, append, copy_live
from tests.workspace import Installation

pytestmark = pytest.mark.slow

EPOCHS = 2
BATCH = 4
MOST_PARENT_BYTES = 60 * 2**20
WAIT_SECONDS = 240


@pytest.fixture(scope="module")
def installation(recorded: Installation) -> Installation:
    return replace(recorded, prefix="stopped-")


@dataclass(frozen=True)
class Started:
    """A step that runs as KFP's launcher started it."""

    here: Installation
    step: str
    process: subprocess.Popen[str]

    @property
    def executor(self) -> int:
        """The Python process that kfp's executor is."""
        return wait_for(lambda: self._find(r"-m kfp\.dsl\.executor_main"), "the executor", self)

    @property
    def child(self) -> int:
        """The process that works."""
        return wait_for(
            lambda: self._find(rf"-m sightline\.processes\.child sightline\.steps\.{self.step}\."), "the child", self
        )

    @property
    def worker(self) -> int:
        """A process that loads the child's data."""
        return wait_for(lambda: next(iter(children(self.child)), 0), "a data loading process", self)

    def finish(self) -> str:
        """Wait for the end; the whole log."""
        return self.process.communicate(timeout=WAIT_SECONDS)[0]

    def record(self) -> StepRow:
        """What SQL says of the step."""
        database = connect(f"sqlite:///{self.here.folder / 'sightline.db'}")
        found = find_step(database, self.here.volume.name, self.step)
        assert found is not None
        return found

    def work_folder(self) -> Path:
        (folder,) = (self.here.volume / "work").glob("train-*")
        return folder

    def iterations(self) -> list[int]:
        """The training iterations on record."""
        path = next((self.here.volume / "work").glob("train-*/history.jsonl"), None)
        lines = path.read_text().splitlines(keepends=True) if path else []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [line["iter"] for line in found if line["kind"] == "train"]

    def reach(self, iteration: int) -> None:
        """Wait until a training iteration is on record."""
        wait_for(lambda: len(self.iterations()) >= iteration, f"iteration {iteration}", self)

    def _find(self, pattern: str) -> int:
        waiting = [self.process.pid]
        while waiting:
            process = waiting.pop()
            if re.search(pattern, command_line(process)) and not command_line(process).startswith("sh "):
                return process
            waiting += children(process)
        return 0


def wait_for(look: Callable[[], Any], what: str, started: Started) -> Any:
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        if found := look():
            return found
        assert started.process.poll() is None, started.process.communicate()[0]
        time.sleep(0.05)
    pytest.fail(f"{what} did not come")


def children(process: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        found += [int(path.parent.name)] if parent == process else []
    return found


def command_line(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def resident_bytes(process: int) -> int:
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def gone(process: int) -> bool:
    for _ in range(100):
        state = Path(f"/proc/{process}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@contextmanager
def started(
    here: Installation,
    overrides: Mapping[str, Any] | None = None,
    policy: str = "shrink",
    code: Path = LIVE,
    attempt: int = 0,
    epochs: int = EPOCHS,
) -> Iterator[Started]:
    """The train step in a process of its own; nothing of it is left afterwards."""
    given = {
        "code": str(code),
        "config": "mask_rcnn_r18_small",
        "overrides": {"num_workers": 0, "val_interval": 1, **(overrides or {})},
        "epochs": epochs,
        "select_by": "bbox_mAP",
        "device": "cpu",
        "on_out_of_memory": policy,
        "dataset": dataset(here).to_text(),
    }
    with running(here, "train", executor_command(train, given, here.volume / "artifacts"), attempt) as found:
        yield found


@contextmanager
def running(here: Installation, step: str, command: list[str], attempt: int = 0) -> Iterator[Started]:
    environment = here.environment() | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "KFP_RETRY_INDEX": str(attempt),
    }
    del environment["PYTHONPATH"]  # the component finds its own code
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        yield Started(here, step, process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def dataset(here: Installation) -> DatasetReference:
    database = connect(f"sqlite:///{here.folder / 'sightline.db'}")
    found = find_version(database, "plates", "dataset", "v0.1.0")
    assert found is not None
    return DatasetReference("plates", "v0.1.0", str(found.tag), str(found.commit), str(found.digest))


RAISING = """
import torch
from mmengine.model import BaseModel

whole = BaseModel._run_forward

def small_only(self, data, mode):
    if mode == "loss" and len(data["inputs"]) > {most}:
        raise {error}
    return whole(self, data, mode)

BaseModel._run_forward = small_only
"""
"""A model that has no room for more than some images at a time."""


def kinds(record: StepRow) -> list[str]:
    return [event.kind for event in record.events]


def last_words(log: str) -> str:
    """The sentence with which the step ended, between two rules."""
    above, sentence, below = log.strip().splitlines()[-3:]
    assert above == below == "-" * 80
    return sentence.removeprefix("error: ")


def test_a_killed_child_is_started_again_with_half_the_batch(installation: Installation) -> None:
    here = installation.with_fresh_volume("killed")
    with started(here, {"checkpoint_seconds": 0}) as step:
        step.reach(3)
        assert resident_bytes(step.executor) < MOST_PARENT_BYTES
        assert resident_bytes(step.child) > 3 * MOST_PARENT_BYTES
        os.kill(step.child, signal.SIGKILL)
        log = step.finish()
        assert step.process.returncode == 0, log
        record = step.record()
        iterations = step.iterations()
        work = step.work_folder()

    assert iterations == list(range(1, len(iterations) + 1))
    assert (record.state, record.reason, record.attempt) == ("done", "", 0)
    assert kinds(record) == ["out of memory", "restarted"]
    killed, again = record.events
    assert killed.at < again.at
    assert killed.iteration is not None and killed.iteration >= 3
    assert "killed by signal 9, most likely for memory" in killed.message
    assert "4 as 2 x 2" in again.message
    assert 0 < (again.iteration or 0) <= killed.iteration, "it went on from a checkpoint"
    assert json.loads((work / "micro_batches.json").read_text())["images"] == 2
    assert [json.loads(line)["kind"] for line in (work / "events.jsonl").read_text().splitlines()] == kinds(record)
    report = (here.volume / "artifacts" / "training_report").read_text()
    for told in ("4 as 2 x 2", "Events", "out of memory", "restarted"):
        assert told in report
    assert json.loads((here.volume / "artifacts" / "model").read_text())["metric_name"] == "bbox_mAP"


def test_a_later_run_with_the_same_memory_starts_with_the_parts_that_fitted(installation: Installation) -> None:
    here = installation.with_fresh_volume("later")
    with started(here, epochs=1) as first:
        first.reach(1)
        os.kill(first.child, signal.SIGKILL)
        wait_for(lambda: list(here.volume.glob("work/train-*/micro_batches.json")), "smaller parts", first)
        os.kill(first.executor, signal.SIGKILL)
        first.process.wait()
    with started(here, attempt=1, epochs=1) as second:
        log = second.finish()
        assert second.process.returncode == 0, log
    assert "4 as 2 x 2" in (here.volume / "artifacts" / "training_report").read_text()
    assert second.record().attempt == 1


def test_with_the_policy_fail_the_reason_is_recorded_and_is_the_last_line(installation: Installation) -> None:
    here = installation.with_fresh_volume("fail")
    with started(here, policy="fail") as step:
        step.reach(1)
        os.kill(step.child, signal.SIGKILL)
        log = step.finish()
    assert step.process.returncode != 0
    record = step.record()
    assert (record.state, kinds(record)) == ("failed", ["out of memory"])
    assert re.search(r"step train was killed by signal 9.*: give it more memory \(train_memory\)", record.reason)
    assert "train_on_out_of_memory=shrink" in record.reason
    assert last_words(log) == record.reason


GPU = (
    'torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB")'
)


def test_a_gpu_without_room_gets_smaller_parts_until_not_even_one_image_fits(
    installation: Installation, tmp_path: Path
) -> None:
    here = installation.with_fresh_volume("gpu")
    code = copy_live(tmp_path / "code")
    append(code, render_training_report, RAISING.format(most=0, error=GPU))  # the process that trains imports this file
    with started(here, {"train_batch_size": 2}, code=code) as step:
        log = step.finish()
    assert step.process.returncode != 0
    record = step.record()
    assert (record.state, kinds(record)) == ("failed", ["out of memory", "restarted", "out of memory"])
    for event in (record.events[0], record.events[2]):
        assert "ran out of GPU memory (tried to allocate 2.00 GiB, it has 15.77 GiB)" in event.message
    assert "2 as 2 x 1" in record.events[1].message
    sentence = last_words(log)
    assert sentence in record.reason
    assert re.search(r"even with one image at a time\. Give it a GPU with more memory, or", sentence)


def test_after_a_data_loading_process_was_killed_the_training_loads_its_data_itself(installation: Installation) -> None:
    here = installation.with_fresh_volume("worker")
    with started(here, {"num_workers": 1}) as step:
        step.reach(2)
        os.kill(step.worker, signal.SIGKILL)
        log = step.finish()
    assert step.process.returncode == 0, log
    killed, again = step.record().events
    assert "lost a data loading process, killed" in killed.message
    assert "4 as 2 x 2, data loaded in the training's own process" in again.message


def test_shared_memory_that_ran_out_is_named_with_its_fix(installation: Installation) -> None:
    here = installation.with_fresh_volume("shm")
    with started(here, {"num_workers": 1}) as step:
        step.reach(1)
        os.kill(step.worker, signal.SIGBUS)  # what a full /dev/shm sends
        log = step.finish()
    assert step.process.returncode != 0
    record = step.record()
    assert (record.state, record.events) == ("failed", [])
    for place in (record.reason, last_words(log)):
        assert "ran out of shared memory (/dev/shm" in place
        assert "--shared-memory 2Gi" in place and "num_workers=0" in place


def test_a_lost_pods_child_goes_with_it_and_the_next_attempt_says_that_it_resumed(installation: Installation) -> None:
    here = installation.with_fresh_volume("lost")
    always = {"checkpoint_seconds": 0}
    for attempt, number in enumerate((signal.SIGTERM, signal.SIGKILL)):
        with started(here, always, attempt=attempt) as step:
            step.reach(2 + 2 * attempt)
            executor, child = step.executor, step.child
            os.kill(executor, number)
            assert gone(child) and gone(executor), number.name
            record = step.record()
            told = "stopped" if number == signal.SIGTERM else "running"  # a killed process can tell nothing
            assert (record.state, record.attempt) == (told, attempt)
    with started(here, always, attempt=2) as step:
        log = step.finish()
    assert step.process.returncode == 0, log
    record = step.record()
    assert (record.state, record.attempt, kinds(record)) == ("done", 2, ["resumed", "resumed"])
    assert [event.attempt for event in record.events] == [1, 2]
    assert "after attempt 2 was lost" in record.events[1].message
    assert (record.events[1].iteration or 0) >= 3
    assert "4 as" not in (here.volume / "artifacts" / "training_report").read_text()


def test_a_killed_evaluation_is_recorded_with_its_reason(installation: Installation) -> None:
    here = installation.with_fresh_volume("evaluation")
    given = {
        "code": str(LIVE),
        "candidates": ["file:///nowhere"],
        "candidates_digest": "",
        "split": "test",
        "select_by": "bbox_mAP",
        "device": "cpu",
        "dataset": dataset(here).to_text(),
        "model": "",
    }
    with running(here, "evaluate", executor_command(evaluate, given, here.volume / "artifacts")) as step:
        os.kill(step.child, signal.SIGKILL)
        log = step.finish()
    assert step.process.returncode != 0
    record = step.record()
    assert (record.state, kinds(record)) == ("failed", ["out of memory"])
    assert "give it more memory (evaluate_memory)" in record.reason
    assert record.reason in last_words(log)
