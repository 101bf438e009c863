"""Labels are readable on pictures that are smaller than they are."""

import numpy as np
import pytest
from PIL import Image

from sightline.reports.pictures import LARGEST_SIDE, Shape, draw_shapes
from sightline.steps.testing.report import draw_predictions
from sightline.tasks.task import Task
from tests.unit.test_reports import write_image


def written(drawn: Image.Image) -> tuple[int, int]:
    """First and last column with text, white on a black picture."""
    columns = np.flatnonzero(np.asarray(drawn).min(axis=2).max(axis=0) > 150)
    return int(columns[0]), int(columns[-1])


@pytest.mark.parametrize("size", [(48, 48), (80, 60), (40, 150)])
@pytest.mark.parametrize("longest_side", [None, 160, 480])
def test_a_label_ends_within_a_small_picture(size, longest_side):
    shape = Shape(0, "Smart-Switch", (5.0, 20.0, 0.0, 0.0), None, 0.93)
    drawn = draw_shapes(Image.new("RGB", size), [shape], longest_side)
    left, right = written(drawn)
    assert 1 < left < right < drawn.width - 1
    assert drawn.width % size[0] == 0 and drawn.height % size[1] == 0
    assert (longest_side or 0) / 2 < max(drawn.size) <= (longest_side or LARGEST_SIDE)


def test_a_name_that_fits_no_picture_is_cut_and_keeps_its_score():
    by_length = {
        length: draw_shapes(Image.new("RGB", (200, 100)), [Shape(0, "x" * length, (0, 40, 0, 0), None, 0.5)], 200)
        for length in (200, 300)
    }
    assert by_length[200].tobytes() == by_length[300].tobytes()
    assert 150 < written(by_length[200])[1] < 199


def test_a_small_drawn_image_keeps_its_size_where_its_label_fits(tmp_path):
    write_image(tmp_path / "a.png", 48, 32)
    for name, expected in (("ox", (48, 32)), ("hippopotamus", (144, 96))):
        draw_predictions(
            Task("classification"),
            tmp_path / "a.png",
            [{"image_id": 1, "category_id": 1, "score": 0.9}],
            [name],
            tmp_path / "drawn.png",
            0.3,
        )
        with Image.open(tmp_path / "drawn.png") as drawn:
            assert drawn.size == expected
