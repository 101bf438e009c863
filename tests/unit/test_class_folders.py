"""Whole images sorted into a folder per class: which folder is the class, and when that is told without being asked."""

import pytest

from sightline.annotations.findings import Policy
from sightline.annotations.labelme import read_document
from sightline.annotations.read import read_annotations
from sightline.errors import SightlineError
from sightline.formats.class_folders import find_classes
from sightline.formats.convert import as_labelme
from sightline.images.limits import MAX_PIXELS
from tests.make_labelme import make_image

LENIENT = Policy.of({"unusable_file_name": "drop", "image_outside_folder": "drop"})
CATS_AND_DOGS = ("cats/1.jpg", "cats/2.jpg", "dogs/1.jpg")


def images(folder, *names):
    for name in names:
        make_image(folder / name)
    return folder


def classes(folder, scratch, form="auto"):
    """Image -> the flags that it got; and the findings as (code, file)."""
    source = as_labelme(folder, form, scratch, LENIENT)
    assert source.form == "folders"
    documents = {path.relative_to(scratch).as_posix(): read_document(path) for path in scratch.rglob("*.json")}
    flags = {name.removesuffix(".json"): list(document.flags) for name, document in documents.items()}
    return flags, [(str(found.code), found.file) for found in source.findings]


@pytest.mark.parametrize(
    "named",
    [
        {"cats/1.jpg": "cats", "dogs/1.jpg": "dogs"},
        {"cats/2021/x.jpg": "cats", "cats/2022/x.jpg": "cats", "dogs/2021/x.jpg": "dogs"},
        {"train/cats/2021/x.jpg": "cats", "train/dogs/x.jpg": "dogs", "val/cats/x.jpg": "cats"},
        {"cats/images/x.jpg": "cats", "dogs/images/x.jpg": "dogs"},
        {"cats/images/x.jpg": "cats"},
        {"images/cats/x.jpg": "cats", "images/dogs/x.jpg": "dogs"},
        {"dataset/cats/1.jpg": "cats", "dataset/dogs/1.jpg": "dogs"},
        {"a/b/cats/1.jpg": "cats", "a/b/dogs/1.jpg": "dogs"},
        {"dataset/train/cats/1.jpg": "cats", "dataset/train/dogs/1.jpg": "dogs"},
        {"dataset/cats/1.jpg": "cats", "dataset/dogs/1.jpg": "dogs", "loose.jpg": "", "dataset/cats/2.jpg": "cats"},
        {"dataset/cats/1.jpg": "cats", "dataset/dogs/1.jpg": "dogs", "dataset/loose.jpg": ""},
        {f"{split}/{name}/x.jpg": name for split in ("train", "Val", "test") for name in ("cats", "dogs")},
        {f"{split}/{name}/x.jpg": name for split in ("train", "validation") for name in ("ok", "test")},
        {"train/cats/1.jpg": "cats", "train/dogs/1.jpg": "dogs", "test/1.jpg": "", "test/2.jpg": ""},
        {"train/train/cats/1.jpg": "cats", "train/train/dogs/1.jpg": "dogs", "test/test/1.jpg": ""},
        {"ok/x.jpg": "ok", "test/x.jpg": "test"},
        {"ok/2021/x.jpg": "ok", "test/2022/x.jpg": "test"},
        {f"{split}/{name}/x.jpg": name for split in ("train", "dev") for name in ("cats", "dogs")},
        {f"{split}/{name}/x.jpg": name for split in ("training", "testing") for name in ("cats", "dogs")},
        {f"{split}/{name}/x.jpg": name for split in ("train", "test", "day2") for name in ("cats", "dogs")},
        {"root/cats/1.jpg": "cats", "root/cats/2.jpg": "cats"},
        {"ok/2021/x.jpg": "ok", "test/2021/x.jpg": "test"},
        {"parts/ok/x.jpg": "ok", "parts/test/x.jpg": "test"},
        {"cats/1.jpg": "cats", "dogs/1.jpg": "dogs", "test/cats/2.jpg": "cats", "test/dogs/2.jpg": "dogs"},
        {"cats/test/1.jpg": "cats", "cats/train/2.jpg": "cats", "dogs/test/1.jpg": "dogs"},
        {"cats/train/1.jpg": "cats", "cats/test/2.jpg": "cats"},
        {"train/1.jpg": "train", "test/1.jpg": "test"},
        {"train/cats/2021/x.jpg": "cats"},
        {"cats/1.jpg": "cats", "cats/2.jpg": "cats"},
        {"cats/1.jpg": "cats", "cats/2.jpg": "cats", "cats/old/3.jpg": "cats"},
        {"1.jpg": ""},
        {},
    ],
    ids=lambda named: " ".join(named) or "none",
)
def test_the_class_is_the_folder_below_the_root_or_the_split(named):
    assert find_classes(named) == named


