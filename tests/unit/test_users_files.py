"""Folders as annotation tools and people leave them: no object is lost, none is on the wrong photograph, no reason is hidden."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle_of

from sightline.annotations.findings import Code, Outcome, Policy
from sightline.annotations.instances import read_usable
from sightline.annotations.labelme import edit_document, read_document
from sightline.annotations.read import Annotated, read_annotations
from sightline.annotations.recipe import Recipe
from sightline.errors import SightlineError
from sightline.formats.convert import as_labelme
from tests.make_labelme import make_image

SIZE = (100, 80)
BOX = [10, 10, 30, 40]
CUP = ("cup", *BOX)
CORNERS = [[10, 10], [40, 10], [40, 50], [10, 50]]
YOLO = "0 0.25 0.375 0.3 0.5"  # the same box
PICTURE = "picture"
"""Content of a file that is an image of SIZE."""


def write(folder: Path, files: dict[str, Any]) -> Path:
    """Write files: texts, bytes, JSON, or images."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is PICTURE:
            make_image(path if path.suffix != ".JPG" else path, SIZE)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")
    return folder


def labelme(*shapes: dict[str, Any], image: str = "a.jpg", size: tuple[int, int] = SIZE, **more: Any) -> dict[str, Any]:
    drawn = [
        {"label": "cup", "points": CORNERS, "shape_type": "polygon", "group_id": None, "flags": {}} | one
        for one in shapes
    ]
    keys = {"version": "5.5.0", "flags": {}, "imagePath": image, "imageData": None}
    return {**keys, "shapes": drawn, "imageWidth": size[0], "imageHeight": size[1], **more}


