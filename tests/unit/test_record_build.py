import base64
import hashlib
import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from sightline.annotations.findings import Code, Outcome, count_findings
from sightline.annotations.labelme import Document, Shape, write_document
from sightline.annotations.recipe import Fractions, Recipe, RecipeError, read_recipe
from sightline.annotations.truth import read_truth
from sightline.errors import SightlineError
from sightline.images.files import read_image
from sightline.services.versioning import shards as pack
from sightline.services.versioning.shards import SPLITS, PackError, pack_images, unpack
from sightline.steps.record.build import NothingAnnotatedError, build_dataset

WIDTH, HEIGHT = 40, 30
FACTS = {"category": "desk", "version": "v0.1.0", "annotation_version": "v0.2.0"}
ALL_TRAIN = Recipe(fractions=Fractions(train=1, val=0, test=0))


def box(left=5, top=5, right=15, bottom=20, label="plug", **changes):
    return Shape(label, np.array([[left, top], [right, bottom]], dtype=float), "rectangle", **changes)


def annotate(folder, name="a", shapes=None, size=(WIDTH, HEIGHT), written_size=None, shade=0):
    """An image and its JSON; `shade` makes the content differ."""
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade % 256, shade // 256, 7)).save(path)
    width, height = written_size or size
    document = Document(path.name, height, width, tuple([box()] if shapes is None else shapes))
    write_document(folder / f"{name}.json", document)


def annotate_many(folder, count):
    for index in range(count):
        annotate(folder, f"{index:03d}", shade=index)
    return folder


def build(folder, target, recipe=ALL_TRAIN):
    return build_dataset(folder, target, recipe, FACTS)


def annotations(target, split="train"):
    return read_truth(target / f"{split}.json")["annotations"]


# --- one shape -------------------------------------------------------------------------------------------------------

MASK_PNG = io.BytesIO()
Image.fromarray(np.full((3, 4), 255, dtype=np.uint8)).save(MASK_PNG, "PNG")
MASK = base64.b64encode(MASK_PNG.getvalue()).decode()


def shape(kind, *points, **changes):
    label = changes.pop("label", "plug")
    return Shape(label, np.array(points, dtype=float).reshape(-1, 2), kind, **changes)


@pytest.mark.parametrize(
    ("drawn", "bbox", "area"),
    [
        pytest.param(shape("polygon", (1, 1), (5.5, 1), (1, 5)), [1, 1, 4.5, 4], 9, id="polygon"),
        pytest.param(shape("rectangle", (9, 8), (2, 3)), [2, 3, 7, 5], 35, id="rectangle, corners reversed"),
        pytest.param(shape("rectangle", (5, 0), (10, 5), (5, 10), (0, 5)), [0, 0, 10, 10], 50, id="rectangle, turned"),
        pytest.param(shape("circle", (20, 15), (20, 10)), [15, 10, 10, 10], None, id="circle"),
        pytest.param(shape("mask", (7, 8), (10, 10), mask=MASK), [7, 8, 4, 3], 12, id="mask"),
    ],
)
def test_every_supported_shape_becomes_an_annotation(tmp_path, drawn, bbox, area):
    annotate(tmp_path / "in", shapes=[drawn])
    summary = build(tmp_path / "in", tmp_path / "out")
    (only,) = annotations(tmp_path / "out")
    assert only["bbox"] == bbox
    assert area is None or only["area"] == area
    assert {found.outcome for found in summary.findings} <= {Outcome.FIX}


