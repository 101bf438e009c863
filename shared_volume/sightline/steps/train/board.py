"""Where TensorBoard finds a training: in a folder named as a person would name it."""

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
        volume: the volume.
        work: the training's work folder, which nobody else uses meanwhile.
        dataset: what it trains on.
        config: name of the model config.

    Returns:
        An existing folder like `plates v0.1.0 mask_rcnn_r18_small 2026-11-25 23.10`, by the time at which it began here.
    """
    note = work / NAME_FILE
    if note.is_file() and (known := note.read_text().strip()):
        folder = volume / FOLDER / known
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    began = time.strftime("%Y-%m-%d %H.%M")  # TensorBoard takes a colon in its options for a separator
    name = f"{dataset.category} {dataset.version} {Path(config).stem} {began}"
    folder = _new_folder(volume / FOLDER, name)
    note.write_text(f"{folder.name}\n")
    return folder


def _new_folder(home: Path, name: str) -> Path:
    """Make a folder; of trainings that begin within one minute, a search's for instance, each gets a number."""
    home.mkdir(parents=True, exist_ok=True)
    folder, number = home / name, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = home / f"{name} ({number})"
        else:
            return folder