def coco(*annotations: dict[str, Any], images: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    listed = images or [{"id": 1, "file_name": "a.jpg", "width": SIZE[0], "height": SIZE[1]}]
    drawn = [{"id": n, "image_id": 1, "category_id": 1, "bbox": BOX} | one for n, one in enumerate(annotations, 1)]
    return {"images": listed, "annotations": drawn, "categories": [{"id": 1, "name": "cup"}], **more}


def voc(
    filename: str = "a.jpg", box: tuple[int, int, int, int] = (11, 11, 40, 50), size: tuple[int, int] = SIZE
) -> str:
    ends = "".join(f"<{name}>{end}</{name}>" for name, end in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    drawn = f"<object><name>cup</name><bndbox>{ends}</bndbox></object>"
    return f"<annotation><filename>{filename}</filename>{sides}{drawn}</annotation>"


def cvat(drawn: str = '<box label="cup" xtl="10" ytl="10" xbr="40" ybr="50"/>', name: str = "a.jpg") -> str:
    sides = f'width="{SIZE[0]}" height="{SIZE[1]}"'
    return f'<annotations><version>1.1</version><image id="0" name="{name}" {sides}>{drawn}</image></annotations>'


def see(folder: Path, scratch: Path, **policy: str) -> tuple[dict[str, list[tuple[Any, ...]]], dict[str, str]]:
    """What publishing and recording make of a folder: boxes by image, and the findings' outcomes by code."""
    chosen = Policy.of(policy).publishing()
    source = as_labelme(folder, "auto", scratch, chosen)
    publishing = {code: str(chosen.outcome(code)) for code in (*chosen.chosen, Code.WRONG_SIZE, Code.IMAGE_TWICE)}
    images, found = read_usable(source.folder, Recipe(policy=publishing))
    boxes = {
        image.name: [
            (instance.label, *(round(side, 1) for side in instance.region.box)) + ("crowd",) * instance.crowd
            for instance in image.instances
        ]
        for image in images
    }
    return boxes, {str(one.code): str(one.outcome) for one in [*source.findings, *found]}


def runs(left: int, top: int, width: int, height: int, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    pixels = np.zeros(size[::-1], dtype=np.uint8)
    pixels[top : top + height, left : left + width] = 1
    encoded = rle_of.encode(np.asfortranarray(pixels))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


LEFT_OUT = {"a.jpg": None}
ONE = {"a.jpg": [CUP]}

# --- A: a shape with an area is an object; B: what cannot be used makes no background --------------------------------


@pytest.mark.parametrize(
    ("kind", "points", "box", "code"),
    [
        ("oriented_rectangle", [[20, 10], [40, 20], [30, 40], [10, 30]], (10, 10, 30, 30), None),
        ("rotation", [[20, 10], [40, 20], [30, 40], [10, 30]], (10, 10, 30, 30), None),
        ("quadrilateral", CORNERS, BOX, None),
        ("Polygon", CORNERS, BOX, None),
        ("RECTANGLE", [[10, 10], [40, 50]], BOX, None),
        ("bbox", [[10, 10], [40, 50]], BOX, None),
        ("Circle", [[30, 30], [40, 30]], (20, 20, 20, 20), None),
        ("ellipse", [[10, 10], [40, 50]], BOX, "unknown_shape_type"),
        ("brush", CORNERS, BOX, "unknown_shape_type"),
        ("cuboid2d", [[10, 10], [40, 10], [40, 50]], BOX, "unknown_shape_type"),
    ],
)
def test_points_with_an_area_are_an_object_whatever_they_are_called(tmp_path, kind, points, box, code):
    write(tmp_path / "in", {"a.jpg": PICTURE, "a.json": labelme({"shape_type": kind, "points": points})})
    boxes, codes = see(tmp_path / "in", tmp_path / "out")
    (drawn,) = boxes["a.jpg"]
    assert drawn[1:] == pytest.approx(tuple(box), abs=0.5)
    assert codes == ({code: "fix"} if code else {})


@pytest.mark.parametrize("kind", ["point", "linestrip", "polyline", "Line", "keypoints"])
def test_a_line_is_no_object_and_its_image_no_background(tmp_path, kind):
    write(tmp_path / "in", {"a.jpg": PICTURE, "a.json": labelme({"shape_type": kind})})
    assert see(tmp_path / "in", tmp_path / "out") == ({}, {"unsupported_shape": "drop", "nothing_left": "drop"})


B_COCO = [
    {"category_id": 9, "bbox": BOX},
    {"category_id": None},
    {"bbox": None},
    {"bbox": [1, 2, 3]},
    {"bbox": ["ten", 10, 30, 40]},
    {"bbox": [10, float("nan"), 30, 40]},
    {"bbox": None, "segmentation": {"size": [80, 100], "counts": [1, 2]}},
    {"bbox": None, "segmentation": [[1, 2, 3]]},
    {"bbox": None, "segmentation": "polygon"},
]
B_CVAT = [
    '<skeleton label="cup"><points label="1" points="1,2"/></skeleton>',
    '<cuboid label="cup" xtl1="1"/>',
    '<mask label="cup" rle="1, 2" left="1" top="1" width="9" height="9"/>',
    '<polygon label="cup" points="1,2;3"/>',
    '<box label="cup" xtl="a" ytl="1" xbr="2" ybr="3"/>',
    '<ellipse label="cup" cx="9" cy="9" rx="-1" ry="2"/>',
]
B_YOLO = [
    "7 0.5 0.5 0.2 0.2",
    "0 0.5 0.5 0.2",
    "cup 0.5 0.5 0.2 0.2",
    "0,0.5,0.5,0.2,0.2",
    "0 0.5 0.5 0.2 nan",
    "0 0,5 0,5 0,2 0,2",
]
B_VOC = [
    "<object><name>cup</name></object>",
    "<object><name>cup</name><bndbox><xmin>1</xmin></bndbox></object>",
    "<object><name>cup</name><polygon><pt><x>a</x><y>1</y></pt></polygon></object>",
]
LOSSES = {
    **{f"coco {number}": {"b.json": coco(one)} for number, one in enumerate(B_COCO)},
    **{f"cvat {number}": {"b.xml": cvat(one)} for number, one in enumerate(B_CVAT)},
    **{f"yolo {number}": {"a.txt": one, "classes.txt": "cup"} for number, one in enumerate(B_YOLO)},
    **{
        f"voc {number}": {"a.xml": voc().replace(voc()[voc().index("<object") : voc().index("</annotation")], one)}
        for number, one in enumerate(B_VOC)
    },
}


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_that_lost_its_only_annotation_is_left_out_with_the_reason(tmp_path, name):
    good = {"yolo": {"z.txt": YOLO}, "coco": {}, "voc": {"z.xml": voc("z.jpg")}, "cvat": {}}[name.split()[0]]
    files = {"a.jpg": PICTURE, "z.jpg": PICTURE, **LOSSES[name], **good}
    if name.startswith("coco"):
        listed = [{"id": n, "file_name": f"{stem}.jpg", "width": 100, "height": 80} for n, stem in ((1, "a"), (2, "z"))]
        content = files["b.json"]
        content = {
            **content,
            "images": listed,
            "annotations": [*content["annotations"], coco({"image_id": 2})["annotations"][0]],
        }
        files["b.json"] = json.dumps(content)
    if name.startswith("cvat"):
        files["b.xml"] = files["b.xml"].replace("</annotations>", cvat(name="z.jpg").partition("1.1</version>")[2])
    boxes, codes = see(write(tmp_path / "in", files), tmp_path / "out")
    assert boxes == {"z.jpg": [CUP]}
    assert codes.pop("nothing_left") == "drop"
    assert codes and set(codes.values()) == {"drop"}
    kept, _ = see(tmp_path / "in", tmp_path / "asked", nothing_left="fix")
    assert kept == {"a.jpg": [], "z.jpg": [CUP]}


def test_an_image_that_lost_one_annotation_keeps_the_rest_and_an_empty_one_is_a_background(tmp_path):
    files = {
        "a.jpg": PICTURE, "a.txt": f"9 0.5 0.5 0.1 0.1\n{YOLO}\n", "b.jpg": PICTURE, "b.txt": "\n", "classes.txt": "cup",
    }  # fmt: skip
    assert see(write(tmp_path / "in", files), tmp_path / "out") == (
        {"a.jpg": [CUP], "b.jpg": []},
        {"broken_annotation": "drop"},
    )


@pytest.mark.parametrize(
    ("line", "box"),
    [
        (f"{YOLO} 0.93", CUP),
        (f"{YOLO} 1", CUP),
        ("0 0.1 0.125 0.4 0.125 0.4 0.625 0.1 0.625 0.5", CUP),
    ],
)
def test_a_confidence_behind_a_yolo_line_is_kept_beside_the_object(tmp_path, line, box):
    write(tmp_path / "in", {"a.jpg": PICTURE, "a.txt": line, "classes.txt": "cup"})
    assert see(tmp_path / "in", tmp_path / "out") == ({"a.jpg": [box]}, {})
    (shape,) = json.loads((tmp_path / "out" / "a.json").read_text())["shapes"]
    assert shape["description"] == f"confidence: {line.split()[-1]}"


# --- C: whose annotation is it? ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [["b.jpg"], ["b.jpg", "b.jpg"], ["c.jpg", "a.jpg"]])
def test_voc_of_a_copied_template_goes_to_the_photograph_of_its_name(tmp_path, others):
    names = ["a", "b", "c"][: len(others) + 1]
    files: dict[str, Any] = {f"{name}.jpg": PICTURE for name in ("a", "b", "c")}
    for number, (name, said) in enumerate(zip(names, ["a.jpg", *others], strict=True)):
        files[f"{name}.xml"] = voc(said, (11 + number, 11, 40 + number, 50))
    boxes, codes = see(write(tmp_path / "in", files), tmp_path / "out")
    assert {name: boxes[f"{name}.jpg"] for name in names} == {
        name: [("cup", 10 + number, 10, 30, 40)] for number, name in enumerate(names)
    }
    wrong = any(f"{name}.jpg" != said for name, said in zip(names, ["a.jpg", *others], strict=True))
    assert codes.get("another_image_named") == ("fix" if wrong else None)


def test_two_files_of_one_photograph_are_never_added_up(tmp_path):
    files = {
        "Annotations/a.xml": voc(),
        "Annotations/b.xml": voc("a.jpg", (51, 11, 80, 50)),
        "JPEGImages/a.jpg": PICTURE,
    }
    boxes, codes = see(write(tmp_path / "in", files), tmp_path / "out")
    assert (boxes, codes) == (ONE, {"image_annotated_twice": "fail"})


COCO_TWICE = [
    [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}],
    [{"id": 1, "file_name": "a.jpg"}, {"id": "1", "file_name": "b.jpg"}],
    [{"id": 1, "file_name": "a.jpg"}, {"id": 1.0, "file_name": "b.jpg"}],
]


@pytest.mark.parametrize("images", COCO_TWICE)
def test_an_annotation_of_an_id_that_two_photographs_have_goes_to_neither(tmp_path, images):
    files = {"a.jpg": PICTURE, "b.jpg": PICTURE, "z.jpg": PICTURE}
    listed = [*images, {"id": 2, "file_name": "z.jpg"}]
    files["coco.json"] = coco({}, {"image_id": 2}, images=listed)
    boxes, codes = see(write(tmp_path / "in", files), tmp_path / "out")
    assert boxes == {"z.jpg": [CUP]}
    assert codes["image_annotated_twice"] == "fail"


@pytest.mark.parametrize("second", ["a.jpg", "./a.jpg", "images/../a.jpg"])
def test_a_photograph_that_is_listed_twice_is_not_added_up(tmp_path, second):
    listed = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": second}]
    write(
        tmp_path / "in",
        {"a.jpg": PICTURE, "coco.json": coco({}, {"image_id": 2, "bbox": [12, 12, 30, 40]}, images=listed)},
    )
    boxes, codes = see(tmp_path / "in", tmp_path / "out")
    assert (boxes, codes["image_annotated_twice"]) == (ONE, "fail")


def test_labelme_of_a_copied_json_goes_to_the_photograph_of_its_name(tmp_path):
    shifted = [[x + 5, y] for x, y in CORNERS]
    files = {"a.jpg": PICTURE, "b.jpg": PICTURE, "a.json": labelme({}), "b.json": labelme({"points": shifted})}
    boxes, codes = see(write(tmp_path / "in", files), tmp_path / "out")
    assert boxes == {"a.jpg": [CUP], "b.jpg": [("cup", 15, 10, 30, 40)]}
    assert codes == {"another_image_named": "fix"}


def test_labelme_that_names_another_annotated_photograph_and_has_none_is_refused(tmp_path):
    write(tmp_path / "in", {"a.jpg": PICTURE, "a.json": labelme({}), "0.json": labelme({"label": "mug"})})
    assert see(tmp_path / "in", tmp_path / "out") == (ONE, {"image_annotated_twice": "fail"})


# --- D: another size; F: a box beside a useless outline; G: everything a crowd; L: ids as texts -----------------------


@pytest.mark.parametrize("factor", [0.5, 2, 4])
@pytest.mark.parametrize("form", ["labelme", "coco", "voc", "circle", "mask"])
def test_what_was_drawn_on_another_size_is_scaled_with_the_photograph(tmp_path, form, factor):
    size = int(SIZE[0] * factor), int(SIZE[1] * factor)
    drawn = [[x * factor, y * factor] for x, y in CORNERS]
    box = [side * factor for side in BOX]
    png = io.BytesIO()
    Image.new("1", (int(30 * factor), int(40 * factor)), 1).save(png, "PNG")
    mask = base64.b64encode(png.getvalue()).decode()
    last = [40 * factor - 1, 50 * factor - 1]
    files = {
        "labelme": {"a.json": labelme({"points": drawn}, size=size)},
        "circle": {"a.json": labelme({"shape_type": "circle", "points": [[25 * factor, 30 * factor], [40 * factor, 30 * factor]]}, size=size)},
        "mask": {"a.json": labelme({"shape_type": "mask", "points": [drawn[0], last], "mask": mask}, size=size)},
        "coco": {"c.json": coco({"bbox": box}, images=[{"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}])},
        "voc": {"a.xml": voc(box=(int(box[0]) + 1, int(box[1]) + 1, int(box[0] + box[2]), int(box[1] + box[3])), size=size)},
    }[form]  # fmt: skip
    write(tmp_path / "in", {"a.jpg": PICTURE, **files})
    boxes, codes = see(tmp_path / "in", tmp_path / "out")
    ((_, *found),) = boxes["a.jpg"]
    assert found == pytest.approx([10, 15, 30, 30] if form == "circle" else BOX, abs=1)
    assert codes == {"image_resized": "fix"}


@pytest.mark.parametrize("size", [(200, 100), (100, 100), (120, 80)])
def test_another_shape_of_photograph_is_refused_unless_allowed(tmp_path, size):
    write(tmp_path / "in", {"a.jpg": PICTURE, "a.json": labelme({}, size=size)})
    assert see(tmp_path / "in", tmp_path / "out") == ({}, {"wrong_size_in_json": "fail"})
    assert see(tmp_path / "in", tmp_path / "asked", wrong_size_in_json="fix") == (ONE, {"wrong_size_in_json": "fix"})


@pytest.mark.parametrize("size", [(80, 100), (200, 160), (1, 1), (None, None)])
def test_run_lengths_of_the_photographs_size_are_right_whatever_is_written(tmp_path, size):
    listed = [{"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}]
    write(tmp_path / "in", {"a.jpg": PICTURE, "c.json": coco({"segmentation": runs(*BOX)}, images=listed)})
    assert see(tmp_path / "in", tmp_path / "out")[0] == ONE


@pytest.mark.parametrize(
    "segmentation",
    [
        [[10, 10, 40, 50]],
        [10, 10, 40, 50],
        [[10, 10, 40]],
        [[10, 10, 20, 20, 30, 30]],
        "text",
        {"size": [1, 2], "counts": [2]},
        {"size": [80, 100], "counts": "?"},
        [["a", "b", "c", "d", "e", "f"]],
    ],
)
def test_a_good_box_beside_a_useless_outline_is_a_box(tmp_path, segmentation):
    write(tmp_path / "in", {"a.jpg": PICTURE, "c.json": coco({"segmentation": segmentation})})
    assert see(tmp_path / "in", tmp_path / "out") == (ONE, {"box_instead_of_outline": "fix"})


@pytest.mark.parametrize(
    "bbox", [{"x": 10, "y": 10, "width": 30, "height": 40}, {"x": "10", "y": "10", "w": 30, "h": 40}]
)
def test_a_box_written_as_a_mapping_is_a_box(tmp_path, bbox):
    write(tmp_path / "in", {"a.jpg": PICTURE, "c.json": coco({"bbox": bbox})})
    assert see(tmp_path / "in", tmp_path / "out") == (ONE, {})


@pytest.mark.parametrize("segmentation", [runs(*BOX), [[10, 10, 40, 10, 40, 50, 10, 50]], None])
def test_a_set_of_crowds_alone_is_told_and_read_as_asked(tmp_path, segmentation):
    write(tmp_path / "in", {"a.jpg": PICTURE, "c.json": coco({"iscrowd": 1, "segmentation": segmentation})})
    crowd = {"a.jpg": [(*CUP, "crowd")]}
    assert see(tmp_path / "in", tmp_path / "out") == (crowd, {"everything_is_crowd": "fail"})
    assert see(tmp_path / "in", tmp_path / "drop", everything_is_crowd="drop") == (
        crowd,
        {"everything_is_crowd": "drop"},
    )
    assert see(tmp_path / "in", tmp_path / "fix", everything_is_crowd="fix") == (ONE, {"everything_is_crowd": "fix"})


@pytest.mark.parametrize(("first", "second"), [("1", 1), (1, "1"), (1.0, "1"), ("a7", "a7"), (" 1", 1)])
def test_ids_that_are_texts_are_ids(tmp_path, first, second):
    listed = [{"id": first, "file_name": "a.jpg"}]
    content = coco(
        {"image_id": second, "category_id": second}, images=listed, categories=[{"id": first, "name": "cup"}]
    )
    write(tmp_path / "in", {"a.jpg": PICTURE, "c.json": content})
    assert see(tmp_path / "in", tmp_path / "out") == (ONE, {})


@pytest.mark.parametrize(
    ("left", "group", "label", "told"),
    [(60, 1, "cup", True), (40, 1, "cup", False), (35, 1, "cup", False), (60, 2, "cup", False), (60, 1, "mug", False)],
)
def test_boxes_of_one_group_that_lie_apart_are_one_object_and_told(tmp_path, left, group, label, told):
    first = {"shape_type": "rectangle", "points": [[10, 10], [40, 50]], "group_id": 1}
    second = {"shape_type": "rectangle", "points": [[left, 10], [90, 50]], "group_id": group, "label": label}
    write(tmp_path / "in", {"a.jpg": PICTURE, "a.json": labelme(first, second)})
    boxes, codes = see(tmp_path / "in", tmp_path / "out")
    one_object = group == 1 and label == "cup"
    assert boxes == {"a.jpg": [("cup", 10, 10, 80, 40)] if one_object else [CUP, (label, left, 10, 90 - left, 40)]}
    assert codes == ({"group_lies_apart": "fix"} if told else {})


# --- E: numbers of classes; H: layouts; I: looking for the photograph; J: encodings -----------------------------------


@pytest.mark.parametrize("name", ["classes.txt", "obj.names", "predefined_classes.txt", "data/my.names", "Classes.txt"])
def test_a_class_has_the_number_of_its_line_blank_ones_counted(tmp_path, name):
    lines = "2 0.25 0.375 0.3 0.5\n"
    write(tmp_path / "in", {"a.jpg": PICTURE, "a.txt": lines, name: "mug\n\ncup\n\n"})
    assert see(tmp_path / "in", tmp_path / "out") == (ONE, {})


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("images/a.jpg", "labels/a.txt"),
        ("Images/a.jpg", "Labels/a.txt"),
        ("JPEGImages/a.jpg", "labels/a.txt"),
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("Images/a.jpg", "Annotations/a.txt"),
        ("img/a.jpg", "txt/a.txt"),
        ("a.jpg", "labels/a.txt"),
        ("obj_train_data/a.jpg", "obj_train_data/a.txt"),
    ],
)
def test_yolos_layouts(tmp_path, image, text):
    write(tmp_path / "in", {image: PICTURE, text: YOLO, "data.yaml": "names: [cup]"})
    boxes, codes = see(tmp_path / "in", tmp_path / "out")
    assert (list(boxes.values()), codes) == ([[CUP]], {})


def test_dota_lines_have_their_class_by_name(tmp_path):
    text = "imagesource:GoogleEarth\ngsd:0.1\n10 10 40 10 40 50 10 50 cup 0\n"
    write(tmp_path / "in", {"images/a.jpg": PICTURE, "labelTxt/a.txt": text, "data.yaml": "names: [cup]"})
    assert see(tmp_path / "in", tmp_path / "out")[0] == ONE


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"a.jpg": PICTURE, "a.txt": "1 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.2 0.2", "classes.txt": "cup\nmug"},
            ["names the classes 0 to 1", "counted from 1", "blank line"],
        ),
        ({"a.jpg": PICTURE, "a.txt": YOLO}, ["no file names the classes", "classes.txt"]),
        ({"a.jpg": PICTURE, "export.json": [{"annotations": [{"result": [{"from_name": "label"}]}]}]}, ["Label Studio", "COCO"]),
        ({"a.jpg": PICTURE, "min.json": [{"image": "/data/a.jpg", "annotator": 1, "label": [{"rectanglelabels": ["cup"], "original_width": 9}]}]}, ["Label Studio", "COCO"]),
        ({"a.jpg": PICTURE, "via.json": {"a.jpg1": {"regions": [{"shape_attributes": {}}]}}}, ["VIA", "COCO"]),
        ({"a.jpg": PICTURE, "notes.csv": "a"}, ["1 image, 1 .csv", "notes.csv", "docs/formats.md"]),
        ({"c.json": coco({})}, ["recognized as coco", "'a.jpg' is not in the folder", "missing_image"]),
        ({"x.heic": "", "c.json": coco({}, images=[{"id": 1, "file_name": "x.heic"}])}, ["'x.heic' is of a kind that is not read"]),
        ({"x/a.jpg": b"1", "y/a.jpg": b"2", "c.json": coco({})}, ["could be x/a.jpg or y/a.jpg"]),
    ],
)  # fmt: skip
def test_a_refusal_says_what_was_found_and_what_to_do(tmp_path, files, words):
    with pytest.raises(SightlineError) as refused:
        see(write(tmp_path / "in", files), tmp_path / "out")
    assert [word for word in words if word not in str(refused.value)] == []
    assert "Annotate" not in str(refused.value)


@pytest.mark.parametrize(
    ("asked", "files", "meant"),
    [
        ("voc", {"c.json": coco({})}, "coco"),
        ("labelme", {"c.json": coco({})}, "coco"),
        ("yolo", {"c.json": coco({}), "data.yaml": "names: [cup]"}, "coco"),
        ("cvat", {"a.json": labelme({})}, "labelme"),
        ("coco", {"a.xml": voc()}, "voc"),
        ("labelme", {"a.txt": YOLO, "classes.txt": "cup"}, "yolo"),
    ],
)
def test_who_asks_for_another_format_is_told_which_it_is(tmp_path, asked, files, meant):
    folder = write(tmp_path / "in", {"a.jpg": PICTURE, **files})
    with pytest.raises(SightlineError, match=f"recognized as {meant}: say --format {meant}, or leave --format out"):
        as_labelme(folder, asked, tmp_path / "out")


NAMED = [
    ("frame_1", "images/frame_1.jpg"),
    ("frame_1.png", "images/frame_1.jpg"),
    ("Frame_1.JPG", "frame_1.jpg"),
    ("img/frame_1.jpg", "photos/2021/frame_1.jpg"),
    ("/home/me/set/frame_1.jpg", "frame_1.jpg"),
    ("C:\\\\set\\\\frame_1.jpg", "images/frame_1.jpg"),
    ("../frame_1.jpg", "images/frame_1.jpg"),
    ("my%20frame_1.jpg", "images/my frame_1.jpg"),
]


@pytest.mark.parametrize(
    ("form", "name", "image"),
    [
        (form, *one)
        for form in ("coco", "cvat", "voc", "labelme")
        for one in NAMED
        if form != "labelme" or "." in one[0]
    ],
)
def test_the_only_photograph_that_a_name_can_mean_is_found_and_told(tmp_path, form, name, image):
    file = {
        "coco": {"c.json": coco({}, images=[{"id": 1, "file_name": name}])},
        "cvat": {"c.xml": cvat(name=name)},
        "voc": {"c.xml": voc(name)},
        "labelme": {"c/x.json": labelme({}, image=name)},
    }[form]
    boxes, codes = see(write(tmp_path / "in", {image: PICTURE, **file}), tmp_path / "out")
    assert list(boxes.values()) == [[CUP]]
    assert codes.pop("image_found_elsewhere") == "fix"
    assert set(codes) <= {"wrong_extension"}


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "pgm", "ppm", "pnm", "JFIF"])
def test_photographs_with_rare_endings_are_read(tmp_path, suffix):
    write(tmp_path / "in", {"c.json": coco({}, images=[{"id": 1, "file_name": f"a.{suffix}"}])})
    grey = suffix == "pgm"
    Image.new("L" if grey else "RGB", SIZE).save(tmp_path / "in" / f"a.{suffix}", "PPM" if suffix[0] == "p" else "JPEG")
    assert see(tmp_path / "in", tmp_path / "out") == ({f"a.{suffix}": [CUP]}, {})


