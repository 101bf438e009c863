"""Other tools' annotations as labelme folders: what is taken over, what is found, and what is never read."""

import json
import os
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle_of

from sightline.annotations.check import check_document
from sightline.annotations.findings import Code, Outcome, Policy
from sightline.annotations.instances import choose_classes, join_parts, read_usable
from sightline.annotations.labelme import Document, Shape, read_document
from sightline.annotations.read import Annotated
from sightline.annotations.recipe import Recipe
from sightline.annotations.regions import circle_outline, rectangle_outline
from sightline.errors import SightlineError
from sightline.formats.coco import convert_coco
from sightline.formats.convert import FORMS, as_labelme
from sightline.formats.detect import detect_form
from sightline.formats.folder import Listing, list_folder
from sightline.formats.reading import Ledger, Unusable, mask_pixels, mask_shape
from sightline.images.files import ImageHeader
from sightline.tasks.detection.data import truth_of
from tests.make_labelme import HEIGHT, WIDTH, files_in, make_image, make_labelme

LENIENT = Policy.of(
    dict.fromkeys(
        ("image_outside_folder", "missing_image", "unreadable_source", "image_annotated_twice", "unusable_file_name"),
        "drop",
    )
)
ODD_LABEL = "스위치 🔌'); DROP TABLE versions;--"


def rle(pixels, compressed=True):
    encoded = rle_of.encode(np.asfortranarray(pixels.astype(np.uint8)))
    if compressed:
        return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}
    flat = pixels.T.ravel().astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, len(flat)]).tolist()
    return {"size": list(pixels.shape), "counts": [0, *counts] if flat[0] else counts}


def blob(left=4, top=3, right=20, bottom=9):
    """A mask with a hole."""
    pixels = np.zeros((HEIGHT, WIDTH), dtype=bool)
    pixels[top:bottom, left:right] = True
    pixels[top + 1, left + 2] = False
    return pixels


def painted(shape, width=WIDTH, height=HEIGHT):
    """A labelme mask on the whole image."""
    pixels = np.zeros((height, width), dtype=bool)
    (left, top), (right, bottom) = shape.points.astype(int).tolist()
    pixels[top : bottom + 1, left : right + 1] = mask_pixels(shape.mask)
    return pixels


def coco(annotations, images=None, categories=None):
    images = images or [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}]
    return {
        "images": images,
        "categories": categories or [{"id": 7, "name": ODD_LABEL}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 7} | drawn for number, drawn in enumerate(annotations, 1)
        ],
    }


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def coco_folder(folder, *annotations, **more):
    make_image(folder / "images" / "a.png")
    write_json(folder / "annotations" / "instances_train.json", coco(annotations, **more))
    return folder


def voc_folder(folder, objects, name="a.png", size=(WIDTH, HEIGHT)):
    make_image(folder / "JPEGImages" / "a.png")
    text = (
        f"<annotation><filename>{name}</filename><path>/etc/passwd</path>"
        f"<size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"
    )
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "a.xml").write_text(text, encoding="utf-8")
    return folder


def yolo_folder(folder, lines, names="names: [plug, switch]", image="images/train/a.png"):
    make_image(folder / image)
    text = folder / Path(image.replace("images", "labels")).with_suffix(".txt")
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text(lines)
    (folder / "data.yaml").write_text(names, encoding="utf-8")
    return folder


def cvat_folder(folder, drawn, name="a.png"):
    make_image(folder / "images" / "a.png")
    text = (
        f'<?xml version="1.0"?><annotations><version>1.1</version><meta><task/></meta>'
        f'<image id="0" name="{name}" width="{WIDTH}" height="{HEIGHT}">{drawn}</image></annotations>'
    )
    (folder / "annotations.xml").write_text(text, encoding="utf-8")
    return folder


def imported(folder, scratch, form="auto", policy=LENIENT):
    """The documents by name, and the findings' codes."""
    source = as_labelme(folder, form, scratch, policy)
    documents = {path.relative_to(scratch).as_posix(): read_document(path) for path in sorted(scratch.rglob("*.json"))}
    assert not any(shape.damage for document in documents.values() for shape in document.shapes)
    return documents, [str(found.code) for found in source.findings]


def only(folder, place, **more):
    """The shapes of the one picture, and the findings' codes."""
    documents, codes = imported(folder, place / "out", **more)
    (document,) = documents.values()
    assert (document.image_width, document.image_height) == (WIDTH, HEIGHT)
    return document.shapes, codes


# --- COCO ------------------------------------------------------------------------------------------------------------


def test_coco_polygons_of_one_object_share_a_group_and_others_have_none(tmp_path):
    one, two = [1, 2, 9.125, 2, 5, 8.5], [20, 10, 30, 10, 25, 20.25]
    shapes, codes = only(coco_folder(tmp_path / "in", {"segmentation": [one]}, {"segmentation": [one, two]}), tmp_path)
    assert [(shape.shape_type, shape.group_id, shape.label) for shape in shapes] == [
        ("polygon", None, ODD_LABEL),
        ("polygon", 1, ODD_LABEL),
        ("polygon", 1, ODD_LABEL),
    ]
    assert [shape.points.ravel().tolist() for shape in shapes] == [one, one, two]
    assert codes == []


@pytest.mark.parametrize("compressed", [True, False])
def test_coco_run_lengths_become_a_mask_pixel_by_pixel(tmp_path, compressed):
    (shape,), codes = only(coco_folder(tmp_path / "in", {"segmentation": rle(blob(), compressed)}), tmp_path)
    assert (painted(shape) == blob()).all()
    assert (shape.points.tolist(), codes) == ([[4, 3], [19, 8]], [])


