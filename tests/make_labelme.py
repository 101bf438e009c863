"""Small labelme folders of synthetic images."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.annotations.labelme import Document, Shape, write_document

WIDTH, HEIGHT = 48, 32
NAMES = ("a.png", "b.jpg", "kitchen/c.png", "kitchen/top shelf/d.png")


def box(label: str = "plug", left: float = 5, top: float = 5, right: float = 25, bottom: float = 20) -> Shape:
    return Shape(label, np.array([[left, top], [right, bottom]], dtype=float), "rectangle")


def make_image(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Noise that follows from the file's name, so that no two images are equal and every run makes the same."""
    seed = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4])
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def annotate(folder: Path, name: str, shapes: Iterable[Shape]) -> Path:
    """Write an image and its JSON beside it; returns the JSON."""
    image = folder / name
    make_image(image)
    document = image.with_suffix(".json")
    write_document(document, Document(image.name, HEIGHT, WIDTH, tuple(shapes)))
    return document


def tick(folder: Path, name: str, *flags: str) -> Path:
    """Write an image and its JSON with flags ticked and no shape; returns the JSON."""
    document = annotate(folder, name, [])
    write_document(document, Document(name, HEIGHT, WIDTH, (), {"blurred": False} | dict.fromkeys(flags, True)))
    return document


def make_labelme(folder: Path, names: Iterable[str] = NAMES) -> Path:
    """A folder of annotated images, nested as the names say; a `plug` on each, a `switch` too on every second."""
    for index, name in enumerate(names):
        switch = [box("switch", 28, 8, 44, 30)] if index % 2 else []
        annotate(folder, name, [box("plug"), *switch])
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder: its path inside, with forward slashes -> its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
