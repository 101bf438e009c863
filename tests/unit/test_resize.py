"""Shapes drawn on a larger or smaller copy of the photograph."""

import numpy as np
import pytest

from sightline.annotations.labelme import Damage, Shape
from sightline.annotations.regions import mask_region
from sightline.annotations.resize import find_factors, resize_shape
from sightline.formats.reading import mask_pixels, mask_shape


@pytest.mark.parametrize(
    ("written", "true", "factors"),
    [
        ((200, 160), (100, 80), (0.5, 0.5)),
        ((640, 480), (1280, 960), (2, 2)),
        ((4000, 3000), (1333, 1000), (1333 / 4000, 1 / 3)),  # 1333.3 was rounded
        ((1333, 1000), (667, 500), (667 / 1333, 0.5)),
        ((641, 480), (640, 480), (640 / 641, 1)),
        ((200, 160), (100, 100), None),
        ((200, 160), (80, 100), None),
        ((640, 480), (640, 400), None),
    ],
)
def test_one_factor_on_both_sides_means_that_it_was_resized(written, true, factors):
    assert find_factors(written, true) == (pytest.approx(factors) if factors else None)


@pytest.mark.parametrize("kind", ["polygon", "rectangle", "linestrip", "oriented_rectangle"])
def test_points_are_scaled(kind):
    shape = Shape("cup", np.array([[60.0, 40.0], [140.0, 100.0]]), kind)
    assert resize_shape(shape, (0.5, 0.5)).points.tolist() == [[30, 20], [70, 50]]


def test_a_circle_stays_round():
    shape = Shape("cup", np.array([[60.0, 40.0], [60.0, 50.0]]), "circle")
    assert resize_shape(shape, (0.5, 0.51)).points.tolist() == [[30, 20], [30, 25]]


def test_a_mask_is_scaled_with_its_picture():
    pixels = np.zeros((160, 200), dtype=bool)
    pixels[40:100, 60:140] = True
    shape = mask_shape(pixels, 0, 0, "cup")
    smaller = resize_shape(shape, (0.5, 0.5))
    assert smaller.points.tolist() == [[30, 20], [69, 49]]
    assert mask_pixels(str(smaller.mask)).shape == (30, 40) and mask_pixels(str(smaller.mask)).all()
    region = mask_region(smaller.points, str(smaller.mask), 100, 80)
    assert (region.area, region.box) == (1200, (30, 20, 40, 30))
    larger = resize_shape(shape, (2, 2))
    assert mask_region(larger.points, str(larger.mask), 400, 320).box == (120, 80, 160, 120)


def test_what_is_damaged_stays_as_it_is():
    damaged = Shape("cup", np.empty((0, 2)), damage=Damage("no points"))
    no_picture = Shape("cup", np.array([[1.0, 2.0], [3.0, 4.0]]), "mask", mask="no picture")
    for shape in (damaged, no_picture):
        assert resize_shape(shape, (0.5, 0.5)) is shape
