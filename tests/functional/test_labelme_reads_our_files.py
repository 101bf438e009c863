"""labelme itself reads what we write. It brings Qt, so it runs in an environment of its own (`make annotate-setup`)."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from laptop.samples import make_plates
from sightline.annotations.labelme import Document, Shape, read_document, write_document

READ_WITH_LABELME = """
import json, sys
try:
    from labelme._label_file import LabelFile
except ImportError:
    from labelme.label_file import LabelFile
for path in sys.argv[1:]:
    file = LabelFile(path)
    shapes = [[s["label"], s["points"], s["group_id"], s["shape_type"], s["description"], s["mask"] is not None]
              for s in file.shapes]
    image_path = file.image_path if hasattr(file, "image_path") else file.imagePath
    print(json.dumps({"path": path, "image": image_path, "flags": file.flags, "shapes": shapes}))
"""


def read_with_labelme(python: str, paths: list[Path]) -> list[dict]:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, "-c", READ_WITH_LABELME, *map(str, paths)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("labels", ["board", "numbers", "all"])
def test_labelme_reads_every_sample(labelme_python, tmp_path, labels):
    make_plates(tmp_path / "plates", 6, seed=0, labels=labels, size=(320, 240))
    paths = sorted((tmp_path / "plates").glob("*.json"))
    read = read_with_labelme(labelme_python, paths)
    assert [Path(file["path"]) for file in read] == paths
    for path, file in zip(paths, read, strict=True):
        ours = read_document(path)
        assert file["image"] == ours.image_path == f"{path.stem}.jpg"
        assert file["shapes"] == [
            [shape.label, shape.points.tolist(), shape.group_id, "polygon", shape.description, False]
            for shape in ours.shapes
        ]


def test_labelme_reads_a_document_with_every_kind_of_shape(labelme_python, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "번호판 1.jpg")
    mask = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
    shapes = (
        Shape("여우", np.array([[1, 2], [30.5, 3], [20, 25.25]]), description="a fox", group_id=4),
        Shape("box", np.array([[1.0, 2], [30, 20]]), "rectangle", flags={"cut off": True}),
        Shape("wheel", np.array([[10.0, 10], [14, 10]]), "circle"),
        Shape("blot", np.array([[5.0, 6], [5, 6]]), "mask", mask=mask),
        Shape("tip", np.array([[3.0, 3]]), "point"),
        Shape("edge", np.array([[3.0, 3], [9, 9]]), "line"),
        Shape("path", np.array([[3.0, 3], [9, 9], [12, 3]]), "linestrip"),
    )
    document = Document("번호판 1.jpg", image_height=30, image_width=40, shapes=shapes, flags={"checked": True})
    write_document(tmp_path / "번호판 1.json", document)
    (file,) = read_with_labelme(labelme_python, [tmp_path / "번호판 1.json"])
    assert (file["image"], file["flags"]) == ("번호판 1.jpg", {"checked": True})
    assert file["shapes"] == [
        [
            shape.label,
            shape.points.tolist(),
            shape.group_id,
            shape.shape_type,
            shape.description,
            shape.mask is not None,
        ]
        for shape in shapes
    ]
