"""What happened while training, as it is kept."""

import json
import math
import warnings
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sightline.steps.train.history import History


def test_a_number_that_is_none_is_null_in_the_history_and_not_in_tensorboard(tmp_path: Path) -> None:
    """A class that the validation split has not scores NaN."""
    history = History(tmp_path, iterations=2, epochs=1)
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
