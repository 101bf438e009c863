"""What is found in annotation folders, and what the policy makes of it."""

import base64
import io
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.annotations.check import resembling_label
from sightline.annotations.findings import (
    ALLOWED,
    DEFAULTS,
    FIXES,
    PUBLISHING_DEFAULTS,
    Code,
    Finding,
    FindingsError,
    Outcome,
    Policy,
    PolicyError,
    list_findings,
    require_none_fails,
    summarize_findings,
)
from sightline.annotations.instances import read_usable
from sightline.annotations.labelme import Document, Shape, write_document
from sightline.annotations.read import Annotated, read_annotations
from sightline.annotations.recipe import Recipe, RecipeError, read_recipe

WIDTH, HEIGHT = 40, 30
MAX_PIXELS = 10**6


def box(left=5, top=5, right=15, bottom=20, label="plug", **changes):
    return Shape(label, np.array([[left, top], [right, bottom]], dtype=float), "rectangle", **changes)


def polygon(*points, label="plug", **changes):
    return Shape(label, np.array(points, dtype=float).reshape(-1, 2), **changes)


def annotate(folder, name="a", shapes=None, **changes):
    """An image and its JSON; `changes` replace the JSON's values."""
    folder.mkdir(parents=True, exist_ok=True)
    shade = sum(name.encode()) % 256
    Image.new("RGB", (WIDTH, HEIGHT), (shade, 3, 7)).save(folder / f"{name}.png")
    path = folder / f"{name}.json"
    write_document(path, Document(f"{name}.png", HEIGHT, WIDTH, tuple([box()] if shapes is None else shapes)))
    if changes:
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))
    return path


def check(folder, policy=None, **recipe):
    """The images that can be used, and (code, shape, outcome) of what was found, in the order of the report."""
    images, findings = read_usable(folder, Recipe(policy=policy or {}, **recipe))
    return images, [(found.code, found.shape_index, found.outcome) for found in findings]


def read(folder, policy=None):
    """Image -> what was corrected on it, and the findings of what cannot be used."""
    found = list(read_annotations(folder, MAX_PIXELS, Policy.of(policy or {}), write_embedded=True))
    used = {one.image: [finding.code for finding in one.findings] for one in found if isinstance(one, Annotated)}
    return used, [(one.code, one.outcome) for one in found if isinstance(one, Finding)]


# --- the policy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_default_that_it_is_allowed(code):
    assert DEFAULTS[code] in ALLOWED[code]
    assert PUBLISHING_DEFAULTS[code] in ALLOWED[code]
    assert Outcome.FAIL in ALLOWED[code]
    assert (Outcome.FIX in ALLOWED[code]) == (code in FIXES)


@pytest.mark.parametrize("code", Code)
@pytest.mark.parametrize("outcome", Outcome)
def test_a_policy_takes_exactly_what_is_allowed(code, outcome):
    if outcome in ALLOWED[code]:
        assert Policy.of({str(code): str(outcome)}).outcome(code) is outcome
    else:
        with pytest.raises(PolicyError, match=f"{code}: cannot be '{outcome}'. Choose one of "):
            Policy.of({str(code): str(outcome)})


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"mising_image": "drop"}, "Did you mean 'missing_image'"),
        ({"missing_image": "ignore"}, "'ignore' is not an outcome. Choose one of drop, fail"),
        ({"zero_area": "fix"}, "cannot be 'fix'. Choose one of drop, fail"),
    ],
)
def test_a_wrong_policy_is_refused_also_in_a_recipe(tmp_path, policy, says):
    with pytest.raises(PolicyError, match=says):
        Policy.of(policy)
    (tmp_path / "desk.yaml").write_text(json.dumps({"policy": policy}))
    with pytest.raises(RecipeError, match=says):
        read_recipe(tmp_path / "desk.yaml")


def test_publishing_refuses_what_it_cannot_use_unless_told_otherwise():
    policy = Policy.of({"missing_image": "drop"}).publishing()
    assert policy.outcome(Code.MISSING_IMAGE) is Outcome.DROP
    assert policy.outcome(Code.TRUNCATED_IMAGE) is Outcome.FAIL
    assert policy.outcome(Code.NOT_ANNOTATED) is Outcome.DROP
    assert Policy().outcome(Code.TRUNCATED_IMAGE) is Outcome.DROP


