"""An installation with two annotation versions and two dataset versions, which differ in known ways."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from sightline.annotations.labelme import Document, read_document, write_document
from sightline.publish.annotations import publish_annotations
from sightline.steps.record.record import record_dataset
from tests.installed import Installed
from tests.make_labelme import HEIGHT, WIDTH, annotate, box

OLD, NEW = "desk_ann_v0.1.0", "desk_ann_v0.2.0"
OLD_SET, NEW_SET = "desk_train_v0.1.0", "desk_train_v0.2.0"
ALL = (OLD, NEW, OLD_SET, NEW_SET)
IMAGES = 10

SWITCH = box("switch", 28, 8, 44, 30)


def name_of(number: int) -> str:
    return f"room {number % 2}/i{number}.png"


def make_first(folder: Path) -> None:
    """Ten images with a plug each; every second has a switch too."""
    for number in range(IMAGES):
        annotate(folder, name_of(number), [box("plug"), *([SWITCH] if number % 2 else [])])


def make_second(folder: Path) -> None:
    """The first one edited: one image each removed, added, repainted, renamed; one annotation each moved, relabelled, ….

    Plugs 10 -> 9 (one less with i0, one relabelled, one more with new), switches 5 -> 5 (one removed on i5, one relabelled).
    """
    for suffix in (".png", ".json"):
        (folder / name_of(0)).with_suffix(suffix).unlink()
    annotate(folder, "new.png", [box("plug")])
    shutil.copyfile(folder / "new.png", folder / name_of(1))
    with (folder / name_of(1)).open("ab") as file:
        file.write(b"other bytes, same pixels as new.png")
    rename(folder, name_of(2), "renamed.png")
    edit(folder, name_of(3), lambda shapes: [box("plug", 8, 6, 28, 21), shapes[1]])
    edit(folder, name_of(4), lambda shapes: [box("switch")])
    edit(folder, name_of(5), lambda shapes: shapes[:1])


def rename(folder: Path, old: str, new: str) -> None:
    (folder / old).rename(folder / new)
    document = (folder / old).with_suffix(".json")
    write_document((folder / new).with_suffix(".json"), Document(new, HEIGHT, WIDTH, read_document(document).shapes))
    document.unlink()


def edit(folder: Path, name: str, change: Callable[[list], list]) -> None:
    path = (folder / name).with_suffix(".json")
    document = read_document(path)
    write_document(path, Document(document.image_path, HEIGHT, WIDTH, tuple(change(list(document.shapes)))))


def write_code(folder: Path, seed: int) -> str:
    """A frozen release of the record step, as far as that reads it: the category's recipe."""
    recipe = folder / f"record-{seed}" / "configs" / "categories" / "desk.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(f"seed: {seed}\nfractions: {{train: 0.4, val: 0.3, test: 0.3}}\n")
    return str(recipe.parents[2])


def fill(installed: Installed, folder: Path) -> Installed:
    """Publish and record both versions. The second dataset is the second annotations' with another seed."""
    labelme = folder / "labelme"
    for make, version, seed in ((make_first, "v0.1.0", 0), (make_second, "v0.2.0", 1)):
        make(labelme)
        commit = publish_annotations(installed.settings, labelme, "desk", version).publication.row.commit
        record_dataset(write_code(folder, seed), "desk", version, str(commit))
    return installed


def overwrite(path: Path, data: bytes) -> None:
    """Write a stored file, whoever may write to it."""
    path.chmod(0o644) if path.exists() else None
    part = path.with_name(f"{path.name}.new")
    part.write_bytes(data)
    os.replace(part, path)
