"""The four reports and the drawn pictures: what a reader finds on the page."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageFont
from pycocotools import mask as run_length

from sightline.errors import SightlineError
from sightline.reports.page import duration, number, table
from sightline.reports.pictures import Shape, Thumbnails, draw_shapes, drawable, legend
from sightline.services.versioning.shards import SPLITS
from sightline.steps.evaluate.report import Scored, render_evaluation_report
from sightline.steps.record.split import Splitting
from sightline.steps.record.statistics import assemble_statistics, measure_split
from sightline.steps.testing.report import TestedImage, draw_predictions, render_test_report
from sightline.steps.train.report import Turn, render_training_report
from sightline.tasks.detection.draw import shapes_of, shown_of
from sightline.tasks.detection.report import image_charts, score_image
from sightline.tasks.task import Confusion, ImageScore, Scores, Task
from tests.data_report import render_report_on

FIVE_MB = 5_000_000
CLASSES = ["board", "<b>digit</b>", "車牌"]
FACTS = {"category": "desk", "dataset_version": "v0.1.0", "run": "r7 & <i>2</i>"}
HOSTILE_FILE = '"><script>alert(1)</script>.png'
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """A page as a reader sees it, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag == "tr":
            self.rows.append([])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        if data.strip():
            self.text.append(data.strip())
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data.strip())

    def says(self, text: str) -> bool:
        return text in " ".join(self.text)

    def tile(self, label: str) -> str:
        return self.text[self.text.index(label) + 1]

    def images(self) -> list[Image.Image]:
        data = [address.partition("base64,")[2] for address in self.addresses if address.startswith("data:image/jpeg")]
        return [Image.open(io.BytesIO(base64.b64decode(one))) for one in data]


def read_page(html: str) -> Page:
    """The parsed page, after what holds for every report: it needs no network, runs no script, and stays small."""
    page = Page(html)
    assert not re.findall(r"https?://(?!www\.w3\.org/)", html)
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "url(" not in html and "@import" not in html
    assert "script" not in page.tags
    assert len(html.encode()) < FIVE_MB
    return page


def write_image(path: Path, width: int = 80, height: int = 60) -> None:
    pixels = np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def annotation(number: int, image: int, category: int, x: float = 10.0, y: float = 10.0, side: float = 20.0) -> dict:
    ring = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {
        "id": number, "image_id": image, "category_id": category, "bbox": [x, y, side, side],
        "area": side * side, "iscrowd": 0, "segmentation": [ring],
    }  # fmt: skip


def write_dataset(folder: Path, findings: list[dict] | None = None) -> Path:
    """Two training images, one of validation, one to test; the test split lacks a class."""
    (folder / "images").mkdir(parents=True)
    images = {"train": [(1, "a.png"), (2, HOSTILE_FILE)], "val": [(3, "c.png")], "test": [(4, "d.png")]}
    objects = {1: [1, 2], 2: [3, 3], 3: [1, 2, 3], 4: [1, 2]}
    serial = 0
    for split, members in images.items():
        annotations = []
        for image, name in members:
            write_image(folder / "images" / name.replace("/", "_"))
            for place, category in enumerate(objects[image]):
                serial += 1
                annotations.append(annotation(serial, image, category, x=5.0 + 22 * place))
        coco = {
            "info": {},
            "images": [
                {"id": image, "file_name": name.replace("/", "_"), "width": 80, "height": 60} for image, name in members
            ],
            "annotations": annotations,
            "categories": [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)],
        }
        (folder / f"{split}.json").write_text(json.dumps(coco))
    (folder / "dataset.json").write_text(json.dumps({"category": "desk", "version": "v0.1.0", "classes": CLASSES}))
    (folder / "findings.json").write_text(json.dumps(findings or []))
    return folder


def finding(code: str, message: str, outcome: str, file: str = "a.json") -> dict:
    return {"code": code, "file": file, "shape_index": 2, "message": message, "outcome": outcome}


