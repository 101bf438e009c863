"""The generator of licence-plate photographs."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from laptop.samples import LABELS, make_plates
from laptop.samples.camera import project
from laptop.samples.canvas import convex_coverage, coverage
from laptop.samples.dataset import HungPlate, draw_board
from laptop.samples.plates import LETTERS, design_plate, draw_writing, plate_parts
from sightline.annotations.labelme import Document, Shape, read_document
from sightline.errors import SightlineError

SIZE = (320, 240)
IMAGES = 12
TEXT = re.compile(rf"\d\d[{LETTERS}] \d{{4}}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("samples") / "plates"
    make_plates(made, IMAGES, seed=7, labels="all", size=SIZE)
    return made


@pytest.fixture(scope="module")
def documents(folder) -> list[Document]:
    return [read_document(path) for path in sorted(folder.glob("*.json"))]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def boards(document: Document) -> list[Shape]:
    return [shape for shape in document.shapes if shape.label.endswith("_board")]


def test_the_same_seed_gives_the_same_bytes_and_more_images_change_none(folder, tmp_path):
    make_plates(tmp_path / "fewer", 3, seed=7, labels="all", size=SIZE)
    fewer, all_of_them = contents(tmp_path / "fewer"), contents(folder)
    assert sorted(fewer) == sorted(f"plate_{n:04d}.{kind}" for n in range(3) for kind in ("jpg", "json"))
    assert fewer == {name: all_of_them[name] for name in fewer}


def test_another_seed_gives_other_photographs(folder, tmp_path):
    make_plates(tmp_path / "other", 2, seed=8, labels="all", size=SIZE)
    other, first = contents(tmp_path / "other"), contents(folder)
    assert all(other[name] != first[name] for name in other)


@pytest.mark.slow
@pytest.mark.parametrize("labels, count", [("board", 2), ("numbers", 6), ("all", 21)])
def test_a_label_set_changes_the_shapes_and_no_photograph(folder, documents, tmp_path, labels, count):
    make_plates(tmp_path / "set", 4, seed=7, labels=labels, size=SIZE)
    assert len(set(LABELS[labels])) == count
    for index in range(4):
        document = read_document(tmp_path / "set" / f"plate_{index:04d}.json")
        everything = [shape for shape in documents[index].shapes if shape.label in LABELS[labels]]
        assert [shape.label for shape in document.shapes] == [shape.label for shape in everything]
        assert (tmp_path / "set" / document.image_path).read_bytes() == (folder / document.image_path).read_bytes()


def test_all_21_labels_turn_up(documents):
    assert {shape.label for document in documents for shape in document.shapes} == set(LABELS["all"])


def test_the_document_tells_the_size_of_its_image(folder, documents):
    for document in documents:
        with Image.open(folder / document.image_path) as image:
            assert (document.image_width, document.image_height) == image.size == SIZE


def test_every_polygon_lies_in_the_image_and_has_an_area(documents):
    for document in documents:
        for shape in document.shapes:
            assert shape.shape_type == "polygon"
            assert (shape.points > 0).all() and (shape.points < SIZE).all()
            assert area(shape.points) > 1


def test_each_image_has_one_or_two_plates_of_a_good_size(documents):
    numbers = [len(boards(document)) for document in documents]
    assert set(numbers) == {1, 2}
    widths = [np.ptp(board.points[:, 0]) / SIZE[0] for document in documents for board in boards(document)]
    assert min(widths) > 0.3 and max(widths) < 0.75


def test_a_board_tells_its_text_and_covers_the_parts_that_spell_it(documents):
    for document in documents:
        shapes = list(document.shapes)
        for board in boards(document):
            assert TEXT.fullmatch(board.description)
            parts = [shapes.pop(0) for _ in range(10)]
            kind = board.label[0]
            assert [part.label for part in parts[:3]] == [board.label, f"{kind}_s_n", f"{kind}_m_n"]
            assert "".join(part.label for part in parts[3:]) == board.description.replace(" ", "")
            inside = coverage((SIZE[1], SIZE[0]), board.points) > 0
            for part in parts[1:]:
                assert not (coverage((SIZE[1], SIZE[0]), part.points) > 0.5)[~inside].any()
        assert shapes == []


def test_no_two_characters_are_joined_into_one_instance(documents):
    for document in documents:
        grouped = [(shape.label, shape.group_id) for shape in document.shapes if shape.group_id is not None]
        assert len(grouped) == len(set(grouped))
        assert all(shape.group_id is None for shape in document.shapes if len(shape.label) == 1)


@pytest.mark.parametrize("kind", ["l", "r"])
def test_a_characters_outline_follows_its_ink_to_a_pixel(kind):
    design = design_plate(np.random.default_rng(3), kind)
    width = 600
    shape = (round(width / design.aspect), width)
    ink = draw_writing(design, shape) > 0.5
    outlines = [part.outline * [shape[1], shape[0]] for part in plate_parts(design)[3:]]
    inside = np.max([coverage(shape, outline) for outline in outlines], axis=0) > 0.5
    assert (ink & ~inside).sum() < 0.01 * ink.sum()
    for outline in outlines:
        rows, columns = np.nonzero(ink & (coverage(shape, outline) > 0.5))
        ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.allclose(ends, [*outline.min(axis=0), *outline.max(axis=0)], atol=1.0)


def test_a_board_is_drawn_on_the_pixels_of_its_polygon_and_no_others():
    camera = np.array([[1.0, 0.1, 150], [-0.05, 1.0, 110], [6e-4, -3e-4, 1]])
    rng = np.random.default_rng(5)
    plate = HungPlate(design_plate(rng, "r"), (5.0, 3.0), (140.0, 75.0), 0.05)
    picture = np.full((240, 320, 3), -1, np.float32)
    draw_board(rng, picture, camera, plate, (0.5, 0.8))
    outline = project(camera, plate.on_plane(plate_parts(plate.design)[0].outline))
    drawn = (picture != -1).any(axis=2)
    covered = convex_coverage((240, 320), outline)
    assert (drawn == (covered > 0)).all()
    assert covered.sum() == pytest.approx(area(outline), rel=0.003)


def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SightlineError, match="not empty"):
        make_plates(tmp_path, 1, seed=0)
    assert contents(tmp_path) == {"mine.txt": b"mine"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    make_plates(tmp_path / "empty", 1, seed=0, size=SIZE)
    assert sorted(contents(tmp_path / "empty")) == ["plate_0000.jpg", "plate_0000.json"]


def test_nothing_half_written_stays_when_it_is_interrupted(tmp_path, monkeypatch):
    def interrupted(folder: Path, index: int, *rest: object) -> None:
        (folder / f"plate_{index:04d}.jpg").write_bytes(b"half")
        if index == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("laptop.samples.dataset._write_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_plates(tmp_path / "plates", 5, seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"images": 0}, "1 or more"),
        ({"seed": -1}, "0 or more"),
        ({"labels": "nombers"}, "Did you mean 'numbers'"),
        ({"size": (640, 20)}, "too small"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_made(tmp_path, wrong, message):
    with pytest.raises(SightlineError, match=message):
        make_plates(**{"folder": tmp_path / "plates", "images": 1, "seed": 0, **wrong})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (200, 500), (900, 150)])
def test_plates_fit_into_images_of_any_shape(tmp_path, size):
    make_plates(tmp_path / "odd", 4, seed=1, size=size)
    for path in (tmp_path / "odd").glob("*.json"):
        for shape in read_document(path).shapes:
            assert (shape.points > 0).all() and (shape.points < size).all()
