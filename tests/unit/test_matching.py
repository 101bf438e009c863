"""Pairing an image's annotations between two versions."""

import itertools

import pytest

from sightline.catalogue.difference import match_instances, overlap
from sightline.catalogue.reading import Instance


def at(left: float, label: str = "plug", notes: str = "", width: float = 10) -> Instance:
    """A box ten pixels high."""
    return Instance(label, (left, width), (left, 0, left + width, 10), notes)


CASES = {
    "nothing": ([], [], 0, 0, []),
    "equal": ([at(0), at(50)], [at(50), at(0)], 0, 0, []),
    "added": ([at(0)], [at(0), at(50)], 1, 0, []),
    "removed": ([at(0), at(50)], [at(0)], 0, 1, []),
    "moved a little": ([at(0)], [at(4)], 0, 0, [(at(0), at(4))]),
    "moved far away": ([at(0)], [at(40)], 1, 1, []),
    "relabelled": ([at(0)], [at(0, "switch")], 0, 0, [(at(0), at(0, "switch"))]),
    "relabelled and moved a little": ([at(0)], [at(2, "switch")], 0, 0, [(at(0), at(2, "switch"))]),
    "relabelled and moved half its width": ([at(0)], [at(5, "switch")], 1, 1, []),
    "other notes": ([at(0)], [at(0, notes="occluded")], 0, 0, [(at(0), at(0, notes="occluded"))]),
    "a duplicate removed": ([at(0), at(0)], [at(0)], 0, 1, []),
    "a duplicate added": ([at(0)], [at(0), at(0), at(0)], 2, 0, []),
    "each to its nearest": ([at(0), at(6)], [at(5), at(1)], 0, 0, [(at(0), at(1)), (at(6), at(5))]),
    "two swap their labels": (
        [at(0, "a"), at(50, "b")],
        [at(0, "b"), at(50, "a")],
        0,
        0,
        [(at(0, "a"), at(0, "b")), (at(50, "b"), at(50, "a"))],
    ),
    "the same place counts before the same label": (
        [at(0, "a")],
        [at(0, "b"), at(3, "a")],
        1,
        0,
        [(at(0, "a"), at(0, "b"))],
    ),
}


@pytest.mark.parametrize(("before", "after", "added", "removed", "changed"), CASES.values(), ids=CASES)
def test_annotations_are_paired(before, after, added, removed, changed):
    for one in itertools.permutations(before):
        for other in itertools.permutations(after):
            matched = match_instances(one, other)
            assert (len(matched.added), len(matched.removed)) == (added, removed)
            assert sorted(matched.changed, key=repr) == sorted(changed, key=repr)


def test_nothing_is_lost_whatever_is_paired():
    before = [at(3.0 * number, "abc"[number % 3]) for number in range(12)]
    after = [at(3.5 * number, "bca"[number % 3]) for number in range(9)]
    matched = match_instances(before, after)
    equal = len(set(before) & set(after))
    assert equal + len(matched.removed) + len(matched.changed) == len(before)
    assert equal + len(matched.added) + len(matched.changed) == len(after)


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
    ],
)
def test_overlap_is_intersection_over_union(a, b, share):
    assert overlap(a, b) == pytest.approx(share)