def findings(count, outcome=Outcome.FAIL):
    return [Finding(Code.ZERO_AREA, f"{index:02}.json", index, "no area.", outcome) for index in range(count)]


def test_failing_findings_are_listed_up_to_ten_and_counted():
    with pytest.raises(FindingsError, match=r"zero_area \(13\)") as refused:
        require_none_fails([*findings(5, Outcome.DROP), *findings(13)])
    assert "09.json, shape 9: no area. (zero_area)" in str(refused.value)
    assert "10.json" not in str(refused.value)
    assert "and 3 more" in str(refused.value)
    require_none_fails(findings(5, Outcome.DROP))
    assert list_findings(findings(2)).count("\n") == 1


def test_a_summary_counts_each_code_and_shows_the_first_files():
    summary = summarize_findings([*findings(5, Outcome.DROP), Finding(Code.NO_SIZE, "x.json", None, "", Outcome.FIX)])
    assert "5 x zero_area: drop\n  00.json, shape 0: no area.\n" in summary
    assert "… and 2 more" in summary
    assert "1 x no_size_in_json: fix (the image's own size is used)\n  x.json" in summary


# --- shapes ----------------------------------------------------------------------------------------------------------

BOW_TIE = polygon((5, 5), (15, 15), (15, 5), (5, 15))
CLOCKWISE = box(15, 20, 5, 5)
DAMAGED = {"label": "plug", "points": [[1, 2], [3]]}
ENDLESS = {"label": "plug", "points": [[1, 2], [math.nan, 3], [4, 4]]}
MENDED_SHAPES = [
    pytest.param(BOW_TIE, Code.SELF_CROSSING, 50, id="crossing itself"),
    pytest.param(box(-5, 5, 5, 15), Code.CLIPPED, 50, id="over the border"),
    pytest.param(CLOCKWISE, Code.REVERSED_RECTANGLE, 150, id="corners reversed"),
]


@pytest.mark.parametrize(("drawn", "code", "area"), MENDED_SHAPES)
@pytest.mark.parametrize("outcome", Outcome)
def test_a_shape_that_can_be_corrected_follows_the_policy(tmp_path, drawn, code, area, outcome):
    annotate(tmp_path, shapes=[box(20, 20, 30, 29), drawn])
    ((image,), found) = check(tmp_path, {code: outcome})
    assert found == [(code, 1, outcome)]
    areas = [instance.region.area for instance in image.instances]
    assert areas == ([90, area] if outcome is Outcome.FIX else [90])


@pytest.mark.parametrize(
    ("drawn", "code"), [(DAMAGED, Code.MALFORMED_SHAPE), (ENDLESS, Code.NON_FINITE), (7, Code.MALFORMED_SHAPE)]
)
def test_a_shape_that_cannot_be_understood_costs_no_other(tmp_path, drawn, code):
    path = annotate(tmp_path)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(content | {"shapes": [drawn, *content["shapes"]]}))
    ((image,), found) = check(tmp_path)
    assert found == [(code, 0, Outcome.DROP)]
    assert [instance.shape_index for instance in image.instances] == [1]


@pytest.mark.parametrize(
    ("points", "code"),
    [
        pytest.param([(1, 1), (5, 5)], Code.WRONG_POINTS, id="two points"),
        pytest.param([], Code.WRONG_POINTS, id="no points"),
        pytest.param([(0.1, 0.1), (0.2, 0.2), (0.3, 0.3)], Code.ZERO_AREA, id="on a line but for rounding"),
        pytest.param([(7, 7)] * 5, Code.ZERO_AREA, id="one point five times"),
        pytest.param([(1, 1), (9, 1), (5, 1), (9, 1)], Code.ZERO_AREA, id="to and fro"),
        pytest.param([(50, 1), (60, 1), (60, 9)], Code.OUTSIDE, id="outside"),
        pytest.param([(-5, 10), (0.0001, 10), (0.0001, 11), (-5, 11)], Code.OUTSIDE, id="a hair inside"),
    ],
)
@pytest.mark.parametrize("outcome", [Outcome.DROP, Outcome.FAIL])
def test_a_polygon_that_covers_nothing_is_left_out(tmp_path, points, code, outcome):
    annotate(tmp_path, shapes=[polygon(*points), box()])
    ((image,), found) = check(tmp_path, {code: outcome})
    assert found == [(code, 0, outcome)]
    assert len(image.instances) == 1


