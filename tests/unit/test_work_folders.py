"""Work folders of trainings: who is at work in one, what a finished one keeps, which may go."""

import os
import time
import zipfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from sightline.services.runs.work_folders import (
    alone_in,
    find_surplus,
    find_work_folders,
    finish,
    is_in_use,
    remove_work_folder,
    slim,
    work_folder,
)

FORKS = get_context("fork")


def make(volume: Path, key: str, age: float = 0, finished: bool = False) -> Path:
    """A work folder as a training leaves it, last used so many days ago."""
    folder = work_folder(volume, key)
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in ("iter_00000010.pth", "iter_00000020.pth", "light.pth"):
        write_checkpoint(checkpoints / name)
    (folder / "bundles" / "last").mkdir(parents=True)
    for name in ("best.pth", "history.jsonl", "tensorboard.txt", "events.jsonl", "bundles/last/weights", "lock"):
        (folder / name).write_text(name)
    if finished:
        (folder / "finished").touch()
    for path in (*checkpoints.iterdir(), folder / "lock", folder / "history.jsonl"):
        os.utime(path, (time.time() - age * 86_400,) * 2)
    return folder


def write_checkpoint(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", path.name * 1000)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


KEPT = {"best.pth", "history.jsonl", "tensorboard.txt", "events.jsonl", "lock", "finished"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        pytest.param(lambda folder: None, {"iter_00000020.pth"}, id="the newest of whole ones"),
        pytest.param(lambda folder: cut(folder / "iter_00000020.pth"), {"iter_00000010.pth"}, id="the newest is cut"),
        pytest.param(lambda folder: spoil(folder / "iter_00000020.pth"), {"iter_00000010.pth"}, id="a bit is wrong"),
        pytest.param(
            lambda folder: [cut(path) for path in folder.iterdir()],
            {"iter_00000010.pth", "iter_00000020.pth", "light.pth"},
            id="none is whole: all stay",
        ),
    ],
)
def test_what_a_finished_training_keeps(tmp_path: Path, damage: Callable[[Path], object], kept: set[str]) -> None:
    folder = make(tmp_path, "a")
    damage(folder / "checkpoints")
    finish(folder)
    bundles = {"bundles/last/weights"} if len(kept) > 1 else set()
    assert files(folder) == KEPT | bundles | {f"checkpoints/{name}" for name in kept}
    finish(folder)
    assert files(folder) == KEPT | bundles | {f"checkpoints/{name}" for name in kept}


def test_which_work_folders_may_go(tmp_path: Path) -> None:
    ages = {"a": 0, "b": 1, "c": 2, "d": 31, "e": 40}
    for key, age in ages.items():
        make(tmp_path, key, age, finished=key in "bcd")
    (tmp_path / "work" / "repo-1234").mkdir()

    def surplus(keep: int, days: float) -> list[str]:
        return [one.path.name[-1] for one in find_surplus(find_work_folders(tmp_path), keep, days)]

    assert surplus(keep=5, days=0) == []
    assert surplus(keep=2, days=35) == ["c", "d", "e"]
    assert surplus(keep=0, days=50) == ["b", "c", "d"], "a training that is not finished stays until it is too old"
    assert surplus(keep=4, days=50) == []


def train_there(folder: Path, began: Any, may_end: Any) -> None:
    with alone_in(folder):
        began.set()
        may_end.wait(60)
        (folder / "trained").touch()


def start(folder: Path) -> tuple[Any, Any, Any]:
    began, may_end = FORKS.Event(), FORKS.Event()
    process = FORKS.Process(target=train_there, args=(folder, began, may_end))
    process.start()
    return process, began, may_end


def test_where_a_process_is_at_work_nothing_goes(tmp_path: Path) -> None:
    folder = make(tmp_path, "a", finished=True)
    before = files(folder)
    process, began, may_end = start(folder)
    try:
        assert began.wait(60)
        (found,) = find_work_folders(tmp_path)
        assert is_in_use(found)
        assert not remove_work_folder(found)
        assert not slim(found)
        assert files(folder) == before
    finally:
        may_end.set()
        process.join(60)
    assert process.exitcode == 0
    (found,) = find_work_folders(tmp_path)
    assert not is_in_use(found)
    assert slim(found)
    assert remove_work_folder(found)
    assert list((tmp_path / "work").iterdir()) == []


def test_one_that_was_used_again_since_it_was_looked_at_stays(tmp_path: Path) -> None:
    folder = make(tmp_path, "a", age=1, finished=True)
    (found,) = find_work_folders(tmp_path)
    with alone_in(folder):
        pass
    assert not remove_work_folder(found)
    assert folder.is_dir()


def test_who_waits_for_a_folder_that_is_removed_then_begins_in_a_new_one(tmp_path: Path) -> None:
    folder = make(tmp_path, "a")
    first, began, may_end = start(folder)
    assert began.wait(60)
    second, second_began, second_may_end = start(folder)
    second_may_end.set()
    time.sleep(0.2)  # until it waits
    assert not second_began.is_set()
    folder.rename(tmp_path / "removed")  # as who holds the lock may
    may_end.set()
    first.join(60)
    second.join(60)
    assert second.exitcode == 0
    assert files(folder) == {"lock", "trained"}
