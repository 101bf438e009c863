"""The train step in its container, as KFP starts it, when the container is killed or has too little memory."""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.train.component import train
from sightline.references import DatasetReference
from sightline.services.database.connection import connect
from sightline.services.database.runs import StepRow, find_step
from sightline.services.database.versions import find_version
from tests.executor import executor_command
from tests.live_code import copy_live
from tests.workspace import Installation, with_plates

pytestmark = pytest.mark.slow

USER = "1001:1001"
WAIT_SECONDS = 400

SMALL = {"num_workers": 0, "val_interval": 1}
"""Batches of 4 images of 320 pixels: about 0.8 GB."""
LARGE = SMALL | {
    "train_batch_size": 16,
    "train_pipeline.2.scale": [512, 512],
    "train_pipeline.3.crop_size": [512, 512],
}
"""Batches of 16 images need 2.5 GB, 8 images at a time need 1.5 GB."""
BETWEEN = ("--memory=1800m", "--memory-swap=1800m")


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Everything in one folder, which containers see at the same path."""
    installation = with_plates(tmp_path_factory.mktemp("plates"), images=28)
    copy_live(installation.folder / "code")
    return installation


@dataclass(frozen=True)
class Pod:
    """A container that trains."""

    id: str
    here: Installation

    def end(self) -> tuple[int, str]:
        """Wait for its end: the exit status and the log."""
        wait_for(lambda: docker("inspect", "-f", "{{.State.Running}}", self.id).strip() == "false", "the end", self)
        return int(docker("inspect", "-f", "{{.State.ExitCode}}", self.id)), self.log()

    def log(self) -> str:
        return docker("logs", self.id)

    def record(self) -> StepRow:
        """What SQL says of the step."""
        found = find_step(connect(f"sqlite:///{self.here.folder / 'sightline.db'}"), self.here.volume.name, "train")
        assert found is not None, self.log()
        return found

    def history(self) -> list[dict[str, Any]]:
        """The training's history so far."""
        path = next((self.here.volume / "work").glob("train-*/history.jsonl"), None)
        lines = path.read_text().splitlines(keepends=True) if path else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def report(self) -> str:
        return (self.here.volume / "artifacts" / "training_report").read_text()


def docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def wait_for(look: Callable[[], Any], what: str, pod: Pod) -> Any:
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.2)
    pytest.fail(f"{what} did not come\n{pod.log()}")


@pytest.fixture
def start(images: dict[str, str], installation: Installation) -> Iterator[Callable[..., Pod]]:
    """Start the train step in a container of the train image; it is removed afterwards."""
    pods: list[Pod] = []

    def run(
        here: Installation,
        overrides: dict[str, Any],
        *limits: str,
        epochs: int = 1,
        policy: str = "shrink",
        attempt: int = 0,
    ) -> Pod:
        given = {
            "code": str(here.folder / "code"),
            "config": "mask_rcnn_r18_small",
            "overrides": overrides,
            "epochs": epochs,
            "select_by": "bbox_mAP",
            "device": "cpu",
            "on_out_of_memory": policy,
            "dataset": dataset(here).to_text(),
        }
        command = executor_command(train, given, here.volume / "artifacts")
        settings = {name: value for name, value in here.environment().items() if name.startswith("SIGHTLINE_")}
        environment = [f"--env={name}={value}" for name, value in {**settings, "KFP_RETRY_INDEX": attempt}.items()]
        confined = [f"--user={USER}", "--cap-drop=ALL", "--security-opt=no-new-privileges", *limits]
        mount = f"--volume={here.folder}:{here.folder}"
        name = f"sightline-test-{uuid.uuid4().hex[:8]}"
        writable(here.folder)
        docker("run", "--detach", f"--name={name}", *confined, mount, *environment, images["train"], *command)
        pods.append(Pod(name, here))
        return pods[-1]

    yield run
    for pod in pods:
        docker("rm", "--force", pod.id)


def writable(folder: Path) -> None:
    """As the cluster's init Job leaves the claim: for the images' user."""
    for place, _, names in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in names)):
            if path.stat().st_uid == os.geteuid():
                path.chmod(path.stat().st_mode | 0o666 | (0o111 if path.is_dir() else 0))


