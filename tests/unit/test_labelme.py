import base64
import json
import math
import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.annotations import labelme
from sightline.annotations.labelme import (
    Document,
    ImagePathError,
    LabelmeError,
    Shape,
    edit_document,
    read_document,
    read_embedded_image,
    write_document,
)

TRIANGLE = [[0, 0], [4, 0], [4, 3.5]]


def content(**changes):
    shape = {"label": "plug", "points": TRIANGLE, "group_id": None, "shape_type": "polygon", "flags": {}}
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [shape],
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": 10,
        "imageWidth": 20,
    } | changes


def shape(**changes):
    return content()["shapes"][0] | changes


def write(path, text):
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def test_a_document_is_read(tmp_path):
    document = read_document(write(tmp_path / "a.json", content()))
    assert (document.image_path, document.image_width, document.image_height) == ("a.jpg", 20, 10)
    (only,) = document.shapes
    assert (only.label, only.shape_type, only.group_id) == ("plug", "polygon", None)
    assert only.points.dtype == np.float64
    assert only.points.tolist() == TRIANGLE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"imageHeight": None, "imageWidth": None}, id="no size"),
        pytest.param({"imageWidth": 20.0}, id="a whole number written as a float"),
        pytest.param({"imageData": "iVBORw0KGgo="}, id="an embedded image"),
        pytest.param({"shapes": []}, id="no shapes"),
        pytest.param({"shapes": [{"label": "old", "points": TRIANGLE}]}, id="the keys of labelme 3"),
        pytest.param({"shapes": [shape(points=[])]}, id="a shape without points"),
        pytest.param({"flags": None}, id="no flags"),
    ],
)
def test_what_labelme_writes_in_any_version_is_read(tmp_path, changes):
    read_document(write(tmp_path / "a.json", content(**changes)))


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content()).encode())
    assert read_document(path).image_path == "a.jpg"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('{"version": "5.0.1", "shapes": [', "cut off", id="cut off"),
        pytest.param("", "empty", id="empty"),
        pytest.param("\x00\x01", "not JSON", id="binary"),
        pytest.param([1, 2], "not labelme's", id="a list"),
        pytest.param({"images": [], "annotations": []}, "not labelme's", id="COCO"),
        pytest.param(content(shapes={}), "must be a list", id="shapes is no list"),
        pytest.param("[" * 100_000, "nested too deeply", id="nested without end"),
        pytest.param(json.dumps(content(description="half \ud83d")), "not JSON", id="half a character"),
        pytest.param(content(imagePath=None), "imagePath", id="no image path"),
        pytest.param(content(imagePath=""), "imagePath", id="an empty image path"),
        pytest.param(content(imagePath="a\0.jpg"), "imagePath", id="a zero byte in the image path"),
    ],
)
def test_a_damaged_document_is_refused_with_its_reason(tmp_path, text, says):
    path = write(tmp_path / "broken.json", text)
    with pytest.raises(LabelmeError, match=says) as refused:
        read_document(path)
    assert "broken.json" in str(refused.value)


@pytest.mark.parametrize(
    ("damaged", "says", "finite"),
    [
        pytest.param("x", "not an object", True, id="text"),
        pytest.param(None, "not an object", True, id="null"),
        pytest.param({"points": TRIANGLE}, "no 'label'", True, id="no label key"),
        pytest.param({"label": "a"}, "no 'points'", True, id="no points key"),
        pytest.param(shape(label=3), "must be text", True, id="a label is a number"),
        pytest.param(shape(label="x" * 300), "200 characters", True, id="an endless label"),
        pytest.param(shape(points=[[1, 2, 3]]), r"\[x, y\]", True, id="three coordinates"),
        pytest.param(shape(points=[[1, 2], [3]]), r"\[x, y\]", True, id="a ragged list"),
        pytest.param(shape(points=[["1", "2"]]), "two numbers", True, id="text for a coordinate"),
        pytest.param(shape(points=[[None, 2]]), "two numbers", True, id="null for a coordinate"),
        pytest.param(shape(points="x"), "must be a list", True, id="points is text"),
        pytest.param(shape(points=[[math.nan, 2]]), "not a number", False, id="NaN"),
        pytest.param(shape(points=[[1, 2], [math.inf, 2]]), "not a number", False, id="infinite"),
        pytest.param(shape(points=[[-1e300, 2]]), "not a number", False, id="far too large"),
        pytest.param(shape(points=[[2e9, 2]]), "not a number", False, id="too large"),
        pytest.param(shape(points=[[10**30, 2]]), "not a number", False, id="a huge whole number"),
        pytest.param(shape(group_id="a"), "group_id", True, id="a group is text"),
        pytest.param(shape(group_id=10**30), "group_id", True, id="a huge group"),
    ],
)
def test_a_damaged_shape_keeps_its_place_and_costs_no_other(tmp_path, damaged, says, finite):
    path = write(tmp_path / "a.json", content(shapes=[shape(), damaged, shape(label="last")]))
    first, second, third = read_document(path).shapes
    assert (first.label, first.damage, third.label, third.damage) == ("plug", None, "last", None)
    assert len(second.points) == 0
    assert second.damage.finite == finite
    assert re.search(says, second.damage.reason)


