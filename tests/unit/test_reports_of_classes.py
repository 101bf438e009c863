"""The reports of classification: what a reader finds on the page when an image has one class and one answer."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.annotations.labelme import Document, write_document
from sightline.annotations.recipe import Recipe
from sightline.steps.evaluate.report import render_evaluation_report
from sightline.steps.record.build import Inputs, build_dataset
from sightline.steps.testing.report import TestedImage, render_test_report
from sightline.steps.train.report import render_training_report
from sightline.tasks.classification.report import score_image, sum_up
from sightline.tasks.task import Confusion, Task
from tests.data_report import render_report_on
from tests.unit.test_reports import FACTS, read_page, scored, write_image

CLASSIFICATION = Task("classification")
CLASSES = ["cat", "dog", "cow"]
SMALL = (48, 32)


def answers(image: int, *scores: float) -> list[dict]:
    """An image's results: the score of every class."""
    return [{"image_id": image, "category_id": number, "score": score} for number, score in enumerate(scores, start=1)]


RESULTS = [
    *answers(1, 0.9, 0.06, 0.04),
    *answers(2, 0.07, 0.93, 0.0),
    *answers(3, 0.41, 0.25, 0.34),
    *answers(4, 0.2, 0.2, 0.6),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cats and two dogs, recorded; all to train on."""
    folder = tmp_path_factory.mktemp("dataset")
    for number, name in enumerate(("cat", "cat", "cat", "dog", "dog")):
        path = folder / "in" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        write_image(path, SMALL[0] + number, SMALL[1])
        write_document(path.with_suffix(".json"), Document(path.name, SMALL[1], SMALL[0] + number, (), {name: True}))
    recipe = {
        "classes": CLASSES,
        "near_duplicates": None,
        "fractions": {"train": 1, "val": 0, "test": 0},
    }
    facts = {"category": "pets", "version": "v0.1.0", "annotation_version": "v0.1.0"}
    inputs = Inputs(task="classification")
    build_dataset(folder / "in", folder / "out", Recipe.model_validate(recipe), facts, inputs)
    (folder / "out" / "images").symlink_to(folder / "in")
    return folder / "out"


def test_the_data_report_speaks_of_images(dataset):
    html = render_report_on(dataset, FACTS)
    page = read_page(html)
    assert not re.search("object|shape", " ".join(page.text), re.IGNORECASE)
    assert ["class", "images", "train images", "val images", "test images"] in page.rows
    assert ["cat", "3", "3", "0", "0"] in page.rows
    assert ["all", "5", "5", "0", "0"] in page.rows
    assert page.says("Annotations are flags up to the check, then images.")
    assert page.says("Images per class and split")
    assert page.says("% of the split's images")
    assert page.says("48 x 32, cat")
    assert not page.says("per image")
    assert page.text.count("Images") == 1  # the tile; annotations have none beside it
    stages = [row[0] for row in page.rows if row and row[0] in ("check", "groups", "objects", "images")]
    assert stages == ["check", "images"]


def test_a_class_that_nothing_shows_is_missed_as_an_image(dataset):
    assert read_page(render_report_on(dataset, FACTS)).says("No image at all is of the class cow.")


def evaluation(folder: Path, results: list[dict]) -> str:
    """The report on images of two cats and two cows."""
    (folder / "images").mkdir()
    images = [{"id": number, "file_name": f"{number}.png", "width": 48, "height": 32} for number in (1, 2, 3, 4)]
    for one in images:
        write_image(folder / "images" / one["file_name"], *SMALL)
    truth = {
        "images": images,
        "annotations": [
            {"id": image, "image_id": image, "category_id": category}
            for image, category in ((1, 1), (2, 1), (3, 3), (4, 3))
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)],
    }
    (folder / "test.json").write_text(json.dumps(truth))
    described = {"category": "pets", "version": "v0.1.0", "classes": CLASSES}
    (folder / "dataset.json").write_text(json.dumps(described))
    confusion = Confusion(tuple(CLASSES), np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1]]))
    best = scored("best", results, {"accuracy": 0.33}, {"cat": {"F1": 0.5}})
    return render_evaluation_report(CLASSIFICATION, folder, "test", [best], best, confusion, FACTS, "accuracy")


def test_the_evaluation_report_tells_right_answers_from_wrong_ones(tmp_path):
    page = read_page(evaluation(tmp_path, RESULTS))
    assert page.says("All 4 images: 2 of 4 answers right.")
    assert page.says("1.png right, score 0.90")
    assert page.says("2.png wrong, taken for dog, score 0.93")
    assert page.says("3.png wrong, taken for cat, score 0.41")
    assert ["class", "images", "F1"] in page.rows
    assert not page.says("F1 of each image")
    assert not re.search("object|background|missed", " ".join(page.text))


def test_an_unsure_answer_is_drawn_as_it_is_scored(tmp_path):
    unsure = [*answers(1, 0.24, 0.2, 0.2), *RESULTS[3:]]
    page = read_page(evaluation(tmp_path, unsure))
    assert page.says("1.png right, score 0.24")
    truth, prediction = page.images()[-2:]
    assert label_width(truth) < label_width(prediction)  # which has a score, and has no label where none is drawn


@pytest.mark.parametrize(
    ("results", "counts", "note"),
    [
        (answers(1, 0.2, 0.7, 0.1), (1, 0, 0), "right, score 0.70"),
        (answers(1, 0.6, 0.3, 0.1), (0, 1, 1), "wrong, taken for cat, score 0.60"),
        ([], (0, 1, 0), "no answer"),
    ],
)
def test_an_image_is_scored_by_its_best_answer(results, counts, note):
    score = score_image([{"category_id": 2}], results, CLASSES)
    assert (score.found, score.missed, score.false) == counts
    assert score.note == note
    assert sum_up([score]) == f"{counts[0]} of 1 answer right"


def test_the_training_report_charts_the_metrics_of_a_task_without_charts_of_its_own():
    history = [{"kind": "val", "epoch": 1, "iter": 4, "accuracy": 0.5, "macro_F1": 0.25}]
    html = render_training_report(CLASSIFICATION, history, FACTS, "accuracy")
    page = read_page(html)
    assert html.count("<figcaption>Scores") == 1
    assert not page.says("Other")
    assert page.says("accuracy") and page.says("macro_F1")


def test_the_test_report_counts_an_image_s_best_answer_only(tmp_path):
    write_image(tmp_path / "a.png")
    scores = {"a": (0.5, 0.35, 0.15), "b": (0.05, 0.9, 0.05), "c": (0.29, 0.28, 0.2)}
    images = [
        TestedImage(name, tmp_path / "a.png", answers(number, *own), 10.0)
        for number, (name, own) in enumerate(scores.items(), start=1)
    ]
    html = render_test_report(CLASSIFICATION, images, CLASSES, FACTS, 0.3)
    page = read_page(html)
    assert page.tile("Answers") == "2"
    assert page.says("1 without answers")
    assert page.says("a cat 0.50, 10 ms") and page.says("b dog 0.90, 10 ms") and page.says("c no answer, 10 ms")
    chart = html[html.index("Scores of all answers") : html.index("Time per image")]
    counts = [int(count) for count in re.findall(r"<title>[^<]*: (\d+)", chart)]
    assert sum(counts) == 3


def label_width(drawn: Image.Image) -> int:
    """Columns in which a label in the first class's blue covers the picture's noise."""
    blue = np.abs(np.asarray(drawn, dtype=int) - (59, 130, 246)).max(axis=2) < 30
    return int((blue.sum(axis=0) > 4).sum())
