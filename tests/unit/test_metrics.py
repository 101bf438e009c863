"""Scores, curves and the confusion matrix, against pycocotools and against cases small enough to count by hand."""

import contextlib
import copy
import io
import math
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sightline.tasks.detection.report import box_overlaps, confusion, precision_recall
from sightline.tasks.detection.scoring import ForeignResultsError, score

WIDTH, HEIGHT = 320, 240
NAMES = ["mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l", "AR_1", "AR_10", "AR_100", "AR_s", "AR_m", "AR_l"]
KINDS = ("bbox", "segm")
SEEDS = range(12)


def reference(
    truth: dict[str, Any], results: list[dict[str, Any]], kind: str, class_id: int | None = None
) -> list[float]:
    """Pycocotools' twelve numbers; of one class, if given. NaN where it says -1."""
    shape = "bbox" if kind == "bbox" else "segmentation"
    expected = COCO()
    expected.dataset = copy.deepcopy(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        expected.createIndex()
        found = expected.loadRes(
            [{key: r[key] for key in ("image_id", "category_id", "score", shape)} for r in results]
        )
        evaluation = COCOeval(expected, found, kind)
        if class_id is not None:
            evaluation.params.catIds = [class_id]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [math.nan if value == -1 else value for value in evaluation.stats]


def random_case(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Truth and results with crowds, images without objects or without results, classes without objects, tied scores
    and, in some, more than 100 results of one class on one image."""
    rng = np.random.default_rng(seed)
    images, classes = int(rng.integers(1, 10)), int(rng.integers(1, 25))
    truth: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(1, images + 1)],
        "annotations": [],
        # As in COCO itself, ids have gaps and come in any order.
        "categories": [{"id": int(i), "name": f"class {i}"} for i in rng.permutation(np.arange(1, 2 * classes, 2))],
    }
    ids = [category["id"] for category in truth["categories"]]
    results = []
    for image in range(1, images + 1):
        for _ in range(int(rng.integers(0, 8))):
            box, class_id = random_box(rng), int(rng.choice(ids))
            crowd = bool(rng.random() < 0.15)
            shape = box_mask(box) if crowd else [corners(box)]
            truth["annotations"].append(
                {"id": len(truth["annotations"]) + 1, "image_id": image, "category_id": class_id, "bbox": box}
                | {"area": box[2] * box[3], "iscrowd": int(crowd), "segmentation": shape}
            )
            for _ in range(int(rng.integers(0, 4))):
                near = (np.array(box) + rng.normal(0, 0.06, 4) * box[2]).clip(1).tolist()
                results.append(
                    random_result(rng, image, class_id if rng.random() < 0.8 else int(rng.choice(ids)), near)
                )
        flood = rng.random() < 0.15
        for _ in range(130 if flood else int(rng.choice([0, 3]))):
            class_id = ids[0] if flood else int(rng.choice(ids))
            results.append(random_result(rng, image, class_id, random_box(rng)))
    # With nothing found pycocotools fails; see the test of that case.
    return truth, results or [random_result(rng, 1, ids[0], random_box(rng))]


def random_box(rng: np.random.Generator) -> list[float]:
    size = np.exp(rng.uniform(np.log(6), np.log([WIDTH, HEIGHT]))) * 0.9
    corner = rng.uniform(0, np.array([WIDTH, HEIGHT]) - size)
    return [float(value) for value in (*corner, *size)]


def random_result(rng: np.random.Generator, image: int, class_id: int, box: list[float]) -> dict[str, Any]:
    score = round(float(rng.random()), 1)
    return {"image_id": image, "category_id": class_id, "score": score, "bbox": box, "segmentation": box_mask(box)}


def corners(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def box_mask(box: list[float]) -> dict[str, Any]:
    (encoded,) = mask.frPyObjects([corners(box)], HEIGHT, WIDTH)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def scene(*objects: tuple[int, str, list[float]]) -> dict[str, Any]:
    """Two images, the classes cup and fork; each object is its image's id, its class and its box."""
    ids = {"cup": 1, "fork": 2}
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (1, 2)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": ids[name], "bbox": box, "area": box[2] * box[3]}
            | {"iscrowd": 0, "segmentation": [corners(box)]}
            for number, (image, name, box) in enumerate(objects, start=1)
        ],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "fork"}],
    }


def found(image: int, name: str, box: list[float], score: float = 0.9) -> dict[str, Any]:
    return {"image_id": image, "category_id": {"cup": 1, "fork": 2}[name], "bbox": box, "score": score}


