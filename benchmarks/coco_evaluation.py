"""COCO box evaluation: pycocotools and ours, in one run, on the same truth and results.

    python benchmarks/coco_evaluation.py [--images 1000] [--classes 80] [--detections 100]

Ours also scores every class by itself. Both sides start from the truth and the results in memory. Exits with 1 when ours
is less than 5 times faster, or when one of the twelve numbers differs by more than 1e-9.
"""

import argparse
import contextlib
import copy
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared_volume"))

import numpy as np  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402

from sightline.tasks.detection.scoring import score  # noqa: E402

SIDE = 640  # pixels
OBJECTS = 8  # an image; COCO has 7.3
GOAL_RATIO = 5.0
GOAL_DIFFERENCE = 1e-9


def make_case(images: int, classes: int, detections: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects of all sizes; detections near them, of their class or another, and elsewhere, with scores to match."""
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        boxes, labels = make_boxes(rng, OBJECTS), rng.integers(1, classes + 1, OBJECTS)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": label, "bbox": box}
                | {"area": box[2] * box[3], "iscrowd": int(rng.random() < 0.01)}
            )
        near = np.arange(detections) < detections // 2
        source = rng.integers(0, OBJECTS, detections)
        shift = rng.normal(0.0, 0.08, (detections, 4)) * boxes[source][:, [2, 3, 2, 3]]
        found = np.where(near[:, None], boxes[source] + shift, make_boxes(rng, detections)).clip(1.0)
        right = near & (rng.random(detections) < 0.8)
        label = np.where(right, labels[source], rng.integers(1, classes + 1, detections))
        score = np.clip(rng.normal(0.3, 0.15, detections) + 0.3 * right, 0.0, 1.0)
        results += [
            {"image_id": image, "category_id": c, "bbox": b, "score": s}
            for c, b, s in zip(label.tolist(), found.tolist(), score.tolist(), strict=True)
        ]
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": SIDE, "height": SIDE} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, classes + 1)],
    }
    return truth, results


def make_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) x, y, width, height; sides from 10 to 400 pixels, as many small as large."""
    size = np.exp(rng.uniform(np.log(10), np.log(400), (count, 2)))
    return np.hstack([rng.uniform(0, 1, (count, 2)) * (SIDE - size), size])


def pycocotools_scores(truth: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """Its twelve numbers."""
    with contextlib.redirect_stdout(io.StringIO()):
        expected = COCO()
        expected.dataset = truth
        expected.createIndex()
        evaluation = COCOeval(expected, expected.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def our_scores(truth: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """Our twelve numbers, in the same order."""
    return list(score(truth, results, ["bbox"]).values.values())


def timed(
    function: Callable[[dict[str, Any], list[dict[str, Any]]], list[float]],
    truth: dict[str, Any],
    results: list[dict[str, Any]],
) -> tuple[list[float], float, float]:
    """The scores, wall seconds and processor seconds; on copies, because pycocotools writes into what it is given."""
    truth, results = copy.deepcopy((truth, results))
    wall, processor = time.perf_counter(), time.process_time()
    scores = function(truth, results)
    return scores, time.perf_counter() - wall, time.process_time() - processor


def main() -> int:
    """Run both sides and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--detections", type=int, default=100, help="per image")
    options = parser.parse_args()
    truth, results = make_case(options.images, options.classes, options.detections)
    print(
        f"{options.images} images, {options.classes} classes, {len(truth['annotations'])} objects, {len(results)} detections"
    )
    ours, our_wall, our_processor = timed(our_scores, truth, results)
    theirs, their_wall, their_processor = timed(pycocotools_scores, truth, results)
    # Processor time: on a busy machine the wall clock measures the neighbours.
    ratio = their_processor / our_processor
    difference = float(np.abs(np.array(ours) - np.array(theirs)).max())
    print(f"pycocotools  {their_wall:7.2f} s  ({their_processor:.2f} s of processor time)  mAP {theirs[0]:.4f}")
    print(f"sightline    {our_wall:7.2f} s  ({our_processor:.2f} s of processor time)  mAP {ours[0]:.4f}")
    print(f"{ratio:.1f} times faster (goal: at least {GOAL_RATIO:g}; by the wall clock {their_wall / our_wall:.1f})")
    print(f"largest difference of the 12 numbers {difference:.1e} (goal: at most {GOAL_DIFFERENCE:g})")
    # Not `difference > goal`: a NaN must fail too.
    return 0 if ratio >= GOAL_RATIO and difference <= GOAL_DIFFERENCE else 1


if __name__ == "__main__":
    sys.exit(main())
