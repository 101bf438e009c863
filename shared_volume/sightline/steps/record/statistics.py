"""A dataset version in numbers, per split: statistics.json, from which the data report draws."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sightline.services.versioning.shards import SPLITS
from sightline.steps.record.split import Splitting, missing_classes

MOST_BINS: Final = 24
MOST_GROUPS: Final = 10
MOST_NAMES: Final = 8  # of one group
_STEPS: Final = (1, 2, 5)  # times a power of ten
_FINEST: Final = 8  # steps between a number and its double


@dataclass(frozen=True, slots=True)
class Measures:
    """One split, measured. Objects are annotations without the crowds, which training and evaluation ignore.

    Attributes:
        images: how many.
        crowds: how many annotations are crowds.
        objects: category id -> number of objects.
        images_with: category id -> images with at least one.
        areas: of every object that has one, in square pixels.
        sides: of every object that has a box: the box's shorter side, in pixels.
        objects_per_image: for every image.
    """

    images: int
    crowds: int
    objects: Counter[int]
    images_with: Counter[int]
    areas: np.ndarray
    sides: np.ndarray
    objects_per_image: np.ndarray


def measure_split(coco: Mapping[str, Any]) -> Measures:
    """Count and measure what a split's COCO file holds."""
    objects = [one for one in coco["annotations"] if not one.get("iscrowd")]
    per_image = Counter(one["image_id"] for one in objects)
    pairs = {(one["image_id"], one["category_id"]) for one in objects}
    return Measures(
        images=len(coco["images"]),
        crowds=len(coco["annotations"]) - len(objects),
        objects=Counter(one["category_id"] for one in objects),
        images_with=Counter(category for _, category in pairs),
        areas=np.array([one["area"] for one in objects if "area" in one], dtype=np.float64),
        sides=np.array([min(one["bbox"][2:]) for one in objects if "bbox" in one], dtype=np.float64),
        objects_per_image=np.array([per_image[image["id"]] for image in coco["images"]], dtype=np.float64),
    )


def assemble_statistics(
    measures: Mapping[str, Measures],
    classes: Sequence[str],
    stages: Sequence[Mapping[str, Any]] = (),
    other_labels: Sequence[Mapping[str, Any]] = (),
    splitting: Splitting | None = None,
    annotated: str = "object",
) -> dict[str, Any]:
    """The content of statistics.json.

    Args:
        measures: split -> its measures.
        classes: in the order of their category ids.
        stages: what each stage of the recipe was given and what it left.
        other_labels: labels that were not chosen, with counts.
        splitting: what the splits were assigned by.
        annotated: what the task calls that which an annotation is of.
    """
    per_class = {split: _per_class(one.objects, classes) for split, one in measures.items()}
    empty = [
        f"The split {split} has no {annotated if one.images else 'image'}."
        for split, one in measures.items()
        if not one.objects
    ]
    return {
        "splits": {
            split: {
                "images": one.images,
                "images_without_objects": int((one.objects_per_image == 0).sum()),
                "objects": one.objects.total(),
                "crowds": one.crowds,
            }
            for split, one in measures.items()
        },
        "histograms": {
            "class": {
                "labels": list(classes),
                "objects": {split: list(counts.values()) for split, counts in per_class.items()},
                "images": {
                    split: list(_per_class(one.images_with, classes).values()) for split, one in measures.items()
                },
            },
            "area": _histogram("square pixels", "doubling", {split: one.areas for split, one in measures.items()}),
            "side": _histogram("pixels", "even", {split: one.sides for split, one in measures.items()}),
            "objects_per_image": _histogram(
                "objects", "whole", {split: one.objects_per_image for split, one in measures.items()}
            ),
        },
        "stages": [dict(stage) for stage in stages],
        "other_labels": [dict(label) for label in other_labels],
        "alike": _describe_groups(splitting),
        "warnings": [*(splitting.warnings if splitting else ()), *empty, *missing_classes(per_class, annotated)],
    }


def _per_class(counts: Mapping[int, int], classes: Sequence[str]) -> dict[str, int]:
    return {label: counts.get(number, 0) for number, label in enumerate(classes, start=1)}


def _histogram(unit: str, scale: str, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Edges that all splits share, and how many values of each lie from one edge up to the next."""
    together = np.concatenate([np.zeros(0), *values.values()])
    if not together.size:
        return {"unit": unit, "scale": scale, "edges": [], "counts": {split: [] for split in values}}
    low, high = float(together.min()), float(together.max())
    edges = {"doubling": _doubling_edges, "even": _even_edges, "whole": _whole_edges}[scale](low, high)
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


def _whole_edges(low: float, high: float) -> list[float]:
    """As `_even_edges`, from 0 on."""
    return _even_edges(0.0, high)


def _describe_groups(splitting: Splitting | None) -> dict[str, Any]:
    """Groups of images that share a split: how many, how large, and the largest by name."""
    groups = splitting.groups if splitting else ()
    split_of = {name: split for split in SPLITS for name in (splitting.split.names(split) if splitting else ())}
    largest = sorted(groups, key=lambda names: (-len(names), names))[:MOST_GROUPS]
    return {
        "groups": len(groups),
        "images": sum(len(names) for names in groups),
        "largest": [
            {"size": len(names), "split": split_of[names[0]], "names": list(names[:MOST_NAMES])} for names in largest
        ],
    }