def test_a_circle_beyond_all_measure_is_left_out(tmp_path):
    annotate(tmp_path, shapes=[Shape("plug", np.array([[0.0, 0], [5e8, 0]]), "circle"), box()])
    assert check(tmp_path)[1] == [(Code.NON_FINITE, 0, Outcome.DROP)]


def test_a_tangle_that_cannot_be_taken_apart_is_left_out_and_says_so(tmp_path):
    points = np.random.default_rng(0).uniform(0, 30, (3000, 2))
    annotate(tmp_path, shapes=[Shape("plug", points), box()])
    assert check(tmp_path)[1] == [(Code.SELF_CROSSING, 0, Outcome.DROP)]


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(box(), id="the same"),
        pytest.param(box(5.004, 5, 15, 20), id="a hundredth of a pixel off"),
        pytest.param(polygon((15, 20), (5, 20), (5, 5), (15, 5)), id="as a polygon begun elsewhere"),
        pytest.param(box(group_id=3), id="in another group"),
    ],
)
@pytest.mark.parametrize("outcome", Outcome)
def test_of_a_shape_drawn_twice_the_second_is_left_out(tmp_path, again, outcome):
    annotate(tmp_path, shapes=[box(), box(1, 1, 3, 3), again])
    ((image,), found) = check(tmp_path, {"duplicate_shape": outcome})
    assert found == [(Code.DUPLICATE_SHAPE, 2, outcome)]
    assert [instance.shape_index for instance in image.instances] == [0, 1]


def test_shapes_on_either_side_of_half_a_pixel_are_still_the_same(tmp_path):
    annotate(tmp_path, shapes=[box(5.4999, 5, 15, 20), box(5.5001, 5, 15, 20)])
    assert check(tmp_path)[1] == [(Code.DUPLICATE_SHAPE, 1, Outcome.DROP)]


@pytest.mark.parametrize(("outcome", "kept"), [(Outcome.FIX, 2), (Outcome.DROP, 1), (Outcome.FAIL, 1)])
def test_two_labels_on_one_outline_are_reported_and_both_kept_by_default(tmp_path, outcome, kept):
    assert DEFAULTS[Code.CONFLICTING_LABELS] is Outcome.FIX
    annotate(tmp_path, shapes=[box(), box(label="switch")])
    ((image,), found) = check(tmp_path, {"conflicting_labels": outcome})
    assert found == [(Code.CONFLICTING_LABELS, 1, outcome)]
    assert len(image.instances) == kept


@pytest.mark.slow
def test_ten_thousand_shapes_are_checked(tmp_path):
    grid = [box(x / 4, y / 4, x / 4 + 0.2, y / 4 + 0.2) for x in range(100) for y in range(100)]
    annotate(tmp_path, shapes=[*grid, grid[77]])
    ((image,), found) = check(tmp_path)
    assert found == [(Code.DUPLICATE_SHAPE, 10_000, Outcome.DROP)]
    assert len(image.instances) == 10_000


@pytest.mark.parametrize("outcome", Outcome)
def test_an_image_that_lost_all_its_shapes_follows_the_policy(tmp_path, outcome):
    annotate(tmp_path, "a")
    annotate(tmp_path, "b", [box(label=" ")])
    images, found = check(tmp_path, {"nothing_left": outcome})
    assert found == [(Code.NOTHING_LEFT, None, outcome), (Code.EMPTY_LABEL, 0, Outcome.DROP)]
    assert [image.name for image in images] == (["a.png", "b.png"] if outcome is Outcome.FIX else ["a.png"])


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "known", "meant"),
    [
        ("Plug", ["plug", "switch"], "plug"),
        ("smart plug", ["Smart-Plug"], "Smart-Plug"),
        ("swich", ["plug", "switch"], "switch"),
        ("swithc", ["plug", "switch"], "switch"),
        ("switchh", ["plug", "switch"], "switch"),
        ("swotch", ["plug", "switch"], "switch"),
        ("plug2", ["plug1"], None),
        ("cat", ["car"], None),
        ("lamp", ["plug", "switch"], None),
        ("plag", ["plug", "plog"], None),
    ],
)
def test_a_slip_is_told_from_another_word(label, known, meant):
    assert resembling_label(label, known) == meant


