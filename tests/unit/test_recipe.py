"""What a recipe does to images and annotations on their way into a dataset, and that every number of it is told."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_of
from pycocotools.coco import COCO

from sightline.annotations.findings import Code, FindingsError
from sightline.annotations.labelme import Document, Shape, write_document
from sightline.annotations.recipe import OF_ONE_RUN, Recipe, RecipeError, read_recipe
from sightline.annotations.regions import parse_runs, rectangle_outline, runs_region
from sightline.annotations.truth import read_truth
from sightline.errors import SightlineError
from sightline.images.files import read_image
from sightline.services.database.versions import FindingRow
from sightline.services.runs.homes import NOT_RECORDED, load_yaml
from sightline.services.versioning.shards import SPLITS, unpack
from sightline.steps.record.build import STAGES, Inputs, build_dataset
from sightline.steps.record.plugin import PluginError
from sightline.steps.record.split import Splitting
from sightline.steps.record.statistics import MOST_BINS, assemble_statistics, measure_split
from sightline.tasks.detection.scoring import score

WIDTH, HEIGHT = 40, 30
FACTS = {"category": "desk", "version": "v0.1.0", "annotation_version": "v0.2.0"}
ALL_TRAIN = {"fractions": {"train": 1, "val": 0, "test": 0}, "near_duplicates": None}


def box(left=5.0, top=5.0, right=15.0, bottom=20.0, label="plug", **changes):
    return Shape(label, np.array([[left, top], [right, bottom]], dtype=float), "rectangle", **changes)


def annotate(folder, name="a.png", shapes=None, size=(WIDTH, HEIGHT), **saving):
    """An image of noise, so that no two are alike, and its JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **saving)
    write_document(
        path.with_suffix(".json"),
        Document(path.name, size[1], size[0], tuple([box()] if shapes is None else shapes)),
    )
    return folder


def build(folder, target, inputs=None, **recipe):
    return build_dataset(folder, target, Recipe.model_validate(ALL_TRAIN | recipe), FACTS, inputs)


def annotations(target, split="train"):
    coco = read_truth(target / f"{split}.json")
    labels = {one["id"]: one["name"] for one in coco["categories"]}
    names = {one["id"]: one["file_name"] for one in coco["images"]}
    return [one | {"label": labels[one["category_id"]], "image": names[one["image_id"]]} for one in coco["annotations"]]


def images(target):
    return [one["file_name"] for split in SPLITS for one in read_truth(target / f"{split}.json")["images"]]


def codes(summary):
    return Counter(str(found.code) for found in summary.findings)


def changes(summary):
    """The stages that left something out: name -> images and annotations that went."""
    return {
        stage.name: (stage.images_before - stage.images_after, stage.annotations_before - stage.annotations_after)
        for stage in summary.stages
        if (stage.images_before, stage.annotations_before) != (stage.images_after, stage.annotations_after)
    }


