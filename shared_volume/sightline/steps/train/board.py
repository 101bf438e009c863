"""Where TensorBoard finds a training: in a folder named as a person would name it."""

import contextlib
import time
from pathlib import Path
from typing import Final

from sightline.references import DatasetReference

FOLDER: Final = "tensorboard"
"""On the volume, a folder for each training: what `tensorboard --logdir` is given."""
NAME_FILE: Final = "tensorboard.txt"
"""In a work folder; says which of them is its own."""


def board_folder(volume: Path, work: Path, dataset: DatasetReference, config: str) -> Path:
    """The folder of a training's curves; one that is resumed goes on in its own.

    Args:
        volume: the persistent volume.
        work: the training's work folder, which nobody else uses meanwhile.
        dataset: what it trains on.
        config: name of the model config.

    Returns:
        An existing folder like `plates v0.1.0 mask_rcnn_r18_small 2026-11-25 23.10`, by the time at which it began here.
    """
    home, note = volume / FOLDER, work / NAME_FILE
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
