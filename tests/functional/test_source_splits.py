"""The splits that a folder comes with are kept, in the annotation version itself, unless a recipe splits anew."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image as Picture
from sqlalchemy import delete

from sightline.catalogue.verification import verify_versions
from sightline.publish.annotations import publish_annotations
from sightline.services.database.connection import connect
from sightline.services.database.models import Image, VersionRow
from sightline.steps.record.record import record_dataset
from tests.installed import Installed
from tests.make_labelme import HEIGHT, WIDTH, annotate, box, make_image

NAMES = {"train": ["a", "b", "c", "d", "e", "f"], "val": ["g", "h"], "test": ["i", "j"]}
WANTED = {f"{name}.png": split for split, names in NAMES.items() for name in names}


def coco(names: list[str], folder: str = "") -> str:
    images = [
        {"id": n, "file_name": f"{folder}{name}.png", "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)
    ]
    drawn = [{"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 15]} for n in range(len(names))]
    return json.dumps({"images": images, "annotations": drawn, "categories": [{"id": 1, "name": "plug"}]})


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def roboflow_coco(folder: Path) -> None:
    for split, names in NAMES.items():
        called = "valid" if split == "val" else split
        for name in names:
            make_image(folder / called / f"{name}.png")
        write(folder / called / "_annotations.coco.json", coco(names))


def coco_files(folder: Path) -> None:
    for split, names in NAMES.items():
        for name in names:
            make_image(folder / "images" / f"{name}.png")
        write(folder / "annotations" / f"instances_{split}2017.json", coco(names))


def ultralytics(folder: Path) -> None:
    for split, names in NAMES.items():
        for name in names:
            make_image(folder / "images" / f"set_{split}" / f"{name}.png")
            write(folder / "labels" / f"set_{split}" / f"{name}.txt", "0 0.5 0.5 0.25 0.25")
    paths = "".join(f"{split}: images/set_{split}\n" for split in NAMES)
    write(folder / "data.yaml", f"path: ../datasets/mine\n{paths}names: [plug]\n")


def ultralytics_elsewhere(folder: Path) -> None:
    """Paths of another machine, and a pattern."""
    ultralytics(folder)
    paths = {"train": "/content/mine/images/set_train", "val": "images/set_val/*.png", "test": "../images/set_test/"}
    write(folder / "data.yaml", "".join(f"{split}: {path}\n" for split, path in paths.items()) + "names: [plug]\n")


def yolo_lists(folder: Path) -> None:
    for split, names in NAMES.items():
        for name in names:
            make_image(folder / "images" / f"{name}.png")
            write(folder / "labels" / f"{name}.txt", "0 0.5 0.5 0.25 0.25")
        write(folder / f"{split}_list.txt", "".join(f"/content/images/{name}.png\n" for name in names))
    paths = "".join(f"{split}: ./{split}_list.txt\n" for split in NAMES)
    write(folder / "data.yaml", f"{paths}names: [plug]\n")


def voc_sets(folder: Path) -> None:
    drawn = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size><object><name>plug</name>"
    drawn += "<bndbox><xmin>6</xmin><ymin>6</ymin><xmax>25</xmax><ymax>20</ymax></bndbox></object>"
    for split, names in NAMES.items():
        for name in names:
            make_image(folder / "JPEGImages" / f"{name}.png")
            text = f"<annotation><filename>{name}.png</filename>{drawn}</annotation>"
            write(folder / "Annotations" / f"{name}.xml", text)
        write(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in names))


def lists_of_equal_names(folder: Path) -> None:
    for split, names in NAMES.items():
        lines = []
        for name in names:
            make_image(folder / "images" / f"site_{name}" / f"{name}.png")
            write(folder / "labels" / f"site_{name}" / f"{name}.txt", "0 0.5 0.5 0.25 0.25")
            lines.append(f"./images/site_{name}/{name}.png\n")
        write(folder / f"{split}.txt", "".join(lines))
    write(folder / "data.yaml", "path: .\ntrain: train.txt\nval: val.txt\ntest: test.txt\nnames: [plug]\n")


def darknet(folder: Path) -> None:
    for split, names in NAMES.items():
        for name in names:
            make_image(folder / "obj_data" / f"{name}.png")
            write(folder / "obj_data" / f"{name}.txt", "0 0.5 0.5 0.25 0.25")
        write(folder / f"{split}_images.txt", "".join(f"data/obj_data/{name}.png\n" for name in names))
    lists = "".join(f"{'valid' if split == 'val' else split} = data/{split}_images.txt\n" for split in NAMES)
    write(folder / "obj.data", f"classes = 1\n{lists}names = data/obj.names\n")
    write(folder / "obj.names", "plug\n")


def cvat_subsets(folder: Path) -> None:
    drawn = '<box label="plug" xtl="5" ytl="5" xbr="25" ybr="20"/>'
    images = []
    for split, names in NAMES.items():
        for name in names:
            make_image(folder / "images" / f"{name}.png")
            subset = {"train": "Train", "val": "Validation", "test": "Test"}[split]
            images.append(
                f'<image name="{name}.png" subset="{subset}" width="{WIDTH}" height="{HEIGHT}">{drawn}</image>'
            )
    write(folder / "annotations.xml", f"<annotations>{''.join(images)}</annotations>")


def label_studio(folder: Path) -> None:
    """Its COCO: names with a hash before and with another system's slashes, categories from 0, no splits but the folders."""
    for split, names in NAMES.items():
        for name in names:
            make_image(folder / split / "images" / f"{name}.png")
        content = json.loads(coco(names, "images\\"))
        content["categories"] = [{"id": 0, "name": "plug"}]
        content["info"] = {"contributor": "Label Studio", "version": "1.0"}
        for drawn in content["annotations"]:
            drawn |= {"category_id": 0, "segmentation": [], "ignore": 0, "iscrowd": 0, "area": 300}
        write(folder / split / "result.json", json.dumps(content))