# --- what a recipe may say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("min_area: -1", "min_area"),
        ("min_side: .nan", "min_side"),
        ("max_aspect: 0.5", "max_aspect"),
        ("empty_images: remove", "'keep' or 'drop'"),
        ("other_labels: ignore", "'background' or 'drop'"),
        ("near_duplicates: 21", "near_duplicates"),
        ("group_by: '(desk'", "group_by: not a regular expression"),
        (
            "split_file: ../secret.csv",
            "split_file: '../secret.csv' is not the name of a file in the category's own folder",
        ),
        ("split_file: /etc/passwd", "is not the name of a file"),
        ("split_file: 'a\\b.csv'", "is not the name of a file"),
        ("policy: {zero_aera: fail}", "Did you mean 'zero_area'"),
        ("policy: {zero_area: fix}", "cannot be 'fix'"),
        ("plugin: {file: ../evil.py}", "plugin.file: '../evil.py' is not the name of a file"),
        ("plugin: {file: sub/flip.py}", "is not the name of a file"),
        ("plugin: {file: flip.sh}", "flip.sh is not a Python file"),
        ("plugin: {file: flip.py, function: 'a b'}", "'a b' is not the name of a function"),
        ("plugin: {file: flip.py, argument: {}}", "Did you mean 'arguments'"),
        ("plugin: {file: flip.py, arguments: {x: .inf}}", "plugin.arguments: an argument is not a finite number"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_by_name(tmp_path, text, says):
    path = tmp_path / "desk.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as refused:
        read_recipe(path)
    assert says in str(refused.value) and "desk.yaml" in str(refused.value)


# --- classes ---------------------------------------------------------------------------------------------------------


def mixed(folder):
    """One image with both labels, one with plugs only, one with a cup only, one with nothing."""
    annotate(folder, "both.png", [box(), box(20, 5, 30, 9, label="cup"), box(20, 12, 30, 19, label="cup")])
    annotate(folder, "plugs.png", [box()])
    annotate(folder, "cup.png", [box(label="cup")])
    return annotate(folder, "nothing.png", [])


@pytest.mark.parametrize(
    ("recipe", "left", "counts", "gone", "others"),
    [
        pytest.param({}, 4, {"plug": 2, "cup": 3}, {}, [], id="all labels"),
        pytest.param(
            {"classes": ["plug"]},
            4,
            {"plug": 2},
            {"classes": (0, 3)},
            [{"label": "cup", "shapes": 3, "images": 2, "images_left_out": 0}],
            id="others become background",
        ),
        pytest.param(
            {"classes": ["plug"], "other_labels": "drop"},
            3,
            {"plug": 2},
            {"classes": (1, 3)},
            [{"label": "cup", "shapes": 3, "images": 2, "images_left_out": 1}],
            id="others are dropped with images that have nothing else",
        ),
        pytest.param(
            {"valid_labels": ["mug"], "label_map": {"cup": "mug"}, "other_labels": "drop"},
            3,
            {"mug": 3},
            {"classes": (1, 2)},
            [{"label": "plug", "shapes": 2, "images": 2, "images_left_out": 1}],
            id="the choice is made after the map",
        ),
    ],
)
def test_labels_that_are_not_chosen_are_named_and_counted(tmp_path, recipe, left, counts, gone, others):
    summary = build(mixed(tmp_path / "in"), tmp_path / "out", **recipe)
    assert len(images(tmp_path / "out")) == left
    assert Counter(one["label"] for one in annotations(tmp_path / "out")) == counts
    assert changes(summary) == gone
    assert json.loads((tmp_path / "out" / "statistics.json").read_bytes())["other_labels"] == others
    assert codes(summary)["label_not_valid"] == sum(one["shapes"] for one in others)
    assert codes(summary)["only_other_labels"] == sum(one["images_left_out"] for one in others)
    for one in others:
        assert any(f"'{one['label']}'" in found.message for found in summary.findings)


# --- filters ---------------------------------------------------------------------------------------------------------

PARTS = [
    replace(one, points=rectangle_outline(one.points), shape_type="polygon")
    for one in (box(1, 1, 4, 4, group_id=7), box(30, 20, 33, 23, group_id=7))
]  # 18 square pixels in all, box 32 x 22


@pytest.mark.parametrize(
    ("shapes", "recipe", "kept", "code"),
    [
        pytest.param([box(0, 0, 5, 4)], {"min_area": 20}, 1, None, id="as large as asked"),
        pytest.param([box(0, 0, 5, 3.9)], {"min_area": 20}, 0, "area_below_minimum", id="too small"),
        pytest.param(PARTS, {"min_area": 18}, 1, None, id="parts count together"),
        pytest.param(PARTS, {"min_area": 18.5}, 0, "area_below_minimum", id="parts together too small"),
        pytest.param([box(0, 0, 20, 5)], {"min_side": 5}, 1, None, id="as wide as asked"),
        pytest.param([box(0, 0, 20, 4.5)], {"min_side": 5}, 0, "side_below_minimum", id="too narrow"),
        pytest.param(PARTS, {"min_side": 20}, 1, None, id="the side is that of the whole"),
        pytest.param([box(0, 0, 20, 5)], {"max_aspect": 4}, 1, None, id="as long as allowed"),
        pytest.param([box(0, 0, 5, 20.5)], {"max_aspect": 4}, 0, "aspect_above_maximum", id="too long upright"),
        pytest.param([box(0, 0, 20.5, 5)], {"max_aspect": 4}, 0, "aspect_above_maximum", id="too long lying"),
        pytest.param(
            [box(0, 0, 20, 1)],
            {"min_area": 50, "min_side": 5, "max_aspect": 2},
            0,
            "area_below_minimum",
            id="one finding each, the first",
        ),
    ],
)
def test_objects_are_filtered_by_their_size_in_pixels(tmp_path, shapes, recipe, kept, code):
    annotate(tmp_path / "in", "a.png", shapes)
    annotate(tmp_path / "in", "z.png", [box(0, 0, 29, 29)])
    summary = build(tmp_path / "in", tmp_path / "out", **recipe)
    assert len([one for one in annotations(tmp_path / "out") if one["image"] == "a.png"]) == kept
    assert images(tmp_path / "out") == ["a.png", "z.png"]
    assert codes(summary) == ({code: 1} if code else {})
    if code:
        (found,) = summary.findings
        assert (found.file, found.shape_index, found.outcome) == ("a.json", 0, "drop")
        assert changes(summary)["objects"] == (0, 1)


def test_whole_images_are_no_objects_to_be_filtered(tmp_path):
    annotate(tmp_path / "in", "a.png", [])
    write_document(tmp_path / "in" / "a.json", Document("a.png", HEIGHT, WIDTH, (), {"plug": True}))
    filters = {"min_area": WIDTH * HEIGHT + 1, "min_side": HEIGHT + 1, "max_aspect": 1}
    summary = build(tmp_path / "in", tmp_path / "out", Inputs(task="classification"), **filters)
    assert images(tmp_path / "out") == ["a.png"]
    assert codes(summary) == {} and changes(summary) == {}


@pytest.mark.parametrize(
    ("recipe", "left", "found"),
    [
        pytest.param({}, ["empty.png", "small.png", "wide.png"], {}, id="no filter"),
        pytest.param({"empty_images": "drop"}, ["small.png", "wide.png"], {"no_object_left": 1}, id="empty ones"),
        pytest.param({"min_image_side": 20}, ["empty.png", "wide.png"], {"image_below_minimum": 1}, id="small ones"),
        pytest.param(
            {"empty_images": "drop", "min_area": 30},
            ["wide.png"],
            {"area_below_minimum": 1, "no_object_left": 2},
            id="emptied by the filter before",
        ),
    ],
)
def test_images_are_filtered_by_what_is_on_them_and_by_size(tmp_path, recipe, left, found):
    annotate(tmp_path / "in", "empty.png", [])
    annotate(tmp_path / "in", "small.png", [box(0, 0, 5, 5)], size=(40, 19))
    annotate(tmp_path / "in", "wide.png", [box()])
    summary = build(tmp_path / "in", tmp_path / "out", **recipe)
    assert images(tmp_path / "out") == left
    assert codes(summary) == found


def test_a_filter_may_be_made_a_failure_by_the_policy(tmp_path):
    annotate(tmp_path / "in", "a.png", [box(0, 0, 2, 2), box()])
    with pytest.raises(FindingsError, match="area_below_minimum"):
        build(tmp_path / "in", tmp_path / "out", min_area=20, policy={"area_below_minimum": "fail"})
    assert not (tmp_path / "out").exists()


# --- crowds ----------------------------------------------------------------------------------------------------------


def test_a_crowd_is_run_length_encoded_and_no_filter_takes_it_away(tmp_path):
    crowd = box(0, 0, 20, 2, flags={"iscrowd": True})
    annotate(tmp_path / "in", "a.png", [crowd, box(), box(30, 5, 35, 9, flags={"iscrowd": False, "blurred": True})])
    summary = build(tmp_path / "in", tmp_path / "out", min_side=4, empty_images="drop")
    found = annotations(tmp_path / "out")
    assert [one["iscrowd"] for one in found] == [1, 0, 0]
    assert found[0]["segmentation"]["size"] == [HEIGHT, WIDTH]
    coco = COCO(str(tmp_path / "out" / "train.json"))
    assert coco.annToMask(coco.anns[1]).sum() == found[0]["area"] == 40
    assert coco.annToMask(coco.anns[1])[:2, :20].all()
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_bytes())
    assert statistics["splits"]["train"] == {"images": 1, "images_without_objects": 0, "objects": 2, "crowds": 1}
    assert summary.images[0].annotation_count == 3


