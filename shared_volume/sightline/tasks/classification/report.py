"""Part report: how sure right and wrong answers are, and how good each image's answer is."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sightline.reports.charts import compared_histogram
from sightline.tasks.classification.scoring import answers_of, count_answers
from sightline.tasks.task import Confusion, ImageScore

RANKED_BY = "Wrong answers first that were surest, right ones likewise."
BINS = 20


def charts(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[Markup]:
    """The scores of right and of wrong answers."""
    class_of = {one["image_id"]: one["category_id"] for one in truth["annotations"]}
    counts = {"right": [0] * BINS, "wrong": [0] * BINS}
    for image, answer in answers_of(results).items():
        kind = "right" if class_of.get(image) == answer["category_id"] else "wrong"
        counts[kind][min(BINS - 1, int(answer["score"] * BINS))] += 1
    edges = [index / BINS for index in range(BINS + 1)]
    return [compared_histogram("How sure answers are", edges, counts, "score of the answer", "% of these answers")]


def confusion(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Confusion:
    """Which class was taken for which; images without an answer are left out."""
    return Confusion(*count_answers(truth, results))


def score_image(truth: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> ImageScore:
    """Whether the answer is right, and how sure it is."""
    answer = max(results, key=lambda one: float(one["score"]), default=None)
    right = bool(answer and truth and truth[0]["category_id"] == answer["category_id"])
    return ImageScore(
        found=int(right),
        missed=int(not right),
        false=int(bool(answer) and not right),
        sureness=float(answer["score"]) if answer else 0.0,
    )
