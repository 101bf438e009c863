"""Other tools' formats through a whole installation: into an annotation version, and out of any version again."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from laptop.cli import main
from sightline.annotations.labelme import Document, Shape, write_document
from sightline.catalogue.export import FORMS, export_version
from sightline.errors import SightlineError
from sightline.formats.reading import mask_shape
from sightline.images.files import read_image
from sightline.publish.annotations import publish_annotations
from sightline.services.database.connection import connect
from sightline.services.database.versions import list_findings
from sightline.settings import read_settings
from sightline.steps.record.record import record_dataset
from tests.installed import install
from tests.make_labelme import HEIGHT, WIDTH, annotate, box, files_in, make_image
from tests.workspace import REPOSITORY

LABELS = "plug", "스위치 🔌", "'); DROP TABLE versions;--"
SPLITS = "train", "val", "test"


def drawn(number):
    """Shapes of every kind, other ones for each number."""
    pixels = np.zeros((HEIGHT, WIDTH), dtype=bool)
    pixels[20:26, 3 : 12 + number % 5] = True
    pixels[22, 5] = False
    triangle = np.array([[1.5, 1], [12.25, 2], [6, 9.125 + number / 8]])
    return (
        box(LABELS[0], 15, 1, 25.5, 8 + number / 4),
        Shape(LABELS[1], triangle, group_id=4),
        Shape(LABELS[1], triangle + [28, 0.5], group_id=4),
        mask_shape(pixels, 0, 0, LABELS[2]),
        mask_shape(pixels, 18, 0, LABELS[0], flags={"iscrowd": True}),
    )


def make_rich(folder, images=12):
    """A labelme folder with every kind of shape, odd names, an image without objects, and one that EXIF turns."""
    for number in range(images):
        annotate(folder, f"{'주방/' * (number % 2)}사진 {number:02} '🔌'.png", drawn(number))
    annotate(folder, "empty.png", ())
    exif = Image.Exif()
    exif[0x0112] = 6
    rows = np.linspace(0, 255, HEIGHT)[:, None, None] * np.ones((1, WIDTH, 3))
    Image.fromarray(rows.astype(np.uint8)).save(folder / "turned.jpg", exif=exif)
    write_document(folder / "turned.json", Document("turned.jpg", WIDTH, HEIGHT, (box("plug", 2, 20, 12, 40),)))
    return folder


def publish(installed, folder, category, form="labelme"):
    return publish_annotations(installed.settings, folder, category, "v0.1.0", form).publication.row


def instances(*files):
    """What COCO files say, without numbers that only they use: image -> (label, crowd, box, mask) of each object."""
    found: dict[str, list[object]] = {}
    for file in files:
        coco = COCO(str(file))
        for image in coco.imgs.values():
            # Where an image lies is the exporter's affair.
            own = found.setdefault(image["file_name"].rpartition("/")[2], [])
            for annotation in coco.loadAnns(coco.getAnnIds([image["id"]])):
                label = coco.cats[annotation["category_id"]]["name"]
                mask = coco.annToMask(annotation).tobytes()
                own.append((label, annotation["iscrowd"], np.round(annotation["bbox"], 2).tolist(), mask))
    return {name: sorted(own) for name, own in found.items()}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """An installation, only to be read, with the rich folder as an annotation version and a dataset version."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as environment:
        installed = install(folder, environment)
        first = publish(installed, make_rich(folder / "in"), "desk")
        # With this seed every split gets some of so few images.
        record_dataset("/nowhere/record-0", "desk", "v0.1.0", first.commit, {"seed": 1})
    read_settings.cache_clear()
    return installed