def test_evaluation_ignores_what_is_found_in_a_crowd(tmp_path):
    annotate(tmp_path / "in", "a.png", [box(0, 0, 20, 10, flags={"iscrowd": True}), box(25, 15, 35, 25)])
    build(tmp_path / "in", tmp_path / "out")
    truth = read_truth(tmp_path / "out" / "train.json")
    drawn = {"image_id": 1, "category_id": 1}
    corners = {"segmentation": truth["annotations"][1]["segmentation"]}
    found = [
        drawn | {"bbox": [25, 15, 10, 10], "score": 0.5, "area": 100} | corners,
        drawn | {"bbox": [2, 2, 6, 6], "score": 0.9, "segmentation": [[2, 2, 8, 2, 8, 8, 2, 8]]},
    ]
    for result in found:
        rings = rle_of.frPyObjects([[float(value) for value in result["segmentation"][0]]], HEIGHT, WIDTH)
        result["segmentation"] = rle_of.merge(rings)
    scores = score(truth, found).values
    assert (scores["bbox_mAP"], scores["segm_mAP"]) == (1.0, 1.0)
    truth["annotations"][0]["iscrowd"] = 0
    assert score(truth, found).values["bbox_mAP"] < 1


# --- the plug-in -----------------------------------------------------------------------------------------------------

FLIP = '''
def transform(image, annotations, upside_down=False, label=None):
    """Mirror everything, left to right or top to bottom."""
    height, width = image.shape[:2]
    for one in annotations:
        x, y, w, h = one["bbox"]
        if upside_down:
            one["bbox"] = [x, height - y - h, w, h]
            move = lambda px, py: (px, height - py)
        else:
            one["bbox"] = [width - x - w, y, w, h]
            move = lambda px, py: (width - px, py)
        one["segmentation"] = [
            [value for px, py in zip(ring[::2], ring[1::2]) for value in move(px, py)] for ring in one["segmentation"]
        ]
        one["label"] = label or one["label"]
    return (image[::-1] if upside_down else image[:, ::-1]), annotations
'''


@pytest.fixture
def plugin(tmp_path):
    """Write a plug-in into the category's folder; returns the inputs that name it."""

    def write(source, file="flip.py"):
        folder = tmp_path / "categories" / "desk"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(source)
        return Inputs(recipe_folder=folder)

    return write


def pixels_of(target, name):
    unpack(target, target)
    return read_image(target / "images" / name)


@pytest.mark.parametrize(
    ("arguments", "bbox", "turned"),
    [
        pytest.param({}, [40 - 15, 5, 10, 15], lambda pixels: pixels[:, ::-1], id="defaults"),
        pytest.param(
            {"upside_down": True, "label": "gulp"}, [5, 30 - 20, 10, 15], lambda pixels: pixels[::-1], id="arguments"
        ),
    ],
)
def test_a_plugin_changes_pixels_and_annotations(tmp_path, plugin, arguments, bbox, turned):
    annotate(tmp_path / "in", "sub/a.jpg")
    annotate(tmp_path / "in", "b.png")
    wanted = {"file": "flip.py", "arguments": arguments}
    summary = build(tmp_path / "in", tmp_path / "out", plugin(FLIP), plugin=wanted)
    assert images(tmp_path / "out") == ["b.png", "sub/a.jpg.png"]
    assert [one["bbox"] for one in annotations(tmp_path / "out")] == [bbox, bbox]
    assert {one["label"] for one in annotations(tmp_path / "out")} == {arguments.get("label", "plug")}
    for name, source in (("b.png", "b.png"), ("sub/a.jpg.png", "sub/a.jpg")):
        assert np.array_equal(pixels_of(tmp_path / "out", name), turned(read_image(tmp_path / "in" / source)))
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "categories"}
    assert [row.perceptual_hash for row in summary.images] == [None, None]