# --- record report


def data_report(folder: Path) -> str:
    """The report on a dataset whose statistics are those of its files."""
    measures = {split: measure_split(json.loads((folder / f"{split}.json").read_bytes())) for split in SPLITS}
    statistics = assemble_statistics(measures, CLASSES, [], [], Splitting({}, (), (), ()), "object")
    (folder / "statistics.json").write_text(json.dumps(statistics))
    return render_report_on(folder, FACTS)


def test_the_data_report_counts_classes_per_split(tmp_path):
    page = read_page(data_report(write_dataset(tmp_path / "d")))
    assert page.tile("Images") == "4"
    assert page.tile("Objects") == "9"
    assert ["board", "3", "1", "1", "1", "1", "1", "1"] in page.rows
    assert ["車牌", "3", "2", "1", "1", "1", "0", "0"] in page.rows
    assert ["all", "9", "4", "2", "3", "1", "2", "1"] in page.rows
    assert ["80 x 60", "4"] in page.rows
    assert len(page.images()) == 4


def test_shares_of_classes_are_percentages_with_one_decimal(tmp_path):
    train = write_dataset(tmp_path / "d") / "train.json"
    coco = json.loads(train.read_text())
    coco["annotations"] += [annotation(number, 1, 1) for number in range(100, 168)]
    train.write_text(json.dumps(coco))
    page = read_page(data_report(tmp_path / "d"))
    assert page.says("1.4") and not page.says("1.38"), "1 of 72"


def test_a_class_that_a_split_lacks_is_a_visible_warning(tmp_path):
    html = data_report(write_dataset(tmp_path / "d"))
    warnings = re.findall(r'<p class="notice warning" role="alert">(.*?)</p>', html)
    assert len(warnings) == 1
    assert "車牌 is in test" in warnings[0]


def test_every_finding_is_listed_with_its_reason_and_outcome(tmp_path):
    findings = [
        finding("outside", "it was clipped", "fixed"),
        finding("outside", "it was clipped too", "fixed", "<u>b.json"),
        finding("point", "a point has no area", "left out"),
    ]
    page = read_page(data_report(write_dataset(tmp_path / "d", findings)))
    assert page.tile("Findings") == "3"
    assert page.says("outside: 2 (2 fixed)")
    assert ["<u>b.json", "#2", "it was clipped too", "fixed", "record"] in page.rows
    assert ["a.json", "#2", "a point has no area", "left out", "record"] in page.rows


def test_a_long_list_of_findings_is_folded_and_cut_with_its_count(tmp_path):
    findings = [finding("outside", f"reason {index}", "fixed") for index in range(1234)]
    page = read_page(data_report(write_dataset(tmp_path / "d", findings)))
    assert "details" in page.tags
    assert page.says("and 1\u2009034 more like these")
    assert sum("fixed" in row for row in page.rows) == 200


def test_a_dataset_without_findings_says_so(tmp_path):
    assert read_page(data_report(write_dataset(tmp_path / "d"))).says("Nothing was dropped")


def test_an_empty_split_and_a_missing_image_do_not_stop_the_report(tmp_path):
    folder = write_dataset(tmp_path / "d")
    (folder / "images" / "a.png").unlink()
    (folder / "val.json").write_text(json.dumps({"images": [], "annotations": []}))
    page = read_page(data_report(folder))
    assert page.says("The split val has no image")
    assert len(page.images()) == 2


