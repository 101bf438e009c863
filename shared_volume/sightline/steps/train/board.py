"""Where TensorBoard finds a training: in a folder named as a person would name it."""

import contextlib
import time
from pathlib import Path
from typing import Final

from sightline.references import DatasetReference

FOLDER: Final = "tensorboard"  # on the volume, with a folder for each training: what `tensorboard --logdir` is given
NAME_FILE: Final = "tensorboard.txt"  # in a work folder; says which of them is its own


def board_folder(volume: Path, work: Path, dataset: DatasetReference, config: str) -> Path:
    """The folder of a training's curves, like `plates v0.1.0 mask_rcnn_r18_small 2026-11-25 23.10`: when it began here.

    One that is resumed goes on in its own. Nobody else may use its work folder meanwhile.
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