BOX = [10.0, 10.0, 40.0, 20.0]
FAR = [200.0, 150.0, 40.0, 20.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_twelve_numbers_are_those_of_pycocotools(seed, kind):
    truth, results = random_case(seed)
    scores = score(truth, results, [kind]).values
    assert list(scores) == [f"{kind}_{name}" for name in NAMES]
    np.testing.assert_allclose(list(scores.values()), reference(truth, results, kind), rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_of_each_class_are_those_of_pycocotools(seed, kind):
    truth, results = random_case(seed)
    per_class = score(truth, results, [kind]).per_class
    assert per_class.keys() == {category["name"] for category in truth["categories"]}
    for category in truth["categories"]:
        np.testing.assert_allclose(
            [per_class[category["name"]][f"{kind}_{name}"] for name in NAMES],
            reference(truth, results, kind, category["id"]),
            rtol=0,
            atol=1e-9,
        )


def test_the_random_cases_have_what_they_are_meant_to():
    cases = [random_case(seed) for seed in SEEDS]
    assert any(annotation["iscrowd"] for truth, _ in cases for annotation in truth["annotations"])
    assert any(len(truth["categories"]) > 15 for truth, _ in cases)
    assert any({i["id"] for i in truth["images"]} - {r["image_id"] for r in results} for truth, results in cases)
    of_one_class = [Counter((r["image_id"], r["category_id"]) for r in results) for _, results in cases]
    assert max(max(counts.values()) for counts in of_one_class) > 100
    scores = [score(truth, results).values for truth, results in cases]
    # Numbers that agree because all are 0 or 1 would show nothing.
    for name in ("bbox_mAP", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l", "segm_mAP"):
        assert sum(0.05 < values[name] < 0.95 for values in scores) >= 6, name


def test_a_curve_s_average_precision_is_the_class_s_score():
    truth, results = random_case(3)
    scores = {name: own["bbox_mAP_50"] for name, own in score(truth, results).per_class.items()}
    averages = {name: curve.mean() for name, curve in precision_recall(truth, results).items()}
    assert averages == pytest.approx({name: own for name, own in scores.items() if not math.isnan(own)}, abs=1e-12)
    assert any(0 < average < 1 for average in averages.values())


def test_a_curve_falls_where_a_false_detection_outranks_a_true_one():
    truth = scene((1, "cup", BOX), (2, "cup", BOX))
    results = [found(1, "cup", BOX, 0.9), found(2, "cup", FAR, 0.8), found(2, "cup", BOX, 0.7)]
    curve = precision_recall(truth, results)["cup"]
    assert curve.shape == (101,)
    assert curve[:51] == pytest.approx(1.0)
    assert curve[51:] == pytest.approx(2 / 3)
    assert curve.mean() == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_class_without_objects_has_no_curve():
    assert list(precision_recall(scene((1, "cup", BOX)), [found(1, "fork", BOX)])) == ["cup"]


def test_nothing_found_scores_zero_and_sizes_that_are_not_there_are_nan():
    scores = score(scene((1, "cup", BOX)), [])
    assert scores.values["bbox_mAP"] == scores.values["segm_AR_100"] == scores.values["bbox_mAP_s"] == 0.0
    assert math.isnan(scores.values["bbox_mAP_l"])
    assert scores.per_class["cup"]["segm_mAP_50"] == 0.0
    assert math.isnan(scores.per_class["fork"]["bbox_mAP"])
    assert precision_recall(scene((1, "cup", BOX)), [])["cup"].mean() == 0.0


def test_a_split_without_objects_has_nan_scores():
    assert all(math.isnan(value) for value in score(scene(), [found(1, "cup", BOX)]).values.values())
    assert all(math.isnan(value) for value in score(scene() | {"images": []}, []).values.values())


def test_results_without_masks_are_scored_by_boxes_only():
    truth = scene((1, "cup", BOX))
    boxes = [found(1, "cup", BOX)]
    assert list(score(truth, boxes).values) == [f"bbox_{name}" for name in NAMES]
    both = [found(1, "cup", BOX) | {"segmentation": box_mask(BOX)}]
    assert list(score(truth, both + boxes).values) == [f"bbox_{name}" for name in NAMES]
    assert score(truth, both).values["segm_mAP"] == pytest.approx(1.0)


def test_a_mask_s_size_is_its_own_and_not_its_box_s():
    # A thin diagonal: a small area in a large box, found where nothing is, so that only its size matters.
    thin = [0.0, 0.0, 8.0, 0.0, 300.0, 230.0, 292.0, 230.0]
    (encoded,) = mask.frPyObjects([thin], HEIGHT, WIDTH)
    encoded["counts"] = encoded["counts"].decode()
    area = float(mask.area(encoded))
    truth = scene((1, "cup", [0.0, 0.0, 300.0, 230.0]))
    truth["annotations"][0] |= {"segmentation": [thin], "area": area}
    results = [found(1, "cup", [0.0, 0.0, 300.0, 230.0]) | {"segmentation": encoded}]
    scores = score(truth, results).values
    assert area < 96**2
    assert scores["segm_mAP_m"] == pytest.approx(1.0)
    assert math.isnan(scores["segm_mAP_l"])


def test_scoring_leaves_its_inputs_as_they_are():
    truth, results = random_case(5)
    before = copy.deepcopy((truth, results))
    score(truth, results)
    precision_recall(truth, results)
    confusion(truth, results)
    assert (truth, results) == before


def test_scoring_prints_nothing(capfd):
    truth, results = random_case(5)
    score(truth, results)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("strange", [{"image_id": 99}, {"category_id": 99}])
@pytest.mark.parametrize("measure", [score, precision_recall, confusion])
def test_results_of_another_split_or_dataset_are_refused(measure, strange):
    with pytest.raises(ForeignResultsError, match="99"):
        measure(scene((1, "cup", BOX)), [found(1, "cup", BOX) | strange])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="bbox, segm"):
        score(scene((1, "cup", BOX)), [], ["boundary"])


CUP, FORK, BACKGROUND = range(3)
CONFUSIONS = {
    "found as what it is": ([(1, "cup", BOX)], [found(1, "cup", BOX)], {(CUP, CUP): 1}),
    "taken for another class": ([(1, "cup", BOX)], [found(1, "fork", BOX)], {(CUP, FORK): 1}),
    "missed": ([(1, "cup", BOX)], [], {(CUP, BACKGROUND): 1}),
    "on another image": (
        [(1, "cup", BOX)],
        [found(2, "cup", BOX)],
        {(CUP, BACKGROUND): 1, (BACKGROUND, CUP): 1},
    ),
    "in another place": ([(1, "cup", BOX)], [found(1, "cup", FAR)], {(CUP, BACKGROUND): 1, (BACKGROUND, CUP): 1}),
    "found twice": (
        [(1, "cup", BOX)],
        [found(1, "cup", BOX), found(1, "cup", BOX)],
        {(CUP, CUP): 1, (BACKGROUND, CUP): 1},
    ),
    "the better score takes it": (
        [(1, "cup", BOX)],
        [found(1, "cup", BOX, 0.5), found(1, "fork", BOX, 0.8)],
        {(CUP, FORK): 1, (BACKGROUND, CUP): 1},
    ),
    "not sure enough": ([(1, "cup", BOX)], [found(1, "cup", BOX, 0.29)], {(CUP, BACKGROUND): 1}),
    "just sure enough": ([(1, "cup", BOX)], [found(1, "cup", BOX, 0.3)], {(CUP, CUP): 1}),
    # 40 x 20 boxes: half of it overlaps the other in 20 x 20 of 1200, and in 40 x 20 of 1600.
    "overlap of a third": ([(1, "cup", BOX)], [found(1, "cup", [30.0, 10, 40, 20])], {(CUP, 2): 1, (2, CUP): 1}),
    "overlap of exactly a half": ([(1, "cup", BOX)], [found(1, "cup", [10.0, 10, 40, 40])], {(CUP, CUP): 1}),
    "the nearer one takes it": (
        [(1, "fork", [16.0, 10, 40, 20]), (1, "cup", BOX)],
        [found(1, "cup", BOX)],
        {(CUP, CUP): 1, (FORK, BACKGROUND): 1},
    ),
    "nothing there, nothing found": ([], [], {}),
}


@pytest.mark.parametrize(("objects", "results", "counts"), CONFUSIONS.values(), ids=CONFUSIONS)
def test_confusion_counts(objects, results, counts):
    counted = confusion(scene(*objects), results)
    expected = np.zeros((3, 3), dtype=int)
    for place, count in counts.items():
        expected[place] = count
    assert counted.labels == ("cup", "fork", "background")
    assert np.issubdtype(counted.matrix.dtype, np.integer)
    assert counted.matrix.tolist() == expected.tolist()


def test_confusion_leaves_crowds_out():
    truth = scene((1, "cup", BOX))
    truth["annotations"][0]["iscrowd"] = 1
    assert confusion(truth, []).matrix.sum() == 0


def test_confusion_counts_every_object_and_every_detection_once():
    truth, results = random_case(7)
    matrix = confusion(truth, results).matrix
    assert matrix[:-1].sum() == sum(not annotation["iscrowd"] for annotation in truth["annotations"])
    assert matrix[:, :-1].sum() == sum(result["score"] >= 0.3 for result in results)
    assert np.trace(matrix) > 0


@pytest.mark.slow
def test_confusion_of_a_thousand_images_is_quick():
    truth = scene() | {"images": [{"id": i, "width": WIDTH, "height": HEIGHT} for i in range(1000)]}
    results = [found(i, "cup", BOX) for i in range(1000) for _ in range(20)]
    start = time.process_time()
    assert confusion(truth, results).matrix[BACKGROUND, CUP] == 20_000
    assert time.process_time() - start < 5.0


def test_box_overlap_is_the_shared_part_of_both():
    one = np.array([[0.0, 0, 10, 10]])
    others = np.array([[5.0, 0, 10, 10], [10, 0, 10, 10], [0, 0, 10, 10]])
    assert box_overlaps(one, others)[0].tolist() == pytest.approx([1 / 3, 0, 1])
