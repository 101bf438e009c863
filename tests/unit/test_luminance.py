"""What a perceptual hash is made of: the luminance of pixels, and its mean in each of 32 x 32 cells. Both in whole numbers."""

import numpy as np
import pytest
from PIL import Image

from sightline.images.files import read_grey
from sightline.images.similarity import _average


def test_the_luminance_of_every_colour_is_rounded_down(tmp_path):
    steps = np.arange(0, 256, 3, dtype=np.int64)
    red, green, blue = np.meshgrid(steps, steps, steps)
    colours = np.stack([red, green, blue], -1).reshape(len(steps), -1, 3)
    Image.fromarray(colours.astype(np.uint8)).save(tmp_path / "a.png")
    wanted = (299 * colours[..., 0] + 587 * colours[..., 1] + 114 * colours[..., 2]) // 1000
    assert read_grey(tmp_path / "a.png", side=256).tolist() == wanted.tolist()


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (31, 33), (45, 100), (320, 64), (7, 4000), (4000, 1)])
def test_border_pixels_count_by_their_part_in_a_cell(size):
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    # Each pixel as 32 x 32 equal ones: then no pixel lies on a border.
    columns = np.repeat(pixels, 32, axis=1).reshape(height, 32, width).sum(2, dtype=np.int64)
    cells = np.repeat(columns, 32, axis=0).reshape(32, height, 32).sum(1)
    assert _average(pixels).tolist() == (cells * 256 // (height * width)).tolist()


@pytest.mark.parametrize(("mode", "options"), [("RGB", {}), ("RGB", {"keep_rgb": True}), ("L", {}), ("CMYK", {})])
def test_the_luminance_of_a_jpeg_is_its_own(tmp_path, mode, options):
    coarse = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    scene = Image.fromarray(coarse).resize((640, 352), Image.Resampling.BICUBIC).convert(mode)
    scene.save(tmp_path / "a.jpg", quality=95, **options)
    colours = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")).astype(np.int64)
    from_pixels = (299 * colours[..., 0] + 587 * colours[..., 1] + 114 * colours[..., 2]) // 1000
    inside = ((colours > 0) & (colours < 255)).all(axis=-1)  # not cut off at black or white
    found = read_grey(tmp_path / "a.jpg", side=256)
    assert found.shape == (352, 640)
    assert np.abs(found - from_pixels)[inside].max() <= 2
