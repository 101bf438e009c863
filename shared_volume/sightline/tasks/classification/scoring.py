"""Part scoring: accuracy, F1 and confusion. An image's answer is its class of the highest score."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.tasks.task import Confusion, Scores

MOST_ANSWERS = 5
"""An image's results name so many classes, the likeliest first."""


def results_of(scores: Sequence[float], image_id: int) -> list[dict[str, Any]]:
    """An image's scores, (C,), as results."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[:MOST_ANSWERS]
    return [{"image_id": image_id, "category_id": index + 1, "score": float(scores[index])} for index in order]


def answers_of(results: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """Image id -> its result of the highest score."""
    answers: dict[int, Mapping[str, Any]] = {}
    for one in results:
        best = answers.get(one["image_id"])
        if best is None or one["score"] > best["score"]:
            answers[one["image_id"]] = one
    return answers


def score(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], outputs: Sequence[str] = ()) -> Scores:
    """Accuracy (the share of right answers), and each class's F1 = 2 PR / (P + R) with precision P and recall R.

    macro_F1 is the mean over the classes that the truth has. An image without an answer counts as a wrong one.
    """
    matrix = confusion(truth, results).matrix
    names = [category["name"] for category in _categories(truth)]
    asked = np.bincount([one["category_id"] - 1 for one in truth["annotations"]], minlength=len(names))
    right, answered = np.diag(matrix), matrix.sum(axis=0)
    per_class = {
        name: {
            "F1": _share(2 * right[index], asked[index] + answered[index]) if asked[index] else math.nan,
            "precision": _share(right[index], answered[index]),
            "recall": _share(right[index], asked[index]),
        }
        for index, name in enumerate(names)
    }
    known = [values["F1"] for values in per_class.values() if not math.isnan(values["F1"])]
    values = {"accuracy": _share(right.sum(), asked.sum()), "macro_F1": float(np.mean(known)) if known else math.nan}
    return Scores(values, per_class)


def confusion(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Confusion:
    """Which class was taken for which; images without an answer are left out."""
    categories = _categories(truth)
    matrix = np.zeros((len(categories), len(categories)), dtype=np.int64)
    answers = answers_of(results)
    for one in truth["annotations"]:
        if answer := answers.get(one["image_id"]):
            matrix[one["category_id"] - 1, answer["category_id"] - 1] += 1
    return Confusion(tuple(category["name"] for category in categories), matrix)


def _categories(truth: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(truth["categories"], key=lambda category: category["id"])


def _share(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else math.nan