def test_the_report_draws_from_statistics_json(tmp_path):
    folder = write_dataset(tmp_path / "d")
    splits = {split: json.loads((folder / f"{split}.json").read_bytes()) for split in ("train", "val", "test")}
    stages = [
        {"name": "read", "images_before": 9, "images_after": 7, "annotations_before": 2000, "annotations_after": 2000},
        {"name": "check", "images_before": 7, "images_after": 7, "annotations_before": 2000, "annotations_after": 1999},
        {"name": "split", "images_before": 7, "images_after": 7, "annotations_before": 1999, "annotations_after": 1999},
    ]
    others = [{"label": "<i>cup</i>", "shapes": 5, "images": 4, "images_left_out": 3}]
    split = {"train": ("a.png", HOSTILE_FILE.replace("/", "_")), "val": ("c.png",), "test": ("d.png",)}
    splitting = Splitting(split, (("a.png", HOSTILE_FILE.replace("/", "_")),), (), ("Over a fifth is one group.",))
    measures = {name: measure_split(coco) for name, coco in splits.items()}
    statistics = assemble_statistics(measures, CLASSES, stages, others, splitting, "object")
    statistics["splits"]["val"]["images"] = 4321  # to be seen on the page, which counts nothing itself
    (folder / "statistics.json").write_text(json.dumps(statistics))
    described = {"category": "desk", "version": "v0.1.0", "classes": CLASSES, "recipe": {"other_labels": "drop"}}
    (folder / "dataset.json").write_text(json.dumps(described))
    html = render_report_on(folder, FACTS)
    page = read_page(html)
    assert ["read", "9 → 7", "2\u2009000", "files and annotations that cannot be read are left out"] in page.rows
    assert ["check", "7", "2\u2009000 → 1\u2009999", "shapes that cannot be used are left out"] in page.rows
    assert html.count('class="highlighted"') == 3  # the two stages that left something out, and the sum of classes
    assert ["<i>cup</i>", "5", "4", "3 images that had nothing else left out"] in page.rows
    assert page.tile("Images") == "4\u2009324"
    assert page.says("2 images form 1 group")
    assert ["2", "train", f"a.png, {HOSTILE_FILE.replace('/', '_')}"] in page.rows
    warnings = re.findall(r'<p class="notice warning" role="alert">(.*?)</p>', html)
    assert [warning.partition(":")[0] for warning in warnings] == [
        "Over a fifth is one group.",
        "No object of 車牌 is in test",
    ]
    titles = re.findall(r"<title>([^<]*)</title>", html)
    assert "320 to 452.5: 0 train (0.0 %), 0 val (0.0 %), 0 test (0.0 %)" not in titles
    assert any(
        re.match(r"\S+ to \S+: 4 train \(100.0 %\), 3 val \(100.0 %\), 2 test \(100.0 %\)", one) for one in titles
    )
    assert "2: 2 train (100.0 %), 0 val (0.0 %), 1 test (100.0 %)" in titles


def test_findings_say_which_step_found_them(tmp_path):
    findings = [finding("outside", "a", "fix") | {"found_in": "publish"}, finding("point", "b", "drop")]
    page = read_page(data_report(write_dataset(tmp_path / "d", findings)))
    assert [row[-1] for row in page.rows if row and row[0] == "a.json"] == ["publish", "record"]


# --- train report


DETECTION = Task("detection")


def history(epochs: int = 3, iterations: int = 4) -> list[dict]:
    records: list[dict] = []
    for epoch in range(1, epochs + 1):
        for step in range(1, iterations + 1):
            done = (epoch - 1) * iterations + step
            records.append(
                {"kind": "train", "epoch": epoch, "iter": done, "loss": 2 / done, "lr": 0.001, "loss_cls": 1 / done}
            )
        score = [0.1, 0.6, 0.5][epoch - 1]
        records.append({"kind": "val", "epoch": epoch, "iter": done, "bbox_mAP": score, "bbox_mAP_s": -1.0})
    return records


def test_the_training_report_names_the_best_epoch_and_the_time():
    page = read_page(render_training_report(DETECTION, history(), FACTS | {"seconds": "184"}, "bbox_mAP"))
    assert page.tile("Best bbox_mAP") == "0.600"
    assert page.says("after epoch 2")
    assert page.tile("Time") == "3 min 04 s"
    assert ["2", "0.317", "0.600"] in page.rows
    for title in ("Loss", "Its parts, smoothed", "Learning rate", "Boxes: average precision"):
        assert page.says(title)


