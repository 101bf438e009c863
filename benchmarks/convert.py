"""labelme JSON to COCO: ours, labelme2coco's, and ours with boxes taken from a raster mask, in one run on one core.

    python benchmarks/convert.py [--files 3000]

Every file has three polygons of about 20 points on a 640 x 352 JPEG of about 8 KB, without the embedded image.
"""

import argparse
import contextlib
import io
import logging
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared_volume"))

import numpy as np  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402
from pycocotools import mask  # noqa: E402

from sightline.annotations.instances import choose_classes, read_usable  # noqa: E402
from sightline.annotations.labelme import Document, Shape, read_document, write_document  # noqa: E402
from sightline.annotations.recipe import Recipe  # noqa: E402
from sightline.annotations.regions import Box  # noqa: E402
from sightline.annotations.truth import write_truth  # noqa: E402
from sightline.tasks.detection.data import truth_of  # noqa: E402

WIDTH, HEIGHT = 640, 352
LABELS = ("PS4-Controller", "Smart-Plug", "Smart-Switch")


def make_files(folder: Path, count: int, first: int = 0) -> None:
    """Annotated images like desk_objects_92, no two alike, with numbers from `first`."""
    for index in range(first, first + count):
        draw = random.Random(index)
        name = f"{index:05d}"
        (folder / f"{name}.jpg").write_bytes(small_jpeg(index))
        shapes = tuple(Shape(label, make_polygon(draw)) for label in LABELS)
        write_document(folder / f"{name}.json", Document(f"{name}.jpg", HEIGHT, WIDTH, shapes))


def small_jpeg(seed: int) -> bytes:
    """About 8 KB."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=40)
    return buffer.getvalue()


def make_polygon(draw: random.Random) -> np.ndarray:
    """A star-shaped outline of 16 to 24 points within the image."""
    x, y, points = draw.uniform(100, WIDTH - 100), draw.uniform(100, HEIGHT - 100), draw.randint(16, 24)
    angles = [2 * math.pi * index / points for index in range(points)]
    radii = [draw.uniform(40, 95) for _ in angles]
    return np.array([(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)])


def convert_ours(folder: Path, target: Path) -> list[Box]:
    images, findings = read_usable(folder, Recipe())
    assert not findings, findings[0]
    content = truth_of(images, choose_classes(images, Recipe()))
    write_truth(target, content)
    return [tuple(annotation["bbox"]) for annotation in content["annotations"]]


def convert_labelme2coco(folder: Path, target: Path) -> list[Box]:
    from labelme2coco import get_coco_from_labelme_folder

    logging.disable(logging.INFO)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):  # its progress bar
        content = get_coco_from_labelme_folder(str(folder), category_id_start=1).json
    write_truth(target, content)
    return [tuple(annotation["bbox"]) for annotation in content["annotations"]]


def convert_by_raster(folder: Path, target: Path) -> list[Box]:
    """Ours, but with boxes and areas as many converters take them: paint each polygon, look where the paint is."""
    images, _ = read_usable(folder, Recipe())
    content = truth_of(images, choose_classes(images, Recipe()))
    for annotation in content["annotations"]:
        canvas = Image.new("L", (WIDTH, HEIGHT))
        ImageDraw.Draw(canvas).polygon(annotation["segmentation"][0], fill=1, outline=1)
        painted = mask.encode(np.asfortranarray(canvas))
        annotation["bbox"] = mask.toBbox(painted).tolist()
        annotation["area"] = float(mask.area(painted))
    write_truth(target, content)
    return [tuple(annotation["bbox"]) for annotation in content["annotations"]]


def boxes_by_hand(folder: Path) -> list[Box]:
    """The truth, written as plainly as can be."""
    boxes = []
    for path in sorted(folder.glob("*.json")):
        for shape in read_document(path).shapes:
            (left, top), (right, bottom) = shape.points.min(axis=0).tolist(), shape.points.max(axis=0).tolist()
            boxes.append((left, top, right - left, bottom - top))
    return boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=3000)
    count = parser.parse_args().files
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "annotations"
        folder.mkdir()
        make_files(folder, count)
        truth = np.array(boxes_by_hand(folder))
        variants: dict[str, Callable[[Path, Path], list[Box]]] = {
            "ours": convert_ours,
            "labelme2coco": convert_labelme2coco,
            "boxes from a raster mask": convert_by_raster,
        }
        print(f"{count} files, {len(truth)} polygons")
        for name, convert in variants.items():
            started = time.perf_counter()
            try:
                boxes = np.array(convert(folder, Path(work) / "coco.json"), dtype=float)
            except Exception as error:  # a competitor may fail; say so and go on
                print(f"{name:26s} failed: {type(error).__name__}: {error}")
                continue
            seconds = time.perf_counter() - started
            worst = np.abs(boxes - truth).max() if boxes.shape == truth.shape else math.nan
            equal = (boxes == truth).all(axis=1).mean() if boxes.shape == truth.shape else 0.0
            print(f"{name:26s} {count / seconds:8.0f} files/s   boxes equal {equal:6.1%}, worst off by {worst:.3g} px")


if __name__ == "__main__":
    main()