def labelimg_beside(folder: Path) -> None:
    for split, names in NAMES.items():
        for name in names:
            make_image(folder / split / f"{name}.png")
            path = f"C:\\Users\\me\\{split}\\{name}.png"
            drawn = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
            drawn += "<object><name>plug</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
            drawn += "<bndbox><xmin>6</xmin><ymin>6</ymin><xmax>25</xmax><ymax>20</ymax></bndbox></object>"
            text = f"<annotation><folder>{split}</folder><filename>{name}.png</filename><path>{path}</path>{drawn}</annotation>"
            write(folder / split / f"{name}.xml", text)


def x_anylabeling(folder: Path) -> None:
    kinds = {
        "rectangle": [[5, 5], [25, 5], [25, 20], [5, 20]],
        "rotation": [[5, 10], [15, 5], [25, 10], [15, 20]],
        "polygon": [[5, 5], [25, 6], [12, 20]],
    }
    for split, names in NAMES.items():
        for number, name in enumerate(names):
            make_image(folder / split / f"{name}.png")
            kind = list(kinds)[number % len(kinds)]
            shape = {"label": "plug", "score": None, "points": kinds[kind], "group_id": None, "description": ""}
            shape |= {"difficult": False, "shape_type": kind, "flags": {}, "attributes": {}, "kie_linking": []}
            if kind == "rotation":
                shape["direction"] = 0.46
            content = {
                "version": "2.4.4",
                "flags": {},
                "shapes": [shape],
                "imagePath": f"{name}.png",
                "imageData": None,
            }
            content |= {"imageHeight": HEIGHT, "imageWidth": WIDTH}
            write(folder / split / f"{name}.json", json.dumps(content))


def labelme_folders(folder: Path) -> None:
    for split, names in NAMES.items():
        for name in names:
            annotate(folder, f"{split}/{name}.png", [box()])


SOURCES = [
    *(roboflow_coco, coco_files, ultralytics, ultralytics_elsewhere, yolo_lists, lists_of_equal_names, darknet),
    *(voc_sets, cvat_subsets, labelme_folders, label_studio, labelimg_beside, x_anylabeling),
]