def test_what_a_plugin_leaves_as_it_is_keeps_its_bytes(tmp_path, plugin):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright, so higher than wide
    annotate(tmp_path / "in", "a.jpg", exif=exif)
    annotate(tmp_path / "in", "b.png")
    annotate(tmp_path / "in", "c.png", [box(), box(20, 5, 30, 9)], size=(40, 31))
    source = """
def transform(image, annotations):
    if image.shape[0] == 31:
        image[:] = image.copy()  # in place, and the same
        return image, annotations[1:]
    return (image, []) if image.shape[0] == 40 else None
"""
    summary = build(tmp_path / "in", tmp_path / "out", plugin(source), plugin={"file": "flip.py"})
    unpack(tmp_path / "out", tmp_path / "out")
    assert images(tmp_path / "out") == ["a.jpg", "c.png"]
    for name in ("a.jpg", "c.png"):
        assert (tmp_path / "out" / "images" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    assert [(one["image"], one["bbox"]) for one in annotations(tmp_path / "out")] == [("c.png", [20, 5, 10, 4])]
    left_out = [found for found in summary.findings if found.code is Code.LEFT_OUT_BY_PLUGIN]
    assert [(found.file, found.outcome) for found in left_out] == [("b.json", "drop")]
    assert changes(summary)["plugin"] == (1, 3)


def test_a_plugins_new_name_takes_no_other_images_place(tmp_path, plugin):
    annotate(tmp_path / "in", "a.jpg")
    shutil.copy(annotate(tmp_path / "more", "c.png") / "c.png", tmp_path / "in" / "a.jpg.png")
    write_document(tmp_path / "in" / "b.json", Document("a.jpg.png", HEIGHT, WIDTH, (box(),)))
    build(tmp_path / "in", tmp_path / "out", plugin(FLIP), plugin={"file": "flip.py"})
    assert images(tmp_path / "out") == ["a.jpg.png", "a.jpg.png.png"]
    for name, source in (("a.jpg.png", "a.jpg.png"), ("a.jpg.png.png", "a.jpg")):
        assert np.array_equal(pixels_of(tmp_path / "out", name), read_image(tmp_path / "in" / source)[:, ::-1])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param("raise KeyError('lens')", ["KeyError: 'lens'", "line 3"], id="it raises"),
        pytest.param("raise SystemExit(3)", ["SystemExit: 3"], id="it exits"),
        pytest.param("return image", ["returned ndarray, not (image, annotations) or None"], id="the image only"),
        pytest.param("return None, None", ["the image it returned is NoneType"], id="two times nothing"),
        pytest.param("return image / 255, annotations", ["40 x 3 of float64, not height x width x 3"], id="floats"),
        pytest.param("return image[:, :, 0], annotations", ["30 x 40 of uint8"], id="grey"),
        pytest.param("return image[:0], annotations", ["0 x 40 x 3 of uint8"], id="no pixels"),
        pytest.param("return image, 'none'", ["the annotations it returned are str"], id="annotations are text"),
        pytest.param(
            "return image, [3]", ["annotation 0", "it is int, not a dictionary"], id="an annotation is a number"
        ),
        pytest.param("return image, [{'lable': 'x'}]", ["key 'lable'", "Did you mean 'label'"], id="a misspelt key"),
        pytest.param("return image, [one | {'label': 3}]", ["its label is 3, not text"], id="a number for a label"),
        pytest.param(
            "return image, [one | {'label': 'plugg'}]", ["'plugg' is not among", "'plug'"], id="another label"
        ),
        pytest.param("return image, [one | {'iscrowd': 2}]", ["iscrowd is 2"], id="a strange crowd"),
        pytest.param("return image, [{'label': 'plug'}]", ["neither bbox nor segmentation"], id="no place"),
        pytest.param(
            "return image, [box([30, 5, 20, 5])]", ["bbox reaches from (30, 5) to (50, 10)", "(40 x 30)"], id="outside"
        ),
        pytest.param("return image, [box([1, 1, float('nan'), 5])]", ["is not finite"], id="not a number"),
        pytest.param("return image, [box([1, 1, 0, 5])]", ["has no area"], id="a flat box"),
        pytest.param("return image, [box([1, 1, 5])]", ["its bbox is [1, 1, 5], not 4 numbers"], id="three numbers"),
        pytest.param("return image, [box('ab')]", ["its bbox is 'ab'"], id="a box of text"),
        pytest.param("return image, [one | {'bbox': [0, 0, 9, 9]}]", ["do not agree"], id="the box alone moved"),
        pytest.param("return image, [drawn([[1, 1, 5, 5]])]", ["a polygon of 4 numbers"], id="two points"),
        pytest.param("return image, [drawn([[1, 1, 5, 5, 9, 9]])]", ["polygon without area"], id="a line"),
        pytest.param("return image, [drawn([[1, 1, 99, 5, 9, 9]])]", ["out of the image"], id="a polygon outside"),
        pytest.param("return image, [drawn(7)]", ["its segmentation is int"], id="a number for a segmentation"),
        pytest.param(
            "return image, [drawn({'size': [40, 30], 'counts': [1200]})]",
            ["the image's is [30, 40]"],
            id="sides swapped",
        ),
        pytest.param(
            "return image, [drawn({'size': [30, 40], 'counts': [5, 5]})]",
            ["add up to 10 pixels, not to 1200"],
            id="short",
        ),
        pytest.param(
            "return image, [drawn({'size': [30, 40], 'counts': '~~'})]", ["counts is not COCO's text"], id="garbage"
        ),
        pytest.param(
            "return image, [drawn({'size': [30, 40], 'counts': [1200]})]",
            ["segmentation has no area"],
            id="an empty mask",
        ),
    ],
)
def test_what_a_plugin_must_not_do_is_told_with_file_function_and_image(tmp_path, plugin, body, says):
    source = f"""
def transform(image, annotations):
    {body.replace("one ", "annotations[0] ")}

def box(bbox):
    return {{"label": "plug", "bbox": bbox}}

def drawn(segmentation):
    return {{"label": "plug", "segmentation": segmentation}}
"""
    annotate(tmp_path / "in", "sub/a.png")
    with pytest.raises(PluginError) as refused:
        build(tmp_path / "in", tmp_path / "out", plugin(source), plugin={"file": "flip.py"}, classes=["plug", "cup"])
    for part in ("plug-in flip.py, transform, image sub/a.png: ", *says):
        assert part in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "categories"}