@pytest.mark.parametrize("copies", [True, False])
def test_copies_of_a_photograph_in_other_folders_count_once(tmp_path, copies):
    files = {"json/a.json": labelme({}), "one/a.jpg": PICTURE, "two/a.jpg": PICTURE}
    write(tmp_path / "in", files)
    if not copies:
        make_image(tmp_path / "in" / "two" / "a.jpg", (50, 40))
    found, _ = see(tmp_path / "in", tmp_path / "scratch", missing_image="drop")
    assert len(found) == copies


TREES = {
    "the folder of the same name": ("json/kitchen/a.json", "a.jpg", "photos/kitchen/a.jpg", "photos/living/a.jpg"),
    "the name of the file": ("job_b.json", "a.jpg", "job_b/images/a.jpg", "job_a/images/a.jpg"),
    "the end of an absolute path": ("x.json", "/home/me/b/2021/a.jpg", "set/b/2021/a.jpg", "set/c/2021/a.jpg"),
    "a folder of the path": ("x.json", "./old/b/a.jpg", "new/b/a.jpg", "new/c/a.jpg"),
    "the folder it lies in": ("site b/json/x.json", "a.jpg", "site b/pictures/a.jpg", "site c/pictures/a.jpg"),
    "names beyond ASCII": ("标注/厨房/a.json", "a.jpg", "照片/厨房/a.jpg", "照片/客厅/a.jpg"),
}


