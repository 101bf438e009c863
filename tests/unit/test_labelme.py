import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.labelme import Document, ImagePathError, LabelmeError, Shape, read_document, write_document

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
        pytest.param(content(shapes=["x"]), "shape 0", id="a shape is text"),
        pytest.param(content(shapes=[{"points": TRIANGLE}]), "no 'label'", id="no label key"),
        pytest.param(content(shapes=[{"label": "a"}]), "no 'points'", id="no points key"),
        pytest.param(content(shapes=[shape(), shape(label=3)]), "shape 1", id="a label is a number"),
        pytest.param(content(shapes=[shape(points=[[1, 2, 3]])]), "two numbers", id="three coordinates"),
        pytest.param(content(shapes=[shape(points=[[1, 2], [3]])]), r"\[x, y\]", id="a ragged list"),
        pytest.param(content(shapes=[shape(points=[["1", "2"]])]), "two numbers", id="text for a coordinate"),
        pytest.param(content(shapes=[shape(points=[[None, 2]])]), "two numbers", id="null for a coordinate"),
        pytest.param(content(shapes=[shape(points="x")]), "must be a list", id="points is text"),
        pytest.param(content(shapes=[shape(points=[[float("nan"), 2]])]), "NaN or infinite", id="NaN"),
        pytest.param(content(shapes=[shape(points=[[float("inf"), 2]])]), "NaN or infinite", id="infinite"),
        pytest.param(content(shapes=[shape(group_id="a")]), "group_id", id="a group is text"),
        pytest.param(content(imageWidth="640"), "imageWidth", id="a width is text"),
        pytest.param(content(imageHeight=1.5), "imageHeight", id="half a pixel"),
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


@pytest.mark.parametrize("number", ["1e999", "-1e300", "2e9"])
def test_a_number_too_large_for_a_coordinate_is_refused(tmp_path, number):
    path = write(tmp_path / "a.json", json.dumps(content()).replace("3.5", number))
    with pytest.raises(LabelmeError):
        read_document(path)


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


def test_images_may_lie_beside_the_documents_folder_but_not_outside_the_root(tmp_path):
    (tmp_path / "root" / "labels").mkdir(parents=True)
    path = write(tmp_path / "root" / "labels" / "a.json", content(imagePath="../images/a.jpg"))
    assert read_document(path, tmp_path / "root").image_path == "../images/a.jpg"
    write(path, content(imagePath="../../images/a.jpg"))
    with pytest.raises(ImagePathError):
        read_document(path, tmp_path / "root")


text = st.text(st.characters(exclude_categories=["Cs"]))
points = st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), max_size=6)
shapes = st.builds(
    Shape,
    label=text,
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


def test_labelme_itself_reads_what_is_written(tmp_path):
    label_file = pytest.importorskip("labelme.label_file", reason="labelme is not installed")
    from PIL import Image

    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    write_document(tmp_path / "a.json", Document("a.png", 10, 20, (Shape("plug", np.array(TRIANGLE)),)))
    read = label_file.LabelFile(str(tmp_path / "a.json"))
    assert read.imagePath == "a.png"
    assert [(shape["label"], shape["points"]) for shape in read.shapes] == [("plug", TRIANGLE)]


def test_the_written_keys_are_labelmes(tmp_path):
    write_document(tmp_path / "a.json", Document("a.png", 10, 20, (Shape("plug", np.array(TRIANGLE)),)))
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert set(written) == {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
    assert set(written["shapes"][0]) == {"label", "points", "group_id", "description", "shape_type", "flags", "mask"}
    assert written["imageData"] is None


def test_real_documents_are_read(shared_data):
    folder = shared_data / "desk_objects_92"
    documents = [read_document(path) for path in folder.glob("*/*.json")]
    assert len(documents) == 92
    assert sum(len(document.shapes) for document in documents) == 276
