"""Publishing folders with defects: what the policy lets through, how it is mended, and what stands in SQL afterwards."""

import base64
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from laptop.cli import main
from laptop.publish import publish
from sightline.annotations.findings import Code, FindingsError, Outcome
from sightline.annotations.instances import read_usable
from sightline.annotations.labelme import read_document
from sightline.annotations.recipe import Fractions, Recipe
from sightline.annotations.truth import read_truth
from sightline.errors import SightlineError
from sightline.images.files import read_image
from sightline.publish.annotations import publish_annotations
from sightline.steps.record.build import build_dataset
from tests.installed import BOTH
from tests.make_labelme import HEIGHT, WIDTH, annotate, box, files_in, make_image, make_labelme

UNUSABLE = {
    "bomb.json": "image_too_large",
    "missing_image.json": "missing_image",
    "not_json.json": "unreadable_json",
    "traversal.json": "image_outside_folder",
    "truncated.json": "truncated_image",
}
DROP_UNUSABLE = dict.fromkeys(UNUSABLE.values(), "drop")
ALL_TRAIN = Recipe(fractions=Fractions(train=1, val=0, test=0), near_duplicates=None)
FACTS = {"category": "desk", "version": "v0.1.0", "annotation_version": "v0.1.0"}


def findings_in_sql(installed):
    return sorted(
        (row["file"], row["code"], row["shape_index"], row["outcome"]) for row in installed.rows("findings")["findings"]
    )


def pull(installed, category="desk"):
    return installed.clone_and_pull(f"{category}_ann_v0.1.0", "clone") / "annotations" / category


def nothing_is_there(installed):
    return installed.stored() == {} and installed.published() == [] and installed.rows("findings")["findings"] == []


# --- the injected defects --------------------------------------------------------------------------------------------


def test_every_file_that_cannot_be_used_is_named_and_nothing_is_published(installed, data_dir):
    with pytest.raises(FindingsError) as refused:
        publish_annotations(installed.settings, data_dir / "defects", "desk", "v0.1.0")
    for file, code in UNUSABLE.items():
        assert f"  {file}: " in str(refused.value)
        assert f"({code})" in str(refused.value)
    assert "ok_plain" not in str(refused.value)
    assert "--policy CODE=OUTCOME" in str(refused.value)
    assert nothing_is_there(installed)


@pytest.mark.slow
@BOTH
def test_what_the_policy_drops_stands_in_sql_and_record_sees_the_rest(installed, data_dir, tmp_path):
    published = publish_annotations(installed.settings, data_dir / "defects", "desk", "v0.1.0", policy=DROP_UNUSABLE)
    pngs = ["bad_shapes", "dup_shapes", "no_size", "ok_plain", "sqlname", "swapped_size", "번호판_日本 ñ 1"]
    assert findings_in_sql(installed) == sorted(
        [
            *((file, code, None, "drop") for file, code in UNUSABLE.items()),
            *((f"{name}.json", "wrong_extension", None, "fix") for name in pngs),
            *((f"exif_{turned}.json", "exif_orientation", None, "fix") for turned in (3, 6, 8)),
            ("no_size.json", "no_size_in_json", None, "fix"),
            ("swapped_size.json", "swapped_size_in_json", None, "fix"),
        ]
    )
    assert published.publication.row.image_count == 10
    names = {row["name"] for row in installed.rows("images")["images"]}
    assert {"x'); DROP TABLE image_data;-- .jpg", "번호판_日本 ñ 1.jpg"} <= names
    _, findings = read_usable(pull(installed), ALL_TRAIN)
    assert [(one.file, one.code, one.shape_index) for one in findings if one.code not in ("wrong_extension",)] == [
        ("bad_shapes.json", Code.WRONG_POINTS, 3),
        ("bad_shapes.json", Code.WRONG_POINTS, 4),
        ("bad_shapes.json", Code.CLIPPED, 5),
        ("bad_shapes.json", Code.ZERO_AREA, 6),
        ("bad_shapes.json", Code.ZERO_AREA, 7),
        ("bad_shapes.json", Code.SELF_CROSSING, 8),
        ("bad_shapes.json", Code.EMPTY_LABEL, 9),
        *(("dup_shapes.json", Code.DUPLICATE_SHAPE, index) for index in (3, 4, 5)),
        *((f"exif_{turned}.json", Code.EXIF_ORIENTATION, None) for turned in (3, 6, 8)),
    ]


