"""Seconds to hash photographs, to group 10,000 hashes, and to split 10,000 images published in ten versions.

python benchmarks/splits.py [--images 10000]
"""

import argparse
import hashlib
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared_volume"))

from PIL import Image

from sightline.annotations.recipe import Recipe
from sightline.images.similarity import group_similar, perceptual_hash
from sightline.steps.record.groups import SplitImage
from sightline.steps.record.split import assign_splits

DISTANCE = 6
VERSIONS = 10
SIZES = ((640, 480), (1920, 1080), (4000, 3000))
REPEATED = 10


def hash_photographs() -> None:
    """Milliseconds for each size and format."""
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            for suffix in ("jpg", "png"):
                path = Path(folder, f"photo.{suffix}")
                Image.effect_noise((width // 8, height // 8), 60).resize((width, height)).convert("RGB").save(path)
                began = time.process_time()
                for _ in range(REPEATED):
                    perceptual_hash(path)
                each = (time.process_time() - began) / REPEATED * 1000
                print(f"hash of a {width} x {height} {suffix}: {each:.1f} ms of processor time")


def make_images(count: int) -> list[SplitImage]:
    """Every tenth image looks like the one before it."""
    draw = random.Random(0)
    split_images: list[SplitImage] = []
    for number in range(count):
        looks = draw.getrandbits(63)
        if number % 10 == 9:
            looks = int(split_images[-1].perceptual_hash, 16) ^ 0b101
        sha256 = hashlib.sha256(str(number).encode()).hexdigest()
        labels = frozenset(draw.sample([f"class {label}" for label in range(80)], 3))
        generation = number * VERSIONS // count
        split_images.append(SplitImage(f"{number}.jpg", sha256, f"{looks:016x}", labels, generation))
    return split_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    count = parser.parse_args().images
    hash_photographs()
    split_images = make_images(count)
    began = time.process_time()
    groups = group_similar([one.perceptual_hash for one in split_images], DISTANCE)
    print(f"{count} hashes in {len(groups)} groups: {time.process_time() - began:.2f} s")
    for stratify in (False, True):
        began = time.process_time()
        splitting = assign_splits(split_images, [], Recipe(stratify=stratify), {})
        seconds = time.process_time() - began
        print(
            f"{count} images of {VERSIONS} versions, stratify {stratify}: {seconds:.2f} s, {len(splitting.groups)} groups"
        )


if __name__ == "__main__":
    main()
