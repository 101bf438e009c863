"""A folder of drawn photographs, each with its labelme JSON."""

import shutil
import tempfile
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from laptop.samples.plates import LETTERS
from laptop.samples.scene import photograph_plates
from sightline.annotations.labelme import Document, Shape, write_document
from sightline.errors import SightlineError, nearest

LabelSet = Literal["board", "numbers", "all"]
BOARDS = ("l_board", "r_board")
NUMBERS = ("l_s_n", "r_s_n", "l_m_n", "r_m_n")
CHARACTERS = tuple("0123456789" + LETTERS)
LABELS: dict[LabelSet, tuple[str, ...]] = {
    "board": BOARDS,
    "numbers": BOARDS + NUMBERS,
    "all": BOARDS + NUMBERS + CHARACTERS,
}
"""2 labels, 6 or 21."""
SMALLEST_SIDE = 64  # pixels


def make_plates(
    folder: Path, images: int, seed: int, labels: LabelSet = "numbers", size: tuple[int, int] = (640, 480)
) -> None:
    """Draw licence-plate photographs: plate_0000.jpg with plate_0000.json, and so on.

    The same arguments give the same bytes. An image depends on the seed, its number and the size (width, height) only:
    asking for more images, or for other labels, changes no photograph. The folder must not exist or be empty; all of it
    is made, or nothing.
    """
    folder = folder.resolve()
    _check(folder, images, seed, labels, size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        # Not `staging` itself: mkdtemp's folders are closed to everyone else.
        made = staging / folder.name
        made.mkdir()
        console = Console(stderr=True)
        for index in track(
            range(images), "Photographs", console=console, transient=True, disable=not console.is_terminal
        ):
            _write_image(made, index, seed, labels, size)
        made.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check(folder: Path, images: int, seed: int, labels: str, size: tuple[int, int]) -> None:
    if folder.exists() and not folder.is_dir():
        raise SightlineError(f"{folder} is a file. Name a folder that does not exist yet.")
    if folder.is_dir() and any(folder.iterdir()):
        raise SightlineError(
            f"{folder} is not empty, and sample data never overwrites. Name another folder or empty it."
        )
    if images < 1:
        raise SightlineError(f"{images} images were asked for. Ask for 1 or more.")
    if seed < 0:
        raise SightlineError(f"The seed is {seed}. Give 0 or more.")
    if labels not in LABELS:
        raise SightlineError(f"There is no label set {labels!r}.{nearest(labels, tuple(LABELS))}")
    if min(size) < SMALLEST_SIDE:
        raise SightlineError(
            f"Images of {size[0]}x{size[1]} pixels are too small. Give at least {SMALLEST_SIDE} each way."
        )


def _write_image(folder: Path, index: int, seed: int, labels: LabelSet, size: tuple[int, int]) -> None:
    rng = np.random.default_rng([seed, index])
    pixels, plates = photograph_plates(rng, size)
    quality = int(rng.integers(62, 94))
    name = f"plate_{index:04d}"
    _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    (folder / f"{name}.jpg").write_bytes(encoded.tobytes())
    shapes = [
        Shape(
            part.label,
            np.round(part.outline, 3),
            # Shapes of one label and one group are one thing in parts: two equal digits of a plate must not be that.
            group_id=None if part.label in CHARACTERS else group,
            description=text if part.label in BOARDS else "",
        )
        for group, (text, parts) in enumerate(plates)
        for part in parts
        if part.label in LABELS[labels]
    ]
    document = Document(f"{name}.jpg", image_height=size[1], image_width=size[0], shapes=tuple(shapes))
    write_document(folder / f"{name}.json", document)