def dataset(here: Installation) -> DatasetReference:
    found = find_version(connect(f"sqlite:///{here.folder / 'sightline.db'}"), "plates", "dataset", "v0.1.0")
    assert found is not None
    return DatasetReference("plates", "v0.1.0", str(found.tag), str(found.commit), str(found.digest))


def last_words(log: str) -> str:
    """What the step ended with, between two rules."""
    above, sentence, below = log.strip().splitlines()[-3:]
    assert above == below == "-" * 80
    return sentence


def test_a_killed_container_resumes_within_a_checkpoint_interval_and_ends_with_the_unbroken_losses(
    installation: Installation, start: Callable[..., Pod]
) -> None:
    every_iteration = SMALL | {"checkpoint_seconds": 0}
    unbroken = start(installation.with_fresh_volume("unbroken"), every_iteration, epochs=2)
    status, log = unbroken.end()
    assert status == 0, log
    expected = unbroken.history()
    per_epoch = sum(line["kind"] == "train" and line["epoch"] == 1 for line in expected)
    assert per_epoch > 2

    here = installation.with_fresh_volume("killed")
    first = start(here, every_iteration, epochs=2)
    wait_for(lambda: any(line["iter"] > per_epoch for line in first.history()), "the second epoch", first)
    docker("kill", "--signal=KILL", first.id)
    first.end()
    reached = max(line["iter"] for line in first.history())
    assert reached < 2 * per_epoch, "the kill came too late"
    assert first.record().state == "running"

    second = start(here, every_iteration, epochs=2, attempt=1)
    status, log = second.end()
    assert status == 0, log
    assert second.history() == expected
    record = second.record()
    (resumed,) = record.events
    assert (record.state, record.attempt, resumed.kind, resumed.attempt) == ("done", 1, "resumed", 1)
    assert "after attempt 1 was lost" in resumed.message
    assert resumed.iteration is not None and reached - 1 <= resumed.iteration <= reached


def test_with_too_little_memory_the_batch_is_taken_in_parts_and_sql_and_report_tell_it(
    installation: Installation, start: Callable[..., Pod]
) -> None:
    pod = start(installation.with_fresh_volume("memory"), LARGE, *BETWEEN)
    status, log = pod.end()
    assert status == 0, log
    record = pod.record()
    kinds = [event.kind for event in record.events]
    assert record.state == "done"
    assert kinds in (["out of memory", "restarted"], ["out of memory", "restarted"] * 2)
    assert record.events[0].message == "training was killed for memory (limit 1.8 GiB)"
    (kept,) = pod.here.volume.glob("work/train-*/micro_batches.json")
    images = json.loads(kept.read_text())["images"]
    assert images in (8, 4)
    for told in ("killed for memory (limit 1.8 GiB)", f"16 as {16 // images} x {images}"):
        assert told in pod.report()
    assert [line["iter"] for line in pod.history() if line["kind"] == "train"] == [1, 2]


def test_with_the_policy_fail_too_little_memory_is_an_error_with_its_reason(
    installation: Installation, start: Callable[..., Pod]
) -> None:
    pod = start(installation.with_fresh_volume("fail"), LARGE, *BETWEEN, policy="fail")
    status, log = pod.end()
    assert status == 1
    record = pod.record()
    sentence = (
        "The step train was killed for memory (limit 1.8 GiB): give it more memory (train_memory), or let it go on with a "
        "part of each batch (train_on_out_of_memory=shrink)."
    )
    assert (record.state, record.reason) == ("failed", sentence)
    assert [event.kind for event in record.events] == ["out of memory"]
    assert last_words(log) == f"error: {sentence}"


def test_with_too_little_shared_memory_the_fix_is_named(installation: Installation, start: Callable[..., Pod]) -> None:
    pod = start(installation.with_fresh_volume("shm"), LARGE | {"num_workers": 1}, "--shm-size=1m")
    status, log = pod.end()
    assert status == 1
    record = pod.record()
    assert record.state == "failed"
    assert "ran out of shared memory (/dev/shm, 1 MiB)" in record.reason
    assert "--shared-memory 2Gi" in last_words(log)
