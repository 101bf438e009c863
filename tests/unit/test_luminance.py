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
