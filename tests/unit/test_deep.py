"""Images of 10 to 32 bits and floats keep their contrast when they become 8 bits."""

import cv2
import numpy as np
import pytest
from PIL import Image

from sightline.annotations.labelme import Document, write_document
from sightline.annotations.read import Annotated, read_annotations
from sightline.images.deep import is_deep, scale_to_bytes
from sightline.images.files import read_image, read_reduced
from tests.make_labelme import box


@pytest.mark.parametrize(
    ("values", "scaled"),
    [
        (np.array([[0, 4095]], dtype=np.uint16), [[0, 255]]),
        (np.array([[100, 150, 200]], dtype=np.int32), [[0, 128, 255]]),
        (np.array([[-1.0, 0.0, 1.0]]), [[0, 128, 255]]),
        (np.array([[np.nan, 0.0, 1.0, np.inf, -np.inf]]), [[0, 0, 255, 255, 0]]),
        (np.array([[7.0, 7.0]]), [[0, 0]]),
        (np.array([[np.nan]]), [[0]]),
        (np.array([[0, 2**31 - 1]], dtype=np.int32), [[0, 255]]),
        (np.array([[-1e300, 1e300]]), [[0, 255]]),
    ],
)
def test_the_darkest_becomes_black_and_the_lightest_white(values, scaled):
    assert scale_to_bytes(values).tolist() == scaled


RAMP = np.linspace(0, 1, 80 * 60).reshape(60, 80)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("10_bit.png", (RAMP * 1023).astype(np.uint16)),
        ("12_bit.tif", (RAMP * 4095).astype(np.uint16)),
        ("16_bit.png", (RAMP * 65535).astype(np.uint16)),
        ("32_bit.tif", (RAMP * 1e6).astype(np.int32)),
        ("negative.tif", (RAMP * 2000 - 1000).astype(np.int32)),
        ("float.tif", RAMP.astype(np.float32)),
        ("float_255.tif", (RAMP * 255).astype(np.float32)),
    ],
)
def test_a_deep_image_is_read_with_its_whole_contrast(tmp_path, name, pixels):
    Image.fromarray(pixels).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert is_deep(image)
    read = read_image(tmp_path / name)
    assert read.shape == (60, 80, 3) and read.dtype == np.uint8
    assert (read[0, 0].tolist(), read[-1, -1].tolist()) == ([0, 0, 0], [255, 255, 255])
    assert np.abs(read[:, :, 0] - RAMP * 255).max() <= 1
    reduced = read_reduced(tmp_path / name, 30)
    assert (int(reduced.min()), int(reduced.max())) == (pytest.approx(0, abs=6), pytest.approx(255, abs=6))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "b.png", "c.png"])
def test_colours_of_16_bits_are_told(tmp_path, name):
    pixels = np.full((60, 80, 4 if name[0] == "b" else 3), 3000, dtype=np.uint16)
    wide = name[0] != "c" and name.endswith("png")
    cv2.imwrite(str(tmp_path / name), pixels if wide else (pixels >> 8).astype(np.uint8))
    write_document(tmp_path / "x.json", Document(name, 60, 80, (box(),)))
    [read] = [one for one in read_annotations(tmp_path, 10**6) if isinstance(one, Annotated)]
    assert (read.header.wide, read.header.deep) == (wide, False)
    assert [str(found.code) for found in read.findings] == ["more_than_8_bits"] * wide


def test_eight_bits_stay_as_they_are(tmp_path):
    grey = np.arange(100, 160, dtype=np.uint8).reshape(6, 10)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    with Image.open(tmp_path / "grey.png") as image:
        assert not is_deep(image)
    assert (read_image(tmp_path / "grey.png")[:, :, 0] == grey).all()
