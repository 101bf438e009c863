"""Which checkpoint a training resumes from, and what it refuses to begin without."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from torch.utils.data import DataLoader

from sightline.steps.train.checkpoints import LIGHT, newest_checkpoint, save_checkpoint, save_whole
from sightline.steps.train.loop import ResumableTrainLoop


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
    save_whole(folder / LIGHT, {"iter": iteration}, flush=False)
    assert newest(folder) == taken


def test_damaged_ones_are_passed_over(folder):
    light = folder / LIGHT
    save_whole(light, {"iter": 33}, flush=False)
    light.write_bytes(light.read_bytes()[:100])
    assert newest(folder) == 30
    (folder / "iter_00000030.pth").write_bytes(b"")
    assert newest(folder) == 20
    (folder / "iter_00000020.pth").write_bytes(b"not a checkpoint")
    assert newest_checkpoint(folder) is None


def test_nothing_saved_is_nothing_to_resume(tmp_path):
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("lacking", ["checkpoint_seconds", "early_stopping.patience", "early_stopping.min_delta"])
def test_a_config_without_what_guards_the_loop_ends_before_the_first_epoch(tmp_path, lacking):
    settings = {"max_epochs": 2, "val_interval": 1, "checkpoint_seconds": 60}
    settings |= {"early_stopping": {"patience": 0, "min_delta": 0.0}}
    *above, last = lacking.split(".")
    del (settings[above[0]] if above else settings)[last]
    config = Config(settings)
    training = SimpleNamespace(config=config, folder=tmp_path)
    with pytest.raises(AttributeError, match=last):
        ResumableTrainLoop(SimpleNamespace(), DataLoader([0]), training, SimpleNamespace(), None)