def test_the_training_report_tells_what_happened_beside_training():
    message = "training was killed for memory (limit 4.0 GiB)"
    event = {"at": "2026-01-02T03:04:05.678+00:00", "kind": "out of memory", "iter": 12, "message": message}
    page = read_page(render_training_report(DETECTION, history(), FACTS, "bbox_mAP", [event]))
    assert ["2026-01-02 03:04:05", "12", "out of memory", message] in page.rows
    assert not read_page(render_training_report(DETECTION, history(), FACTS, "bbox_mAP")).says("Events")


@pytest.mark.parametrize(
    ("metric", "title"),
    [
        ("bbox_mAP_75", "Boxes: average precision"),
        ("bbox_mAP_s", "Boxes: AP by object size"),
        ("bbox_AR_s", "Boxes: average recall"),
        ("segm_mAP", "Masks: average precision"),
        ("segm_mAP_l", "Masks: AP by object size"),
        ("segm_AR_100", "Masks: average recall"),
        ("metric_of_ones_own", "Scores"),
    ],
)
def test_a_metric_is_charted_where_its_task_puts_it(metric, title):
    html = render_training_report(DETECTION, [{"kind": "val", "epoch": 1, "iter": 4, metric: 0.5}], FACTS, metric)
    assert re.findall(r'aria-label="([^"]*)"', html)[-1] == title


def test_a_score_that_does_not_exist_is_not_drawn_as_minus_one():
    page = read_page(render_training_report(DETECTION, history(), FACTS, "bbox_mAP"))
    assert not page.says("bbox_mAP_s")
    assert not page.says("-1")


def test_a_resumed_training_counts_each_iteration_once():
    once = history()
    resumed = once[:8] + once[4:]
    both = [render_training_report(DETECTION, records, FACTS, "bbox_mAP") for records in (resumed, once)]
    assert both[0] == both[1]


@pytest.mark.parametrize(("carried", "best"), [(True, 2), (False, 3)])
def test_where_a_training_went_on_is_marked_and_earlier_scores_count_where_they_compare(carried, best):
    records = history()
    last = max(line["iter"] for line in records if line["epoch"] == 3)
    turn = Turn(2, max(line["iter"] for line in records if line["epoch"] == 2) + 1, carried)
    html = render_training_report(DETECTION, records, FACTS, "bbox_mAP", turn=turn)
    assert last >= turn.iteration
    assert read_page(html).says(f"after epoch {best}")
    charts = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert charts and all(chart.count('class="turn"') == 1 for chart in charts)
    assert read_page(html).says("Dotted: where it went on from another run's training.")


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"kind": "train", "epoch": 1, "iter": 1, "loss": None, "lr": 0.1}],
        [{"kind": "train", "epoch": 1, "iter": 1, "loss": float("nan"), "lr": 0.1}],
        [{"kind": "val", "epoch": 1, "iter": 1, "bbox_mAP": None}],
    ],
)
def test_a_training_that_came_to_nothing_still_has_a_report(records):
    read_page(render_training_report(DETECTION, records, {}, "bbox_mAP"))


# --- evaluate report


def result(image: int, category: int, x: float, score: float, side: float = 20.0) -> dict:
    return {"image_id": image, "category_id": category, "bbox": [x, 10.0, side, side], "score": score}


FOUND = (result(4, 1, 5, 0.95), result(4, 2, 60, 0.9), result(4, 2, 27, 0.1))


def scored(name: str, results, values: dict, per_class: dict) -> Scored:
    return Scored(SimpleNamespace(name=name, uri=f"file:///{name}"), results, Scores(values, per_class))


