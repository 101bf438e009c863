"""A dataset version in numbers, per split: statistics.json, from which the record report draws."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sightline.steps.record.split import Splitting, missing_classes

MOST_BINS: Final = 24
MOST_GROUPS: Final = 10
MOST_NAMES: Final = 8  # of one group
SIZES: Final = {
    "area": ("square pixels", "doubling"),
    "side": ("pixels", "even"),
    "objects_per_image": ("objects", "whole"),
}
"""Histogram -> its unit, and how its edges lie: at powers of two, evenly, or evenly from 0 on."""
_STEPS: Final = (1, 2, 5)  # times a power of ten
_FINEST: Final = 8  # steps between a number and its double


@dataclass(frozen=True, slots=True)
class Measures:
    """One split, measured. Objects are annotations without the crowds, which training and evaluation ignore."""

    images: int
    crowds: int
    annotations: Counter[int]  # category id -> number of annotations, crowds among them
    objects: Counter[int]  # category id -> number of objects
    images_with: Counter[int]  # category id -> images with at least one
    values: Mapping[str, np.ndarray]  # histogram -> what is counted: of each object, where it has one, or of each image


def join_measures(parts: Sequence[Measures]) -> Measures:
    """The measures of one split, from those of its parts, at least one; no image is in two of them."""
    return Measures(
        images=sum(one.images for one in parts),
        crowds=sum(one.crowds for one in parts),
        annotations=sum((one.annotations for one in parts), Counter()),
        objects=sum((one.objects for one in parts), Counter()),
        images_with=sum((one.images_with for one in parts), Counter()),
        values={name: np.concatenate([one.values[name] for one in parts]) for name in parts[0].values},
    )


def measure_split(coco: Mapping[str, Any]) -> Measures:
    """Count and measure what a split's COCO file, or a part of it, holds."""
    objects = [one for one in coco["annotations"] if not one.get("iscrowd")]
    per_image = Counter(one["image_id"] for one in objects)
    pairs = {(one["image_id"], one["category_id"]) for one in objects}
    return Measures(
        images=len(coco["images"]),
        crowds=len(coco["annotations"]) - len(objects),
        annotations=Counter(one["category_id"] for one in coco["annotations"]),
        objects=Counter(one["category_id"] for one in objects),
        images_with=Counter(category for _, category in pairs),
        values={
            "area": np.array([one["area"] for one in objects if "area" in one], dtype=np.float64),
            "side": np.array([min(one["bbox"][2:]) for one in objects if "bbox" in one], dtype=np.float64),
            "objects_per_image": np.array([per_image[image["id"]] for image in coco["images"]], dtype=np.float64),
        },
    )


def assemble_statistics(
    measures: Mapping[str, Measures],
    classes: Sequence[str],
    stages: Sequence[Mapping[str, Any]],
    other_labels: Sequence[Mapping[str, Any]],
    splitting: Splitting,
    annotated: str,
) -> dict[str, Any]:
    """The content of statistics.json; `annotated` is what the task says that one annotation is of."""
    objects = {split: _per_class(one.objects, classes) for split, one in measures.items()}
    by_class = {
        "labels": list(classes),
        "objects": {split: list(counts.values()) for split, counts in objects.items()},
        "images": {split: list(_per_class(one.images_with, classes).values()) for split, one in measures.items()},
    }
    by_size = {
        name: _histogram(unit, scale, {split: one.values[name] for split, one in measures.items()})
        for name, (unit, scale) in SIZES.items()
    }
    left_out = [str(other["label"]) for other in other_labels]
    empty = [
        f"The split {split} has no {annotated if one.images else 'image'}."
        for split, one in measures.items()
        if not one.objects
    ]
    return {
        "splits": {
            split: {
                "images": one.images,
                "images_without_objects": int((one.values["objects_per_image"] == 0).sum()),
                "objects": one.objects.total(),
                "crowds": one.crowds,
            }
            for split, one in measures.items()
        },
        "histograms": {"class": by_class, **by_size},
        "stages": stages,
        "other_labels": other_labels,
        "alike": _describe_groups(splitting),
        "warnings": [*splitting.warnings, *empty, *missing_classes(objects, annotated, left_out)],
        **({"chosen_from": splitting.chosen_from} if splitting.chosen_from else {}),
    }


def _per_class(counts: Mapping[int, int], classes: Sequence[str]) -> dict[str, int]:
    return {label: counts.get(number, 0) for number, label in enumerate(classes, start=1)}


def _histogram(unit: str, scale: str, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Edges that all splits share, and how many values of each lie from one edge up to the next."""
    together = np.concatenate([np.zeros(0), *values.values()])
    if not together.size:
        return {"unit": unit, "scale": scale, "edges": [], "counts": {split: [] for split in values}}
    low, high = 0.0 if scale == "whole" else float(together.min()), float(together.max())
    edges = _doubling_edges(low, high) if scale == "doubling" else _even_edges(low, high)
    counts = {}
    for split, own in values.items():
        positions = np.searchsorted(np.array(edges), own, side="right") - 1
        counts[split] = np.bincount(positions, minlength=len(edges) - 1).tolist()
    return {"unit": unit, "scale": scale, "edges": edges, "counts": counts}


def _doubling_edges(low: float, high: float) -> list[float]:
    """Powers of two and as many steps between them, each by the same factor, as there is room for.

    Logarithms differ in their last bit between machines; powers of two and square roots do not.
    """
    start = [0.0] if low < 1 else []
    low, high = max(low, 1.0), max(high, 1.0)
    powers = [math.ldexp(1.0, exponent) for exponent in range(math.frexp(low)[1] - 1, math.frexp(high)[1] + 1)]
    steps = [1.0]
    edges = _around(powers, steps, low, high)
    while len(steps) < _FINEST:
        root = math.sqrt(steps[1] if len(steps) > 1 else 2.0)
        steps = [value for step in steps for value in (step, step * root)]
        finer = _around(powers, steps, low, high)
        if len(finer) > MOST_BINS:
            break
        edges = finer
    return start + edges


def _around(powers: Sequence[float], steps: Sequence[float], low: float, high: float) -> list[float]:
    """The edges that the values lie between."""
    edges = [power * step for power in powers[:-1] for step in steps] + [powers[-1]]
    return edges[sum(edge <= low for edge in edges) - 1 : sum(edge <= high for edge in edges) + 1]


def _even_edges(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at least of 1."""
    step = next(
        factor * 10**power
        for power in range(20)
        for factor in _STEPS
        if high // (factor * 10**power) - low // (factor * 10**power) < MOST_BINS
    )
    return [float(step * index) for index in range(int(low // step), int(high // step) + 2)]


def _describe_groups(splitting: Splitting) -> dict[str, Any]:
    """Groups of images that share a split: how many, how large, and the largest by name."""
    split_of = {name: split for split, names in splitting.split.items() for name in names}
    largest = sorted(splitting.groups, key=lambda names: (-len(names), names))[:MOST_GROUPS]
    return {
        "groups": len(splitting.groups),
        "images": sum(map(len, splitting.groups)),
        "largest": [
            {"size": len(names), "split": split_of[names[0]], "names": list(names[:MOST_NAMES])} for names in largest
        ],
    }