@pytest.mark.parametrize("form", ["labelme", "coco"])
@pytest.mark.parametrize("tree", TREES)
def test_of_photographs_of_one_name_in_parallel_folders_the_likeliest_is_used(tmp_path, form, tree):
    file, name, meant, other = TREES[tree]
    content = labelme({}, image=name) if form == "labelme" else coco({}, images=[{"id": 1, "file_name": name}])
    write(tmp_path / "in", {file: content, meant: PICTURE})
    (tmp_path / "in" / other).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE).save(tmp_path / "in" / other)
    source = as_labelme(tmp_path / "in", "auto", tmp_path / "out", Policy().publishing())
    used, findings = read_usable(source.folder, Recipe(policy={"image_without_json": "drop"}))
    assert [source.made.get(one.source, one.source) for one in used] == [meant]
    assert not [found for found in findings if found.outcome is Outcome.FAIL]


@pytest.mark.parametrize("group", ["3", 3.0, "３"])
def test_a_group_written_as_another_kind_of_number_is_that_group(tmp_path, group):
    right = [[60, 10], [90, 10], [90, 50], [60, 50]]
    write(tmp_path / "in", {"a.jpg": PICTURE, "a.json": labelme({"group_id": 3}, {"group_id": group, "points": right})})
    assert see(tmp_path / "in", tmp_path / "out") == ({"a.jpg": [("cup", 10, 10, 80, 40)]}, {})


