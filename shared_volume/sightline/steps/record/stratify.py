"""Stage 8, second part: place groups so that every split has its share of each class, and rare ones are in every split.

This is iterative stratification: the rarest class is dealt out first, each group to the split that wants the class most.
It goes through the annotation versions in the order of their publication, and in each deals out only what is new, so
that what was published before stays where it is.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sightline.steps.record.groups import Group, Images, SplitImage

_ANY: Final = ""  # stands for a class that is on every image, so that images are shared out as well; no label is empty


@dataclass(slots=True)
class _Deal:
    """One annotation version's images as they are dealt out."""

    shares: Mapping[str, float]  # split -> its share, above 0
    placed: dict[str, Counter[str]]  # split -> class -> images that are there
    total: Counter[str] = field(default_factory=Counter)  # class -> images, placed or not
    groups: Counter[str] = field(default_factory=Counter)  # class -> groups, placed or not

    def add(self, labels: Mapping[str, int]) -> None:
        """Count a group that is dealt out or has its split already."""
        self.total.update(labels)
        self.groups.update(labels.keys())

    def wish(self, split: str, label: str) -> float:
        """How many more images with the class the split wants."""
        return self.shares[split] * self.total[label] - self.placed[split][label]

    def choose(self, labels: Mapping[str, int], label: str) -> str:
        """The split for a group that is dealt out for the sake of one class."""

        def preference(split: str) -> tuple[bool, float, int, float]:
            missing = sum(not self.placed[split][other] for other in labels)
            return not self.placed[split][label], self.wish(split, label), missing, self.wish(split, _ANY)

        return max(self.shares, key=preference)


def stratify_groups(groups: Sequence[Group], contents: Images, shares: Mapping[str, float], seed: int) -> list[str]:
    """The split of each group, by the share of each split that has one above 0; the seed changes the order of dealing."""
    placed = {number: group.listed for number, group in enumerate(groups) if group.listed}
    founded: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        if number not in placed:
            founded.setdefault(contents[group.founders[0]].generation, []).append(number)
    for generation, new in sorted(founded.items()):
        ordered = sorted(new, key=lambda number: _rank(groups[number], contents, seed))
        labels = {number: _count_labels(contents[one] for one in groups[number].founders) for number in ordered}
        deal = _Deal(shares, {split: Counter() for split in shares})
        for number, split in placed.items():
            members = (contents[one] for one in groups[number].members)
            there = _count_labels(one for one in members if one.is_in(generation))
            deal.placed.setdefault(split, Counter()).update(there)
            deal.add(there)
        for own in labels.values():
            deal.add(own)
        dealt = _deal_out(labels, deal)
        _mend(dealt, labels, deal)
        placed |= dealt
    return [placed[number] for number in range(len(groups))]


def _rank(group: Group, contents: Images, seed: int) -> tuple[int, bytes]:
    """Large groups first, since small ones even out what they leave uneven; else by chance."""
    drawn = hashlib.sha256(f"{seed}:{contents[group.founders[0]].sha256}".encode()).digest()
    return -len(group.founders), drawn


def _count_labels(contents: Iterable[SplitImage]) -> Counter[str]:
    return Counter(label for content in contents for label in (_ANY, *sorted(content.labels)))


def _deal_out(labels: Mapping[int, Mapping[str, int]], deal: _Deal) -> dict[int, str]:
    """Every group's split, the rarest class first."""
    waiting = Counter(label for own in labels.values() for label in own)
    with_label: dict[str, list[int]] = {}
    for number, own in labels.items():
        for label in own:
            with_label.setdefault(label, []).append(number)
    dealt: dict[int, str] = {}
    while len(dealt) < len(labels):
        rarest = min((label for label in waiting if waiting[label]), key=lambda one: (one == _ANY, waiting[one], one))
        for number in with_label[rarest]:
            if number not in dealt:
                dealt[number] = deal.choose(labels[number], rarest)
                deal.placed[dealt[number]].update(labels[number])
                waiting.subtract(labels[number].keys())
    return dealt


def _mend(dealt: dict[int, str], labels: Mapping[int, Mapping[str, int]], deal: _Deal) -> None:
    """Give a split a class that it lacks where another can spare a group; several classes on an image can make that happen."""
    for label in sorted(deal.groups, key=lambda one: (deal.groups[one], one)):
        if deal.groups[label] < len(deal.shares):
            continue
        for split in deal.shares:
            if deal.placed[split][label]:
                continue
            spare = (
                number
                for number, own in labels.items()
                # Each of the group's classes must be on other images of its split as well.
                if label in own and dealt[number] != split
                if all(deal.placed[dealt[number]][other] > count for other, count in own.items())
            )
            moved = min(spare, key=lambda number: labels[number][_ANY], default=None)
            if moved is not None:
                deal.placed[dealt[moved]].subtract(labels[moved])
                deal.placed[split].update(labels[moved])
                dealt[moved] = split
