"""What happened while training: one JSON line per event, the same values for TensorBoard, and a progress bar's numbers."""

import contextlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from sightline.processes.progress import Progress
from sightline.references import DatasetReference, with_nulls

log = logging.getLogger(__name__)

FILE = "history.jsonl"
MOST_TRAIN_LINES = 5000
BOARDS = "tensorboard"  # on the volume, with a folder for each training: what `tensorboard --logdir` is given
BOARD_NAME = "tensorboard.txt"  # in a work folder; says which of them is its own


def last_iteration(folder: Path) -> int:
    """The newest iteration on record in a work folder, checkpoint or not; 0 before the first."""
    return max((line["iter"] for line in read_lines(folder / FILE)), default=0)


class History:
    """The training history of one work folder.

    `history.jsonl` holds `{"kind": "train", "epoch": 1, "iter": 3, "loss": …, "lr": …, …}` and
    `{"kind": "val", "epoch": 1, "iter": 18, …}`. Epochs and iterations count from 1; the log tells of the `shown` metrics.
    """

    def __init__(self, folder: Path, board: Path, iterations: int, epochs: int, shown: Sequence[str] = ()) -> None:
        self.path = folder / FILE
        self.tensorboard = board
        self.iterations = iterations
        self.epochs = epochs
        self._shown = shown
        self._every = max(1, math.ceil(iterations / MOST_TRAIN_LINES))
        self._progress = Progress(iterations)
        self._began, self._first = 0.0, 0
        self._file: Any = None
        self._writer: SummaryWriter | None = None

    def open(self, iteration: int) -> None:
        """Start writing after an iteration; whatever a killed attempt wrote beyond it is dropped."""
        # A validation after this very iteration is repeated.
        kept = [line for line in read_lines(self.path) if line["iter"] < iteration + (line["kind"] == "train")]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a", buffering=1)
        self._writer = SummaryWriter(str(self.tensorboard), purge_step=iteration + 1)
        self._began, self._first = time.monotonic(), iteration

    def close(self) -> None:
        """Flush and close the files."""
        if self._file:
            self._file.close()
        if self._writer:
            self._writer.close()

    def train(self, epoch: int, iteration: int, values: Mapping[str, float]) -> None:
        """Record one iteration's losses and learning rate."""
        if iteration % self._every == 0 or iteration == self.iterations:
            self._write({"kind": "train", "epoch": epoch, "iter": iteration, **values}, "train")
        at: dict[str, float] = {"epoch": epoch, "epochs": self.epochs, "seconds_left": self._seconds_left(iteration)}
        if self._first:
            at["resumed"] = self._first
        self._progress.report(iteration, loss=values["loss"], **at)

    def epoch_ended(self, epoch: int, iteration: int, loss: float) -> None:
        """One line in the log per epoch."""
        at = epoch, self.epochs, iteration, self.iterations
        log.info("epoch %d/%d, iteration %d/%d: loss %.4f, %.0f s left", *at, loss, self._seconds_left(iteration))

    def validation(self, epoch: int, iteration: int, values: Mapping[str, float]) -> None:
        """Record one validation's scores."""
        self._write({"kind": "val", "epoch": epoch, "iter": iteration, **values}, "val")
        shown = ", ".join(f"{name} {values[name]:.4f}" for name in self._shown if name in values)
        log.info("epoch %d/%d validated: %s", epoch, self.epochs, shown)

    def _write(self, line: dict[str, Any], group: str) -> None:
        line = with_nulls(line)  # of numbers that are not finite TensorBoard draws nothing, and warns
        self._file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{group}/{name}", value, line["iter"])  # type: ignore[union-attr]

    def _seconds_left(self, iteration: int) -> float:
        done = iteration - self._first
        return (time.monotonic() - self._began) / done * (self.iterations - iteration) if done else 0.0


def board_folder(volume: Path, work: Path, dataset: DatasetReference, config: str) -> Path:
    """The folder of a training's curves, like `plates v0.1.0 mask_rcnn_r18_small 2026-11-25 23.10`: when it began here.

    One that is resumed goes on in its own. Nobody else may use its work folder meanwhile.
    """
    home, note = volume / BOARDS, work / BOARD_NAME
    if note.is_file() and (known := note.read_text().strip()):
        (home / known).mkdir(parents=True, exist_ok=True)
        return home / known
    home.mkdir(parents=True, exist_ok=True)
    began = time.strftime("%Y-%m-%d %H.%M")  # TensorBoard takes a colon in its options for a separator
    name = f"{dataset.category} {dataset.version} {Path(config).stem} {began}"
    number = 0
    while True:
        number += 1  # trainings that begin within one minute, a search's for instance, get a number each
        folder = home / (f"{name} ({number})" if number > 1 else name)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            note.write_text(f"{folder.name}\n")
            return folder


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of JSON written so far; one that a kill cut off is none."""
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found
