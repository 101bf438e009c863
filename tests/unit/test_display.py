"""What a local run says while it goes, where its output is a file."""

import io
import json
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from laptop.display import SECONDS_BETWEEN_LOOKS, Lines, displayed, note_of
from laptop.kfp_tasks import Task


def told(done: int, total: int = 8, **values: float) -> dict[str, float]:
    return {"done": done, "total": total, **values}


def test_each_epoch_is_a_line_with_its_last_loss():
    said: list[str] = []
    lines = Lines(said.append)
    lines.begin("train", True)
    for done, epoch in ((1, 1), (2, 1), (3, 2), (4, 2), (4, 2)):
        lines.show(told(done, 4, epoch=epoch, epochs=2, loss=1 / done, seconds_left=90.0 * (done < 4)))
    assert said == [
        "  train      50%, epoch 1/2, loss 0.500, 1:30 left",
        "  train      100%, epoch 2/2, loss 0.250",
    ]


def test_a_training_that_goes_on_says_so_once():
    said: list[str] = []
    lines = Lines(said.append)
    lines.begin("train", True)
    for done in (3, 4):
        lines.show(told(done, 4, epoch=2, epochs=2, loss=0.5, resumed=2))
    assert said == [
        "  train      goes on after iteration 2 of 4, where an earlier run stopped",
        "  train      100%, epoch 2/2, loss 0.500",
    ]
    assert note_of(told(3, 4, resumed=2), beginning=True) == " 75%, goes on after iteration 2"


def report(path: Path, seen: dict[str, float]) -> None:
    """Whole at once, as steps write it."""
    path.with_suffix(".new").write_text(json.dumps(seen))
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(("every", "lines"), [(0.0, 3), (60.0, 0)])
def test_what_takes_long_is_told_in_between(every, lines):
    said: list[str] = []
    display = Lines(said.append, every)
    display.begin("evaluate", True)
    for done in (1, 2, 3):
        display.show(told(done))
    assert len(said) == lines


def test_a_file_gets_plain_lines(tmp_path):
    output, path, threads = io.StringIO(), tmp_path / "progress", threading.active_count()
    with displayed(Console(file=output, soft_wrap=True), path) as on_change:
        on_change(Task("train"))
        for done in (1, 2):
            report(path, told(done, 2, epoch=done, epochs=2, loss=0.5))
            time.sleep(8 * SECONDS_BETWEEN_LOOKS)
        path.write_text("{half")
        on_change(Task("train", "done", 3.0))
    assert output.getvalue().splitlines() == [
        "  train      50%, epoch 1/2, loss 0.500",
        "  train      100%, epoch 2/2, loss 0.500",
        "  train      done        3.0 s",
    ]
    assert not path.exists() and threading.active_count() == threads


def test_the_last_epoch_is_told_though_its_step_ends_at_once(tmp_path):
    output, path = io.StringIO(), tmp_path / "progress"
    with displayed(Console(file=output, soft_wrap=True), path) as on_change:
        on_change(Task("train"))
        path.write_text(json.dumps(told(2, 2, epoch=2, epochs=2, loss=0.5)))
        on_change(Task("train", "done", 3.0))
    assert "epoch 2/2, loss 0.500" in output.getvalue()
