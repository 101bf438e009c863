"""Versions in other tools' formats: what is written, and what each format cannot take."""

from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle_of
from pycocotools.coco import COCO

from sightline.annotations.regions import polygon_area
from sightline.formats.coco import write_coco_folder
from sightline.formats.convert import as_labelme
from sightline.formats.voc import write_voc_folder
from sightline.formats.writing import Losses, Part, choose_flat_name, copy_upright, is_box, join_outlines, mask_outlines
from sightline.formats.yolo import write_yolo_folder
from sightline.images.files import read_header, read_image
from tests.make_labelme import HEIGHT, WIDTH, files_in, make_image

SQUARE = {"bbox": [4.0, 6.0, 12.0, 8.0], "segmentation": [[4, 6, 16, 6, 16, 14, 4, 14]], "iscrowd": 0}
TRIANGLE = {"bbox": [1.5, 2.0, 8.0, 6.25], "segmentation": [[1.5, 2, 9.5, 2, 5, 8.25]], "iscrowd": 0}
PARTS = {"bbox": [1, 2, 29, 18], "segmentation": [[1, 2, 9, 2, 5, 8], [20, 10, 30, 10, 25, 20]], "iscrowd": 0}
RING = np.zeros((HEIGHT, WIDTH), dtype=bool)
RING[4:12, 6:20] = True
RING[6:8, 9:12] = False


def painted(pixels, iscrowd=0):
    encoded = rle_of.encode(np.asfortranarray(pixels.astype(np.uint8)))
    segmentation = {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}
    return {"bbox": rle_of.toBbox(encoded).tolist(), "segmentation": segmentation, "iscrowd": iscrowd}


def part(folder, *drawn, name="train", image="a.png", labels=("plug", "스위치 🔌")):
    """A part with one image; annotation n is of category n modulo the number of labels."""
    make_image(folder / image)
    annotations = [
        {"id": number + 1, "image_id": 1, "category_id": number % len(labels) + 1, "area": 1.0} | one
        for number, one in enumerate(drawn)
    ]
    coco = {
        "images": [{"id": 1, "file_name": image, "width": WIDTH, "height": HEIGHT}],
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for number, label in enumerate(labels, 1)],
    }
    return Part(name, coco, folder)


def empty(name):
    return Part(name, {"images": [], "annotations": [], "categories": [{"id": 1, "name": "plug"}]}, None)


def written(write, target, *parts):
    """The notes; the files lie in `target`."""
    target.mkdir()
    losses = Losses()
    write(parts, target, losses)
    return losses.notes()


def numbers(path):
    return [[float(number) for number in line.split()] for line in path.read_text().splitlines()]


