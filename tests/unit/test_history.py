"""What happened while training, as it is kept."""

import json
import math
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sightline.references import DatasetReference
from sightline.steps.train import history as history_module
from sightline.steps.train.history import History, board_folder


def test_a_number_that_is_none_is_null_in_the_history_and_not_in_tensorboard(tmp_path: Path) -> None:
    """A class that the validation split has not scores NaN."""
    history = History(tmp_path, tmp_path / "board", iterations=2, epochs=1)
    history.open(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history.validation(1, 2, {"bbox_mAP": 0.5, "bbox_mAP_s": math.nan, "bbox_mAP_l": math.inf})
    history.close()
    (line,) = map(json.loads, history.path.read_text().splitlines())
    assert (line["bbox_mAP"], line["bbox_mAP_s"], line["bbox_mAP_l"]) == (0.5, None, None)
    board = EventAccumulator(str(history.tensorboard))
    board.Reload()
    assert board.Tags()["scalars"] == ["val/bbox_mAP"]


def test_tensorboards_runs_are_named_as_people_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 11, 25, 23, 10, tzinfo=UTC)
    monkeypatch.setattr(history_module, "time", SimpleNamespace(strftime=at.strftime))
    dataset = DatasetReference("plates", "v0.1.0", "plates_train_v0.1.0", "0" * 40, "0" * 64)
    works = [tmp_path / "work" / name for name in ("train-1", "train-2", "train-3")]
    for work in works:
        work.mkdir(parents=True)
    made = [board_folder(tmp_path, work, dataset, "mask_rcnn_r18_small") for work in works]
    name = "plates v0.1.0 mask_rcnn_r18_small 2026-11-25 23.10"
    assert [folder.name for folder in made] == [name, f"{name} (2)", f"{name} (3)"]
    assert sorted(path.name for path in (tmp_path / "tensorboard").iterdir()) == sorted(folder.name for folder in made)


def test_a_training_that_is_resumed_goes_on_in_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = DatasetReference("plates", "v0.1.0", "plates_train_v0.1.0", "0" * 40, "0" * 64)
    work = tmp_path / "work" / "train-1"
    work.mkdir(parents=True)
    first = board_folder(tmp_path, work, dataset, "mine")
    monkeypatch.setattr(history_module, "time", SimpleNamespace(strftime=lambda _: "2031-01-01 00.00"))
    assert board_folder(tmp_path, work, dataset, "mine") == first
    first.rmdir()
    assert board_folder(tmp_path, work, dataset, "mine") == first and first.is_dir()