@pytest.mark.parametrize("size", ["640", 1.5, True, 0, -3, 10**9, math.nan, [1]])
def test_a_size_that_is_no_size_counts_as_none(tmp_path, size):
    document = read_document(write(tmp_path / "a.json", content(imageWidth=size)))
    assert (document.image_width, document.image_height) == (None, 10)


@pytest.mark.parametrize("odd", [[1], "x", 3, None, {"a": [1]}])
def test_flags_and_descriptions_of_odd_types_do_no_harm(tmp_path, odd):
    path = write(tmp_path / "a.json", content(flags=odd, shapes=[shape(flags=odd, description=odd)]))
    document = read_document(path)
    write_document(tmp_path / "b.json", document)
    (again,) = read_document(tmp_path / "b.json").shapes
    assert isinstance(again.description, str)
    assert again.flags == (odd if isinstance(odd, dict) else {})


def test_a_pipe_instead_of_a_file_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(LabelmeError, match="plain file"):
        read_document(tmp_path / "a.json")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(3 * 2**30)  # takes no room on the disk
    with pytest.raises(LabelmeError, match="3,221,225,472 bytes"):
        read_document(tmp_path / "a.json")


def test_more_values_than_memory_could_hold_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(labelme, "_MOST_VALUES", 1000)
    path = write(tmp_path / "a.json", content(shapes=[shape()] * 100))
    with pytest.raises(LabelmeError, match="more than 1,000 values"):
        read_document(path)


def test_ten_thousand_shapes_are_read(tmp_path):
    assert len(read_document(write(tmp_path / "a.json", content(shapes=[shape()] * 10_000))).shapes) == 10_000


def test_an_embedded_image_is_seen_and_can_be_had(tmp_path):
    path = write(tmp_path / "a.json", content(imageData=base64.b64encode(b"a picture").decode()))
    assert read_document(path).embedded
    assert read_embedded_image(path) == b"a picture"
    assert not read_document(write(tmp_path / "b.json", content())).embedded


@pytest.mark.parametrize("data", ["%%%", "ä", 5, ["x"]])
def test_a_damaged_embedded_image_is_refused(tmp_path, data):
    with pytest.raises(LabelmeError, match="embedded image"):
        read_embedded_image(write(tmp_path / "a.json", content(imageData=data)))


def test_a_copy_keeps_what_the_annotator_wrote_but_for_the_changes(tmp_path):
    odd = content(shapes=[shape(points=[[math.inf, 1]]), "x"], note={"ñ": [1, None]})
    for name, original in (("odd", odd), ("plain", content(note="번호판"))):
        path = write(tmp_path / f"{name}.json", original)
        (tmp_path / "copy.json").write_bytes(edit_document(path, {"imagePath": "b.jpg"}))
        assert json.loads((tmp_path / "copy.json").read_bytes()) == original | {"imagePath": "b.jpg"}
        (tmp_path / "again.json").write_bytes(edit_document(tmp_path / "copy.json", {"imagePath": "b.jpg"}))
        assert (tmp_path / "again.json").read_bytes() == (tmp_path / "copy.json").read_bytes()