@pytest.mark.parametrize(
    ("wanted", "source", "says"),
    [
        pytest.param({"file": "flop.py"}, FLIP, ["there is no such plug-in", "'flip.py'"], id="no such file"),
        pytest.param(
            {"function": "transfrom"}, FLIP, ["no function 'transfrom'", "'transform'"], id="no such function"
        ),
        pytest.param({}, "def transform(:", ["cannot be loaded", "SyntaxError"], id="not Python"),
        pytest.param({}, "import not_there", ["cannot be loaded", "ModuleNotFoundError"], id="a missing module"),
        pytest.param({}, "transform = 3", ["no function 'transform'"], id="a number"),
        pytest.param(
            {"arguments": {"angle": 3}}, FLIP, ["unexpected keyword argument 'angle'"], id="a strange argument"
        ),
    ],
)
def test_a_plugin_that_cannot_be_called_is_refused(tmp_path, plugin, wanted, source, says):
    annotate(tmp_path / "in")
    with pytest.raises(PluginError) as refused:
        build(tmp_path / "in", tmp_path / "out", plugin(source), plugin={"file": "flip.py"} | wanted)
    assert all(part in str(refused.value) for part in says)


def test_a_plugin_is_never_taken_from_elsewhere(tmp_path, plugin):
    annotate(tmp_path / "in")
    inputs = plugin("")
    (tmp_path / "evil.py").write_text(FLIP)
    (inputs.recipe_folder / "flip.py").unlink()
    (inputs.recipe_folder / "flip.py").symlink_to(tmp_path / "evil.py")
    with pytest.raises(PluginError, match="link that leads out"):
        build(tmp_path / "in", tmp_path / "out", inputs, plugin={"file": "flip.py"})
    with pytest.raises(PluginError, match="no folder of the category"):
        build(tmp_path / "in", tmp_path / "out", plugin={"file": "flip.py"})


def test_masks_go_through_a_plugin_and_back(tmp_path, plugin):
    source = """
import numpy as np
from pycocotools import mask

def transform(image, annotations):
    for one in annotations:
        drawn = mask.decode(one["segmentation"])[:, ::-1]
        one["segmentation"], one["bbox"] = mask.encode(np.asfortranarray(drawn)), None
    return image, annotations
"""
    annotate(tmp_path / "in", "a.png", [box(0, 0, 20, 2, flags={"iscrowd": True})])
    build(tmp_path / "in", tmp_path / "out", plugin(source), plugin={"file": "flip.py"})
    (only,) = annotations(tmp_path / "out")
    assert (only["bbox"], only["iscrowd"]) == ([20, 0, 20, 2], 1)