@pytest.mark.parametrize(
    ("drawn", "code"),
    [
        pytest.param(shape("polygon"), Code.WRONG_POINTS, id="no points"),
        pytest.param(shape("polygon", (1, 1), (5, 5)), Code.WRONG_POINTS, id="two points"),
        pytest.param(shape("rectangle", (1, 1)), Code.WRONG_POINTS, id="half a rectangle"),
        pytest.param(shape("rectangle", (1, 1), (2, 2), (3, 1)), Code.WRONG_POINTS, id="three corners"),
        pytest.param(shape("circle", (1, 1)), Code.WRONG_POINTS, id="a circle without an edge"),
        pytest.param(shape("polygon", (1, 1), (5, 5), (9, 9)), Code.ZERO_AREA, id="a line of a polygon"),
        pytest.param(shape("rectangle", (1, 1), (1, 9)), Code.ZERO_AREA, id="a flat rectangle"),
        pytest.param(shape("circle", (5, 5), (5, 5)), Code.ZERO_AREA, id="a circle of radius 0"),
        pytest.param(box(50, 5, 60, 20), Code.OUTSIDE, id="right of the image"),
        pytest.param(shape("mask", (70, 8), (73, 10), mask=MASK), Code.OUTSIDE, id="a mask outside"),
        pytest.param(shape("mask", (1e8, 8), (1e8 + 3, 10), mask=MASK), Code.OUTSIDE, id="a mask far outside"),
        pytest.param(shape("mask", (7, 8), (10, 10)), Code.BAD_MASK, id="a mask without a picture"),
        pytest.param(shape("mask", (7, 8), (19, 10), mask=MASK), Code.BAD_MASK, id="a mask of another size"),
        pytest.param(shape("point", (5, 5)), Code.UNSUPPORTED_SHAPE, id="point"),
        pytest.param(shape("line", (5, 5), (6, 6)), Code.UNSUPPORTED_SHAPE, id="line"),
        pytest.param(shape("linestrip", (5, 5), (6, 6), (7, 5)), Code.UNSUPPORTED_SHAPE, id="linestrip"),
        pytest.param(shape("hologram", (5, 5)), Code.UNSUPPORTED_SHAPE, id="a shape of the future"),
        pytest.param(box(label=""), Code.EMPTY_LABEL, id="no label"),
        pytest.param(box(label="  "), Code.EMPTY_LABEL, id="a blank label"),
    ],
)
def test_a_shape_that_cannot_be_used_is_dropped_and_listed(tmp_path, drawn, code):
    annotate(tmp_path / "in", shapes=[drawn, box()])
    summary = build(tmp_path / "in", tmp_path / "out")
    assert len(annotations(tmp_path / "out")) == 1
    (found,) = summary.findings
    assert (found.code, found.file, found.shape_index, found.outcome) == (code, "a.json", 0, Outcome.DROP)
    assert json.loads((tmp_path / "out" / "findings.json").read_bytes()) == [
        {"code": code, "file": "a.json", "shape_index": 0, "message": found.message, "outcome": "drop"}
        | {"found_in": "record"}
    ]


def test_a_shape_over_the_border_is_cut_there_and_listed(tmp_path):
    annotate(tmp_path / "in", shapes=[box(-10, 25, 10, 99)])
    summary = build(tmp_path / "in", tmp_path / "out")
    assert annotations(tmp_path / "out")[0]["bbox"] == [0, 25, 10, 5]
    assert [(found.code, found.outcome) for found in summary.findings] == [(Code.CLIPPED, Outcome.FIX)]


def test_parts_of_one_label_and_group_are_one_instance(tmp_path):
    parts = [
        box(0, 0, 2, 2, group_id=1),
        box(8, 8, 10, 11, group_id=1),
        box(5, 5, 6, 6, group_id=1, label="switch"),
        box(20, 20, 21, 21),
        box(22, 20, 23, 21),
    ]
    annotate(tmp_path / "in", shapes=parts)
    build(tmp_path / "in", tmp_path / "out")
    found = annotations(tmp_path / "out")
    assert [(one["category_id"], one["bbox"], one["area"]) for one in found] == [
        (1, [0, 0, 10, 11], 10),
        (2, [5, 5, 1, 1], 1),
        (1, [20, 20, 1, 1], 1),
        (1, [22, 20, 1, 1], 1),
    ]
    assert len(found[0]["segmentation"]) == 2


# --- one file --------------------------------------------------------------------------------------------------------


def break_json(folder):
    (folder / "b.json").write_text('{"shapes": [')


def remove_image(folder):
    (folder / "b.png").unlink()