def evaluation(folder: Path, results=FOUND) -> str:
    best = scored("best", results, {"bbox_mAP": 0.81, "bbox_mAP_s": -1.0}, {"board": {"bbox_mAP": 0.77}})
    last = scored("last", [], {"bbox_mAP": 0.42, "bbox_mAP_s": -1.0}, {})
    confusion = Confusion((*CLASSES, "background"), np.diag([31, 17, 0, 0]), "<i>Missed</i> in the last column.")
    return render_evaluation_report(DETECTION, folder, "test", [best, last], best, confusion, FACTS, "bbox_mAP")


def test_the_evaluation_report_compares_the_candidates_and_stresses_the_selected(tmp_path):
    html = evaluation(write_dataset(tmp_path / "d"))
    page = read_page(html)
    assert page.tile("Selected model") == "best"
    assert page.tile("bbox_mAP") == "0.810"
    assert ["best (selected)", "0.810", "file:///best"] in page.rows
    assert ["last", "0.420", "file:///last"] in page.rows
    assert ["bbox_mAP_s", "–", "–"] in page.rows
    assert ["board", "1", "0.770"] in page.rows
    assert re.search(r'<tr class="highlighted"><td class="short">best \(selected\)', html)
    assert page.says("31") and page.says("board (1.000)")
    assert page.says("Blue is right, red is wrong. <i>Missed</i> in the last column.")
    assert page.says("All 1 image: 1 object found, 1 missed, 1 false.")
    assert page.says("F1 of each image")


def test_each_image_is_shown_as_truth_beside_prediction_with_its_errors(tmp_path):
    page = read_page(evaluation(write_dataset(tmp_path / "d")))
    assert page.says("F1 0.50: 1 found, 1 missed, 1 false")
    assert len(page.images()) == 2


def test_an_evaluation_without_predictions_has_a_report(tmp_path):
    page = read_page(evaluation(write_dataset(tmp_path / "d"), results=[]))
    assert page.says("F1 0.00: 0 found, 2 missed, 0 false")


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        pytest.param([result(1, 1, 10, 0.9)], (1, 0, 0), id="found"),
        pytest.param([result(1, 2, 10, 0.9)], (0, 1, 1), id="another class"),
        pytest.param([result(1, 1, 10, 0.9), result(1, 1, 11, 0.8)], (1, 0, 1), id="found twice"),
        pytest.param([result(1, 1, 10, 0.2)], (0, 1, 0), id="too weak to count"),
        pytest.param([result(1, 1, 25, 0.9)], (0, 1, 1), id="beside it"),
    ],
)
def test_an_image_is_scored_by_what_was_found_missed_and_false(predictions, expected):
    score = score_image([annotation(1, 1, 1)], predictions)
    assert (score.found, score.missed, score.false) == expected


def test_an_image_with_nothing_to_find_and_nothing_found_is_perfect():
    assert score_image([], []).f1 == 1.0


# --- test report


def test_the_test_report_counts_detections_and_milliseconds(tmp_path):
    write_image(tmp_path / "a.png")
    images = [
        TestedImage("plates/a.png", tmp_path / "a.png", [result(1, 1, 5, 0.9), result(1, 2, 40, 0.2)], 10.0),
        TestedImage(HOSTILE_FILE, tmp_path / "a.png", [], 30.0),
    ]
    page = read_page(render_test_report(DETECTION, images, CLASSES, FACTS, 0.3))
    assert page.tile("Images") == "2"
    assert page.tile("Detections") == "1"
    assert page.tile("Median per image") == "20 ms"
    assert page.tile("95 % within") == "29 ms"
    assert page.says("1 without detections")
    assert page.says("plates/a.png 1 detection, 10 ms")
    assert page.says(HOSTILE_FILE)
    assert page.says("2 images of 2.")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([0.2, 0.12], "No detections from score 0.3: the best score is 0.2. A lower --score-threshold shows more"),
        ([], "The model gave no detections at all: it has learnt too little. Train longer (--epochs)."),
    ],
)
def test_a_test_that_shows_nothing_says_how_far_the_best_score_is(tmp_path, found, said):
    write_image(tmp_path / "a.png")
    results = [result(1, 1, 5, score) for score in found]
    images = [TestedImage("a.png", tmp_path / "a.png", results, 10.0)]
    assert read_page(render_test_report(DETECTION, images, CLASSES, FACTS, 0.3)).says(said)