def test_a_coco_crowd_is_flagged(tmp_path):
    crowd = {"segmentation": rle(blob()), "iscrowd": 1}
    shapes, _ = only(coco_folder(tmp_path / "in", crowd, {"segmentation": rle(blob(8))}), tmp_path)
    assert [(shape.shape_type, dict(shape.flags)) for shape in shapes] == [("mask", {"iscrowd": True}), ("mask", {})]


def test_a_coco_box_becomes_a_rectangle(tmp_path):
    as_outline = {"bbox": [1.5, 2, 3, 4.25], "segmentation": [[1.5, 2, 4.5, 2, 4.5, 6.25, 1.5, 6.25]]}
    annotations = {"bbox": [1.5, 2, 3, 4.25]}, {"bbox": [1.5, 2, 3, 4.25], "segmentation": []}, as_outline
    shapes, _ = only(coco_folder(tmp_path / "in", *annotations), tmp_path)
    assert {shape.shape_type for shape in shapes} == {"rectangle"}
    assert [shape.points.tolist() for shape in shapes] == [[[1.5, 2], [4.5, 6.25]]] * 3


def test_coco_attributes_become_flags_and_a_description(tmp_path):
    annotation = {"bbox": [1, 2, 3, 4], "attributes": {"occluded": True, "colour": "red", "count": 1}}
    (shape,), _ = only(coco_folder(tmp_path / "in", annotation), tmp_path)
    assert (shape.flags, shape.description) == ({"occluded": True}, "colour: red\ncount: 1")


TRIANGLE = [1, 2, 9, 2, 5, 8]


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        pytest.param({"image_id": 99, "bbox": [1, 2, 3, 4]}, Code.BROKEN_ANNOTATION, id="unknown image"),
        pytest.param({"category_id": 99, "bbox": [1, 2, 3, 4]}, Code.BROKEN_ANNOTATION, id="unknown category"),
        pytest.param({"category_id": None, "bbox": [1, 2, 3, 4]}, Code.BROKEN_ANNOTATION, id="no category"),
        pytest.param({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, Code.BROKEN_ANNOTATION, id="odd number of coordinates"),
        pytest.param({"segmentation": [TRIANGLE, [1, "x"]]}, Code.BROKEN_ANNOTATION, id="a word for a number"),
        pytest.param({"segmentation": "all"}, Code.BROKEN_ANNOTATION, id="a text for a segmentation"),
        pytest.param({"bbox": [1, 2, 3]}, Code.BROKEN_ANNOTATION, id="three numbers for a box"),
        pytest.param({}, Code.BROKEN_ANNOTATION, id="nothing drawn"),
        pytest.param({"segmentation": [[1, 2, 1e300, 2, 5, 8]]}, Code.NON_FINITE, id="far too large"),
        pytest.param({"bbox": [1, 2, float("nan"), 4]}, Code.NON_FINITE, id="NaN"),
        pytest.param({"segmentation": rle(np.ones((9, 9), bool))}, Code.BAD_MASK, id="run lengths of another size"),
        pytest.param({"segmentation": {"size": [32, 48], "counts": [5, 5]}}, Code.BAD_MASK, id="too few runs"),
        pytest.param({"segmentation": {"size": [32, 48], "counts": [-5, 1541]}}, Code.BAD_MASK, id="negative run"),
        pytest.param({"segmentation": {"size": [32, 48], "counts": [1536]}}, Code.BAD_MASK, id="empty mask"),
        pytest.param({"segmentation": {"size": [32, 48], "counts": "oooo"}}, Code.BAD_MASK, id="cut off counts"),
        pytest.param({"segmentation": {"size": [32, 48], "counts": "é"}}, Code.BAD_MASK, id="damaged counts"),
        pytest.param({"segmentation": {"size": [10**9] * 2, "counts": "0"}}, Code.BAD_MASK, id="a bomb"),
        pytest.param({"bbox": [1, 2, 3, 4], "keypoints": [1, 2, 2]}, Code.NOT_IMPORTED, id="keypoints"),
    ],
)
def test_a_broken_coco_annotation_is_a_finding_and_the_others_stay(tmp_path, broken, code):
    shapes, codes = only(coco_folder(tmp_path / "in", broken, {"segmentation": [TRIANGLE]}), tmp_path)
    assert codes == [code]
    assert shapes[-1].points.ravel().tolist() == TRIANGLE
    assert len(shapes) == 1 + (code is Code.NOT_IMPORTED)


def test_a_finding_names_file_and_annotation(tmp_path):
    source = as_labelme(
        coco_folder(tmp_path / "in", {"segmentation": [TRIANGLE]}, {"bbox": [1]}), "coco", tmp_path / "out"
    )
    (found,) = source.findings
    assert (found.file, found.shape_index) == ("annotations/instances_train.json", 1)
    assert "annotation 2 of a.png: it has neither a segmentation nor a bbox" in found.message
    assert found.outcome is Outcome.DROP


def test_what_several_coco_files_say_about_an_image_comes_together(tmp_path):
    folder = coco_folder(tmp_path / "in", {"segmentation": [TRIANGLE, TRIANGLE]})
    write_json(folder / "more.json", coco([{"segmentation": [TRIANGLE, TRIANGLE]}]))
    shapes, _ = only(folder, tmp_path)
    assert [shape.group_id for shape in shapes] == [1, 1, 2, 2]


def test_images_of_one_name_are_told_apart_by_the_files_of_their_split(tmp_path):
    folder = tmp_path / "in"
    for split, size in (("train", (8, 8)), ("val", (9, 9))):
        make_image(folder / "images" / split / "1.png", size)
        images = [{"id": 1, "file_name": "1.png", "width": size[0], "height": size[1]}]
        write_json(folder / "annotations" / f"instances_{split}.json", coco([{"bbox": [1, 1, 2, 2]}], images))
    documents, codes = imported(folder, tmp_path / "out")
    sizes = {name: document.image_width for name, document in documents.items()}
    assert (sizes, codes) == ({"images/train/1.json": 8, "images/val/1.json": 9}, [])