def inside(outline, width, height):
    """Which pixels' centres an outline holds, by the even-odd rule."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    held = np.zeros((height, width), dtype=bool)
    for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y1 != y2:
            held ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return held


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.1, 0.5, 0.9]))
def test_outlines_of_a_mask_hold_just_its_pixels_and_so_do_they_joined(seed, width, height, density):
    pixels = np.random.default_rng(seed).random((height, width)) < density
    pixels[height // 2, width // 2] = True
    outlines = mask_outlines(pixels)
    held = np.zeros_like(pixels)
    for outline in outlines:
        held ^= inside(outline, width, height)
    assert (held == pixels).all()
    joined = join_outlines(outlines)
    assert (inside(joined, width, height) == pixels).all()
    assert polygon_area(joined) == pixels.sum()


def test_touching_pixels_keep_outlines_of_their_own():
    outlines = mask_outlines(np.eye(3, dtype=bool))
    assert sorted(outline.tolist() for outline in outlines) == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
        [[2, 2], [3, 2], [3, 3], [2, 3]],
    ]


@pytest.mark.parametrize(
    ("drawn", "so"),
    [
        (SQUARE, True),
        (TRIANGLE, False),
        (PARTS, False),
        (painted(RING), False),
        (SQUARE | {"bbox": [4, 6, 12, 9]}, False),
    ],
)
def test_what_is_just_a_box(drawn, so):
    assert is_box(drawn) is so


def test_coco_is_what_pycocotools_reads(tmp_path):
    one = part(tmp_path / "images", SQUARE, TRIANGLE, PARTS, painted(RING), painted(RING, 1), image="kitchen/a b.png")
    assert written(write_coco_folder, tmp_path / "out", one, empty("val")) == ()
    found = COCO(str(tmp_path / "out" / "annotations" / "instances_train.json"))
    assert [annotation["segmentation"] for annotation in found.loadAnns([1, 2, 3])] == [
        one["segmentation"] for one in (SQUARE, TRIANGLE, PARTS)
    ]
    assert (found.annToMask(found.loadAnns([4])[0]).astype(bool) == RING).all()
    assert found.getAnnIds(iscrowd=True) == [5]
    (image,) = found.loadImgs([1])
    assert (tmp_path / "out" / "images" / "train" / image["file_name"]).is_file()
    assert COCO(str(tmp_path / "out" / "annotations" / "instances_val.json")).getImgIds() == []


def test_yolo_boxes_where_nothing_is_more_than_its_box(tmp_path):
    notes = written(write_yolo_folder, tmp_path / "out", part(tmp_path / "i", SQUARE, SQUARE), empty("val"))
    assert numbers(tmp_path / "out" / "labels" / "train" / "a.txt") == [
        pytest.approx([number, 10 / WIDTH, 10 / HEIGHT, 12 / WIDTH, 8 / HEIGHT], abs=1e-8) for number in (0, 1)
    ]
    assert yaml.safe_load((tmp_path / "out" / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/train",
        "names": {0: "plug", 1: "스위치 🔌"},
    }
    assert notes == ("sets that Ultralytics asks for and that have no images (val; data.yaml names train there): 1",)


def test_yolo_outlines_for_all_as_soon_as_one_object_has_one(tmp_path):
    notes = written(
        write_yolo_folder,
        tmp_path / "out",
        part(tmp_path / "i", SQUARE, PARTS, painted(RING), painted(RING, 1)),
        part(tmp_path / "j", SQUARE, name="val"),
    )
    (_, *square), (_, *parts), (_, *ring) = numbers(tmp_path / "out" / "labels" / "train" / "a.txt")
    size = WIDTH, HEIGHT
    assert np.reshape(square, (-1, 2)) * size == pytest.approx(np.reshape(SQUARE["segmentation"], (-1, 2)), abs=1e-5)
    assert polygon_area(np.reshape(parts, (-1, 2)) * size) == pytest.approx(24 + 50, abs=1e-3)
    assert (inside(np.reshape(ring, (-1, 2)) * size, *size) == RING).all()
    assert len(numbers(tmp_path / "out" / "labels" / "val" / "a.txt")[0]) == 9
    assert notes == (
        "crowds left out, which YOLO does not have: 1",
        "objects in parts or with holes written as one outline, joined by lines without area: 2",
        "painted masks written as their outlines: 1",
    )


def test_yolo_boxes_stay_boxes_beside_a_crowd_that_is_left_out(tmp_path):
    written(write_yolo_folder, tmp_path / "out", part(tmp_path / "i", SQUARE, painted(RING, 1)))
    assert [len(line) for line in numbers(tmp_path / "out" / "labels" / "train" / "a.txt")] == [5]


def test_an_image_without_objects_gets_an_empty_text(tmp_path):
    written(write_yolo_folder, tmp_path / "out", part(tmp_path / "i"))
    assert (tmp_path / "out" / "labels" / "train" / "a.txt").read_bytes() == b""


def test_voc_boxes_in_whole_pixels_counted_from_one(tmp_path):
    notes = written(
        write_voc_folder, tmp_path / "out", part(tmp_path / "i", SQUARE, TRIANGLE, painted(RING, 1)), empty("val")
    )
    root = ElementTree.parse(tmp_path / "out" / "Annotations" / "a.xml").getroot()
    found = [
        [drawn.findtext("name"), drawn.findtext("difficult"), *[int(end.text) for end in drawn.find("bndbox")]]
        for drawn in root.iter("object")
    ]
    assert found == [
        ["plug", "0", 5, 7, 16, 14],
        ["스위치 🔌", "0", 3, 3, 10, 8],
        ["plug", "1", 7, 5, 20, 12],
    ]
    assert [root.findtext(path) for path in ("filename", "size/width", "size/height")] == ["a.png", "48", "32"]
    assert (tmp_path / "out" / "ImageSets" / "Main" / "train.txt").read_text() == "a\n"
    assert (tmp_path / "out" / "ImageSets" / "Main" / "val.txt").read_text() == ""
    assert notes == (
        "boxes rounded to whole pixels: 1",
        "crowds marked difficult, which evaluations leave out as well: 1",
        "outlines and masks reduced to boxes: 2",
    )


def test_a_label_that_xml_cannot_write_is_replaced_and_said(tmp_path):
    notes = written(write_voc_folder, tmp_path / "out", part(tmp_path / "i", SQUARE, labels=("a\x01<&>",)))
    root = ElementTree.parse(tmp_path / "out" / "Annotations" / "a.xml").getroot()
    assert root.findtext("object/name") == "a\ufffd<&>"
    assert "names with characters that XML does not have, each replaced by \ufffd: 1" in notes


def test_names_that_a_format_would_mix_up_are_told_apart():
    losses = Losses()
    taken: set[str] = set()
    given = ["a.png", "a.jpg", "kitchen/A.png", "kitchen_a.png", "images/b.png"]
    assert [choose_flat_name(name, taken, losses) for name in given] == [
        "a.png",
        "a_2.jpg",
        "kitchen_A.png",
        "kitchen_a_2.png",
        "images_b.png",
    ]
    assert [note.rpartition(" ")[2] for note in losses.notes()] == ["4"]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_an_image_that_exif_turns_is_written_upright(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(
        np.arange(WIDTH * HEIGHT * 3, dtype=np.uint32).astype(np.uint8).reshape(HEIGHT, WIDTH, 3) // 4
    ).save(tmp_path / name, exif=exif, lossless=True)
    losses = Losses()
    copy_upright(tmp_path / name, tmp_path / "out" / name, losses)
    header = read_header(tmp_path / "out" / name)
    assert header.orientation == 1
    before, after = read_image(tmp_path / name).astype(int), read_image(tmp_path / "out" / name).astype(int)
    assert before.shape == after.shape
    assert np.abs(before - after).mean() < (4 if name == "a.jpg" else 1e-9)
    with Image.open(tmp_path / "out" / name) as image:  # what a reader that does not look at EXIF sees
        assert image.size == (header.width, header.height)
    assert len(losses.notes()) == 1


def test_an_upright_image_keeps_its_bytes(tmp_path):
    make_image(tmp_path / "a.jpg")
    losses = Losses()
    copy_upright(tmp_path / "a.jpg", tmp_path / "out" / "a.jpg", losses)
    assert files_in(tmp_path / "out") == {"a.jpg": (tmp_path / "a.jpg").read_bytes()}
    assert losses.notes() == ()


@pytest.mark.parametrize(
    ("write", "form"), [(write_coco_folder, "coco"), (write_yolo_folder, "yolo"), (write_voc_folder, "voc")]
)
def test_what_is_exported_is_recognised_and_read_again(tmp_path, write, form):
    written(write, tmp_path / "out", part(tmp_path / "i", SQUARE, SQUARE, image="한 글.png"))
    source = as_labelme(tmp_path / "out", "auto", tmp_path / "again")
    assert (source.form, source.findings) == (form, ())
    assert sorted(files_in(tmp_path / "again")) == ["한 글.json", "한 글.png"]