def record(installed: Installed, **recipe: object) -> dict[str, str]:
    """Record the newest annotation version: name without folders -> split."""
    row = [row for row in installed.rows("versions")["versions"] if row["kind"] == "annotation"][-1]
    near = {"near_duplicates": None} | recipe
    recorded = record_dataset("/nowhere/record-0", "desk", row["version"], row["commit"], near)
    rows = installed.rows("versions", "images")
    version = next(
        one for one in rows["versions"] if (one["kind"], one["version"]) == ("dataset", recorded.dataset.version)
    )
    return {Path(one["name"]).name: one["split"] for one in rows["images"] if one["version_id"] == version["id"]}


@pytest.mark.parametrize("make", SOURCES)
def test_the_splits_of_the_source_are_kept_and_can_be_drawn_anew(installed, tmp_path, make):
    make(tmp_path / "in")
    published = publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto")
    assert published.splits == {split: len(names) for split, names in NAMES.items()}
    assert published.labels == {"plug": len(WANTED)} and not published.findings
    assert record(installed) == WANTED
    datasets = {row["id"] for row in installed.rows("versions")["versions"] if row["kind"] == "dataset"}
    counts = [row["annotation_count"] for row in installed.rows("images")["images"] if row["version_id"] in datasets]
    assert counts == [1] * len(WANTED)
    assert record(installed, keep_splits=False) != WANTED
    assert not publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto").publication.new


def test_a_val_that_is_train_is_cut_from_train_and_test_stays(installed, tmp_path):
    ultralytics(tmp_path / "in")
    shutil.rmtree(tmp_path / "in" / "images" / "set_val")
    shutil.rmtree(tmp_path / "in" / "labels" / "set_val")
    paths = "train: images/set_train\nval: images/set_train\ntest: images/set_test\n"
    write(tmp_path / "in" / "data.yaml", f"{paths}names: [plug]\n")
    published = publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto")
    assert published.splits == {"train": 6, "test": 2}


