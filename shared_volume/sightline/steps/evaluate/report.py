"""The evaluation report: all candidates' scores, the selected one's curves and confusion, its best and worst images."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from sightline.reports.charts import confusion_chart, grouped_bar_chart, histogram, precision_recall_chart
from sightline.reports.page import (
    Picture,
    Tile,
    counted,
    details,
    gallery,
    grid,
    legend,
    notice,
    number,
    render_page,
    section,
    table,
    tiles,
)
from sightline.reports.pictures import Thumbnails, shapes_from_coco, try_open
from sightline.tasks.detection.metrics.confusion import Confusion, box_overlaps, boxes_of
from sightline.tasks.detection.metrics.curves import PrecisionRecall

MATCH_IOU = 0.5  # a prediction found an object when their boxes overlap at least so much
SHOWN_SCORE = 0.3  # predictions below it count for nothing in the pictures
SHOWN_IMAGES = 8  # best, and as many worst
MOST_CURVES = 12
MOST_BARS = 24  # classes
HEADLINE_METRICS = ("bbox_mAP", "bbox_mAP_50", "segm_mAP", "segm_mAP_50")


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """One compared model.

    Attributes:
        name: best, last, or what the user called it.
        uri: where its bundle is.
        scores: metric -> value; -1 or nan where the split has no such object.
        per_class: class -> metric -> value.
    """

    name: str
    uri: str
    scores: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageScore:
    """How well one image's objects were found.

    Attributes:
        found: objects with a prediction of their class.
        missed: objects without.
        false: predictions without an object.
    """

    found: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 for an image with nothing to find and nothing found."""
        total = 2 * self.found + self.missed + self.false
        return 2 * self.found / total if total else 1.0


def render_evaluation_report(
    dataset_dir: Path,
    split: str,
    candidates: Sequence[CandidateResult],
    selected: str,
    results: Sequence[Mapping[str, Any]],
    curves: Mapping[str, PrecisionRecall],
    confusion: Confusion | None,
    facts: Mapping[str, str],
    select_by: str = "",
) -> str:
    """The page for one evaluation.

    Args:
        dataset_dir: the dataset version.
        split: the evaluated split.
        candidates: all compared models.
        selected: name of the chosen one.
        results: its predictions on the split, COCO results.
        curves: its precision over recall, per class.
        confusion: its confusion matrix, or None.
        facts: what made it, name -> value, for the page's head.
        select_by: the metric that decided.

    Returns:
        One self-contained HTML document, under 5 MB.
    """
    dataset = json.loads((dataset_dir / "dataset.json").read_bytes())
    coco = json.loads((dataset_dir / f"{split}.json").read_bytes())
    classes = dataset["classes"]
    chosen = next(candidate for candidate in candidates if candidate.name == selected)
    blocks = [
        _headline(chosen, len(coco["images"]), split),
        _candidates_section(candidates, chosen, select_by),
        _classes_section(chosen, classes, coco, _curve_charts(curves, confusion, classes)),
        _images_section(dataset_dir, coco, results, classes),
    ]
    title = f"{dataset['category']} {dataset['version']} · {split}"
    return render_page("Evaluation report", title, facts, [block for block in blocks if block])


def score_image(
    truth: Sequence[Mapping[str, Any]],
    predictions: Sequence[Mapping[str, Any]],
    iou_threshold: float = MATCH_IOU,
    score_threshold: float = SHOWN_SCORE,
) -> ImageScore:
    """Match predictions to objects of their class, best score first, each object at most once.

    Args:
        truth: COCO annotations of one image (bbox is x, y, width, height in pixels).
        predictions: COCO results of the same image.
        iou_threshold: least overlap of boxes that is a match.
        score_threshold: predictions below it do not count.
    """
    counted_ones = sorted(
        (one for one in predictions if one["score"] >= score_threshold), key=lambda one: one["score"], reverse=True
    )
    free = list(truth)
    found = 0
    for prediction in counted_ones:
        rivals = [one for one in free if one["category_id"] == prediction["category_id"]]
        if not rivals:
            continue
        overlaps = box_overlaps(boxes_of([prediction]), boxes_of(rivals))[0]
        if overlaps.max() >= iou_threshold:
            nearest = rivals[int(overlaps.argmax())]
            free = [one for one in free if one is not nearest]
            found += 1
    return ImageScore(found=found, missed=len(truth) - found, false=len(counted_ones) - found)


def _score(values: Mapping[str, float], name: str) -> float | None:
    value = values.get(name)
    return None if value is None or value == -1 or not np.isfinite(value) else float(value)


def _headline(chosen: CandidateResult, images: int, split: str) -> Markup:
    shown = [Tile(name, _score(chosen.scores, name)) for name in HEADLINE_METRICS if name in chosen.scores]
    return tiles(Tile("Selected model", chosen.name), *shown, Tile("Images", images, f"of {split}"))


def _candidates_section(candidates: Sequence[CandidateResult], chosen: CandidateResult, select_by: str) -> Markup:
    metrics = list(dict.fromkeys(name for candidate in candidates for name in candidate.scores))
    if select_by in metrics:
        metrics = [select_by, *[name for name in metrics if name != select_by]]
    by_metric = [[name, *[_score(candidate.scores, name) for candidate in candidates]] for name in metrics]
    names = [f"{one.name} (selected)" if one is chosen else one.name for one in candidates]
    models = [
        [name, *[_score(one.scores, metric) for metric in _headline_of(metrics, select_by)], one.uri]
        for name, one in zip(names, candidates, strict=True)
    ]
    place = {index for index, one in enumerate(candidates) if one is chosen}
    return section(
        "Candidates",
        table(["model", *_headline_of(metrics, select_by), "where"], models, place),
        details("Every score", table(["metric", *names], by_metric, {0} if select_by in metrics else ())),
        intro=f"Selected by {select_by}." if select_by else "",
    )