def test_an_image_that_coco_lists_without_annotations_gets_an_empty_document(tmp_path):
    shapes, codes = only(coco_folder(tmp_path / "in"), tmp_path)
    assert (shapes, codes) == ((), [])


def test_an_image_that_no_file_lists_is_handed_on_without_a_document(tmp_path):
    folder = coco_folder(tmp_path / "in")
    make_image(folder / "images" / "b.png")
    imported(folder, tmp_path / "out")
    assert sorted(files_in(tmp_path / "out")) == ["a.json", "a.png", "b.png"]


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "..\\secret.png", "/etc/passwd", "C:\\secret.png", "C:secret.png", "images/../../secret.png"]
    + ["file:///etc/passwd", "http://x/secret.png", "..", ""],
)
def test_nothing_outside_the_folder_is_ever_read(tmp_path, name):
    make_image(tmp_path / "secret.png")
    images = [{"id": 1, "file_name": name}, {"id": 2, "file_name": "a.png"}]
    folder = coco_folder(tmp_path / "in", images=images)
    _, codes = imported(folder, tmp_path / "out")
    assert codes == [Code.IMAGE_OUTSIDE]
    assert sorted(files_in(tmp_path / "out")) == ["a.json", "a.png"]


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    make_image(tmp_path / "elsewhere" / "secret.png")
    folder = coco_folder(
        tmp_path / "in", images=[{"id": 1, "file_name": "secret.png"}, {"id": 2, "file_name": "a.png"}]
    )
    (folder / "images" / "secret.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    _, codes = imported(folder, tmp_path / "out")
    assert codes == [Code.IMAGE_OUTSIDE]
    assert sorted(files_in(tmp_path / "out")) == ["a.json", "a.png"]


def test_a_missing_image_fails_unless_the_policy_drops_it(tmp_path):
    folder = coco_folder(tmp_path / "in", images=[{"id": 1, "file_name": "b.png"}, {"id": 2, "file_name": "a.png"}])
    (strict,) = as_labelme(folder, "coco", tmp_path / "strict").findings
    (lenient,) = as_labelme(folder, "coco", tmp_path / "lenient", LENIENT).findings
    assert strict.message == "the image 'b.png' is not in the folder. Put it there, or remove its annotations."
    assert (strict.code, strict.outcome, lenient.outcome) == (Code.MISSING_IMAGE, Outcome.FAIL, Outcome.DROP)


def test_a_name_is_found_in_either_form_of_unicode(tmp_path):
    taken_apart, composed = "\u1112\u1161\u11ab.png", "\ud55c.png"
    make_image(tmp_path / "in" / taken_apart)
    write_json(tmp_path / "in" / "coco.json", coco([{"bbox": [1, 1, 2, 2]}], [{"id": 1, "file_name": composed}]))
    documents, codes = imported(tmp_path / "in", tmp_path / "out")
    assert (list(documents), codes) == (["\ud55c.json"], [])


# --- Pascal VOC ------------------------------------------------------------------------------------------------------


def voc_object(xmin=1, ymin=1, xmax=10, ymax=20, more="", name="plug"):
    box = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


@pytest.mark.parametrize(
    ("ends", "points"),
    [
        pytest.param((1, 1, 10, 20), [[0, 0], [10, 20]], id="pixels are counted from 1, both ends inside"),
        pytest.param((0, 0, 10, 20), [[0, 0], [10, 20]], id="a 0 is the border"),
        pytest.param((2.5, 3, 10.25, 20), [[1.5, 2], [10.25, 20]], id="fractions"),
        pytest.param((10, 1, 1, 20), [[10, 0], [0, 20]], id="reversed, for the check that follows"),
    ],
)
def test_voc_boxes(tmp_path, ends, points):
    (shape,), codes = only(voc_folder(tmp_path / "in", voc_object(*ends)), tmp_path)
    assert (shape.shape_type, shape.points.tolist(), codes) == ("rectangle", points, [])


def test_voc_marks_become_flags(tmp_path):
    more = "<pose>Left</pose><difficult>1</difficult><truncated>0</truncated>"
    (shape,), _ = only(voc_folder(tmp_path / "in", voc_object(more=more, name="한글 &amp; 🔌")), tmp_path)
    assert (shape.label, shape.flags, shape.description) == (
        "한글 & 🔌",
        {"difficult": True, "truncated": False},
        "pose: Left",
    )


@pytest.mark.parametrize(
    ("drawn", "code", "left"),
    [
        pytest.param("<object><name>plug</name></object>", Code.BROKEN_ANNOTATION, 0, id="no box"),
        pytest.param(voc_object(xmin="left"), Code.BROKEN_ANNOTATION, 0, id="a word for a number"),
        pytest.param(voc_object(xmin="nan"), Code.NON_FINITE, 0, id="not a number"),
        pytest.param(voc_object(more="<robndbox/>"), Code.NOT_IMPORTED, 1, id="a turned box beside the box"),
    ],
)
def test_a_broken_voc_object_is_a_finding(tmp_path, drawn, code, left):
    shapes, codes = only(voc_folder(tmp_path / "in", f"{voc_object()}{drawn}"), tmp_path)
    assert (len(shapes), codes) == (left + 1, [code])


def test_voc_finds_an_image_by_the_name_of_the_xml_when_the_written_one_is_wrong(tmp_path):
    (shape,), codes = only(voc_folder(tmp_path / "in", voc_object(), name="exported_7"), tmp_path)
    assert (shape.label, codes) == ("plug", [])


def test_voc_takes_a_painted_picture_for_no_photograph(tmp_path):
    folder = voc_folder(tmp_path / "in", voc_object())
    make_image(folder / "SegmentationObject" / "a.png")
    make_image(folder / "SegmentationClass" / "b.png")
    (_,), codes = only(folder, tmp_path)
    assert codes == [Code.NOT_IMPORTED]
    assert sorted(files_in(tmp_path / "out")) == ["a.json", "a.png"]


BOMB = '<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("declared", [BOMB, OUTSIDE, '<!DOCTYPE b SYSTEM "http://localhost:1/x.dtd">'])
@pytest.mark.parametrize("make", [voc_folder, cvat_folder])
def test_xml_with_entities_or_a_document_type_is_refused(tmp_path, make, declared):
    folder = make(tmp_path / "in", "")
    (path,) = folder.rglob("*.xml")
    text = re.sub(r"<\?.*?\?>", "", path.read_text())
    path.write_text(declared + text.replace("a.png", "&a;", 1))
    with pytest.raises(SightlineError, match="declares a document type or entities"):
        as_labelme(folder, "voc" if make is voc_folder else "cvat", tmp_path / "out")


# --- YOLO ------------------------------------------------------------------------------------------------------------


def test_yolo_boxes_and_outlines(tmp_path):
    shapes, codes = only(yolo_folder(tmp_path / "in", "1 0.5 0.5 0.25 0.5\n0 0 0 0.5 0 0.25 0.75\n\n"), tmp_path)
    assert [(shape.label, shape.shape_type, shape.points.tolist()) for shape in shapes] == [
        ("switch", "rectangle", [[18, 8], [30, 24]]),
        ("plug", "polygon", [[0, 0], [24, 0], [12, 24]]),
    ]
    assert codes == []


@pytest.mark.parametrize(
    ("names", "label"),
    [
        pytest.param("names:\n  0: plug\n  1: 스위치 🔌", "스위치 🔌", id="a mapping"),
        pytest.param(
            "names: ['plug', 'DROP TABLE']\nnc: 2\ntrain: ../../elsewhere\npath: /", "DROP TABLE", id="a list"
        ),
        pytest.param("names: [yes, no]", "no", id="words that YAML takes for true and false"),
    ],
)
def test_yolo_names(tmp_path, names, label):
    (shape,), _ = only(yolo_folder(tmp_path / "in", "1 0.5 0.5 0.25 0.5", names), tmp_path)
    assert shape.label == label


def test_yolo_names_from_a_list_of_classes(tmp_path):
    folder = yolo_folder(tmp_path / "in", "1 0.5 0.5 0.25 0.5")
    (folder / "data.yaml").unlink()
    (folder / "classes.txt").write_text("plug\nswitch\n")
    (shape,), codes = only(folder, tmp_path)
    assert (shape.label, codes) == ("switch", [])


def test_yolo_without_names_or_with_two_different_lists_is_refused(tmp_path):
    folder = yolo_folder(tmp_path / "in", "1 0.5 0.5 0.25 0.5")
    (folder / "other.yaml").write_text("names: [a, b]")
    with pytest.raises(SightlineError, match=r"data\.yaml and other\.yaml name different classes"):
        as_labelme(folder, "yolo", tmp_path / "out")
    (folder / "other.yaml").unlink()
    (folder / "data.yaml").unlink()
    with pytest.raises(SightlineError, match="no file names the classes"):
        as_labelme(folder, "yolo", tmp_path / "out")


def test_yolo_an_empty_file_is_a_background_and_no_file_is_left_to_the_policy(tmp_path):
    folder = yolo_folder(tmp_path / "in", "")
    make_image(folder / "images" / "train" / "b.png")
    documents, _ = imported(folder, tmp_path / "out")
    assert {name: len(document.shapes) for name, document in documents.items()} == {"a.json": 0}
    assert (tmp_path / "out" / "b.png").is_file()


def test_yolo_a_share_a_digit_too_large_is_the_border_itself(tmp_path):
    (shape,), _ = only(yolo_folder(tmp_path / "in", "0 0.2499999 0.5000001 0.5 1.0"), tmp_path)
    assert shape.points.min() == 0
    assert shape.points[1, 1] == HEIGHT


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("7 0.5 0.5 0.1 0.1", Code.BROKEN_ANNOTATION),
        ("0 0.5 0.5 0.1", Code.BROKEN_ANNOTATION),
        ("0 0.5 0.5 0.1 0.1 90", Code.BROKEN_ANNOTATION),
        ("plug 0.5 0.5 0.1 0.1", Code.BROKEN_ANNOTATION),
        ("0.5 0.5 0.5 0.1 0.1", Code.BROKEN_ANNOTATION),
        ("0 0.5 0.5 0.1 inf", Code.NON_FINITE),
        ("0 0.5 0.5 0.1 1e400", Code.NON_FINITE),
    ],
)
def test_a_broken_yolo_line_is_a_finding_and_the_others_stay(tmp_path, line, code):
    folder = yolo_folder(tmp_path / "in", f"{line}\n1 0.5 0.5 0.25 0.5")
    (shape,), codes = only(folder, tmp_path)
    assert (shape.label, codes) == ("switch", [code])