@pytest.mark.parametrize("outcome", Outcome)
def test_a_label_near_a_known_one_is_suggested_and_renamed_when_asked(tmp_path, outcome):
    annotate(tmp_path, shapes=[box(), box(1, 1, 3, 3, label="swich"), box(20, 1, 23, 3, label="lamp")])
    policy = {"label_typo": outcome}
    images, findings = read_usable(tmp_path, Recipe(policy=policy, classes=("plug", "switch")))
    assert [(one.code, one.outcome) for one in findings] == [
        (Code.LABEL_TYPO, outcome),
        (Code.LABEL_NOT_VALID, Outcome.DROP),
    ]
    assert "'switch'" in findings[0].message
    labels = [instance.label for instance in images[0].instances]
    assert labels == (["plug", "switch"] if outcome is Outcome.FIX else ["plug"])


def test_typos_are_dropped_by_default():
    assert DEFAULTS[Code.LABEL_TYPO] is Outcome.DROP


@pytest.mark.parametrize("outcome", Outcome)
def test_without_a_list_a_rare_label_beside_a_frequent_one_is_reported_and_kept(tmp_path, outcome):
    assert DEFAULTS[Code.RARE_LABEL] is Outcome.FIX
    for index in range(10):
        annotate(tmp_path, f"{index}", [box(label="switch"), box(1, 1, 3, 3, label="plug")])
    annotate(tmp_path, "slip", [box(label="Switch"), box(1, 1, 3, 3, label="lamp")])
    images, findings = read_usable(tmp_path, Recipe(policy={"rare_label": outcome}))
    assert [(one.file, one.code, one.shape_index, one.outcome) for one in findings] == [
        ("slip.json", Code.RARE_LABEL, 0, outcome)
    ]
    assert "'switch' 10 times" in findings[0].message
    kept = [instance.label for image in images if image.file == "slip.json" for instance in image.instances]
    assert kept == (["lamp"] if outcome is Outcome.DROP else ["Switch", "lamp"])


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", Outcome)
def test_an_image_without_json_is_a_background_only_when_asked(tmp_path, outcome):
    annotate(tmp_path, "a")
    for name in ("b.jpg", "b.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    used, left_out = read(tmp_path, {"image_without_json": outcome})
    if outcome is Outcome.FIX:
        assert used == {"a.png": [], "b.jpg": [Code.NOT_ANNOTATED], "b.png": [Code.NOT_ANNOTATED]}
        (images, _) = check(tmp_path, {"image_without_json": "fix"})
        assert [(image.file, len(image.instances)) for image in images] == [
            ("a.json", 1),
            ("b.json", 0),
            ("b.png.json", 0),
        ]
    else:
        assert used == {"a.png": []}
        assert left_out == [(Code.NOT_ANNOTATED, outcome)] * 2


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize(
    ("written", "code"),
    [
        ({"imageHeight": WIDTH, "imageWidth": HEIGHT}, Code.SWAPPED_SIZE),
        ({"imageHeight": 7}, Code.WRONG_SIZE),
        ({"imageHeight": None}, Code.NO_SIZE),
        ({"imageWidth": "40"}, Code.NO_SIZE),
    ],
)
def test_a_wrong_size_follows_the_policy(tmp_path, written, code, outcome):
    annotate(tmp_path, **written)
    used, left_out = read(tmp_path, {code: outcome})
    assert used == ({"a.png": [code]} if outcome is Outcome.FIX else {})
    assert left_out == ([] if outcome is Outcome.FIX else [(code, outcome)])


def test_several_corrections_of_one_file_are_all_told_and_one_may_leave_it_out(tmp_path):
    annotate(tmp_path, imageHeight=None)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png", "JPEG", exif=exif)
    assert read(tmp_path)[0] == {"a.png": [Code.WRONG_EXTENSION, Code.EXIF_ORIENTATION, Code.NO_SIZE]}
    assert read(tmp_path, {"no_size_in_json": "drop"})[1][-1] == (Code.NO_SIZE, Outcome.DROP)


@pytest.mark.parametrize(
    "image_path", ["../other/a.png", "..\\other\\a.png", "/srv/a.png", "C:\\photos\\a.png", "\\\\host\\share\\a.png"]
)
@pytest.mark.parametrize("outcome", Outcome)
def test_an_image_path_that_leaves_the_folder_of_its_json_follows_the_policy_that_was_chosen(
    tmp_path, image_path, outcome
):
    annotate(tmp_path / "json")
    annotate(tmp_path / "other")
    annotate(tmp_path / "json", imagePath=image_path)
    used, left_out = read(tmp_path, {"image_outside_folder": outcome})
    claimed = "other" in image_path  # the photograph has a JSON of its own
    fixed = [Code.IMAGE_OUTSIDE, Code.NAMED_OTHERWISE] if claimed else [Code.IMAGE_OUTSIDE]
    assert used == {"other/a.png": []} | ({"json/a.png": fixed} if outcome is Outcome.FIX else {})
    assert left_out == ([] if outcome is Outcome.FIX else [(Code.IMAGE_OUTSIDE, outcome)])


@pytest.mark.parametrize(
    "image_path", ["../images/a.png", "..\\images\\a.png", "/srv/a.png", "C:\\photos\\a.png", "b/../../images/a.png"]
)
def test_the_only_photograph_in_the_folder_that_a_path_can_mean_is_used_and_told(tmp_path, image_path):
    annotate(tmp_path / "json", imagePath=image_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "json" / "a.png").rename(tmp_path / "images" / "a.png")
    assert read(tmp_path) == ({"images/a.png": [Code.FOUND_ELSEWHERE]}, [])


@pytest.mark.parametrize("image_path", ["/srv/c.png", "img/c.png"])
def test_of_several_photographs_that_a_path_can_mean_none_is_used_unless_they_are_copies(tmp_path, image_path):
    annotate(tmp_path / "json", imagePath=image_path)
    (tmp_path / "json" / "a.png").rename(tmp_path / "json" / "unlike.png")
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(tmp_path / folder / "c.png")
    used, left_out = read(tmp_path)
    assert used == {} and [code for code, _ in left_out][0] in (Code.IMAGE_OUTSIDE, Code.MISSING_IMAGE)
    shutil.copy(tmp_path / "one" / "c.png", tmp_path / "two")
    assert read(tmp_path)[0] == {"one/c.png": [Code.FOUND_ELSEWHERE]}


def test_where_no_photograph_fits_nothing_can_be_fixed(tmp_path):
    annotate(tmp_path, imagePath="../b.png")
    (tmp_path / "a.png").rename(tmp_path / "unlike.png")
    left_out = [(Code.IMAGE_OUTSIDE, Outcome.DROP), (Code.NOT_ANNOTATED, Outcome.DROP)]
    assert read(tmp_path, {"image_outside_folder": "fix"}) == ({}, left_out)


@pytest.mark.parametrize("link", ["file", "folder", "circle"])
def test_no_link_out_of_the_folder_is_followed(tmp_path, link):
    annotate(tmp_path / "secret", "b")
    folder = tmp_path / "in"
    annotate(folder, "a")
    annotate(folder, "b", imagePath="b.png" if link != "folder" else "sub/b.png")
    (folder / "b.png").unlink()
    if link == "folder":
        (folder / "sub").symlink_to(tmp_path / "secret")
    else:
        (folder / "b.png").symlink_to(tmp_path / "secret" / "b.png" if link == "file" else folder / "b.png")
    assert read(folder) == ({"a.png": []}, [(Code.IMAGE_OUTSIDE, Outcome.DROP)])


def test_a_json_that_is_a_link_out_of_the_folder_is_not_read(tmp_path):
    annotate(tmp_path / "secret", "b")
    annotate(tmp_path / "in", "a")
    (tmp_path / "in" / "b.json").symlink_to(tmp_path / "secret" / "b.json")
    assert read(tmp_path / "in") == ({"a.png": []}, [(Code.IMAGE_OUTSIDE, Outcome.DROP)])


def test_a_link_within_the_folder_is_followed(tmp_path):
    annotate(tmp_path, "a")
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    (tmp_path / "a.png").symlink_to("b.png")
    assert read(tmp_path)[0] == {"a.png": []}


@pytest.mark.parametrize("name", ["b.json", "b.png"])
def test_pipes_and_devices_are_findings_and_never_hang(tmp_path, name):
    annotate(tmp_path, "a")
    annotate(tmp_path, "b")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    used, left_out = read(tmp_path)
    assert used == {"a.png": []}
    assert (Code.BAD_NAME, Outcome.DROP) in left_out


@pytest.mark.parametrize("name", ["line\nbreak", "bell\a", b"not \xff text", "x" * 240 + "/" + "y" * 250])
def test_names_that_no_table_can_hold_are_findings_that_can_be_shown(tmp_path, name):
    annotate(tmp_path, "a")
    path = Path(tmp_path, os.fsdecode(name))
    path.parent.mkdir(exist_ok=True)
    Path(f"{path}.json").write_bytes((tmp_path / "a.json").read_bytes())
    found = [one for one in read_annotations(tmp_path, MAX_PIXELS) if isinstance(one, Finding)]
    assert [one.code for one in found] == [Code.BAD_NAME]
    assert "\n" not in found[0].file
    json.dumps(found[0].to_json(), ensure_ascii=False).encode()
    assert len(found[0].file) <= 480


@pytest.mark.parametrize(
    "name",
    [
        "번호판 日本 ñ",
        "😀👩\u200d🚀",
        "x'); DROP TABLE images;--",
        "q\"u`o't",
        "a%20&b=c#d",
        "\u3000wide",
        "-rf",
        "a.b.c",
    ],
)
def test_every_other_name_is_used_as_it_is(tmp_path, name):
    annotate(tmp_path, name)
    assert read(tmp_path) == ({f"{name}.png": []}, [])


def test_accents_composed_otherwise_name_the_same_file(tmp_path):
    annotate(tmp_path, "cafe\u0301", imagePath="caf\u00e9.png")
    assert read(tmp_path)[0] == {"cafe\u0301.png": []}


@pytest.mark.parametrize("image_path", [".hidden/a.png", ".a.png", "a.json", "sub/.x/a.png"])
def test_hidden_files_and_documents_are_no_images(tmp_path, image_path):
    annotate(tmp_path, imagePath=image_path)
    (tmp_path / "a.png").rename(tmp_path / "unlike.png")
    target = tmp_path / image_path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".png":
        Image.new("RGB", (WIDTH, HEIGHT)).save(target)
    assert read(tmp_path)[1][0] == (Code.MISSING_IMAGE, Outcome.DROP)


def png_text():
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("outcome", Outcome)
def test_an_image_that_is_in_the_json_only_follows_the_policy(tmp_path, outcome):
    annotate(tmp_path, imageData=png_text())
    (tmp_path / "a.png").unlink()
    used, left_out = read(tmp_path, {"embedded_image_only": outcome})
    assert used == ({"a.png": [Code.EMBEDDED_ONLY]} if outcome is Outcome.FIX else {})
    assert left_out == ([] if outcome is Outcome.FIX else [(Code.EMBEDDED_ONLY, outcome)])


def test_where_nobody_writes_it_out_an_embedded_image_cannot_be_used(tmp_path):
    annotate(tmp_path, imageData=png_text())
    (tmp_path / "a.png").unlink()
    assert check(tmp_path) == ([], [(Code.EMBEDDED_ONLY, None, Outcome.DROP)])


@pytest.mark.parametrize(
    ("data", "code"),
    [("%%", Code.UNREADABLE_IMAGE), ("QUJD", Code.UNREADABLE_IMAGE), (png_text()[:60], Code.TRUNCATED_IMAGE)],
)
def test_a_damaged_embedded_image_is_left_out(tmp_path, data, code):
    annotate(tmp_path, imageData=data)
    (tmp_path / "a.png").unlink()
    assert read(tmp_path)[1][-1] == (code, Outcome.DROP)


# --- a pixel bomb ----------------------------------------------------------------------------------------------------

MEASURED = """
import resource, sys, time
from pathlib import Path
from sightline.annotations.findings import Finding
from sightline.annotations.read import read_annotations
import PIL.PngImagePlugin
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
found = list(read_annotations(Path(sys.argv[1]), 150_000_000))
spent = time.process_time() - began
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print([str(one.code) for one in found if isinstance(one, Finding)], grown // 1024, spent)
"""


@pytest.mark.slow
def test_a_pixel_bomb_costs_neither_memory_nor_time(data_dir, tmp_path):
    for name in ("bomb.json", "bomb.png"):
        (tmp_path / name).write_bytes((data_dir / "defects" / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "shared_volume")},
        capture_output=True,
        text=True,
        check=True,
    )
    code, megabytes, seconds = done.stdout.split()
    assert code == "['image_too_large']"
    assert int(megabytes) < 100
    assert float(seconds) < 1  # of this process's own time, whatever else the machine does


