"""Stage 8, first part: which contents belong together, and in what order they were published.

A content is an image's bytes: files with one sha256 are one content, whatever they are called. Contents are taken in the
order of their publication. Those that one annotation version published for the first time are linked among each other
where they look alike or their names give the same key; what hangs together is a group. When such a group resembles
contents published before, it joins the group of the earliest of them. So the groups of published images never change,
whatever is published after them: later images can only join.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TypeVar

import numpy as np

from sightline.images.similarity import find_similar, group_similar

Item = TypeVar("Item", int, str)


@dataclass(frozen=True, slots=True)
class SplitImage:
    """One image as the splitter sees it.

    Attributes:
        name: in the dataset; of an image that is not in it, its last name.
        sha256: of the file, in hex.
        perceptual_hash: see `sightline.images.similarity`; empty where it is not known, and then the image resembles none.
        labels: those drawn on it when it was published first, after the label map.
        generation: position of the annotation version that published this content first; 0 is the oldest.
        first_names: what the content was called in that version; empty means `name`.
        generations: positions of all annotation versions that hold it; empty means that one and all later ones.
    """

    name: str
    sha256: str
    perceptual_hash: str
    labels: frozenset[str]
    generation: int
    first_names: tuple[str, ...] = ()
    generations: frozenset[int] = frozenset()

    def is_in(self, generation: int) -> bool:
        """Whether an annotation version holds it."""
        return generation in self.generations if self.generations else generation >= self.generation


@dataclass(slots=True)
class Group:
    """Contents that share a split.

    Attributes:
        founders: positions of the contents that it began with, all of one generation.
        members: positions of all its contents, founders first.
        listed: the split that a list gives a founder, and with it to all.
        resembles: member -> the other groups, published before it, that it belongs to just as well.
    """

    founders: tuple[int, ...]
    members: list[int]
    listed: str | None
    resembles: dict[int, tuple[int, ...]] = field(default_factory=dict)


def merge_images(split_images: Iterable[SplitImage]) -> list[SplitImage]:
    """One content per sha256, with all names of its first publication, in the order of publication and then by sha256."""
    by_content: dict[str, list[SplitImage]] = {}
    for split_image in split_images:
        by_content.setdefault(split_image.sha256, []).append(split_image)
    contents = []
    for own in by_content.values():
        generation = min(one.generation for one in own)
        first = [one for one in own if one.generation == generation]
        contents.append(
            replace(
                first[0],
                perceptual_hash=min(one.perceptual_hash for one in first),
                labels=frozenset().union(*(one.labels for one in first)),
                first_names=tuple(sorted({name for one in first for name in one.first_names or (one.name,)})),
                generations=frozenset().union(*(one.generations for one in first)),
            )
        )
    return sorted(contents, key=lambda content: (content.generation, content.sha256))


def group_contents(
    contents: Sequence[SplitImage], distance: int | None, pattern: str | None, listed: Mapping[str, str]
) -> list[Group]:
    """Put every content into one group, generation by generation; in the order in which the groups began.

    Args:
        contents: in the order of publication, from `merge_images`.
        distance: bits by which the hashes of images that look alike differ at most; None: looks do not matter.
        pattern: searched in an image's name; what its groups capture (or the whole match, without groups) is the key.
        listed: image name -> split. A group that begins with a listed image joins no other.
    """
    groups: list[Group] = []
    group_of = np.full(len(contents), -1, dtype=np.int64)
    groups_of_key: dict[tuple[str, ...], set[int]] = {}
    keys = [_keys(content.first_names, pattern) for content in contents]
    for _, positions in groupby(range(len(contents)), key=lambda position: contents[position].generation):
        new = list(positions)
        older = _older_groups(contents, keys, new, distance, group_of, groups_of_key)
        for component in _components(contents, keys, new, distance):
            _settle(component, contents, older, listed, groups, group_of)
        for position in new:
            for key in keys[position]:
                groups_of_key.setdefault(key, set()).add(int(group_of[position]))
    return groups


def _settle(
    component: Sequence[int],
    contents: Sequence[SplitImage],
    older: Mapping[int, tuple[int, ...]],
    listed: Mapping[str, str],
    groups: list[Group],
    group_of: np.ndarray,
) -> None:
    """Let new contents that hang together join an older group, or begin one."""
    given = [listed[name] for position in component for name in contents[position].first_names if name in listed]
    relatives = {group for position in component for group in older.get(position, ())}
    if given or not relatives:
        home = len(groups)
        groups.append(Group(tuple(component), list(component), given[0] if given else None))
    else:
        # Groups are numbered as they began, so the first is that of the content published first.
        home = min(relatives)
        groups[home].members.extend(component)
    for position in component:
        group_of[position] = home
        others = tuple(group for group in older.get(position, ()) if group != home)
        if others:
            groups[home].resembles[position] = others


def _keys(names: Iterable[str], pattern: str | None) -> list[tuple[str, ...]]:
    if pattern is None:
        return []
    found = (re.search(pattern, name) for name in names)
    return sorted({tuple(part or "" for part in match.groups()) or (match[0],) for match in found if match})


def _components(
    contents: Sequence[SplitImage], keys: Sequence[Sequence[tuple[str, ...]]], new: Sequence[int], distance: int | None
) -> list[list[int]]:
    """What hangs together among the contents of one generation; sorted, by their first."""
    hashed = _hashed(contents, new, distance)
    linked = group_similar([contents[one].perceptual_hash for one in hashed], distance or 0)
    links = [[hashed[index] for index in group] for group in linked]
    of_key: dict[tuple[str, ...], list[int]] = {}
    for position in new:
        for key in keys[position]:
            of_key.setdefault(key, []).append(position)
    return join_linked(new, [*links, *of_key.values()])


def join_linked(items: Sequence[Item], links: Iterable[Sequence[Item]]) -> list[list[Item]]:
    """Connected components, where all items of a link belong together; in the items' order."""
    order = {item: position for position, item in enumerate(items)}
    parent = {item: item for item in items}

    def root(one: Item) -> Item:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for link in links:
        for other in link[1:]:
            first, second = sorted((root(link[0]), root(other)), key=order.__getitem__)
            parent[second] = first
    components: dict[Item, list[Item]] = {}
    for item in items:
        components.setdefault(root(item), []).append(item)
    return list(components.values())


def _older_groups(
    contents: Sequence[SplitImage],
    keys: Sequence[Sequence[tuple[str, ...]]],
    new: Sequence[int],
    distance: int | None,
    group_of: np.ndarray,
    groups_of_key: Mapping[tuple[str, ...], set[int]],
) -> dict[int, tuple[int, ...]]:
    """New content -> the older groups that it resembles or shares a key with, oldest first."""
    older = {one: set[int]().union(*(groups_of_key.get(key, ()) for key in keys[one])) for one in new}
    hashed, known = _hashed(contents, new, distance), _hashed(contents, range(new[0]), distance)
    if hashed and known:
        group_of_known = group_of[known]
        looks, known_looks = ([contents[one].perceptual_hash for one in ones] for ones in (hashed, known))
        found = find_similar(looks, known_looks, distance or 0)
        for one, similar in zip(hashed, found, strict=True):
            older[one] |= set(group_of_known[similar].tolist())
    return {one: tuple(sorted(groups)) for one, groups in older.items() if groups}


def _hashed(contents: Sequence[SplitImage], positions: Iterable[int], distance: int | None) -> list[int]:
    """Those whose looks are known and matter."""
    return [] if distance is None else [one for one in positions if contents[one].perceptual_hash]
