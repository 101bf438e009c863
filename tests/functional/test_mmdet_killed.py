"""Configs of mmdet by name through `pipeline.py local`, killed in the middle of the training, and started again by the same command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.workspace import REPOSITORY, run_pipeline

pytestmark = pytest.mark.slow

SIZE = [96, 96]
"""Of photographs, in pixels: the models are as mmdet has them, their days of training are not."""
ALL = {"model.backbone.init_cfg": None, "train_batch_size": 2, "num_workers": 0, "test_pipeline.1.scale": SIZE}
RTMDET_STAGE_2 = "custom_hooks.1.switch_pipeline"
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "rtmdet-ins_tiny_8xb32-300e_coco": {
        "train_pipeline.2.img_scale": SIZE,
        "train_pipeline.3.scale": [192, 192],
        "train_pipeline.4.crop_size": SIZE,
        "train_pipeline.7.size": SIZE,
        "train_pipeline.8.img_scale": SIZE,
        f"{RTMDET_STAGE_2}.2.scale": SIZE,
        f"{RTMDET_STAGE_2}.3.crop_size": SIZE,
        f"{RTMDET_STAGE_2}.7.size": SIZE,
        "test_pipeline.2.size": SIZE,
    },
    "mask-rcnn_r50_fpn_1x_coco": {"train_pipeline.2.scale": SIZE},
    "dino-4scale_r50_8xb2-12e_coco": {
        "train_pipeline.3": {"type": "Resize", "scale": SIZE, "keep_ratio": True},
        "model.num_queries": 60,  # so small an image has fewer places than 900
        "model.test_cfg.max_per_img": 50,
    },
}
COMPARED = "rtmdet-ins_tiny_8xb32-300e_coco"
PATIENCE = 300  # seconds


@dataclass(frozen=True)
class Laptop:
    """A workspace, and one command that is typed there again and again."""

    workspace: Path
    options: Sequence[str]

    def start(self) -> subprocess.Popen[str]:
        """`pipeline.py local …`, in the background; numerical libraries use one thread, so that numbers are comparable."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
        command = [sys.executable, "pipeline.py", "--workspace", str(self.workspace), "local", *self.options]
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=clean | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finished(self) -> tuple[dict[str, Any], str]:
        """What the command's run leaves, which must succeed, and what it said."""
        process = self.start()
        told = process.communicate()[0]
        assert process.returncode == 0, told
        return json.loads((self.workspace / "last_run.json").read_text()), told

    def killed_after_a_checkpoint(self) -> None:
        """Start it, and end `pipeline.py` the hard way when its training has written a checkpoint, but before its end."""
        process = self.start()
        until = time.monotonic() + PATIENCE
        while not list(self.workspace.glob("volume/work/train-*/checkpoints/iter_*.pth")):
            assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def weights(self, run: Mapping[str, Any]) -> dict[str, Any]:
        return load_file(self.workspace / "storage/models" / run["model"]["sha256"] / "model.safetensors")


def laptop(workspace: Path, plates: Path, config: str) -> Laptop:
    """A workspace with plates v0.1.0."""
    done = run_pipeline(
        "--workspace", str(workspace), "publish", str(plates), "--category", "plates", "--version", "v0.1.0"
    )
    assert done.returncode == 0, done.stderr
    sets = [
        word for key, value in {**ALL, **CONFIGS[config]}.items() for word in ("--set", f"{key}={json.dumps(value)}")
    ]
    return Laptop(workspace, ("--category", "plates", "--config", f"mmdet::{config}", "--epochs", "2", *sets))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_happened(tmp_path: Path, config: str) -> None:
    plates = tmp_path / "plates"
    assert run_pipeline("sample", str(plates), "--images", "12", "--labels", "board").returncode == 0
    here = laptop(tmp_path / "killed", plates, config)
    here.killed_after_a_checkpoint()
    run, told = here.finished()
    assert {name: facts["state"] for name, facts in run["steps"].items()} == {
        "snapshot": "done",
        "record": "reused",
        "train": "done",
        "evaluate": "done",
        "test": "done",
    }
    assert "train      goes on after iteration" in told
    assert "resumed at iteration" in (here.workspace / "logs" / f"{run['run']}.log").read_text()
    if config == COMPARED:
        elsewhere = laptop(tmp_path / "whole", plates, config)
        whole, told = elsewhere.finished()
        assert "goes on after" not in told
        ours, theirs = here.weights(run), elsewhere.weights(whole)
        assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
        assert run["metrics"] == whole["metrics"]