@pytest.mark.parametrize("mask", [[], {}, 0, False])
def test_a_mask_that_is_no_text_is_damage(tmp_path, mask):
    write(tmp_path / "in", {"a.jpg": PICTURE, "a.json": labelme({"mask": mask}, {})})
    document = read_document(tmp_path / "in" / "a.json")
    assert [shape.damage is None for shape in document.shapes] == [False, True]


def test_an_embedded_image_is_the_image_where_its_path_leads_nowhere(tmp_path):
    make_image(tmp_path / "photo.jpg", SIZE)
    data = base64.b64encode((tmp_path / "photo.jpg").read_bytes()).decode()
    for path in ("/home/me/a.jpg", "..\\\\elsewhere\\\\a.jpg", "sub/a.jpg", "a.json"):
        folder = write(tmp_path / f"in{len(path)}", {"a.json": labelme({}, image=path, imageData=data)})
        source = as_labelme(folder, "auto", tmp_path / "unused", Policy().publishing())
        from sightline.annotations.read import Annotated, read_annotations

        (read,) = read_annotations(source.folder, 10**6, Policy().publishing(), write_embedded=True)
        assert isinstance(read, Annotated) and not read.has_image and len(read.document.shapes) == 1
        assert [found.outcome for found in read.findings] == [Outcome.FIX]


@pytest.mark.parametrize(
    ("encoding", "label", "told"),
    [
        ("utf-8-sig", "杯子", False),
        ("utf-16", "杯子", False),
        ("utf-16-le", "cup", False),
        ("gbk", "杯子", True),
        ("gb18030", "停车标志", True),
        ("cp949", "번호판", True),
        ("shift_jis", "ナンバープレート", True),
        ("latin-1", "Straße", True),
    ],
)
@pytest.mark.parametrize("form", ["labelme", "coco", "voc", "yolo", "cvat"])
def test_texts_in_older_encodings_are_read_and_told(tmp_path, form, encoding, label, told):
    content = {
        "labelme": {"a.json": json.dumps(labelme({"label": label}), ensure_ascii=False)},
        "coco": {"c.json": json.dumps(coco({}, categories=[{"id": 1, "name": label}]), ensure_ascii=False)},
        "voc": {"a.xml": voc().replace("cup", label)},
        "yolo": {"classes.txt": label},
        "cvat": {"c.xml": cvat().replace("cup", label)},
    }[form]
    files = {name: text.encode(encoding) for name, text in content.items()}
    more = {"a.txt": YOLO} if form == "yolo" else {}
    boxes, codes = see(write(tmp_path / "in", {"a.jpg": PICTURE, **files, **more}), tmp_path / "out")
    assert boxes == {"a.jpg": [(label, *BOX)]}
    assert codes == ({"other_encoding": "fix"} if told else {})


@pytest.mark.parametrize("declared", ["GB2312", "gb18030", "euc-kr", "Shift_JIS", "windows-1252", "UTF-16"])
def test_xml_is_read_in_the_encoding_that_it_declares(tmp_path, declared):
    label = {"euc-kr": "번호판", "Shift_JIS": "カップ", "windows-1252": "Straße"}.get(declared, "杯子")
    text = f'<?xml version="1.0" encoding="{declared}"?>\n{voc().replace("cup", label)}'.encode(declared)
    boxes, codes = see(write(tmp_path / "in", {"a.jpg": PICTURE, "a.xml": text}), tmp_path / "out")
    assert (boxes, codes) == ({"a.jpg": [(label, *BOX)]}, {})


# --- what breakers found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "named"),
    [([1, 2], "a.jpg"), ([1, 2], "a"), ([1, 2], "001"), ([1, 2], "1.0"), (["01", "02"], 1), (["x", "y"], "a.jpg")],
)
def test_an_image_id_that_means_one_image_in_another_form_is_that_image(tmp_path, ids, named):
    listed = [{"id": number, "file_name": f"{stem}.jpg"} for number, stem in zip(ids, "ab", strict=True)]
    content = coco({"image_id": named}, {"image_id": ids[1]}, images=listed)
    write(tmp_path / "in", {"a.jpg": PICTURE, "b.jpg": PICTURE, "c.json": content})
    assert see(tmp_path / "in", tmp_path / "out") == ({"a.jpg": [CUP], "b.jpg": [CUP]}, {})


def test_where_an_annotations_image_is_not_known_no_image_without_any_is_a_background(tmp_path):
    listed = [{"id": number, "file_name": f"{stem}.jpg"} for number, stem in ((1, "a"), (2, "b"))]
    content = coco({"image_id": 77}, {"image_id": 2}, images=listed)
    write(tmp_path / "in", {"a.jpg": PICTURE, "b.jpg": PICTURE, "c.json": content})
    boxes, codes = see(tmp_path / "in", tmp_path / "out")
    assert boxes == {"b.jpg": [CUP]} and {"broken_annotation", "nothing_left"} <= set(codes)


@pytest.mark.parametrize("form", ["labelme", "coco", "yolo", "voc"])
def test_a_background_never_takes_the_place_of_an_annotation(tmp_path, form):
    file = {
        "labelme": {"a.json": labelme({})},
        "coco": {"c.json": coco({})},
        "yolo": {"images/a.txt": YOLO, "classes.txt": "cup"},
        "voc": {"a.xml": voc()},
    }[form]
    folder = "images/" if form == "yolo" else ""
    write(tmp_path / "in", {f"{folder}a.jpg": PICTURE, **file})
    Image.new("RGB", (60, 50)).save(tmp_path / "in" / f"{folder}a.png")
    allowed = {"image_without_json": "fix", "image_annotated_twice": "drop"}
    boxes, _ = see(tmp_path / "in", tmp_path / "out", **allowed)
    assert [drawn for drawn in boxes.values() if drawn] == [[CUP]]


