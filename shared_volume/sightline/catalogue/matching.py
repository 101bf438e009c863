"""Which annotations of an image are the same in two versions, and which were added, removed or changed."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

SAME_PLACE: Final = 0.5  # overlap of boxes (intersection over union) above which another label means: relabelled

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotation on an image.

    Attributes:
        outline: all of its geometry; equal for equal geometry.
        corners: left, top, right, bottom in pixels.
        notes: everything else that an annotator set; equal for equal notes.
    """

    label: str
    outline: Hashable
    corners: Corners
    notes: Hashable = None


@dataclass(frozen=True, slots=True)
class Matched:
    """What became of an image's annotations."""

    added: tuple[Instance, ...]
    removed: tuple[Instance, ...]
    changed: tuple[tuple[Instance, Instance], ...]


def match_instances(before: Sequence[Instance], after: Sequence[Instance]) -> Matched:
    """Pair an image's annotations: the equal, then those of one geometry, then by label and overlap.

    An annotation that was moved or redrawn counts as changed while its boxes overlap; one that got another label too must
    cover half of what both cover. The best overlap is paired first, whatever the order of the annotations.
    """
    equal = Counter(before) & Counter(after)
    old, new = _leave_out(before, equal), _leave_out(after, equal)
    changed: list[tuple[Instance, Instance]] = []
    _pair(old, new, changed, lambda a, b: float(a.outline == b.outline))
    _pair(old, new, changed, lambda a, b: overlap(a.corners, b.corners) if a.label == b.label else 0.0)
    _pair(old, new, changed, lambda a, b: share if (share := overlap(a.corners, b.corners)) > SAME_PLACE else 0.0)
    return Matched(tuple(new), tuple(old), tuple(changed))


def overlap(a: Corners, b: Corners) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def _leave_out(instances: Sequence[Instance], equal: Counter[Instance]) -> list[Instance]:
    rest: list[Instance] = []
    left = equal.copy()
    for instance in instances:
        left[instance] -= 1
        if left[instance] < 0:
            rest.append(instance)
    return rest


def _pair(
    old: list[Instance],
    new: list[Instance],
    changed: list[tuple[Instance, Instance]],
    likeness: Callable[[Instance, Instance], float],
) -> None:
    """Move pairs with a likeness above 0 to `changed`, the most alike first."""
    pairs = [(likeness(a, b), i, j) for i, a in enumerate(old) for j, b in enumerate(new)]
    pairs = sorted((pair for pair in pairs if pair[0] > 0), key=lambda pair: (-pair[0], pair[1], pair[2]))
    gone_old: set[int] = set()
    gone_new: set[int] = set()
    for _, i, j in pairs:
        if i not in gone_old and j not in gone_new:
            gone_old.add(i)
            gone_new.add(j)
            changed.append((old[i], new[j]))
    old[:] = [instance for i, instance in enumerate(old) if i not in gone_old]
    new[:] = [instance for j, instance in enumerate(new) if j not in gone_new]