def test_stems_with_blanks_in_vocs_lists_are_stems(installed, tmp_path):
    voc_sets(tmp_path / "in")
    for path in [*(tmp_path / "in").rglob("[a-j].*")]:
        path.rename(path.with_stem(f"my {path.stem}"))
    for path in (tmp_path / "in" / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<filename>", "<filename>my "))
    for path in (tmp_path / "in" / "ImageSets" / "Main").iterdir():
        path.write_text("".join(f"my {line}\n" for line in path.read_text().split()))
    published = publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto")
    assert published.splits == {split: len(names) for split, names in NAMES.items()}


def test_a_pipe_for_a_list_of_splits_is_not_waited_for(installed, tmp_path):
    labelme_folders(tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "splits.csv")
    published = publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto")
    assert published.splits == {split: len(names) for split, names in NAMES.items()}


def test_lists_tell_images_of_one_name_apart_by_their_folders(installed, tmp_path):
    for site, split, count in (("siteA", "train", 8), ("siteB", "val", 4)):
        for number in range(count):
            make_image(tmp_path / "in" / "images" / site / f"{number}.png")
            write(tmp_path / "in" / "labels" / site / f"{number}.txt", "0 0.5 0.5 0.25 0.25")
        lines = "".join(f"./images/{site}/{number}.png\n" for number in range(count))
        write(tmp_path / "in" / f"{split}.txt", lines)
        write(tmp_path / "in" / f"sub{split}.txt", "")
    write(tmp_path / "in" / "data.yaml", "path: .\ntrain: train.txt\nval: val.txt\nnames: [plug]\n")
    published = publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto")
    assert published.splits == {"train": 8, "val": 4}


def test_a_split_that_the_source_lacks_is_cut_from_its_train(installed, tmp_path):
    roboflow_coco(tmp_path / "in")
    shutil.rmtree(tmp_path / "in" / "test")
    for name in "klmnopqrstuvwxyz":
        make_image(tmp_path / "in" / "train" / f"{name}.png")
    names = [path.stem for path in sorted((tmp_path / "in" / "train").glob("*.png"))]
    write(tmp_path / "in" / "train" / "_annotations.coco.json", coco(names))
    publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto")
    splits = record(installed, fractions={"train": 0.5, "val": 0.2, "test": 0.3})
    assert {name for name, split in splits.items() if split == "val"} == {"g.png", "h.png"}
    assert 0 < list(splits.values()).count("test") < 15 and list(splits.values()).count("train") > 5


@pytest.mark.parametrize("lacking", ["test", "val"])
def test_what_looks_alike_on_both_sides_of_a_source_stays_where_a_lacking_split_is_cut(installed, tmp_path, lacking):
    labelme_folders(tmp_path / "in")
    shutil.rmtree(tmp_path / "in" / lacking)
    given = NAMES["val" if lacking == "test" else "test"]
    for name in "klmnopqrstuvwxyz":
        annotate(tmp_path / "in", f"train/{name}.png", [box()])
    image = Picture.open(tmp_path / "in" / "train" / "a.png").resize((WIDTH * 4, HEIGHT * 4))
    there = "val" if lacking == "test" else "test"
    for number, name in enumerate((f"{there}/{given[0]}", "train/a", "train/b", "train/c")):
        image.putpixel((0, 0), (number, 0, 0))
        image.save(tmp_path / "in" / f"{name}.png")
    publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto", {"wrong_size_in_json": "fix"})
    splits = record(installed, near_duplicates=3, fractions={"train": 0.5, "val": 0.25, "test": 0.25})
    assert sorted(name for name, split in splits.items() if split == there) == [f"{name}.png" for name in given]
    assert {splits[f"{name}.png"] for name in "abc"} == {"train"}
    assert lacking in splits.values()


def test_an_annotation_version_that_is_corrected_and_published_again_keeps_them(installed, tmp_path):
    roboflow_coco(tmp_path / "in")
    publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto")
    copy = installed.clone_and_pull("desk_ann_v0.1.0", "clone") / "annotations" / "desk"
    annotate(copy, "k.png", [box()])
    again = publish_annotations(installed.settings, copy, "desk", "v0.2.0", "auto")
    assert again.splits == {split: len(names) for split, names in NAMES.items()}
    assert {name: split for name, split in record(installed).items() if name != "k.png"} == WANTED


@pytest.mark.parametrize("folders", [["train"], ["val", "test"], ["test"], ["one", "two"]])
def test_a_folder_that_is_not_split_is_split_by_content(installed, tmp_path, folders):
    for number, name in enumerate("abcdefghij"):
        annotate(tmp_path / "in", f"{folders[number % len(folders)]}/{name}.png", [box()])
    assert publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto").splits == {}
    assert "splits.csv" not in {path.name for path in (installed.clone_and_pull("desk_ann_v0.1.0", "clone")).rglob("*")}


@pytest.mark.parametrize("rows", [True, False])
def test_what_was_published_before_splits_were_kept_is_the_same_content_and_can_be_finished(
    installed, tmp_path, monkeypatch, rows
):
    labelme_folders(tmp_path / "in")
    with monkeypatch.context() as before:
        before.setattr("sightline.publish.annotations.usable_splits", lambda splits: {})
        publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto")
    if not rows:  # killed before they were written
        database = connect(installed.settings.database_url.get_secret_value())
        for table in (Image, VersionRow):
            database.write(lambda session, table=table: session.execute(delete(table)))
    published = publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto")
    assert published.publication.new is not rows and published.splits == {}
    assert verify_versions(installed.settings).ok


@pytest.mark.parametrize("text", ["id,file,fold\n1,a.png,3\n", "", "train/a.png train\n"])
def test_another_tools_file_of_that_name_says_nothing(installed, tmp_path, text):
    labelme_folders(tmp_path / "in")
    write(tmp_path / "in" / "splits.csv", text)
    published = publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto")
    assert published.splits == {split: len(names) for split, names in NAMES.items()}


def test_photographs_that_look_alike_on_both_sides_are_counted_with_the_command_that_splits_anew(installed, tmp_path):
    labelme_folders(tmp_path / "in")
    image = Picture.open(tmp_path / "in" / "train" / "a.png").resize((WIDTH * 4, HEIGHT * 4))
    for name in ("train/a", "test/i"):
        image.save(tmp_path / "in" / f"{name}.png")
        image.putpixel((0, 0), (0, 0, 0))
    publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", "auto", {"wrong_size_in_json": "fix"})
    row = installed.rows("versions")["versions"][-1]
    recorded = record_dataset("/nowhere/record-0", "desk", "v0.1.0", row["commit"], {})
    assert "--recipe keep_splits=false" in recorded.report