def truncate_image(folder):
    data = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(data[: len(data) // 2 + 20])


def spoil_image(folder):
    (folder / "b.png").write_bytes(b"no image")


def point_outside(folder):
    content = json.loads((folder / "b.json").read_bytes()) | {"imagePath": "../../secret.png"}
    (folder / "b.json").write_text(json.dumps(content))
    (folder / "b.png").unlink()


def link_outside(folder):
    shutil.copy(folder / "b.png", folder.parent / "secret.png")
    (folder / "b.png").unlink()
    (folder / "b.png").symlink_to(folder.parent / "secret.png")


def annotate_twice(folder):
    write_document(folder / "b.json", Document("a.png", HEIGHT, WIDTH, (box(),)))
    (folder / "b.png").unlink()


def empty_by_dropping(folder):
    annotate(folder, "b", [box(label="")])


@pytest.mark.parametrize(
    ("spoil", "codes"),
    [
        (break_json, {Code.UNREADABLE_JSON}),
        (remove_image, {Code.MISSING_IMAGE}),
        (truncate_image, {Code.TRUNCATED_IMAGE}),
        (spoil_image, {Code.UNREADABLE_IMAGE}),
        (point_outside, {Code.IMAGE_OUTSIDE}),
        (link_outside, {Code.IMAGE_OUTSIDE}),
        (annotate_twice, {Code.IMAGE_TWICE}),
        (empty_by_dropping, {Code.EMPTY_LABEL, Code.NOTHING_LEFT}),
    ],
)
def test_a_file_that_cannot_be_used_drops_its_image_only(tmp_path, spoil, codes):
    folder = tmp_path / "in"
    annotate(folder, "a")
    annotate(folder, "b", shade=1)
    spoil(folder)
    summary = build(folder, tmp_path / "out")
    assert [row.name for row in summary.images] == ["a.png"]
    assert {found.code for found in summary.findings} == codes
    assert {found.file for found in summary.findings} == {"b.json"}
    assert str(tmp_path) not in (tmp_path / "out" / "findings.json").read_text()


def test_an_image_over_the_recipes_limit_is_dropped(tmp_path):
    annotate(tmp_path / "in", "a")
    annotate(tmp_path / "in", "b", size=(200, 200))
    recipe = Recipe(fractions=ALL_TRAIN.fractions, max_pixels=10_000)
    summary = build(tmp_path / "in", tmp_path / "out", recipe)
    assert [(found.file, found.code) for found in summary.findings] == [("b.json", Code.IMAGE_TOO_LARGE)]


def test_the_images_own_size_wins_over_the_jsons(tmp_path):
    annotate(tmp_path / "in", "a", written_size=(HEIGHT, HEIGHT))
    summary = build(tmp_path / "in", tmp_path / "out")
    (image,) = read_truth(tmp_path / "out" / "train.json")["images"]
    assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
    assert [found.code for found in summary.findings] == [Code.WRONG_SIZE]


def test_an_image_without_json_is_listed_and_left_out(tmp_path):
    annotate(tmp_path / "in", "a")
    Image.new("RGB", (3, 3)).save(tmp_path / "in" / "extra.jpg")
    summary = build(tmp_path / "in", tmp_path / "out")
    assert [(found.file, found.code) for found in summary.findings] == [("extra.jpg", Code.NOT_ANNOTATED)]


def test_an_image_annotated_as_empty_is_kept(tmp_path):
    annotate(tmp_path / "in", "a")
    annotate(tmp_path / "in", "b", [], shade=1)
    summary = build(tmp_path / "in", tmp_path / "out")
    assert summary.counts["train"] == {"images": 2, "annotations": 1, "per_class": {"plug": 1}}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_boxes_lie_on_what_the_annotator_saw(tmp_path, file_format, turned):
    upright = Image.new("RGB", (64, 48))
    ImageDraw.Draw(upright).rectangle((8, 16, 23, 39), fill=(255, 255, 255))
    undo = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # pillow's transpositions, the inverse of showing
    stored = upright.transpose(undo[turned][0]) if turned > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = turned
    folder = tmp_path / "in"
    folder.mkdir()
    stored.save(folder / "a.img", file_format, exif=exif)
    write_document(folder / "a.json", Document("a.img", 48, 64, (box(8, 16, 24, 40),)))
    summary = build(folder, tmp_path / "out")
    assert set(count_findings(summary.findings)) == ({"exif_orientation"} if turned > 1 else set())
    (row,) = summary.images
    assert (row.width, row.height) == (64, 48)
    x, y, width, height = (int(value) for value in annotations(tmp_path / "out")[0]["bbox"])
    unpack(tmp_path / "out", tmp_path / "out")
    white = read_image(tmp_path / "out" / "images" / "a.img") > 128
    assert white[y : y + height, x : x + width].all()
    assert white.sum() == white[y : y + height, x : x + width].sum()


# --- the whole dataset -----------------------------------------------------------------------------------------------


def test_pycocotools_reads_every_split_and_ids_count_from_one(tmp_path):
    folder = annotate_many(tmp_path / "in", 40)
    annotate(folder, "sub/번호판 ñ", [box(label="switch"), box(label="apple")], shade=99)
    summary = build(folder, tmp_path / "out", Recipe())
    dataset = json.loads((tmp_path / "out" / "dataset.json").read_bytes())
    assert dataset["classes"] == list(summary.classes) == ["apple", "plug", "switch"]
    assert {key: dataset[key] for key in FACTS} == FACTS
    names = []
    for split in SPLITS:
        coco = COCO(str(tmp_path / "out" / f"{split}.json"))
        assert sorted(coco.imgs) == list(range(1, len(coco.imgs) + 1))
        assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
        assert [category["name"] for category in coco.loadCats([1, 2, 3])] == ["apple", "plug", "switch"]
        assert dataset["counts"][split]["images"] == len(coco.imgs)
        assert sum(dataset["counts"][split]["per_class"].values()) == len(coco.anns)
        here = [image["file_name"] for image in coco.dataset["images"]]
        assert here == sorted(here)
        names += here
    assert len(names) == 41
    assert "sub/번호판 ñ.png" in names
    unpack(tmp_path / "out", tmp_path / "pulled")
    assert sum(path.is_file() for path in (tmp_path / "pulled" / "images").rglob("*")) == 41
    assert all((tmp_path / "pulled" / "images" / name).read_bytes() == (folder / name).read_bytes() for name in names)
    assert (tmp_path / "pulled" / "train.json").read_bytes() == (tmp_path / "out" / "train.json").read_bytes()


def test_images_are_sorted_by_their_own_names(tmp_path):
    for document, image in (("a", "z"), ("b", "y")):
        annotate(tmp_path / "in", image, shade=ord(image))
        (tmp_path / "in" / f"{image}.json").rename(tmp_path / "in" / f"{document}.json")
    summary = build(tmp_path / "in", tmp_path / "out")
    assert [row.name for row in summary.images] == ["y.png", "z.png"]
    images = read_truth(tmp_path / "out" / "train.json")["images"]
    assert [(image["id"], image["file_name"]) for image in images] == [(1, "y.png"), (2, "z.png")]


def test_every_row_counts_its_annotations(tmp_path):
    parts = [box(group_id=1), box(20, 5, 25, 9, group_id=1), box(30, 5, 35, 9), box(1, 1, 3, 3, label="switch")]
    annotate(tmp_path / "in", "a", parts)
    annotate(tmp_path / "in", "b", [], shade=1)
    rows = build(tmp_path / "in", tmp_path / "out").images
    assert [(row.annotation_count, row.labels) for row in rows] == [(3, {"plug": 2, "switch": 1}), (0, {})]


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_same_input_gives_the_same_bytes_wherever_it_lies(tmp_path):
    one = annotate_many(tmp_path / "one", 20)
    annotate(one, "bad", [box(label="")], shade=50)
    two = tmp_path / "elsewhere" / "two"
    two.mkdir(parents=True)
    for path in sorted(one.iterdir(), reverse=True):
        shutil.copyfile(path, two / path.name)  # later times, another order
    first, second = build(one, tmp_path / "x"), build(two, tmp_path / "y")
    assert contents(tmp_path / "x") == contents(tmp_path / "y")
    assert first == second


def test_the_digest_names_the_content_not_the_version(tmp_path):
    folder = annotate_many(tmp_path / "in", 5)
    one = build_dataset(folder, tmp_path / "1", ALL_TRAIN, FACTS)
    two = build_dataset(
        folder, tmp_path / "2", ALL_TRAIN, FACTS | {"version": "v9.0.0", "annotation_version": "v8.0.0"}
    )
    assert one.digest == two.digest
    annotate(folder, "000", [box(6, 6, 9, 9)])
    assert build(folder, tmp_path / "3").digest != one.digest
    annotate(folder, "000", shade=77)
    assert build(folder, tmp_path / "4").digest != one.digest


@pytest.mark.parametrize(
    ("recipe", "classes", "kept"),
    [
        pytest.param({}, ("apple", "plug", "switch"), 3, id="by name"),
        pytest.param({"classes": ("switch", "plug", "apple")}, ("switch", "plug", "apple"), 3, id="the order given"),
        pytest.param({"classes": ("switch", "ghost")}, ("switch", "ghost"), 1, id="a class that does not occur"),
        pytest.param({"valid_labels": ("plug",)}, ("plug",), 1, id="valid labels"),
        pytest.param({"label_map": {"apple": "plug", "switch": "plug"}}, ("plug",), 3, id="a label map"),
        pytest.param({"label_map": {"apple": "a"}, "valid_labels": ("a",)}, ("a",), 1, id="the map comes first"),
    ],
)
def test_the_recipe_chooses_labels_and_their_order(tmp_path, recipe, classes, kept):
    annotate(tmp_path / "in", shapes=[box(label="switch"), box(1, 1, 3, 3, label="apple"), box(20, 1, 30, 9)])
    summary = build(tmp_path / "in", tmp_path / "out", Recipe(fractions=ALL_TRAIN.fractions, **recipe))
    assert summary.classes == classes
    assert len(annotations(tmp_path / "out")) == kept
    assert count_findings(summary.findings) == ({"label_not_valid": 3 - kept} if kept < 3 else {})


def test_an_image_without_wanted_labels_is_background(tmp_path):
    annotate(tmp_path / "in", "a", [box(label="apple")])
    annotate(tmp_path / "in", "b", shade=1)
    recipe = Recipe(fractions=ALL_TRAIN.fractions, valid_labels=("plug",))
    assert build(tmp_path / "in", tmp_path / "out", recipe).counts["train"]["images"] == 2


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        pytest.param(lambda folder: None, "no such folder", id="no folder"),
        pytest.param(lambda folder: folder.mkdir(), "no JSON", id="an empty folder"),
        pytest.param(lambda folder: annotate(folder, shapes=[]), "no annotated image", id="no shapes"),
        pytest.param(lambda folder: annotate(folder, shapes=[box(label="")]), "1 x empty_label", id="all dropped"),
    ],
)
def test_without_an_annotated_image_there_is_no_dataset(tmp_path, prepare, says):
    prepare(tmp_path / "in")
    with pytest.raises(SightlineError, match=says):
        build(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_annotated_is_an_error_of_its_own(tmp_path):
    annotate(tmp_path / "in", shapes=[])
    with pytest.raises(NothingAnnotatedError):
        build(tmp_path / "in", tmp_path / "out")


def test_a_dataset_is_never_mixed_with_what_lies_there(tmp_path):
    annotate(tmp_path / "in")
    build(tmp_path / "in", tmp_path / "out")
    with pytest.raises(SightlineError, match="not empty"):
        build(tmp_path / "in", tmp_path / "out")


# --- the recipe ------------------------------------------------------------------------------------------------------


def test_a_recipe_is_read(tmp_path):
    path = tmp_path / "desk.yaml"
    path.write_text("fractions: {train: 0.5, val: 0.5, test: 0}\nseed: 7\nlabel_map: {old: new}\nclasses: [new]\n")
    recipe = read_recipe(path)
    assert (recipe.fractions.val, recipe.seed, recipe.label_map, recipe.classes) == (0.5, 7, {"old": "new"}, ("new",))
    assert read_recipe(None) == Recipe()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sead: 1", "Did you mean 'seed'"),
        ("fractions: {trian: 1}", "Did you mean 'train'"),
        ("fractions: {train: 0.9, val: 0.9, test: 0}", "add up to 1.8"),
        ("seed: many", "seed: "),
        ("classes: [a, a]", "twice"),
        ("classes: []", "empty"),
        ("{classes: [a], valid_labels: [a, b]}", "valid_labels has b"),
        ("label_map: {a: ''}", "label_map.a"),
        ("max_pixels: 0", "max_pixels"),
        ("- a", "key: value"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path, text, says):
    path = tmp_path / "desk.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=says) as refused:
        read_recipe(path)
    assert "desk.yaml" in str(refused.value)


def test_a_missing_recipe_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"gone\.yaml"):
        read_recipe(tmp_path / "gone.yaml")