def _headline_of(metrics: Sequence[str], select_by: str) -> list[str]:
    return [name for name in metrics if name in HEADLINE_METRICS or name == select_by]


def _classes_section(
    chosen: CandidateResult, classes: Sequence[str], coco: Mapping[str, Any], charts: Sequence[Markup]
) -> Markup:
    objects = Counter(annotation["category_id"] - 1 for annotation in coco["annotations"])
    metrics = list(dict.fromkeys(name for values in chosen.per_class.values() for name in values))
    rows = [
        [label, objects[index], *[_score(chosen.per_class.get(label, {}), name) for name in metrics]]
        for index, label in enumerate(classes)
    ]
    charted = [name for name in ("bbox_mAP", "segm_mAP") if name in metrics] or metrics[:2]
    bars = []
    if charted and len(classes) <= MOST_BARS:
        values = {
            name: [
                math.nan if (score := _score(chosen.per_class.get(label, {}), name)) is None else score
                for label in classes
            ]
            for name in charted
        }
        bars.append(grouped_bar_chart("Score per class", classes, values, "score"))
    return section("Classes", grid(*charts, *bars), table(["class", "objects", *metrics], rows))


def _curve_charts(
    curves: Mapping[str, PrecisionRecall], confusion: Confusion | None, classes: Sequence[str]
) -> list[Markup]:
    charts = []
    defined = {name: curve for name, curve in curves.items() if curve.average_precision >= 0}
    if defined:
        weakest = sorted(defined, key=lambda name: float(defined[name].average_precision))[:MOST_CURVES]
        shown = {name: curve for name, curve in defined.items() if name in weakest}
        charts.append(
            precision_recall_chart(
                "Precision and recall (average precision)",
                {name: (one.recall, one.precision, one.average_precision) for name, one in shown.items()},
                [classes.index(name) if name in classes else index for index, name in enumerate(shown)],
                note=f"The {len(shown)} lowest of {len(defined)} classes." if len(shown) < len(defined) else "",
            )
        )
    if confusion is not None:
        charts.append(
            confusion_chart(
                "Confusion matrix",
                confusion.labels,
                confusion.matrix,
                note="Blue is right, red is wrong. Last column: objects that were missed; last row: "
                "predictions where there is no object.",
            )
        )
    return charts


def _images_section(
    dataset_dir: Path, coco: Mapping[str, Any], results: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> Markup:
    truth: dict[int, list[Mapping[str, Any]]] = {image["id"]: [] for image in coco["images"]}
    found: dict[int, list[Mapping[str, Any]]] = {image["id"]: [] for image in coco["images"]}
    for objects, of_image in ((coco["annotations"], truth), (results, found)):
        for one in objects:
            of_image[one["image_id"]].append(one)
    if not truth:
        return section("Images", notice("This split has no image."))
    scores = {key: score_image(truth[key], found[key]) for key in truth}
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    # Among equals the fuller image tells more: objects found for the best, errors made for the worst.
    best = sorted(scores, key=lambda key: (-scores[key].f1, -scores[key].found, names[key]))
    worst = sorted(scores, key=lambda key: (scores[key].f1, -scores[key].missed - scores[key].false, names[key]))
    most = min(SHOWN_IMAGES, (len(scores) + 1) // 2)
    thumbnails = Thumbnails(expected=4 * most)
    worst = [key for key in worst if scores[key].f1 < 1][: min(most, len(scores) - most)]

    def shown(keys: Sequence[int]) -> Markup:
        pairs = [
            _pair(dataset_dir, names[key], truth[key], found[key], scores[key], classes, thumbnails) for key in keys
        ]
        return gallery([pair for pair in pairs if pair is not None])

    intro = (
        f"Ranked by F1 at box IoU {MATCH_IOU}, predictions from score {SHOWN_SCORE}. "
        f"All {counted(len(scores), 'image')}: {number(sum(score.found for score in scores.values()))} objects found, "
        f"{number(sum(score.missed for score in scores.values()))} missed, "
        f"{number(sum(score.false for score in scores.values()))} false."
    )
    return section(
        "Images",
        legend(classes),
        Markup("<h3>Worst</h3>"),
        shown(worst) if worst else notice("No mistake in any other image.", kind="info"),
        Markup("<h3>Best</h3>"),
        shown(best[:most]),
        grid(histogram("F1 of each image", [score.f1 for score in scores.values()], "F1", "images", bins=20)),
        intro=intro,
    )


def _pair(
    dataset_dir: Path,
    name: str,
    truth: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    score: ImageScore,
    classes: Sequence[str],
    thumbnails: Thumbnails,
) -> Picture | None:
    """Truth and prediction of one image side by side; None where it cannot be read or the page is full."""
    picture = try_open(dataset_dir / "images" / name)
    if picture is None:
        return None
    left = thumbnails.add(picture, shapes_from_coco(truth, classes))
    right = thumbnails.add(picture, shapes_from_coco(found, classes, SHOWN_SCORE))
    if left is None or right is None:
        return None
    note = f"F1 {score.f1:.2f}: {score.found} found, {score.missed} missed, {score.false} false"
    return Picture(name, note, ((left, "truth"), (right, "prediction")))