def test_versions_exported_as_coco_and_published_again_have_the_same_annotations(desk, installed, tmp_path):
    exported = export_version(desk.settings, "desk_train_v0.1.0", "coco", tmp_path / "coco")
    again = publish(installed, tmp_path / "coco", "again", "auto")
    assert (again.image_count, exported.images) == (14, 14)
    assert exported.notes == ("images shown turned by EXIF, written upright with their pixels encoded again: 1",)
    export_version(installed.settings, "again_ann_v0.1.0", "coco", tmp_path / "again")
    export_version(desk.settings, "desk_ann_v0.1.0", "coco", tmp_path / "whole")
    found = instances(*[tmp_path / "coco" / "annotations" / f"instances_{split}.json" for split in SPLITS])
    assert found == instances(tmp_path / "again" / "annotations" / "instances_all.json")
    assert found == instances(tmp_path / "whole" / "annotations" / "instances_all.json")
    labels = Counter(label for own in found.values() for label, *_ in own)
    assert labels == {LABELS[0]: 25, LABELS[1]: 12, LABELS[2]: 12}
    assert sum(crowd for own in found.values() for _, crowd, *_ in own) == 12
    assert (desk.left_behind(), installed.left_behind()) == ([], [])


def test_an_image_that_exif_turns_is_exported_so_that_every_reader_sees_it_upright(desk, tmp_path):
    export_version(desk.settings, "desk_ann_v0.1.0", "voc", tmp_path / "out")
    with Image.open(tmp_path / "out" / "JPEGImages" / "turned.jpg") as image:
        ignoring = np.asarray(image).astype(int)
    assert ignoring.shape == (WIDTH, HEIGHT, 3)
    assert np.abs(ignoring - read_image(desk.folder / "in" / "turned.jpg")[:, :, ::-1]).max() < 8
    root = ElementTree.parse(tmp_path / "out" / "Annotations" / "turned.xml").getroot()
    assert [int(end.text) for end in root.find("object/bndbox")] == [3, 21, 12, 40]


@pytest.mark.parametrize(("form", "images", "objects"), [("yolo", 14, 37), ("voc", 14, 49)])
def test_yolo_and_voc_come_back_with_as_much_as_they_express(desk, installed, tmp_path, form, images, objects):
    exported = export_version(desk.settings, "desk_ann_v0.1.0", form, tmp_path / "out")
    again = publish(installed, tmp_path / "out", "again", "auto")
    assert (again.image_count, again.annotation_count) == (images, objects)
    assert (exported.images, exported.annotations) == (14, 49)
    labels = Counter()
    for row in installed.rows("images")["images"]:
        labels.update(row["labels"])
    crowds = 12 if form == "voc" else 0
    assert labels == {LABELS[0]: 13 + crowds, LABELS[1]: 12, LABELS[2]: 12}
    assert any(note.startswith("crowds") and note.endswith(": 12") for note in exported.notes)


def coco_folder(folder, *extra):
    make_image(folder / "images" / "a.png")
    boxes = [{"bbox": [1, 2, 8, 9]}, {"bbox": [20, 2, 8, 9]}, *extra]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 7, "name": LABELS[2]}],
        "annotations": [{"id": number, "image_id": 1, "category_id": 7} | one for number, one in enumerate(boxes)],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return folder


def test_what_a_source_gets_wrong_stands_in_sql_and_no_scratch_is_left(installed, tmp_path):
    folder = coco_folder(tmp_path / "in", {"bbox": [1, 2]}, {"bbox": [40, 20, 20, 20]})
    before = files_in(folder)
    row = publish(installed, folder, "desk", "auto")
    assert (row.image_count, row.annotation_count) == (1, 3)
    found = list_findings(connect(installed.settings.database_url.get_secret_value()), row.id)
    assert {("broken_annotation", "coco.json", 2, "drop")} <= {
        (one.code, one.file, one.shape_index, one.outcome) for one in found
    }
    assert files_in(folder) == before
    assert installed.left_behind() == []


PUBLISH_UNTIL_KILLED = """
import os, signal, sys
from pathlib import Path
from sightline.publish import annotations
from sightline.settings import read_settings
annotations.check_folder = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
annotations.publish_annotations(read_settings(), Path(sys.argv[1]), "desk", "v0.1.0", "coco")
"""