@pytest.mark.parametrize("form", ["labelme", "yolo", "voc"])
def test_a_folder_that_is_a_link_is_told(tmp_path, form):
    own = {"labelme": {"a.json": labelme({})}, "yolo": {"a.txt": YOLO}, "voc": {"a.xml": voc()}}[form]
    write(tmp_path / "elsewhere", {"a.jpg": PICTURE, **own})
    write(tmp_path / "in", {"a.jpg": PICTURE, **own} | ({"classes.txt": "cup"} if form == "yolo" else {}))
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    source = as_labelme(tmp_path / "in", "auto", tmp_path / "out", Policy().publishing())
    assert [(str(one.code), one.file, str(one.outcome)) for one in source.findings] == [
        ("image_outside_folder", "linked", "fail")
    ]


@pytest.mark.parametrize("form", ["voc", "labelme", "cvat"])
def test_a_word_that_looks_like_utf8_is_read_as_the_files_beside_it(tmp_path, form):
    for number, word in enumerate(["汽车", "螺母", "猫"]):
        name = f"{number}.jpg"
        text = {
            "voc": voc(name).replace("cup", word),
            "cvat": cvat(name=name).replace("cup", word),
            "labelme": json.dumps(labelme({"label": word}, image=name), ensure_ascii=False),
        }[form]
        file = f"{number}.{'json' if form == 'labelme' else 'xml'}"
        write(tmp_path / "in", {name: PICTURE, file: text.encode("gbk")})
    boxes, codes = see(tmp_path / "in", tmp_path / "out")
    assert [drawn[0][0] for _, drawn in sorted(boxes.items())] == ["汽车", "螺母", "猫"]
    assert codes == {"other_encoding": "fix"}


