"""What a classifier says of an image, as results: its likeliest classes, best first."""

from collections.abc import Mapping, Sequence
from typing import Any

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