# --- every injected defect -------------------------------------------------------------------------------------------

W, F, D = Code.WRONG_EXTENSION, Outcome.FIX, Outcome.DROP
DEFECTS = {
    "bad_shapes": [
        (W, None, F),
        (Code.WRONG_POINTS, 3, D),
        (Code.WRONG_POINTS, 4, D),
        (Code.CLIPPED, 5, F),
        (Code.ZERO_AREA, 6, D),
        (Code.ZERO_AREA, 7, D),
        (Code.SELF_CROSSING, 8, F),
        (Code.EMPTY_LABEL, 9, D),
    ],
    "bomb": [(Code.IMAGE_TOO_LARGE, None, D)],
    "dup_shapes": [(W, None, F), *((Code.DUPLICATE_SHAPE, index, D) for index in (3, 4, 5))],
    "exif_3": [(Code.EXIF_ORIENTATION, None, F)],
    "exif_6": [(Code.EXIF_ORIENTATION, None, F)],
    "exif_8": [(Code.EXIF_ORIENTATION, None, F)],
    "missing_image": [(Code.MISSING_IMAGE, None, D)],
    "no_size": [(Code.NO_SIZE, None, F), (W, None, F)],
    "not_json": [(Code.UNREADABLE_JSON, None, D)],
    "ok_plain": [(W, None, F)],
    "sqlname": [(W, None, F)],
    "swapped_size": [(Code.SWAPPED_SIZE, None, F), (W, None, F)],
    "traversal": [(Code.IMAGE_OUTSIDE, None, D)],
    "truncated": [(Code.TRUNCATED_IMAGE, None, D)],
    "번호판_日本 ñ 1": [(W, None, F)],
}
"""Case -> code, shape and outcome. Many of these files are PNGs that are called .jpg, besides their injected defect."""