ODD = {
    "an object with a capital": {"a.xml": voc().replace("object>", "Object>")},
    "an object of two boxes": {"a.xml": voc().replace("</object>", "<bndbox><xmin>1</xmin></bndbox></object>")},
    "DOTA's heads": {"a.txt": f"imagesource:GoogleEarth\ngsd:0.1\n{YOLO}", "classes.txt": "cup"},
    "a label without its image": {"a.txt": YOLO, "b.txt": YOLO, "classes.txt": "cup"},
}
TOLD = {
    "an object of two boxes": "not_imported",
    "a label without its image": "missing_image",
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_files_lose_nothing_silently(tmp_path, odd):
    write(tmp_path / "in", {"a.jpg": PICTURE, **ODD[odd]})
    boxes, codes = see(tmp_path / "in", tmp_path / "out")
    assert boxes == {"a.jpg": [CUP]}
    assert list(codes) == ([TOLD[odd]] if odd in TOLD else [])


def test_a_category_id_with_two_names_labels_nothing(tmp_path):
    content = coco({}, {"category_id": 2}) | {
        "categories": [{"id": n, "name": name} for n, name in ((1, "a"), (1, "b"), (2, "cup"))]
    }
    boxes, codes = see(write(tmp_path / "in", {"a.jpg": PICTURE, "c.json": content}), tmp_path / "out")
    assert boxes == {"a.jpg": [CUP]} and codes == {"broken_annotation": "drop"}


def test_an_image_whose_json_is_left_out_is_no_background(tmp_path):
    write(
        tmp_path / "in",
        {"photo.jpg": PICTURE, "x.json": labelme({}, image="photo.jpg", size=(77, 80)), "b.jpg": PICTURE},
    )
    write(tmp_path / "in", {"b.json": labelme({}, image="b.jpg")})
    boxes, codes = see(tmp_path / "in", tmp_path / "out", wrong_size_in_json="drop", image_without_json="fix")
    assert boxes == {"b.jpg": [CUP]} and codes == {"wrong_size_in_json": "drop"}


UNSURE: dict[str, dict[str, Any]] = {
    "XML that is cut off": {"a.xml": voc()[:60], "b.xml": voc("b.jpg")},
    "COCO that is cut off": {
        "c.json": json.dumps(coco({}))[:60],
        "d.json": coco({}, images=[{"id": 1, "file_name": "b.jpg"}]),
    },
    "two images of one id": {
        "c.json": coco(
            {"image_id": 2},
            {},
            images=[{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "x.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        )
    },
    "CVAT that is cut off": {"c.xml": cvat()[:60], "d.xml": cvat(name="b.jpg")},
}


@pytest.mark.parametrize("left_out", UNSURE)
def test_what_a_left_out_file_may_annotate_is_no_background(tmp_path, left_out):
    write(tmp_path / "in", {"a.jpg": PICTURE, "b.jpg": PICTURE, **UNSURE[left_out]})
    dropped = {"unreadable_source": "drop", "image_annotated_twice": "drop", "image_without_json": "fix"}
    boxes, codes = see(tmp_path / "in", tmp_path / "out", **dropped)
    assert boxes == {"b.jpg": [CUP]} and codes["nothing_left"] == "drop"
    kept, _ = see(tmp_path / "in", tmp_path / "kept", nothing_left="fix", **dropped)
    assert kept == {"a.jpg": [], "b.jpg": [CUP]}


def test_files_that_are_no_annotations_make_no_image_unsure(tmp_path):
    images = [{"id": 1, "file_name": "b.jpg"}, {"id": 2, "file_name": "gone.jpg"}]
    files = {"a.jpg": PICTURE, "b.jpg": PICTURE, "c.json": coco({}, images=images), "settings.json": {"a": 1}}
    dropped = {"missing_image": "drop", "image_without_json": "fix"}
    boxes, _ = see(write(tmp_path / "in", files), tmp_path / "out", **dropped)
    assert boxes == {"a.jpg": [], "b.jpg": [CUP]}


@pytest.mark.parametrize("space", ["\u202f", "\u3000", "\xa0"])
def test_names_with_other_blanks_are_names(tmp_path, space):
    name = f"shot{space}1.jpg"
    content = coco({}, images=[{"id": 1, "file_name": name}])
    write(tmp_path / "in", {name: PICTURE, "c.json": content})
    assert see(tmp_path / "in", tmp_path / "out") == ({name: [CUP]}, {})


def test_outlines_beside_run_lengths_of_another_size_are_not_guessed(tmp_path):
    images = [{"id": n, "file_name": name, "width": 200, "height": 160} for n, name in enumerate(("a.jpg", "b.jpg"), 1)]
    masks = [{"image_id": n, "segmentation": runs(*BOX)} for n in (1, 2)]
    content = coco(*masks, {"image_id": 1, "bbox": [20, 20, 60, 80]}, images=images)
    write(tmp_path / "in", {"a.jpg": PICTURE, "b.jpg": PICTURE, "c.json": content})
    assert see(tmp_path / "in", tmp_path / "out")[1] == {"wrong_size_in_json": "fail", "image_without_json": "drop"}
    boxes, _ = see(tmp_path / "in", tmp_path / "left", wrong_size_in_json="drop", image_without_json="fix")
    assert boxes == {"b.jpg": [CUP]}
    boxes, _ = see(tmp_path / "in", tmp_path / "as they are", wrong_size_in_json="fix")
    assert boxes == {"a.jpg": [CUP, ("cup", 20, 20, 60, 60)], "b.jpg": [CUP]}


def test_ids_of_any_length_tell_images_apart(tmp_path):
    images = [{"id": 2**70 + number, "file_name": name} for number, name in enumerate(("a.jpg", "b.jpg"))]
    content = coco(
        {"image_id": 2**70}, {"image_id": 2**70 + 1, "bbox": [1, 2, 3, 4], "category_id": 2**80}, images=images
    )
    content["categories"].append({"id": 2**80, "name": "mug"})
    write(tmp_path / "in", {"a.jpg": PICTURE, "b.jpg": PICTURE, "c.json": content})
    assert see(tmp_path / "in", tmp_path / "out") == ({"a.jpg": [CUP], "b.jpg": [("mug", 1, 2, 3, 4)]}, {})


@pytest.mark.parametrize(
    ("name", "photograph", "found"),
    [
        ("images/52a03697-a.jpg", "a.jpg", True),
        ("52a03697-shot-1.jpg", "deep/shot-1.jpg", True),
        ("upload\\1\\0d41ff20-a.jpg", "images/a.jpg", True),
        ("52A0369x-a.jpg", "a.jpg", False),
        ("1234-a.jpg", "a.jpg", False),
    ],
)
def test_what_label_studio_puts_before_an_uploads_name_is_no_part_of_it(tmp_path, name, photograph, found):
    content = coco({}, images=[{"id": 1, "file_name": name}])
    write(tmp_path / "in", {photograph: PICTURE, "other.jpg": PICTURE, "c.json": content})
    if found:
        boxes, codes = see(tmp_path / "in", tmp_path / "out")
        assert list(boxes.values()) == [[CUP]]
        assert codes == {"image_found_elsewhere": "fix", "image_without_json": "drop"}
    else:
        with pytest.raises(SightlineError, match=r"not in the folder"):
            see(tmp_path / "in", tmp_path / "out")


def test_each_label_file_belongs_to_the_image_of_its_folder(tmp_path):
    files = {"a.jpg": PICTURE, "a.txt": "1 0.25 0.375 0.3 0.5", "images/a.jpg": PICTURE, "labels/a.txt": YOLO}
    write(tmp_path / "in", {**files, "classes.txt": "cup\nmug"})
    source = as_labelme(tmp_path / "in", "auto", tmp_path / "out")
    images, _ = read_usable(source.folder, Recipe())
    drawn = {source.made[one.source]: [instance.label for instance in one.instances] for one in images}
    assert drawn == {"a.jpg": ["mug"], "images/a.jpg": ["cup"]}


@pytest.mark.parametrize("form", ["coco", "cvat"])
def test_a_split_whose_photograph_is_gone_does_not_annotate_another_splits(tmp_path, form):
    files: dict[str, Any] = {"train/10.jpg": PICTURE, "valid/11.jpg": PICTURE}
    for split, names in (("train", ["10.jpg"]), ("valid", ["10.jpg", "11.jpg"])):
        listed = [{"id": number, "file_name": name} for number, name in enumerate(names)]
        drawn = [{"image_id": number} for number in range(len(names))]
        if form == "coco":
            files[f"{split}/_annotations.coco.json"] = coco(*drawn, images=listed)
        else:
            files[f"{split}/annotations.xml"] = cvat(name=names[0]).replace("</annotations>", "") + "".join(
                cvat(name=name).partition("</version>")[2].replace("</annotations>", "") for name in names[1:]
            ) + "</annotations>"  # fmt: skip
    boxes, codes = see(write(tmp_path / "in", files), tmp_path / "out", image_annotated_twice="drop")
    assert sorted(len(drawn) for drawn in boxes.values()) == [1, 1] and codes["image_annotated_twice"] == "drop"


@pytest.mark.parametrize("where", ["elsewhere", "nowhere"])
def test_an_embedded_image_is_preferred_to_another_folders_photograph_of_its_name(tmp_path, where):
    picture = io.BytesIO()
    Image.new("RGB", SIZE, (200, 10, 10)).save(picture, "PNG")
    data = base64.b64encode(picture.getvalue()).decode()
    write(tmp_path / "in", {"x/1.json": labelme({}, image="img.png", imageData=data), "b.jpg": PICTURE})
    if where == "elsewhere":
        write(tmp_path / "in", {"other/img.png": PICTURE})
    source = as_labelme(tmp_path / "in", "auto", tmp_path / "out", Policy().publishing())
    found = read_annotations(source.folder, 10**6, Policy().publishing(), write_embedded=True)
    [read] = [one for one in found if isinstance(one, Annotated)]
    assert (read.image, read.has_image) == ("x/img.png", False)


def test_what_cannot_be_copied_or_resized_is_no_traceback(tmp_path):
    deep: Any = 1
    for _ in range(300):
        deep = {"x": deep}
    write(tmp_path / "in", {"a.jpg": PICTURE, "a.json": labelme({}, more=deep)})
    (tmp_path / "copy.json").write_bytes(edit_document(tmp_path / "in" / "a.json", {}))
    assert json.loads((tmp_path / "copy.json").read_bytes())["more"] == deep
    tiny = base64.b64encode(b"no png").decode()
    for points in ([[0, 0], [1e8, 1e8]], [[0, 0], [20, 20]]):
        mask = {"shape_type": "mask", "points": points, "mask": tiny}
        write(tmp_path / "in", {"a.json": labelme(mask, {}, size=(200, 160))})
        assert see(tmp_path / "in", tmp_path / "out")[0] == {"a.jpg": [("cup", 5, 5, 15, 20)]}


# --- whatever is written ----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 200)
    | st.floats(-5, 200)
    | st.sampled_from(["1", "", "cup", "a.jpg", "b.jpg"]),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["x", "y", "size", "counts"]), inner, max_size=3)
    ),
    max_leaves=12,
)
ANNOTATION = st.fixed_dictionaries(
    {"image_id": st.sampled_from([1, 2, "1", "2", None]) | JSON, "category_id": st.sampled_from([1, "1", 9]) | JSON},
    optional={"bbox": st.just(BOX) | JSON, "segmentation": st.just([[10, 10, 40, 10, 40, 50]]) | JSON, "iscrowd": JSON},
)
LINE = st.lists(st.sampled_from(["0", "1", "0.25", "0.5", "-1", "nan", "cup", "0,5", "1e9"]), max_size=9).map(" ".join)


def no_annotated_image_is_an_untold_background(folder: Path, scratch: Path, annotated: set[str]) -> None:
    """`annotated`: images of which somebody wrote something."""
    try:
        source = as_labelme(folder, "auto", scratch, Policy().publishing())
    except SightlineError:
        return
    images, found = read_usable(source.folder, Recipe())
    empty = {image.name for image in images if not image.instances}
    assert not empty & annotated, (empty, found, source.findings)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(annotations=st.lists(ANNOTATION, min_size=1, max_size=4))