def test_images_without_any_hit_are_charted_from_0_to_1():
    (chart,) = image_charts([ImageScore(found=0, missed=1, false=0)] * 3)
    assert ">1</text>" in chart and ">0.4</text>" in chart and "-0.4" not in chart


def test_no_image_to_test_is_said():
    assert read_page(render_test_report(DETECTION, [], CLASSES, {}, 0.3)).says("There was no image to test")


@pytest.mark.slow
def test_a_thousand_images_stay_under_five_megabytes(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(4)).save(tmp_path / "a.png")
    results = [result(1, 1, 5, 0.9, side=60), result(1, 2, 120, 0.8, side=100)]
    images = [TestedImage(f"folder/{index:04d}.png", tmp_path / "a.png", results, 12.0) for index in range(1000)]
    page = read_page(render_test_report(DETECTION, images, CLASSES, FACTS, 0.3))
    assert len(page.images()) == 1000
    assert page.says("1\u2009000 images of 1\u2009000.")


def test_a_full_page_says_how_many_images_it_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(Thumbnails.__init__, "__defaults__", (60_000,))
    write_image(tmp_path / "noise.png", 500, 400)
    images = [TestedImage(f"{index}.png", tmp_path / "noise.png", [], 12.0) for index in range(30)]
    page = read_page(render_test_report(DETECTION, images, CLASSES, FACTS, 0.3))
    shown = len(page.images())
    assert 1 < shown < 30
    assert page.says(f"{shown} images of 30: as many as fit")


# --- pictures


def test_masks_and_boxes_are_drawn_where_they_are():
    plain = Image.new("RGB", (200, 100))
    ring = [120.0, 20.0, 160.0, 20.0, 160.0, 60.0, 120.0, 60.0]
    drawn = np.asarray(draw_shapes(plain, [Shape(0, "board", (120, 20, 40, 40), [ring])]))
    assert drawn[40, 140].tolist() == pytest.approx([59 * 0.36, 130 * 0.36, 246 * 0.36], abs=2)
    assert drawn[40, 120].tolist() == [59, 130, 246]
    assert drawn[:, :100].max() == 0


@pytest.mark.parametrize("longest_side", [None, 100])
def test_a_run_length_mask_is_drawn_like_its_polygon(longest_side):
    plain = Image.new("RGB", (200, 100))
    ring = [40.0, 20.0, 90.0, 30.0, 70.0, 80.0]
    encoded = run_length.frPyObjects([ring], 100, 200)[0]
    encoded["counts"] = encoded["counts"].decode()
    boxed = (40, 20, 50, 60)
    by_polygon = np.asarray(draw_shapes(plain, [Shape(0, "", boxed, [ring])], longest_side), dtype=int)
    by_run_length = np.asarray(draw_shapes(plain, [Shape(0, "", boxed, encoded)], longest_side), dtype=int)
    differing = (np.abs(by_polygon - by_run_length).max(axis=2) > 40).mean()
    assert (by_run_length.sum(axis=2) > 0).mean() > 0.05
    assert differing < 0.03


@pytest.mark.parametrize("name", ["車牌", "Straße", "🚗", "", "a\nb", "x" * 300, "\u202e\x00"])
def test_any_class_name_can_be_drawn(name):
    drawn = draw_shapes(Image.new("RGB", (120, 80)), [Shape(0, name, (10, 30, 40, 30), None, 0.5)])
    assert np.asarray(drawn).max() > 0