def test_yolo_a_text_without_its_image_is_a_finding(tmp_path):
    folder = yolo_folder(tmp_path / "in", "0 0.5 0.5 0.25 0.5")
    (folder / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 0.25 0.5")
    assert imported(folder, tmp_path / "out")[1] == [Code.MISSING_IMAGE]


# --- CVAT ------------------------------------------------------------------------------------------------------------


def test_cvat_shapes(tmp_path):
    drawn = (
        '<box label="plug" xtl="1.5" ytl="2" xbr="10" ybr="20" occluded="1" z_order="0" group_id="3">'
        '<attribute name="lit">true</attribute><attribute name="colour">red</attribute></box>'
        '<box label="plug" xtl="10" ytl="12" xbr="20" ybr="16" rotation="90"/>'
        '<polygon label="plug" points="1,2;9.5,2;5,8"/>'
        '<polyline label="edge" points="1,2;9,2"/>'
        '<points label="pin" points="1,2;9,3" group_id="4"/>'
        '<ellipse label="lens" cx="20" cy="16" rx="5" ry="5"/>'
        '<ellipse label="lens" cx="20" cy="16" rx="8" ry="4" rotation="90"/>'
        '<mask label="plug" rle="1,2,3,1,1" left="4" top="5" width="4" height="2"/>'
        '<tag label="night"/>'
    )
    documents, codes = imported(cvat_folder(tmp_path / "in", drawn), tmp_path / "out")
    (document,) = documents.values()
    box, turned, polygon, line, pin, _, circle, ellipse, mask = document.shapes
    assert (box.shape_type, box.points.tolist(), box.group_id) == ("rectangle", [[1.5, 2], [10, 20]], 3)
    assert (box.flags, box.description) == ({"lit": True, "occluded": True}, "colour: red")
    assert (turned.shape_type, turned.points.tolist()) == ("polygon", [[17, 9], [17, 19], [13, 19], [13, 9]])
    assert (polygon.shape_type, polygon.points.tolist()) == ("polygon", [[1, 2], [9.5, 2], [5, 8]])
    assert (line.shape_type, line.points.tolist()) == ("linestrip", [[1, 2], [9, 2]])
    assert (pin.shape_type, pin.points.tolist(), pin.group_id) == ("point", [[1, 2]], 4)
    assert (circle.shape_type, circle.points.tolist()) == ("circle", [[20, 16], [25, 16]])
    assert (ellipse.points.min(axis=0).tolist(), ellipse.points.max(axis=0).tolist()) == ([16, 8], [24, 24])
    assert painted(mask)[5:7, 4:8].tolist() == [[False, True, True, False], [False, False, True, False]]
    assert (document.flags, codes) == ({"night": True}, [])


def test_a_turned_cvat_box_keeps_the_order_of_its_corners_also_reversed_ones(tmp_path):
    """Published before, the same folder would else be refused as another content."""
    drawn = '<box label="plug" xtl="20" ytl="16" xbr="10" ybr="12" rotation="90"/>'
    (shape,), codes = only(cvat_folder(tmp_path / "in", drawn), tmp_path)
    assert (shape.shape_type, shape.points.tolist()) == ("polygon", [[13, 19], [13, 9], [17, 9], [17, 19]])
    assert codes == []


@pytest.mark.parametrize(
    ("drawn", "code"),
    [
        pytest.param('<cuboid label="x" xtl1="1"/>', Code.NOT_IMPORTED, id="a cuboid"),
        pytest.param('<box label="x" xtl="1" ytl="2" xbr="3"/>', Code.BROKEN_ANNOTATION, id="a box without an end"),
        pytest.param('<polygon label="x" points="1,2;3"/>', Code.BROKEN_ANNOTATION, id="half a point"),
        pytest.param('<polygon label="x" points=""/>', Code.BROKEN_ANNOTATION, id="no point"),
        pytest.param('<mask rle="1,2" left="0" top="0" width="9" height="9"/>', Code.BAD_MASK, id="too few runs"),
        pytest.param('<mask rle="1" left="0" top="0" width="99999" height="99999"/>', Code.BAD_MASK, id="a bomb"),
        pytest.param('<ellipse cx="1" cy="1" rx="-1" ry="2"/>', Code.BROKEN_ANNOTATION, id="a negative radius"),
        pytest.param('<box xtl="1" ytl="2" xbr="3" ybr="4" group_id="1e99"/>', Code.NON_FINITE, id="a huge group"),
    ],
)
def test_a_broken_cvat_shape_is_a_finding_and_the_others_stay(tmp_path, drawn, code):
    folder = cvat_folder(tmp_path / "in", f'{drawn}<polygon label="plug" points="1,2;9.5,2;5,8"/>')
    (shape,), codes = only(folder, tmp_path)
    assert (shape.label, codes) == ("plug", [code])


# --- turned images ---------------------------------------------------------------------------------------------------


def make_turned(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, exif=exif)


@pytest.mark.parametrize(
    ("orientation", "corners"),
    [(5, [[2, 1], [8, 5]]), (6, [[24, 1], [30, 5]]), (7, [[24, 43], [30, 47]]), (8, [[2, 43], [8, 47]])],
)
def test_shapes_drawn_on_the_image_as_stored_are_turned_with_it(tmp_path, orientation, corners):
    pixels = np.zeros((HEIGHT, WIDTH), dtype=bool)
    pixels[2:8, 1:5] = True
    pixels[2, 1] = False
    folder = coco_folder(tmp_path / "in", {"bbox": [1, 2, 4, 6]}, {"segmentation": rle(pixels)})
    make_turned(folder / "images" / "a.jpg", orientation)
    (folder / "images" / "a.png").unlink()
    document = folder / "annotations" / "instances_train.json"
    document.write_text(document.read_text().replace("a.png", "a.jpg"))
    documents, codes = imported(folder, tmp_path / "out")
    (box, mask), header = documents["a.json"].shapes, documents["a.json"]
    assert (header.image_width, header.image_height, codes) == (HEIGHT, WIDTH, [Code.TURNED_SHAPES])
    assert box.points.tolist() == corners
    upright = {5: pixels.T, 6: pixels.T[:, ::-1], 7: pixels.T[::-1, ::-1], 8: pixels.T[::-1]}[orientation]
    assert (painted(mask, HEIGHT, WIDTH) == upright).all()


@pytest.mark.parametrize("split", ["train", "val", "valid", "validation", "test", "Validation"])
def test_an_image_without_annotations_is_called_without_the_folder_of_its_split(tmp_path, split):
    folder = coco_folder(tmp_path / "in", {"bbox": [1, 2, 4, 6]})
    make_image(folder / "images" / split / "b.png")
    imported(folder, tmp_path / "out")
    assert (tmp_path / "out" / "b.png").is_file()


def test_shapes_drawn_on_the_upright_image_stay(tmp_path):
    images = [{"id": 1, "file_name": "a.jpg", "width": HEIGHT, "height": WIDTH}]
    folder = coco_folder(tmp_path / "in", {"bbox": [1, 2, 4, 6]}, images=images)
    make_turned(folder / "images" / "a.jpg", 6)
    documents, codes = imported(folder, tmp_path / "out")
    assert (documents["a.json"].shapes[0].points.tolist(), codes) == ([[1, 2], [5, 8]], [])


# --- which format it is ----------------------------------------------------------------------------------------------

MAKERS = {
    "labelme": make_labelme,
    "coco": coco_folder,
    "voc": lambda folder: voc_folder(folder, voc_object()),
    "yolo": lambda folder: yolo_folder(folder, "0 0.5 0.5 0.1 0.1"),
    "cvat": lambda folder: cvat_folder(folder, ""),
}


@pytest.mark.parametrize("form", MAKERS)
def test_a_format_is_told_by_what_the_files_hold(tmp_path, form):
    folder = MAKERS[form](tmp_path / "in")
    write_json(folder / "package.json", {"name": "x", "annotations": 1})
    (folder / "readme.xml").write_text("<html/>")
    (folder / "notes.txt").write_text("nothing")
    (folder / "compose.yaml").write_text("services: {}")
    assert detect_form(list_folder(folder)) == form
    assert as_labelme(folder, "auto", tmp_path / "out", LENIENT).form == form


@pytest.mark.parametrize("other", [form for form in MAKERS if form != "labelme"])
def test_several_formats_at_once_are_asked_about(tmp_path, other):
    MAKERS["labelme"](tmp_path / "in" / "first")
    MAKERS[other](tmp_path / "in" / "second")
    with pytest.raises(SightlineError, match=rf"2 formats.*--format {' or '.join(sorted(['labelme', other]))}"):
        as_labelme(tmp_path / "in", "auto", tmp_path / "out")
    assert as_labelme(tmp_path / "in", other, tmp_path / "out", LENIENT).form == other


def test_a_labelme_folder_is_taken_as_it_is(tmp_path):
    folder = make_labelme(tmp_path / "in")
    source = as_labelme(folder, "auto", tmp_path / "out")
    assert (source.folder, source.form, source.findings) == (folder, "labelme", ())
    assert not (tmp_path / "out").exists()


def test_a_folder_of_none_of_the_formats_is_left_to_labelmes_reader(tmp_path):
    make_image(tmp_path / "a.png")
    assert as_labelme(tmp_path, "auto", tmp_path / "out").form == "labelme"


def test_a_folder_or_format_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(SightlineError, match="absent: there is no such folder"):
        as_labelme(tmp_path / "absent", "auto", tmp_path / "out")
    with pytest.raises(SightlineError, match="no format 'coko' to read. Did you mean 'coco'"):
        as_labelme(tmp_path, "coko", tmp_path / "out")


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("auto", "labelme", "folders")])
def test_a_folder_without_anything_of_the_format_asked_for_is_refused(tmp_path, form):
    make_labelme(tmp_path / "in")
    with pytest.raises(SightlineError, match=r"no image has an annotation that can be used|no file names the classes"):
        as_labelme(tmp_path / "in", form, tmp_path / "out", LENIENT)


