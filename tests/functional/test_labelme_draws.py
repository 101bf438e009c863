"""What labelme itself draws and saves arrives. It brings Qt, so it runs in an environment of its own (`make annotate-setup`)."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.functional.test_field_inputs import PIXELS, Seen, publish_and_record
from tests.workspace import REPOSITORY

DRAW = REPOSITORY / "tests" / "draw_in_labelme.py"
CELL = 80  # pixels; each shape has a square of its own
NO_AREA = ("line", "point", "linestrip", "points")
CLICKS = {
    "polygon": [(10, 10), (60, 20), (40, 60), (10, 10)],
    "rectangle": [(10, 15), (60, 55)],
    "oriented_rectangle": [(30, 10), (60, 40), (40, 60)],
    "circle": [(40, 40), (40, 65)],
    "line": [(10, 10), (60, 50)],
    "point": [(40, 40)],
    "linestrip": [(10, 10), (60, 20), (30, 60)],
    "ai_points_to_shape": [(40, 40), (44, 42)],
    "ai_box_to_shape": [(10, 20), (70, 60)],
    "points": [(10, 10), (60, 20), (30, 60)],  # no tool draws it
}
BOXES = {  # left, top, right and bottom in the shape's square
    "polygon": (10, 10, 60, 60),
    "rectangle": (10, 15, 60, 55),
    "oriented_rectangle": (10, 10, 60, 60),
    "circle": (15, 15, 65, 65),
}
IMAGES = {"everything.jpg": None, "no_area.jpg": NO_AREA}


@pytest.fixture(scope="module")
def drawn(labelme_python: str, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder that labelme saved, and what labelme says of it."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("drawn")
    photographs = sorted((data_dir / "desk").glob("*/*.jpg"))
    for photograph, name in zip(photographs, IMAGES, strict=False):
        shutil.copyfile(photograph, folder / name)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and name[:4] != "XDG_"}
    own = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [labelme_python, str(DRAW), *(str(folder / name) for name in IMAGES)],
        input=json.dumps({"cell": CELL, "clicks": CLICKS, "images": IMAGES}),
        env=environment | own,
        capture_output=True,
        text=True,
        timeout=300,  # a question that nobody answers would keep labelme open
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_labelme_draws_nothing_that_we_do_not_know(drawn):
    folder, told = drawn
    assert told["unknown"] == []
    assert set(told["modes"]) | set(told["types"]) == {*CLICKS, "mask"}
    saved = json.loads((folder / "everything.json").read_text(encoding="utf-8"))["shapes"]
    shapes = told["drawn"]["everything.jpg"]
    assert [(one["label"], one["shape_type"]) for one in saved] == [(one["label"], one["type"]) for one in shapes]
    assert {one["type"] for one in shapes} == set(told["types"])
    assert {one["label"] for one in shapes if one["box"] is None} == set(NO_AREA)
    for one in shapes:
        if one["label"] in BOXES:
            assert one["box"] == pytest.approx(np.add(BOXES[one["label"]], one["corner"] * 2), abs=0.01)


def test_every_shape_with_an_area_arrives_and_each_without_is_told(installed, drawn):
    folder, told = drawn
    seen = publish_and_record(installed, {}, folder)
    assert not seen.refused, seen.words
    shapes = told["drawn"]["everything.jpg"]
    arrived = {label: (x, y, x + width, y + height) for label, x, y, width, height in seen.boxes["everything.jpg"]}
    assert len(arrived) == len(seen.boxes["everything.jpg"])
    assert arrived == {one["label"]: pytest.approx(one["box"], abs=PIXELS) for one in shapes if one["box"]}
    assert told_of(seen, "everything.json") == without_area("everything.json", shapes)
    # An image of lines and points alone would teach that nothing is there.
    assert set(seen.boxes) == {"everything.jpg"}
    assert told_of(seen, "no_area.json") == [
        "nothing_left no_area.json None none of its shapes can be used",
        *without_area("no_area.json", told["drawn"]["no_area.jpg"]),
    ]


def told_of(seen: Seen, file: str) -> list[str]:
    """Each finding of a file, up to its message's first comma."""
    return [line.partition(",")[0] for line in seen.words.splitlines() if f" {file} " in line]


def without_area(file: str, shapes: list[dict[str, Any]]) -> list[str]:
    """The findings that the shapes without a box should have."""
    labels = {index: one["label"] for index, one in enumerate(shapes) if one["box"] is None}
    return [
        f"unsupported_shape {file} {index} the {label} {label!r} covers no area to learn from. drop record"
        for index, label in labels.items()
    ]