def test_every_row_says_what_its_image_looks_like_and_what_is_on_it(installed, data_dir):
    publish_annotations(installed.settings, data_dir / "defects", "desk", "v0.1.0", policy=DROP_UNUSABLE)
    rows = {row["name"]: row for row in installed.rows("images")["images"]}
    assert rows["dup_shapes.jpg"]["labels"] == {"PS4-Controller": 2, "Smart-Plug": 2, "Smart-Switch": 2}
    assert rows["dup_shapes.jpg"]["annotation_count"] == 6
    assert all(len(row["perceptual_hash"]) == 16 and int(row["perceptual_hash"], 16) >= 0 for row in rows.values())


def upright_originals(data_dir, case):
    """The document and image of desk that a case was derived from."""
    drawn = [shape.points.tolist() for shape in read_document(data_dir / "defects" / f"{case}.json").shapes]
    for path in (data_dir / "desk").rglob("*.json"):
        if [shape.points.tolist() for shape in read_document(path).shapes] == drawn:
            return path
    raise AssertionError(f"{case} has no original")


@pytest.mark.parametrize("turned", [3, 6, 8])
def test_boxes_on_turned_images_are_those_of_the_upright_image(data_dir, tmp_path, turned):
    original = upright_originals(data_dir, f"exif_{turned}")
    boxes = {}
    for name, source in (("turned", data_dir / "defects" / f"exif_{turned}.json"), ("upright", original)):
        folder = tmp_path / name
        folder.mkdir()
        image = source.parent / read_document(source).image_path
        shutil.copy(source, folder)
        shutil.copy(image, folder)
        build_dataset(folder, tmp_path / f"{name}-out", ALL_TRAIN, FACTS)
        coco = read_truth(tmp_path / f"{name}-out" / "train.json")
        boxes[name] = np.array([one["bbox"] for one in coco["annotations"]])
        boxes[name, "size"] = [(one["width"], one["height"]) for one in coco["images"]]
        boxes[name, "pixels"] = read_image(folder / image.name).astype(int)
    assert len(boxes["upright"]) >= 2
    assert np.abs(boxes["turned"] - boxes["upright"]).max() < 1
    assert boxes["turned", "size"] == boxes["upright", "size"] == [(640, 352)]
    assert (
        np.abs(boxes["turned", "pixels"] - boxes["upright", "pixels"]).mean() < 8
    )  # the same picture, compressed anew


# --- what can be mended ----------------------------------------------------------------------------------------------