@pytest.mark.parametrize(
    "stray",
    [
        "README.txt",
        "classes.txt",
        "labels.csv",
        "info.json",
        "cats/notes.txt",
        "meta.xml",
        ".DS_Store",
        "dogs/names.json",
    ],
)
def test_a_stray_file_hides_no_class_folders(tmp_path, stray):
    folder = images(tmp_path / "in", *CATS_AND_DOGS)
    (folder / stray).write_text('{"categories": []}')
    flags, findings = classes(folder, tmp_path / "out")
    assert flags == {"cats/1": ["cats"], "cats/2": ["cats"], "dogs/1": ["dogs"]}
    assert findings == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cats/1.txt", "a sleeping cat"),
        ("cats/1.json", "{"),
        ("cats/1.xml", "<"),
        ("annotations.json", '{"images": [{"id": 1}], "annotations": [{"id": 1'),
        ("old.json", '{"shapes": ['),
    ],
)
def test_what_may_annotate_an_image_is_not_passed_over(tmp_path, name, text):
    folder = images(tmp_path / "in", *CATS_AND_DOGS)
    (folder / name).write_text(text)
    if name.endswith(".json"):
        assert as_labelme(folder, "auto", tmp_path / "out").form == "labelme"
    else:
        with pytest.raises(SightlineError, match=f"no other file annotates.*like {name}"):
            as_labelme(folder, "auto", tmp_path / "out")
    assert classes(folder, tmp_path / "asked", "folders")[0]["cats/1"] == ["cats"]


@pytest.mark.parametrize(
    "names",
    [("cats/1.jpg", "cats/2.jpg"), ("cats/1.jpg", "dogs/1.jpg", "3.jpg", "4.jpg"), ("train/1.jpg", "test/1.jpg")],
    ids=["one class", "half are loose", "splits or classes"],
)
@pytest.mark.parametrize("stray", ["info.json", "README.txt"])
def test_where_it_cannot_be_told_the_message_names_the_format(tmp_path, names, stray):
    folder = images(tmp_path / "in", *names)
    (folder / stray).write_text("{}")
    with pytest.raises(SightlineError, match="--format folders"):
        source = as_labelme(folder, "auto", tmp_path / "out")
        list(read_annotations(source.folder, MAX_PIXELS))
    assert classes(folder, tmp_path / "asked", "folders")[0]


def test_a_loose_image_is_told_once_and_left_out(tmp_path):
    folder = images(tmp_path / "in", *CATS_AND_DOGS, "loose.jpg")
    flags, findings = classes(folder, tmp_path / "out")
    assert findings == [("image_without_class", "loose.jpg")]
    assert sorted(flags) == ["cats/1", "cats/2", "dogs/1"]
    assert len(list(read_annotations(tmp_path / "out", MAX_PIXELS))) == 3


def test_a_folder_that_begins_with_a_dot_is_told_and_a_systems_own_is_not(tmp_path):
    folder = images(tmp_path / "in", *CATS_AND_DOGS, "..dots/1.jpg", "cats/.hidden/deep/1.jpg")
    images(folder, *(f"{name}/1.jpg" for name in (".git", ".dvc", ".ipynb_checkpoints", "__MACOSX", ".Trash-1000")))
    images(folder, "cats/@eaDir/1.jpg/thumb.jpg")
    (folder / ".empty").mkdir()
    flags, findings = classes(folder, tmp_path / "out")
    assert findings == [("unusable_file_name", "..dots"), ("unusable_file_name", "cats/.hidden")]
    assert sorted(flags) == ["cats/1", "cats/2", "dogs/1"]


def test_a_hidden_folder_beside_labelmes_files_is_told_too(tmp_path):
    folder = images(tmp_path / "in", ".hidden/1.jpg")
    (found,) = as_labelme(folder, "labelme", tmp_path / "out").findings
    assert (found.file, found.outcome) == (".hidden", "fail")


def test_a_class_that_is_a_link_out_of_the_folder_is_told(tmp_path):
    folder = images(tmp_path / "in", *CATS_AND_DOGS)
    images(tmp_path / "elsewhere", "1.jpg")
    (folder / "birds").symlink_to(tmp_path / "elsewhere")
    (folder / "cats" / "9.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    (folder / "round").symlink_to("round")
    _, findings = classes(folder, tmp_path / "out")
    assert findings == [("image_outside_folder", name) for name in ("birds", "cats/9.jpg")]


def test_folders_that_repeat_in_folders_of_any_name_are_not_guessed(tmp_path):
    names = [
        f"{place}/{kind}/{number}.jpg" for place in ("north", "south") for kind in ("cats", "dogs") for number in (1, 2)
    ]
    images(tmp_path / "set", *names)
    with pytest.raises(SightlineError, match="north, south.*--format folders"):
        as_labelme(tmp_path / "set", "auto", tmp_path / "scratch")
    flags, _ = classes(tmp_path / "set", tmp_path / "given", "folders")
    assert {label for (label,) in flags.values()} == {"north", "south"}


def test_pictures_that_are_not_read_are_told_one_by_one(tmp_path):
    images(tmp_path / "set", *CATS_AND_DOGS)
    for name in ("cats/9.heic", "birds/1.HEIC"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    source = as_labelme(tmp_path / "set", "auto", tmp_path / "scratch", LENIENT)
    told = [(str(found.code), found.file) for found in source.findings]
    assert told == [("unreadable_image", "birds/1.HEIC"), ("unreadable_image", "cats/9.heic")]
    for path in (tmp_path / "set").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(SightlineError, match=r"1\.HEIC and pictures of its kind are not read"):
        as_labelme(tmp_path / "set", "auto", tmp_path / "other")


def test_a_class_named_like_vocs_painted_pictures_is_kept_and_links_are_told(tmp_path):
    images(tmp_path / "set", "SegmentationObject/1.jpg", "cats/1.jpg", "dogs/1.jpg")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "set" / "cats")
    (tmp_path / "set" / "cats" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    flags, told = classes(tmp_path / "set", tmp_path / "scratch")
    assert {label for (label,) in flags.values()} == {"SegmentationObject", "cats", "dogs"}
    assert told == [("image_outside_folder", "cats/gone.jpg"), ("image_outside_folder", "linked")]