def test_a_plugins_chance_is_the_same_every_time(tmp_path, plugin):
    source = """
import random
import numpy as np

def transform(image, annotations):
    return np.random.randint(0, 256, image.shape).astype(np.uint8) + random.randrange(3), annotations[: random.randrange(2)]
"""
    folder = annotate(annotate(annotate(tmp_path / "in", "a.png"), "b.png"), "c.png")
    digests = [
        build(folder, tmp_path / name, plugin(source), plugin={"file": "flip.py"}, seed=seed).digest
        for name, seed in (("1", 0), ("2", 0), ("3", 1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_another_plugin_or_argument_is_another_dataset(tmp_path, plugin):
    annotate(tmp_path / "in")
    unchanged = "def transform(image, annotations, angle=0):\n    return image, annotations\n"
    cases = [(unchanged, {}), (unchanged, {"angle": 1}), (unchanged + "# a comment\n", {})]
    digests = set()
    for number, (source, arguments) in enumerate(cases):
        wanted = {"file": "flip.py", "arguments": arguments}
        target = tmp_path / str(number)
        summary = build(tmp_path / "in", target, plugin(source), plugin=wanted)
        digests.add(summary.digest)
        recorded = json.loads((target / "dataset.json").read_bytes())["recipe"]["plugin"]
        sha256 = hashlib.sha256(source.encode()).hexdigest()
        assert recorded == {"file": "flip.py", "function": "transform", "arguments": arguments, "sha256": sha256}
        assert summary.recipe["plugin"] == recorded
    assert len(digests) == 3


def test_the_split_of_an_image_does_not_depend_on_what_a_plugin_makes_of_it(tmp_path, plugin):
    for index in range(40):
        annotate(tmp_path / "in", f"{index:02d}.png")
    recipe = {"fractions": {"train": 0.5, "val": 0.3, "test": 0.2}, "near_duplicates": None}
    plain = build(tmp_path / "in", tmp_path / "1", **recipe)
    flipped = build(tmp_path / "in", tmp_path / "2", plugin(FLIP), plugin={"file": "flip.py"}, **recipe)
    assert {row.name: row.split for row in plain.images} == {row.name: row.split for row in flipped.images}
    assert {row.sha256 for row in plain.images}.isdisjoint(row.sha256 for row in flipped.images)


# --- run-length text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_run_lengths_are_read_as_pycocotools_writes_them(share):
    generator = np.random.default_rng(5)
    for _ in range(20):
        height, width = (int(side) for side in generator.integers(1, 200, 2))
        drawn = (generator.random((height, width)) < share).astype(np.uint8)
        encoded = rle_of.encode(np.asfortranarray(drawn))
        region = runs_region(parse_runs(encoded["counts"], height * width), width, height)
        assert region.rle == {"size": [height, width], "counts": encoded["counts"].decode()}
        assert region.area == drawn.sum()


# --- stages and numbers ----------------------------------------------------------------------------------------------


def busy_folder(folder):
    """Something for every stage to leave out."""
    annotate(folder, "a.png", [box(), box(1, 1, 2, 2), box(20, 1, 30, 9, label="cup")])
    annotate(folder, "b.png", [box(group_id=1), box(20, 5, 25, 9, group_id=1), box(30, 20, 39, 29, label="")])
    annotate(folder, "c.png", [box(label="cup")])
    annotate(folder, "d.png", [])
    annotate(folder, "e.png", [box(0, 0, 2, 2)])
    content = json.loads((folder / "a.json").read_bytes())
    content["shapes"].append({"label": "plug"})
    (folder / "a.json").write_text(json.dumps(content))
    (folder / "f.json").write_text("{")
    Image.new("RGB", (3, 3)).save(folder / "g.png")
    return folder


def test_every_stage_is_counted_the_same_in_all_places(tmp_path, plugin):
    source = "def transform(image, annotations):\n    return image, annotations[:1]\n"
    summary = build(
        busy_folder(tmp_path / "in"),
        tmp_path / "out",
        plugin(source),
        plugin={"file": "flip.py"},
        classes=["plug"],
        other_labels="drop",
        min_area=10,
        empty_images="drop",
    )
    stages = [asdict(stage) for stage in summary.stages]
    assert [tuple(stage.values()) for stage in stages] == [
        ("read", 7, 5, 9, 8),
        ("classes", 5, 4, 8, 6),
        ("check", 4, 4, 6, 5),
        ("groups", 4, 4, 5, 4),
        ("labels", 4, 4, 4, 4),
        ("plugin", 4, 4, 4, 3),
        ("objects", 4, 4, 3, 2),
        ("images", 4, 2, 2, 2),
        ("split", 2, 2, 2, 2),
    ]
    assert tuple(stage["name"] for stage in stages) == tuple(STAGES)
    assert json.loads((tmp_path / "out" / "dataset.json").read_bytes())["stages"] == stages
    assert json.loads((tmp_path / "out" / "statistics.json").read_bytes())["stages"] == stages
    assert codes(summary) == {
        "group_lies_apart": 1,
        "unreadable_json": 1,
        "malformed_shape": 1,
        "image_without_json": 1,
        "label_not_valid": 2,
        "only_other_labels": 1,
        "empty_label": 1,
        "area_below_minimum": 1,
        "no_object_left": 2,
    }


def test_statistics_are_what_the_coco_files_hold(tmp_path):
    generator = random.Random(3)
    folder = tmp_path / "in"
    for index in range(60):
        shapes = []
        for _ in range(generator.randrange(6)):
            left, top = generator.uniform(0, 30), generator.uniform(0, 20)
            right, bottom = left + generator.uniform(0.5, 9), top + generator.uniform(0.5, 9)
            crowd = {"iscrowd": generator.random() < 0.1}
            shapes.append(box(left, top, right, bottom, label=generator.choice("abc"), flags=crowd))
        annotate(folder, f"{index:02d}.png", shapes)
    build(folder, tmp_path / "out", fractions={"train": 0.6, "val": 0.2, "test": 0.2})
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_bytes())
    measured = {"area": lambda one: one["area"], "side": lambda one: min(one["bbox"][2:])}
    for split in SPLITS:
        coco = COCO(str(tmp_path / "out" / f"{split}.json"))
        objects = [one for one in coco.anns.values() if not one["iscrowd"]]
        per_image = [len(coco.getAnnIds(imgIds=[image], iscrowd=False)) for image in coco.imgs]
        assert statistics["splits"][split] == {
            "images": len(coco.imgs),
            "images_without_objects": per_image.count(0),
            "objects": len(objects),
            "crowds": len(coco.anns) - len(objects),
        }
        by_class = statistics["histograms"]["class"]
        assert by_class["labels"] == ["a", "b", "c"]
        assert by_class["objects"][split] == [len(coco.getAnnIds(catIds=[one], iscrowd=False)) for one in (1, 2, 3)]
        with_class = [len({one["image_id"] for one in objects if one["category_id"] == number}) for number in (1, 2, 3)]
        assert by_class["images"][split] == with_class
        values = {name: [measure(one) for one in objects] for name, measure in measured.items()}
        for name, own in (values | {"objects_per_image": per_image}).items():
            histogram = statistics["histograms"][name]
            edges, counts = histogram["edges"], histogram["counts"][split]
            assert counts == [
                sum(low <= value < high for value in own) for low, high in zip(edges, edges[1:], strict=False)
            ]
            assert sum(counts) == len(own)
            assert len(counts) <= MOST_BINS


@pytest.mark.parametrize(
    ("areas", "sides"),
    [
        pytest.param([], [], id="no object"),
        pytest.param([1e8, 0.25], [9000, 0.5], id="the largest and the smallest"),
        pytest.param([64], [8], id="one object"),
        pytest.param([64, 128], [10, 20], id="on the edges"),
        pytest.param([99.9, 100.1], [9.99, 10.01], id="close together"),
    ],
)
def test_every_value_lies_in_one_bin(areas, sides):
    coco = {
        "images": [{"id": 1}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": area, "bbox": [0, 0, side, side + 1]}
            for area, side in zip(areas, sides, strict=True)
        ],
    }
    histograms = assemble_statistics(
        {"train": measure_split(coco)}, ["a"], [], [], Splitting({}, (), (), ()), "object"
    )["histograms"]
    for name, values in (("area", areas), ("side", sides)):
        edges, counts = histograms[name]["edges"], histograms[name]["counts"]["train"]
        assert counts == [sum(low <= one < high for one in values) for low, high in zip(edges, edges[1:], strict=False)]
        assert sum(counts) == len(values)
        assert len(counts) <= MOST_BINS + 5


def test_findings_of_the_annotation_version_are_told_again_with_their_origin(tmp_path):
    published = [
        FindingRow("wrong_extension", "a.json", None, "the image is a JPEG.", "fix"),
        FindingRow("zero_area", "z.json", 3, "a line", "drop"),
    ]
    annotate(tmp_path / "in", "a.png", [box(label=""), box()])
    summary = build(tmp_path / "in", tmp_path / "out", Inputs(findings=published))
    told = json.loads((tmp_path / "out" / "findings.json").read_bytes())
    assert [(one["file"], one["code"], one["found_in"]) for one in told] == [
        ("a.json", "wrong_extension", "publish"),
        ("a.json", "empty_label", "record"),
        ("z.json", "zero_area", "publish"),
    ]
    assert [found.code for found in summary.findings] == [Code.EMPTY_LABEL]


# --- the same everywhere ---------------------------------------------------------------------------------------------

BUILD = """
import json, sys
from pathlib import Path
from sightline.steps.record.build import Inputs, build_dataset
from sightline.annotations.recipe import Recipe
folder, target, recipe, category = sys.argv[1:]
facts = {"category": "desk", "version": "v0.1.0", "annotation_version": "v0.2.0"}
build_dataset(Path(folder), Path(target), Recipe(**json.loads(recipe)), facts, Inputs(recipe_folder=Path(category)))
"""

MACHINES = {
    "ours": {},
    "C": {"LC_ALL": "C", "PYTHONHASHSEED": "1", "TZ": "America/St_Johns"},
    "another": {"LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "12345", "TZ": "Asia/Kolkata"},
}


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bytes_on_every_machine(tmp_path, plugin):
    folder = tmp_path / "in"
    for index in range(30):
        shapes = [box(right=12 + index / 3), box(20, 1, 30, 9, label=random.Random(index).choice(["カップ", "I", "ı"]))]
        annotate(folder, f"{index:02d} é{'ö' if index % 3 else ''}.{'jpg' if index % 2 else 'png'}", shapes)
    category = plugin(FLIP).recipe_folder
    (category / "splits.csv").write_text("00 é.png,test\n", encoding="utf-8")
    recipe = {
        "plugin": {"file": "flip.py"},
        "split_file": "splits.csv",
        "min_area": 20,
        "group_by": "^([0-9])",
        "seed": 1,
    }
    seen = []
    for number, (name, environment) in enumerate(MACHINES.items()):
        copy = tmp_path / f"copy-{name}"
        copy.mkdir()
        files = sorted(folder.iterdir())
        random.Random(number).shuffle(files)
        for path in files:
            shutil.copyfile(path, copy / path.name)
        command = [sys.executable, "-c", BUILD, str(copy), str(tmp_path / name), json.dumps(recipe), str(category)]
        library = Path(__file__).resolve().parents[2] / "shared_volume"
        subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": str(library)} | environment,
            check=True,
            umask=(0o022, 0o077, 0o002)[number],
        )
        seen.append(contents(tmp_path / name))
    assert seen[0] == seen[1] == seen[2]
    assert {"train.json", "statistics.json", "images-00000.tar"} <= set(seen[0])
    assert "record-" not in (tmp_path / "ours" / "dataset.json").read_text()


def test_a_split_file_that_is_not_there_is_refused_and_its_digest_is_recorded(tmp_path, plugin):
    annotate(annotate(tmp_path / "in", "a.png"), "b.png")
    inputs = plugin("")
    with pytest.raises(SightlineError, match=r"splits\.csv"):
        build(tmp_path / "in", tmp_path / "out", inputs, split_file="splits.csv")
    (inputs.recipe_folder / "splits.csv").write_text("a.png,test\n")
    summary = build(tmp_path / "in", tmp_path / "out", inputs, split_file="splits.csv")
    assert {row.name: row.split for row in summary.images} == {"a.png": "test", "b.png": "train"}
    sha256 = hashlib.sha256(b"a.png,test\n").hexdigest()
    assert summary.recipe["split_file"] == {"file": "splits.csv", "sha256": sha256}


# --- what messages call a file ---------------------------------------------------------------------------------------

SHOWN = Path("custom", "recipes", "desk")
FAULTS = {
    "no plug-in": ({"plugin": {"file": "gone.py"}}, None),
    "a link": ({"plugin": {"file": "link.py"}}, None),
    "no function": ({"plugin": {"file": "flip.py"}}, "def other(): pass"),
    "cannot be loaded": ({"plugin": {"file": "flip.py"}}, "import nothing_of_that_name"),
    "cannot be parsed": ({"plugin": {"file": "flip.py"}}, "def transform("),
    "it raises": ({"plugin": {"file": "flip.py"}}, "def transform(image, annotations):\n    raise KeyError(__file__)"),
    "no split file": ({"split_file": "gone.csv"}, None),
    "a broken split file": ({"split_file": "splits.csv"}, None),
    "a split file of another split": ({"split_file": "splits.yaml"}, None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_message_names_the_recipes_files_as_users_know_them(tmp_path, plugin, fault):
    recipe, source = FAULTS[fault]
    annotate(tmp_path / "in", "a.png")
    folder = plugin(source or "").recipe_folder
    (tmp_path / "elsewhere.py").write_text("")
    (folder / "link.py").symlink_to(tmp_path / "elsewhere.py")
    (folder / "splits.csv").write_text("a.png\n")
    (folder / "splits.yaml").write_text("tset: [a.png]")
    with pytest.raises(SightlineError) as refused:
        build(tmp_path / "in", tmp_path / "out", Inputs(recipe_folder=folder, shown_folder=SHOWN), **recipe)
    assert str(tmp_path) not in str(refused.value)
    assert str(SHOWN) in str(refused.value)


@pytest.mark.parametrize("text", ["sead: 1", "- a", "{", None])
def test_a_message_names_the_recipe_as_users_know_it(tmp_path, text):
    path = tmp_path / "desk.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=r"^custom/recipes/desk\.yaml: ") as refused:
        read_recipe(path, shown_as=SHOWN.with_suffix(".yaml"))
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"policy.zero_area": "fail"}, """is written as a mapping, like policy={"zero_area": "fail"}."""),
        ({"policy.zero_aera": "fail"}, """like policy={"zero_area": "fail"}."""),
        ({"fractions.tran": 0.5}, """like fractions={"train": 0.5}."""),
        (
            {"policy": "{zero_aera: fail}"},
            """policy is '{zero_aera: fail}' and must be a mapping, like policy={"zero_area": "fail"}. """
            "There is no 'zero_aera'. Did you mean 'zero_area'?",
        ),
        ({"plugin": "flip.py"}, """plugin is 'flip.py' and must be a mapping, like plugin={"file": "flip.py"}."""),
    ],
)
def test_a_mapping_written_as_something_else_is_answered_with_how_one_is_written(given, told):
    with pytest.raises(RecipeError) as refused:
        read_recipe(None, given)
    assert str(refused.value).startswith("This run's recipe values: ") and str(refused.value).endswith(told)


def test_in_a_file_a_mapping_is_shown_as_the_file_writes_it(tmp_path):
    (tmp_path / "desk.yaml").write_text("policy: zero_area=fail")
    with pytest.raises(
        RecipeError, match=r'must be a mapping, like policy: {"zero_area": "fail"}\. Correct it there\.'
    ):
        read_recipe(tmp_path / "desk.yaml")


def test_the_recipe_with_every_key_on_its_page_has_every_key():
    page = (Path(__file__).resolve().parents[2] / "docs" / "recipe.md").read_text()
    shown = load_yaml(page.split("```yaml\n")[1].split("```")[0].encode())
    assert set(shown) == {*Recipe.model_fields, *NOT_RECORDED} - {*OF_ONE_RUN}
    read_recipe(None, {key: value for key, value in shown.items() if key not in NOT_RECORDED})