# --- shards ----------------------------------------------------------------------------------------------------------


def test_shards_are_bounded_in_images_and_bytes(tmp_path, monkeypatch):
    folder = annotate_many(tmp_path / "in", 7)
    images = {path.name: path for path in folder.glob("*.png")}
    monkeypatch.setattr(pack, "SHARD_IMAGES", 3)
    assert [path.name for path in pack_images(images, tmp_path)] == [f"images-0000{n}.tar" for n in range(3)]
    monkeypatch.setattr(pack, "SHARD_BYTES", 1)
    assert len(pack_images(images, tmp_path)) == 7
    unpack(tmp_path, tmp_path / "out")
    assert sum(path.is_file() for path in (tmp_path / "out" / "images").rglob("*")) == 7


def write_shard(folder, name, kind=tarfile.REGTYPE, link=""):
    folder.mkdir()
    with tarfile.open(folder / "images-00000.tar", "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.size = kind, link, 2 if kind == tarfile.REGTYPE else 0
        archive.addfile(entry, io.BytesIO(b"hi"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../evil.jpg", tarfile.REGTYPE),
        ("images/../../evil.jpg", tarfile.REGTYPE),
        ("/tmp/evil.jpg", tarfile.REGTYPE),
        ("evil.jpg", tarfile.REGTYPE),
        ("images/evil.jpg", tarfile.SYMTYPE),
        ("images/evil.jpg", tarfile.LNKTYPE),
        ("images/evil", tarfile.CHRTYPE),
    ],
)
def test_a_shard_writes_nowhere_but_into_images(tmp_path, name, kind):
    write_shard(tmp_path / "in", name, kind, "/etc/passwd")
    with pytest.raises(PackError, match="evil"):
        unpack(tmp_path / "in", tmp_path / "out")
    assert not list(tmp_path.rglob("evil*"))


def test_unpacking_does_not_follow_links_out_of_the_target(tmp_path):
    write_shard(tmp_path / "in", "images/sub/a.jpg")
    (tmp_path / "victim").mkdir()
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "sub").symlink_to(tmp_path / "victim")
    with pytest.raises(PackError, match="link"):
        unpack(tmp_path / "in", tmp_path / "out")
    assert not list((tmp_path / "victim").iterdir())