def test_an_image_without_json_is_kept_as_a_background_when_asked(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    make_image(folder / "kitchen" / "empty.png")
    published = publish_annotations(installed.settings, folder, "desk", "v0.1.0", policy={"image_without_json": "fix"})
    assert published.left_out == 0
    pulled = pull(installed)
    document = read_document(pulled / "kitchen" / "empty.json")
    assert (document.image_path, document.image_width, document.shapes) == ("empty.png", WIDTH, ())
    assert not (folder / "kitchen" / "empty.json").exists()
    images, _ = read_usable(pulled, ALL_TRAIN)
    assert [len(image.instances) for image in images if image.name == "kitchen/empty.png"] == [0]


def test_images_left_out_for_want_of_a_json_are_counted_in_sql_too(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    make_image(folder / "later.png")
    assert publish_annotations(installed.settings, folder, "desk", "v0.1.0").left_out == 1
    assert findings_in_sql(installed) == [("later.png", "image_without_json", None, "drop")]


@pytest.mark.slow
def test_an_image_that_is_in_the_json_only_is_written_out(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    path = folder / "kitchen" / "c.json"
    data = (folder / "kitchen" / "c.png").read_bytes()
    content = json.loads(path.read_bytes()) | {"imageData": base64.b64encode(data).decode()}
    path.write_text(json.dumps(content))
    (folder / "kitchen" / "c.png").unlink()
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    pulled = pull(installed)
    assert (pulled / "kitchen" / "c.png").read_bytes() == data
    assert json.loads((pulled / "kitchen" / "c.json").read_bytes()) == content | {"imageData": None}
    assert findings_in_sql(installed) == [("kitchen/c.json", "embedded_image_only", None, "fix")]


@pytest.mark.slow
def test_what_the_policy_fixes_is_right_in_the_published_json(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    content = json.loads((folder / "a.json").read_bytes())
    (folder / "a.json").write_text(
        json.dumps(content | {"imagePath": "C:\\photos\\a.png", "imageHeight": WIDTH, "imageWidth": HEIGHT})
    )
    publish_annotations(installed.settings, folder, "desk", "v0.1.0", policy={"image_outside_folder": "fix"})
    assert json.loads((pull(installed) / "a.json").read_bytes()) == content
    assert findings_in_sql(installed) == [
        ("a.json", "image_outside_folder", None, "fix"),
        ("a.json", "swapped_size_in_json", None, "fix"),
    ]


@pytest.mark.slow
def test_numbers_that_json_has_not_are_published_as_they_are_and_found_by_record(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    content = json.loads((folder / "a.json").read_bytes())
    content["shapes"].append({"label": "plug", "points": [[1, 2], [float("nan"), 3], [4, 4]]})
    (folder / "a.json").write_text(json.dumps(content))
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert not publish_annotations(installed.settings, folder, "desk", "v0.1.0").publication.new
    _, findings = read_usable(pull(installed), ALL_TRAIN)
    assert [(one.code, one.shape_index) for one in findings] == [(Code.NON_FINITE, 1)]


# --- what cannot -----------------------------------------------------------------------------------------------------


def damage_pixels(folder):
    """Wrong bytes between a whole header and a whole end."""
    path = folder / "a.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20] = bytes(20)
    path.write_bytes(data)


def add_pipe(folder):
    os.mkfifo(folder / "x.json")


def add_link(folder):
    (folder.parent / "secret.json").write_bytes((folder / "a.json").read_bytes())
    (folder / "x.json").symlink_to(folder.parent / "secret.json")


def leave_folder(folder):
    content = json.loads((folder / "a.json").read_bytes()) | {"imagePath": "..\\..\\secret.png"}
    (folder / "a.json").write_text(json.dumps(content))
    (folder / "a.png").unlink()  # else the photograph of the JSON's own name is used, and that is told


def nest_deeply(folder):
    (folder / "x.json").write_text("[" * 10**6)


def add_other_case(folder):
    annotate(folder, "A.png", [box()])


def add_other_accents(folder):
    annotate(folder, "cafe\u0301.png", [box()])
    annotate(folder, "caf\u00e9.png", [box()])


@pytest.mark.parametrize(
    ("spoil", "how"),
    [(add_other_case, "only in case"), (add_other_accents, r"only in how accents .*Unicode normalization")],
)
def test_of_names_that_some_systems_cannot_tell_apart_it_is_told_in_what_they_differ(installed, tmp_path, spoil, how):
    folder = make_labelme(tmp_path / "desk")
    spoil(folder)
    with pytest.raises(FindingsError, match=rf"cannot tell \S+ from \S+: they differ {how}.*\. Rename one of them"):
        publish_annotations(installed.settings, folder, "desk", "v0.1.0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (damage_pixels, "truncated_image"),
        (add_pipe, "unusable_file_name"),
        (add_link, "image_outside_folder"),
        (leave_folder, "image_outside_folder"),
        (nest_deeply, "unreadable_json"),
        (add_other_case, "names_differ_by_case_only"),
        (add_other_accents, "names_differ_by_case_only"),
    ],
)
def test_a_hostile_folder_is_refused_or_published_without_it(installed, tmp_path, spoil, code):
    folder = make_labelme(tmp_path / "desk")
    spoil(folder)
    before = set(os.listdir(folder))
    with pytest.raises(FindingsError, match=rf"\({code}\)"):
        publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert nothing_is_there(installed)
    published = publish_annotations(installed.settings, folder, "desk", "v0.1.0", policy={code: "drop"})
    assert [(one.code, one.outcome) for one in published.findings] == [(code, Outcome.DROP)]
    assert findings_in_sql(installed) == [(published.findings[0].file, code, None, "drop")]
    assert set(os.listdir(folder)) == before
    pulled = files_in(pull(installed))
    assert not any("secret" in name or name == "x.json" for name in pulled)


@pytest.mark.slow
def test_hostile_names_arrive_as_they_are(installed, tmp_path):
    names = [
        "번호판 日本 ñ.png",
        "😀👩\u200d🚀.png",
        "x'); DROP TABLE images;--.png",
        "q\"u`o't.png",
        "\u3000wide/-rf $(x).png",
    ]
    folder = make_labelme(tmp_path / "desk", names)
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert {row["name"] for row in installed.rows("images")["images"]} == set(names)
    pulled = files_in(pull(installed))
    assert {name: pulled[name] for name in files_in(folder)} == files_in(folder)


# --- where the policy is chosen --------------------------------------------------------------------------------------


def test_a_categorys_recipe_chooses_the_policy_and_the_command_line_wins(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    (folder / "a.png").unlink()
    recipes = installed.settings.volume / "code" / "configs" / "categories"
    recipes.mkdir(parents=True)
    (recipes / "desk.yaml").write_text("policy: {missing_image: drop}\n")
    with pytest.raises(FindingsError):
        publish_annotations(installed.settings, folder, "desk", "v0.1.0", policy={"missing_image": "fail"})
    with pytest.raises(FindingsError):
        publish_annotations(installed.settings, folder, "other", "v0.1.0")
    assert publish_annotations(installed.settings, folder, "desk", "v0.1.0").publication.row.image_count == 3


def test_a_policy_that_does_not_exist_is_refused_by_name(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    with pytest.raises(SightlineError, match="Did you mean 'missing_image'"):
        publish_annotations(installed.settings, folder, "desk", "v0.1.0", policy={"mising_image": "drop"})
    with pytest.raises(SightlineError, match="cannot be 'fix'"):
        publish_annotations(installed.settings, folder, "desk", "v0.1.0", policy={"missing_image": "fix"})


def test_the_command_says_what_was_found(installed, tmp_path, capsys):
    folder = make_labelme(tmp_path / "desk")
    (folder / "a.png").unlink()
    make_image(folder / "later.png")
    assert publish(folder, "desk", "v0.1.0", "auto", {"missing_image": "drop"}, "", folder) == 0
    said = capsys.readouterr().out
    assert "published desk_ann_v0.1.0: 3 images" in said
    assert "1 x missing_image: drop\n  a.json" in said
    assert "left out: 1 image without a JSON file" in said
    assert publish(folder, "desk", "v0.1.0", "labelme", {"missing_image": "drop"}, "", folder) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_policy_on_the_command_line_is_a_pair(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make_labelme(tmp_path / "desk")
    arguments = ["publish", str(folder), "--category", "desk", "--version", "v0.1.0", "--policy", "missing_image"]
    assert main(arguments) == 1
    assert "is not KEY=VALUE" in capsys.readouterr().err


@pytest.mark.slow
def test_ten_thousand_shapes_are_published(installed, tmp_path):
    folder = tmp_path / "desk"
    annotate(folder, "a.png", [box(left=x / 8, right=x / 8 + 1) for x in range(100)] * 100)
    published = publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert published.publication.row.annotation_count == 10_000
    assert Image.open(pull(installed) / "a.png").size == (WIDTH, HEIGHT)