def test_the_given_folder_stays_as_it_is_and_images_of_one_stem_keep_their_documents(tmp_path):
    folder = coco_folder(tmp_path / "in", images=[{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.jpg"}])
    make_image(folder / "images" / "a.jpg")
    before = {path: os.stat(path).st_mtime_ns for path in folder.rglob("*")}, files_in(folder)
    documents, _ = imported(folder, tmp_path / "out")
    assert ({path: os.stat(path).st_mtime_ns for path in folder.rglob("*")}, files_in(folder)) == before
    assert {name: document.image_path for name, document in documents.items()} == {
        "a.json": "a.jpg",
        "a.png.json": "a.png",
    }


# --- there and back --------------------------------------------------------------------------------------------------

COLUMNS, ROWS, CELL = 4, 3, 40
SIZE = COLUMNS * CELL, ROWS * CELL
LABELS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12) | st.just(ODD_LABEL)
SHARES = st.floats(0.1, 0.95)


@st.composite
def outlines(draw, cell):
    """A polygon that does not cross itself, in a cell of its own, so that no shape repeats or covers another."""
    middle = np.array([cell % COLUMNS + 0.5, cell // COLUMNS + 0.5]) * CELL
    count = draw(st.integers(3, 12))
    radii = np.array(draw(st.lists(SHARES, min_size=count, max_size=count))) * CELL / 2
    angles = draw(st.floats(0, 6)) + np.arange(count) * 2 * np.pi / count
    return middle + radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])


@st.composite
def masks(draw, cell):
    pixels = np.zeros(SIZE[::-1], dtype=bool)
    x, y = cell % COLUMNS * CELL, cell // COLUMNS * CELL
    seed = draw(st.integers(0, 2**32 - 1))
    pixels[y : y + 9, x + 1 : x + 12] = np.random.default_rng(seed).random((9, 11)) < draw(SHARES)
    pixels[y + 3, x + 5] = True
    return pixels


@st.composite
def drawings(draw):
    """Shapes that an annotator may draw, one or (of a group) several cells each."""
    shapes: list[Shape] = []
    cells = list(range(COLUMNS * ROWS))
    for group in range(draw(st.integers(1, 4))):
        label, crowd = draw(LABELS), draw(st.booleans())
        kind = draw(st.sampled_from(["polygon", "group", "rectangle", "circle", "mask"]))
        flags = {"iscrowd": True} if crowd and kind == "mask" else {}
        if kind == "group":
            shapes += [
                Shape(label, draw(outlines(cells.pop())), group_id=group) for _ in range(draw(st.integers(2, 3)))
            ]
        elif kind == "polygon":
            shapes.append(Shape(label, draw(outlines(cells.pop()))))
        elif kind == "mask":
            shapes.append(mask_shape(draw(masks(cells.pop())), 0, 0, label, flags=flags))
        else:
            outline = draw(outlines(cells.pop()))
            corners = [outline.min(axis=0), outline.max(axis=0)]
            if kind == "circle":
                corners = [outline.mean(axis=0), outline.mean(axis=0) + [0, 7.125]]
            shapes.append(Shape(label, np.array(corners), kind))
    return shapes


def to_coco(documents):
    """labelme -> COCO, as record does it."""
    images, header = [], ImageHeader(*SIZE, 1, "PNG")
    for name, shapes in documents.items():
        document = Document(name, SIZE[1], SIZE[0], tuple(shapes))
        checked, findings = check_document(Annotated(f"{name}.json", name, document, header), Recipe())
        assert findings == []
        images.append(join_parts(checked, f"{name}.json"))
    return truth_of(images, choose_classes(images, Recipe()))


def to_labelme(content):
    """COCO -> labelme: image -> shapes."""
    names = [image["file_name"] for image in content["images"]]
    listing = Listing(Path("/nowhere"), tuple(names), tuple(names), {name: (name,) for name in names})
    ledger = Ledger(Policy())
    pictures = convert_coco(content, listing, "coco.json", ledger)
    assert ledger.findings == []
    return {picture.file: list(picture.shapes) for picture in pictures}


def objects(shapes):
    """What shapes mean, whatever they are called: per object its label, crowd mark, pixels and outlines."""
    grouped: dict[object, list[Shape]] = {}
    for index, shape in enumerate(shapes):
        grouped.setdefault(index + 0.5 if shape.group_id is None else (shape.label, shape.group_id), []).append(shape)
    found = []
    for parts in grouped.values():
        drawn = [painted(part, *SIZE) for part in parts if part.shape_type == "mask"]
        ways = {"rectangle": rectangle_outline, "circle": circle_outline, "polygon": lambda points: points}
        edges = [ways[part.shape_type](part.points) for part in parts if part.shape_type != "mask"]
        found.append((parts[0].label, parts[0].flags.get("iscrowd", False), drawn, edges))
    return found


def assert_same(first, second):
    assert len(first) == len(second)
    for (label, crowd, drawn, edges), (label_2, crowd_2, drawn_2, edges_2) in zip(first, second, strict=True):
        assert (label, crowd, len(drawn), len(edges)) == (label_2, crowd_2, len(drawn_2), len(edges_2))
        assert all((one == other).all() for one, other in zip(drawn, drawn_2, strict=True))
        for one, other in zip(edges, edges_2, strict=True):
            assert one.shape == other.shape
            assert np.abs(one - other).max() <= 0.01


@given(st.lists(drawings(), min_size=1, max_size=2))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_labelme_to_coco_and_back_keeps_every_shape(pages):
    documents = {f"{index} 사진 🖼.png": shapes for index, shapes in enumerate(pages)}
    again = to_labelme(json.loads(json.dumps(to_coco(documents))))
    for name, shapes in documents.items():
        assert_same(objects(shapes), objects(again[name]))


@st.composite
def coco_annotations(draw):
    found = []
    cells = list(range(COLUMNS * ROWS))
    for number in range(1, draw(st.integers(1, 4)) + 1):
        kind = draw(st.sampled_from(["polygon", "parts", "box", "rle", "crowd"]))
        annotation = {"id": number * 3, "image_id": 5, "category_id": draw(st.sampled_from([2, 90])), "iscrowd": 0}
        if kind in ("rle", "crowd"):
            pixels = draw(masks(cells.pop()))
            annotation |= {"segmentation": rle(pixels, draw(st.booleans())), "iscrowd": int(kind == "crowd")}
            annotation["bbox"] = rle_of.toBbox(rle_of.encode(np.asfortranarray(pixels.astype(np.uint8)))).tolist()
        else:
            parts = [draw(outlines(cells.pop())) for _ in range(2 if kind == "parts" else 1)]
            (left, top), (right, bottom) = np.concatenate(parts).min(axis=0), np.concatenate(parts).max(axis=0)
            annotation["bbox"] = [left, top, right - left, bottom - top]
            if kind != "box":
                annotation["segmentation"] = [part.ravel().tolist() for part in parts]
        found.append(annotation)
    return found


def pixels_of(segmentation):
    if isinstance(segmentation["counts"], list):
        segmentation = rle_of.frPyObjects(segmentation, *segmentation["size"])
    return rle_of.decode(segmentation)


@given(coco_annotations(), LABELS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_coco_to_labelme_and_back_keeps_every_annotation(annotations, label):
    names = {2: label, 90: f"{label} 2"}
    content = {
        "images": [{"id": 5, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1]}],
        "categories": [{"id": key, "name": name} for key, name in names.items()],
        "annotations": annotations,
    }
    again = to_coco(to_labelme(content))
    names_again = {category["id"]: category["name"] for category in again["categories"]}
    assert len(again["annotations"]) == len(annotations)
    for before, after in zip(annotations, again["annotations"], strict=True):
        assert names[before["category_id"]] == names_again[after["category_id"]]
        assert before["iscrowd"] == after["iscrowd"]
        assert np.abs(np.subtract(before["bbox"], after["bbox"])).max() <= 0.01
        if isinstance(before.get("segmentation"), dict):
            assert (pixels_of(before["segmentation"]) == pixels_of(after["segmentation"])).all()
        elif "segmentation" in before:
            for one, other in zip(before["segmentation"], after["segmentation"], strict=True):
                assert np.abs(np.subtract(one, other)).max() <= 0.01


# --- whatever comes ----------------------------------------------------------------------------------------------------

DOCUMENTS = {
    "coco": (
        lambda folder: coco_folder(
            folder,
            {"segmentation": [TRIANGLE, TRIANGLE]},
            {"segmentation": rle(blob()), "iscrowd": 1},
            {"bbox": [1, 2, 3, 4]},
        ),
        "annotations/instances_train.json",
    ),
    "voc": (lambda folder: voc_folder(folder, voc_object(more="<difficult>1</difficult>") * 2), "Annotations/a.xml"),
    "yolo": (
        lambda folder: yolo_folder(folder, "1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.5 0 0.25 0.75\n"),
        "labels/train/a.txt",
    ),
    "yolo names": (lambda folder: yolo_folder(folder, "1 0.5 0.5 0.25 0.5\n", "names:\n  0: a\n  1: b\n"), "data.yaml"),
    "cvat": (
        lambda folder: cvat_folder(
            folder,
            '<box label="plug" xtl="1.5" ytl="2" xbr="10" ybr="20" rotation="7" group_id="3"/>'
            '<mask label="plug" rle="1,2,3,1,1" left="4" top="5" width="4" height="2"/>'
            '<ellipse label="lens" cx="20" cy="16" rx="8" ry="4"/><points label="a" points="1,2;3,4"/>',
        ),
        "annotations.xml",
    ),
}
TOKENS = [
    b"-1",
    b"1e999",
    b"nan",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"\\ud800",
    b"\xff\xfe",
    b"\0",
    b"&x;",
    b"<a>",
]
TOKENS += [
    b"9" * 40,
    b"*a &a",
    b"../../x.png",
    b"\xed\x95\x9c \xf0\x9f\x94\x8c",
    b"'); DROP TABLE images;--",
    b"\n",
    b"  ",
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A valid folder of each format, and its document."""
    made = {}
    for form, (make, name) in DOCUMENTS.items():
        folder = make(tmp_path_factory.mktemp("valid") / "in")
        made[form] = folder, folder / name, (folder / name).read_bytes()
    return made


@pytest.mark.parametrize("form", DOCUMENTS)
@given(data=st.data())
@settings(suppress_health_check=list(HealthCheck))
def test_a_damaged_document_ends_in_a_labelme_folder_or_one_clear_error(sources, form, data):
    folder, path, valid = sources[form]
    content = valid
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        length = data.draw(st.sampled_from([0, 1, 2, 5, 30]))
        content = content[:at] + data.draw(st.sampled_from(TOKENS) | st.binary(max_size=4)) + content[at + length :]
    path.write_bytes(content)
    read_whatever_it_is(folder, form.split()[0])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([1, 7, "a.png"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
@settings(suppress_health_check=list(HealthCheck))
def test_a_coco_document_with_any_value_anywhere_ends_so_too(sources, data):
    folder, path, valid = sources["coco"]
    content = json.loads(valid)
    node, key = {"": content}, ""
    for _ in range(data.draw(st.integers(1, 5))):
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        node, key = inner, data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
    node[key] = data.draw(JSON_VALUES)
    path.write_text(json.dumps(content), encoding="utf-8")
    read_whatever_it_is(folder, "coco")


def read_whatever_it_is(folder, form):
    scratch = folder.parent / "out"
    shutil.rmtree(scratch, ignore_errors=True)
    for wanted in (form, "auto"):
        try:
            source = as_labelme(folder, wanted, scratch, LENIENT)
            if source.form != "labelme":
                read_usable(source.folder, Recipe())
        except SightlineError:
            pass
        shutil.rmtree(scratch, ignore_errors=True)


def test_a_json_of_deep_nesting_and_an_image_that_is_none_are_survived(tmp_path):
    folder = yolo_folder(tmp_path / "in", "0 0.5 0.5 0.1 0.1")
    (folder / "images" / "train" / "a.png").write_bytes(struct.pack(">8s", b"\x89PNG\r\n\x1a\n"))
    assert imported(folder, tmp_path / "out")[0]["a.json"].shapes == ()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_text("[" * 100_000)
    with pytest.raises(SightlineError, match="not JSON, or cut off"):
        as_labelme(tmp_path / "deep", "coco", tmp_path / "out")


@pytest.mark.parametrize("names", ['names: ["\\uD800", b]', "names: {x: a}", "names: 3", "names: [[a]]", "- names"])
def test_yolo_names_that_are_none_are_not_taken(tmp_path, names):
    with pytest.raises(SightlineError, match="no file names the classes"):
        as_labelme(yolo_folder(tmp_path / "in", "0 0.5 0.5 0.1 0.1", names), "yolo", tmp_path / "out")


def test_half_characters_in_json_are_refused_and_a_file_name_that_is_no_text_is_a_finding(tmp_path):
    folder = coco_folder(tmp_path / "in", {"bbox": [1, 2, 3, 4]})
    write_json(folder / "more.json", coco([], categories=[{"id": 7, "name": "x"}]))
    (folder / "more.json").write_text((folder / "more.json").read_text().replace('"x"', '"\\ud800"'))
    shutil.copyfile(folder / "images" / "a.png", os.fsencode(folder / "images") + b"/\xff.png")
    _, codes = only(folder, tmp_path)
    assert codes == [Code.BAD_NAME, Code.UNREADABLE_SOURCE]


def test_the_size_of_an_image_that_coco_does_not_give_is_its_own(tmp_path):
    images = [{"id": 1, "file_name": "a.png"}]
    folder = coco_folder(
        tmp_path / "in", {"segmentation": rle(blob())}, {"segmentation": rle(blob()[1:])}, images=images
    )
    (shape,), codes = only(folder, tmp_path)
    assert (painted(shape) == blob()).all()
    assert codes == [Code.BAD_MASK]


def test_a_mask_without_a_pixel_is_none():
    with pytest.raises(Unusable):
        mask_shape(np.zeros((3, 3), dtype=bool), 0, 0, "plug")