def test_a_name_is_drawn_as_far_as_the_font_goes():
    font = ImageFont.load_default(12)
    assert drawable("Straße é 4", font) == "Strasse e 4"
    assert drawable("車牌 AB", font) == "AB"
    assert drawable("車牌", font) == ""


@pytest.mark.parametrize(
    ("name", "on_pictures", "in_the_legend"),
    [
        ("cup", "cup", "cup"),
        ("Straße", "Strasse", "Straße"),
        ("車牌", "#3", "#3 車牌"),
        ("車牌 AB", "#3 AB", "#3 車牌 AB"),
        ("", "#3", "#3 "),
    ],
)
def test_a_name_that_pictures_cannot_show_has_a_number_in_the_legend(name, on_pictures, in_the_legend):
    drawn = [draw_shapes(Image.new("RGB", (120, 80)), [Shape(2, one, (10, 30, 40, 30))]) for one in (name, on_pictures)]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    assert f"</i>{in_the_legend}</li>" in str(legend(["a", "b", name]))


@pytest.mark.parametrize("box", [(-20, -20, 30, 30), (110, 70, 50, 50), (10, 10, 0, 0), (-500, -500, 5, 5)])
def test_a_box_past_the_image_is_no_error(box):
    x, y, width, height = box
    ring = [x, y, x + width, y, x + width, y + height]
    draw_shapes(Image.new("RGB", (120, 80)), [Shape(0, "board", box, [ring], 0.5)], 60)


def test_weak_results_are_not_drawn_and_the_strongest_is_on_top():
    shown = shown_of([result(1, 1, 5, 0.9), result(1, 2, 5, 0.6), result(1, 3, 5, 0.1)], 0.3)
    shapes = shapes_of(shown, CLASSES, (9, 9))
    assert [shape.score for shape in shapes] == [0.6, 0.9]


@pytest.mark.parametrize(("extension", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".JPEG", "JPEG")])
def test_predictions_are_drawn_at_full_size(tmp_path, extension, kind):
    Image.new("RGB", (320, 200), "white").save(tmp_path / "a.png")
    target = tmp_path / "new" / f"drawn{extension}"
    draw_predictions(DETECTION, tmp_path / "a.png", [result(1, 1, 40, 0.9, 80)], CLASSES, target, 0.3)
    with Image.open(target) as drawn:
        assert (drawn.format, drawn.size) == (kind, (320, 200))
        assert drawn.convert("RGB").getpixel((40, 60)) == pytest.approx((59, 130, 246), abs=60)


def test_a_photograph_with_orientation_is_drawn_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (320, 200), "white").save(tmp_path / "turned.jpg", exif=exif)
    draw_predictions(DETECTION, tmp_path / "turned.jpg", [], CLASSES, tmp_path / "drawn.png", 0.3)
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.size == (200, 320)


def test_a_target_of_another_format_is_refused(tmp_path):
    write_image(tmp_path / "a.png")
    with pytest.raises(SightlineError, match=r"\.gif"):
        draw_predictions(DETECTION, tmp_path / "a.png", [], CLASSES, tmp_path / "drawn.gif", 0.3)


# --- the page


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12345, "12\u2009345"),
        (0.8317, "0.832"),
        (1.27e-5, "1.3e-05"),
        (0.0, "0.000"),
        (None, "–"),
        (float("nan"), "–"),
        ("x", "x"),
    ],
)
def test_numbers_are_shown_as_a_reader_wants_them(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(45.23, "45.2 s"), (184, "3 min 04 s"), (7500, "2 h 05 min")])
def test_durations_are_shown_in_their_own_unit(seconds, shown):
    assert duration(seconds) == shown


def test_a_table_sets_numbers_flush_right_and_scrolls_in_its_own_box():
    html = table(["name", "count"], [["a", 1], ["b", None]])
    assert html.lstrip().startswith('<div class="scroll" tabindex="0">')
    assert html.count('<td class="right">') == 2