def test_coco_never_makes_a_background_of_an_annotated_image(tmp_path_factory, annotations):
    listed = [{"id": n, "file_name": f"{stem}.jpg", "width": 100, "height": 80} for n, stem in ((1, "a"), (2, "b"))]
    folder = tmp_path_factory.mktemp("coco")
    content = {"images": listed, "categories": [{"id": 1, "name": "cup"}], "annotations": annotations}
    write(folder / "in", {"a.jpg": PICTURE, "b.jpg": PICTURE, "c.json": content})
    named = {
        str(one["image_id"])
        for one in annotations
        if isinstance(one["image_id"], int | str) and one["image_id"] is not True
    }
    annotated = {f"{stem}.jpg" for stem, number in (("a", "1"), ("b", "2")) if number in named}
    crowded = {"a.jpg", "b.jpg"} if any(one.get("iscrowd") for one in annotations) else set()
    no_annotated_image_is_an_untold_background(folder / "in", folder / "out", annotated - crowded)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINE, max_size=4))
def test_yolo_never_makes_a_background_of_an_annotated_image(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("yolo")
    write(
        folder / "in",
        {"a.jpg": PICTURE, "a.txt": "\n".join(lines), "b.jpg": PICTURE, "b.txt": YOLO, "classes.txt": "cup"},
    )
    annotated = {"a.jpg"} if any(line.strip() for line in lines) else set()
    no_annotated_image_is_an_untold_background(folder / "in", folder / "out", annotated)


TEXT = st.sampled_from(["1", "40", "", "nan", "-5", "1e9", "cup", "0,5", "12.5"])
BNDBOX = st.dictionaries(st.sampled_from(["xmin", "ymin", "xmax", "ymax"]), TEXT, max_size=4)
ELEMENT = st.tuples(
    st.sampled_from(["box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton", "other"]),
    st.dictionaries(
        st.sampled_from(["label", "points", "xtl", "ytl", "xbr", "ybr", "rle", "left", "group_id", "rotation"]),
        TEXT | st.sampled_from(["10,10;40,10;40,50", "10,10"]),
    ),
)
SHAPE = st.fixed_dictionaries(
    {"label": st.sampled_from(["cup", ""]) | JSON, "points": st.just(CORNERS) | st.just([[1, 1], [9, 9]]) | JSON},
    optional={
        "shape_type": st.sampled_from(["rectangle", "circle", "mask", "point", "linestrip", "rotation", "other"])
        | JSON,
        "group_id": JSON,
        "mask": JSON,
        "flags": JSON,
    },
)


def xml(tag: str, values: dict[str, str]) -> str:
    return f"<{tag}>{''.join(f'<{name}>{value}</{name}>' for name, value in values.items())}</{tag}>"


def attribute(item: tuple[str, str]) -> str:
    return f'{item[0]}="{item[1]}"'


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes=st.lists(BNDBOX, max_size=3), elements=st.lists(ELEMENT, max_size=3), shapes=st.lists(SHAPE, max_size=3))
def test_voc_cvat_and_labelme_never_make_a_background_of_an_annotated_image(tmp_path_factory, boxes, elements, shapes):
    drawn = "".join(f"<object><name>cup</name>{xml('bndbox', box)}</object>" for box in boxes)
    document = voc().replace("</annotation>", f"{drawn}</annotation>")
    document = document[: document.index("<object>")] + drawn + "</annotation>"
    inside = "".join(f"<{tag} {' '.join(map(attribute, more.items()))}/>" for tag, more in elements)
    for files, written in (
        ({"a.xml": document, "b.xml": voc("b.jpg")}, boxes),
        ({"c.xml": cvat(inside), "d.xml": cvat(name="b.jpg")}, elements),
        ({"a.json": labelme() | {"shapes": shapes}, "b.json": labelme({}, image="b.jpg")}, shapes),
    ):
        folder = tmp_path_factory.mktemp("any")
        write(folder / "in", {"a.jpg": PICTURE, "b.jpg": PICTURE, **files})
        no_annotated_image_is_an_untold_background(folder / "in", folder / "out", {"a.jpg"} if written else set())


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.sampled_from(["a.jpg", "b.jpg", "a", "A.JPG", "x/a.jpg", "y\\\\b.png", "/z/c.jpg", "d.jpg", "c"]),
        min_size=3,
        max_size=3,
    ),
    form=st.sampled_from(["coco", "cvat", "yolo"]),
)
def test_no_box_lies_on_a_photograph_that_a_shared_file_does_not_name(tmp_path_factory, names, form):
    folder = tmp_path_factory.mktemp("shared")
    files: dict[str, Any] = {f"{stem}.jpg": PICTURE for stem in "abc"} | {"x/a.jpg": PICTURE}
    boxes = [(10 + number, 10, 30, 40) for number in range(3)]
    if form == "coco":
        listed = [{"id": number, "file_name": name} for number, name in enumerate(names)]
        files["c.json"] = coco(*({"image_id": n, "bbox": list(box)} for n, box in enumerate(boxes)), images=listed)
    elif form == "cvat":
        for number, (name, (x, y, width, height)) in enumerate(zip(names, boxes, strict=True)):
            drawn = f'<box label="cup" xtl="{x}" ytl="{y}" xbr="{x + width}" ybr="{y + height}"/>'
            files[f"{number}.xml"] = cvat(drawn, name)
    else:
        files |= {"classes.txt": "cup"}
        for name, (x, y, width, height) in zip(names, boxes, strict=True):
            stem = Path(name.replace("\\", "/").lstrip("/")).with_suffix(".txt").as_posix()
            files[stem] = f"0 {(x + width / 2) / 100} {(y + height / 2) / 80} {width / 100} {height / 80}"
    allowed = {"image_annotated_twice": "drop", "missing_image": "drop", "image_outside_folder": "drop"}
    try:
        seen, _ = see(write(folder / "in", files), folder / "out", **allowed)
    except SightlineError:
        return
    for image, drawn in seen.items():
        for _, left, *_ in drawn:
            said = Path(names[round(left) - 10].replace("\\", "/"))
            assert Path(image).stem.lower() == said.stem.lower(), (image, said)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.sampled_from(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "", "A.JPG", "x/a.jpg"]), min_size=3, max_size=3
    ),
    form=st.sampled_from(["voc", "labelme"]),
)
def test_no_box_lies_on_a_photograph_whose_own_file_does_not_name_it(tmp_path_factory, names, form):
    folder = tmp_path_factory.mktemp("whose")
    files: dict[str, Any] = {f"{stem}.jpg": PICTURE for stem in "abc"}
    for number, (stem, name) in enumerate(zip("abc", names, strict=True)):
        if form == "voc":
            files[f"{stem}.xml"] = voc(name, (11 + number, 11, 40 + number, 50))
        else:
            shifted = [[x + number, y] for x, y in CORNERS]
            files[f"{stem}.json"] = labelme({"points": shifted}, image=name or "none.jpg")
    try:
        boxes, _ = see(write(folder / "in", files), folder / "out", image_annotated_twice="drop", missing_image="drop")
    except SightlineError:
        return
    for image, drawn in boxes.items():
        assert len(drawn) <= 1, (image, drawn, names)
        for _, left, *_ in drawn:
            stem = "abc"[int(left) - 10]
            said = names[int(left) - 10]
            assert image == f"{stem}.jpg" or said.lower().endswith(image), (image, stem, said)