@pytest.mark.parametrize("case", DEFECTS)
def test_every_injected_defect_is_found(data_dir, case):
    _, findings = read_usable(data_dir / "defects", Recipe(near_duplicates=None))
    own = [(one.code, one.shape_index, one.outcome) for one in findings if one.file == f"{case}.json"]
    assert own == DEFECTS[case]
    assert {one.file.removesuffix(".json") for one in findings} <= DEFECTS.keys()


def test_the_other_images_are_used_under_their_own_names(data_dir):
    images, _ = read_usable(data_dir / "defects", Recipe())
    assert {image.name for image in images} == {
        *(f"{name}.jpg" for name in ("bad_shapes", "dup_shapes", "exif_3", "exif_6", "exif_8", "no_size", "ok_plain")),
        "swapped_size.jpg",
        "x'); DROP TABLE image_data;-- .jpg",
        "번호판_日本 ñ 1.jpg",
    }
    assert all((image.width, image.height) == (640, 352) for image in images)


def test_real_rectangles_with_reversed_and_negative_corners_are_mended(data_dir):
    images, findings = read_usable(data_dir / "pavement", Recipe())
    counts = {code: sum(one.code is code for one in findings) for code in (Code.CLIPPED, Code.REVERSED_RECTANGLE)}
    assert counts == {Code.CLIPPED: 9, Code.REVERSED_RECTANGLE: 6}
    assert len(findings) == 15
    assert all(one.outcome is Outcome.FIX for one in findings)
    assert sum(len(image.instances) for image in images) == 197