@pytest.mark.slow
def test_the_scratch_of_a_killed_attempt_is_removed_by_the_next(installed, tmp_path):
    folder = coco_folder(tmp_path / "in")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "shared_volume")}
    killed = subprocess.run([sys.executable, "-c", PUBLISH_UNTIL_KILLED, folder], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((installed.settings.volume / "sources").rglob("labelme/a.json"))) == 1
    assert len(installed.left_behind()) == 2  # the folder, and the file that its process held
    publish(installed, folder, "desk", "coco")
    assert installed.left_behind() == []


def test_a_source_that_the_policy_forbids_publishes_nothing(installed, tmp_path):
    folder = coco_folder(tmp_path / "in")
    (folder / "more.json").write_text((folder / "coco.json").read_text()[:-30])
    with pytest.raises(SightlineError, match=r"more\.json: not JSON, or cut off"):
        publish(installed, folder, "desk", "coco")
    assert (installed.published(), installed.left_behind(), installed.stored()) == ([], [], {})


def test_the_same_source_again_writes_nothing(installed, tmp_path):
    folder = coco_folder(tmp_path / "in", {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [40, 9, 1487]}})
    publish(installed, folder, "desk", "coco")
    before = installed.state()
    assert not publish_annotations(installed.settings, folder, "desk", "v0.1.0", "auto").publication.new
    assert installed.state() == before


@pytest.mark.parametrize("there", ["file", "full folder", "link"])
def test_an_export_never_touches_what_is_there(desk, tmp_path, there):
    target = tmp_path / "out"
    if there == "file":
        target.write_text("mine")
    elif there == "link":
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere")
    else:
        make_image(target / "mine.png")
    with pytest.raises(SightlineError, match="already exists"):
        export_version(desk.settings, "desk_ann_v0.1.0", "coco", target)
    assert sorted(os.listdir(tmp_path / "elsewhere")) == [] if there == "link" else True
    assert target.is_file() or target.is_symlink() or os.listdir(target) == ["mine.png"]


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_fails_leaves_nothing(desk, tmp_path, monkeypatch, form):
    place = tmp_path / "exports"
    place.mkdir()
    copy, copied = shutil.copyfile, []

    def full(source, target, **more):
        if Path(target).is_relative_to(place):
            copied.append(target)
            if len(copied) > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return copy(source, target, **more)

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copyfile", full)
        with pytest.raises(SightlineError, match="No space left on device"):
            export_version(desk.settings, "desk_ann_v0.1.0", form, place / "out")
    assert len(copied) == 2
    assert list(place.iterdir()) == []
    assert export_version(desk.settings, "desk_ann_v0.1.0", form, place / "out").images == 14


def test_a_version_or_format_that_does_not_exist_is_named(desk, tmp_path):
    for tag, says in (
        ("desk_ann_v0.2.0", r"desk_ann_v0\.2\.0 is not published in this database\. Did you mean 'desk_ann_v0\.1\.0'"),
        ("desk_train_v0.2.0", r"no published dataset version v0\.2\.0 of desk"),
        ("desk", "is not a tag"),
    ):
        with pytest.raises(SightlineError, match=says):
            export_version(desk.settings, tag, "coco", tmp_path / "out")
    with pytest.raises(SightlineError, match="no format 'yollo' to export to. Did you mean 'yolo'"):
        export_version(desk.settings, "desk_ann_v0.1.0", "yollo", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_publish_and_export_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, workspace = coco_folder(tmp_path / "in", {"bbox": [1]}), ["--workspace", str(tmp_path / "w")]
    named = ["--category", "desk", "--version", "v0.1.0", *workspace]
    assert main(["publish", str(folder), "--format", "yolo", *named]) == 1
    assert "no file names the classes" in capsys.readouterr().err
    assert main(["publish", str(folder), *named]) == 0
    said = capsys.readouterr().out
    assert "published desk_ann_v0.1.0: 1 image, 2 objects" in said
    assert "broken_annotation" in said
    assert main(["export", "desk_ann_v0.1.0", "--format", "voc", "--output", str(tmp_path / "out"), *workspace]) == 0
    assert "1 image, 2 objects" in capsys.readouterr().out
    assert sorted(files_in(tmp_path / "out")) == ["Annotations/a.xml", "ImageSets/Main/all.txt", "JPEGImages/a.png"]