def test_a_shard_that_is_cut_off_is_refused(tmp_path):
    annotate(tmp_path / "in")
    (shard,) = pack_images({"a.png": tmp_path / "in" / "a.png"}, tmp_path)
    shard.write_bytes(shard.read_bytes()[:550])
    with pytest.raises(PackError, match=r"images-00000\.tar"):
        unpack(tmp_path, tmp_path / "out")


def test_a_dataset_without_shards_is_refused(tmp_path):
    with pytest.raises(PackError, match="Pull the dataset again"):
        unpack(tmp_path, tmp_path / "out")


# --- real photographs ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_photographs_become_a_dataset(data_dir, tmp_path):
    summary = build(data_dir / "desk", tmp_path / "out", Recipe())
    assert summary.findings == ()
    assert sum(counts["images"] for counts in summary.counts.values()) == 92
    assert sum(counts["annotations"] for counts in summary.counts.values()) == 276
    assert summary.classes == ("PS4-Controller", "Smart-Plug", "Smart-Switch")


def test_real_rectangles_over_the_border_are_cut(data_dir, tmp_path):
    summary = build(data_dir / "pavement", tmp_path / "out", Recipe())
    assert count_findings(summary.findings) == {"partly_outside_image": 9, "reversed_rectangle": 6}
    assert sum(counts["annotations"] for counts in summary.counts.values()) == 197