@pytest.mark.parametrize(
    "image_path",
    [
        "../a.jpg",
        "../../etc/passwd",
        "/etc/passwd",
        "sub/../../a.jpg",
        "C:\\a.jpg",
        "..\\a.jpg",
        "\\\\host\\a.jpg",
        "//host/a.jpg",
        "sub\\..\\..\\a.jpg",
        "c:a.jpg",
        "C:/a.jpg",
        ".",
        "sub/..",
        "..",
    ],
)
def test_an_image_path_that_leaves_the_folder_is_refused(tmp_path, image_path):
    path = write(tmp_path / "a.json", content(imagePath=image_path))
    with pytest.raises(ImagePathError, match="leads out"):
        read_document(path)


@pytest.mark.parametrize(
    ("image_path", "read"),
    [("sub/a.jpg", "sub/a.jpg"), ("sub\\a.jpg", "sub/a.jpg"), ("./a.jpg", "a.jpg"), ("sub/../a.jpg", "a.jpg")],
)
def test_an_image_path_within_the_folder_is_read_as_labelme_does(tmp_path, image_path, read):
    assert read_document(write(tmp_path / "a.json", content(imagePath=image_path))).image_path == read


@pytest.mark.parametrize(
    ("image_path", "name"), [("../../a.jpg", "a.jpg"), ("C:\\photos\\b.png", "b.png"), ("c:d.jpg", "d.jpg"), ("..", "")]
)
def test_the_refusal_knows_the_files_name(tmp_path, image_path, name):
    with pytest.raises(ImagePathError) as refused:
        read_document(write(tmp_path / "a.json", content(imagePath=image_path)))
    assert refused.value.name == name


def test_another_image_path_can_stand_in(tmp_path):
    path = write(tmp_path / "a.json", content(imagePath="/etc/passwd"))
    assert read_document(path, "passwd.jpg").image_path == "passwd.jpg"
    with pytest.raises(ImagePathError):
        read_document(path, "../passwd.jpg")


MOST_CHARACTERS = 200
"""A shape with a longer label is damaged."""
text = st.text(st.characters(exclude_categories=["Cs"]))
points = st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), max_size=6)
shapes = st.builds(
    Shape,
    label=st.text(st.characters(exclude_categories=["Cs"]), max_size=MOST_CHARACTERS),
    points=points.map(lambda pairs: np.array(pairs, dtype=np.float64).reshape(-1, 2)),
    shape_type=st.sampled_from(["polygon", "rectangle", "circle", "line", "point", "linestrip", "mask"]),
    group_id=st.none() | st.integers(0, 99),
    mask=st.none() | st.just("iVBORw0KGgo="),
    flags=st.dictionaries(text, st.booleans(), max_size=2),
    description=text,
)


@given(st.lists(shapes, max_size=4), st.none() | st.integers(1, 9999))
def test_what_is_written_reads_back_the_same(tmp_path_factory, drawn, size):
    path = tmp_path_factory.mktemp("round") / "a.json"
    document = Document("번호판 ñ 1.jpg", size, size, tuple(drawn), {"blurred": True})
    write_document(path, document)
    again = read_document(path)
    assert [shape.points.tolist() for shape in again.shapes] == [shape.points.tolist() for shape in drawn]
    for before, after in zip(drawn, again.shapes, strict=True):
        for name in ("label", "shape_type", "group_id", "mask", "flags", "description"):
            assert getattr(after, name) == getattr(before, name)
    assert (again.image_path, again.image_width, again.flags) == (document.image_path, size, document.flags)


def test_the_written_keys_are_labelmes(tmp_path):
    write_document(tmp_path / "a.json", Document("a.png", 10, 20, (Shape("plug", np.array(TRIANGLE)),)))
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert set(written) == {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
    assert set(written["shapes"][0]) == {"label", "points", "group_id", "description", "shape_type", "flags", "mask"}
    assert written["imageData"] is None


@pytest.mark.parametrize(("folder", "count", "shapes", "embedded"), [("desk", 92, 276, 0), ("pavement", 118, 197, 8)])
def test_real_documents_are_read(data_dir, folder, count, shapes, embedded):
    documents = [read_document(path) for path in (data_dir / folder).glob("*/*.json")]
    assert len(documents) == count
    assert sum(len(document.shapes) for document in documents) == shapes
    assert sum(document.embedded for document in documents) == embedded
