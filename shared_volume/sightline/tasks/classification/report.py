"""Part report: how sure right and wrong answers are, and how good each image's answer is."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sightline.reports.charts import compared_histogram
from sightline.reports.page import counted, number
from sightline.tasks.classification.scoring import answers_of, count_answers
from sightline.tasks.task import Confusion, ImageScore

RANKED_BY = "Wrong answers first that were surest, right ones likewise."
SHOWN_SCORE = 0.0  # an image's answer is its answer, however unsure
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


def score_image(
    truth: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> ImageScore:
    """Whether the answer is right, and how sure it is."""
    answer = max(results, key=lambda one: float(one["score"]), default=None)
    right = bool(answer and truth and truth[0]["category_id"] == answer["category_id"])
    if answer is None:
        return ImageScore(found=0, missed=1, false=0, note="no answer")
    taken = "right" if right else f"wrong, taken for {classes[answer['category_id'] - 1]}"
    note = f"{taken}, score {answer['score']:.2f}"
    return ImageScore(int(right), int(not right), int(not right), float(answer["score"]), note)


def sum_up(scores: Sequence[ImageScore]) -> str:
    """How many answers are right."""
    return f"{number(sum(score.found for score in scores))} of {counted(len(scores), 'answer')} right"


def image_charts(scores: Sequence[ImageScore]) -> list[Markup]:
    """None: an answer is right or wrong."""
    return []
