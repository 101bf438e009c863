"""Part scoring: accuracy and F1. An image's answer is its class of the highest score."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.tasks.task import Scores


def score(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], outputs: Sequence[str] = ()) -> Scores:
    """Accuracy (the share of right answers), and each class's F1 = 2 PR / (P + R) with precision P and recall R.

    macro_F1 is the mean over the classes that the truth has. An image without an answer counts as a wrong one.
    """
    names, matrix = count_answers(truth, results)
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


def count_answers(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes, and how often which was taken for which: (C, C) int64, [truth, answer], of images with an answer."""
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    matrix = np.zeros((len(categories), len(categories)), dtype=np.int64)
    answers = answers_of(results)
    for one in truth["annotations"]:
        if answer := answers.get(one["image_id"]):
            matrix[one["category_id"] - 1, answer["category_id"] - 1] += 1
    return tuple(category["name"] for category in categories), matrix


def answers_of(results: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """Image id -> its result of the highest score, the first of several."""
    answers: dict[int, Mapping[str, Any]] = {}
    for one in sorted(results, key=lambda one: -one["score"]):
        answers.setdefault(one["image_id"], one)
    return answers


def _share(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else math.nan
