"""Which checkpoint a training resumes from."""

from pathlib import Path

import pytest

from sightline.steps.train.checkpoints import newest_checkpoint, save_checkpoint, save_light_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for iteration in (10, 20, 30):
        save_checkpoint(tmp_path, iteration, {"iter": iteration})
    return tmp_path


def newest(folder: Path) -> int:
    state = newest_checkpoint(folder)
    assert state is not None
    return state["iter"]


def test_the_last_two_are_kept_and_the_newest_is_taken(folder):
    assert [path.name for path in sorted(folder.iterdir())] == ["iter_00000020.pth", "iter_00000030.pth"]
    assert newest(folder) == 30


@pytest.mark.parametrize(("iteration", "taken"), [(33, 33), (25, 30)], ids=["newer", "older"])
def test_a_light_checkpoint_counts_when_it_is_the_newest(folder, iteration, taken):
    save_light_checkpoint(folder, {"iter": iteration})
    assert newest(folder) == taken


def test_damaged_ones_are_passed_over(folder):
    light = save_light_checkpoint(folder, {"iter": 33})
    light.write_bytes(light.read_bytes()[:100])
    assert newest(folder) == 30
    (folder / "iter_00000030.pth").write_bytes(b"")
    assert newest(folder) == 20
    (folder / "iter_00000020.pth").write_bytes(b"not a checkpoint")
    assert newest_checkpoint(folder) is None


def test_nothing_saved_is_nothing_to_resume(tmp_path):
    assert newest_checkpoint(tmp_path) is None
