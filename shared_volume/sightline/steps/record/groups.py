"""Stage 8, first part: which contents belong together, and how a category's annotation versions published them first.

A content is an image's bytes: files with one sha256 are one content, whatever they are called. Contents are taken in the
order of their publication. Those that one annotation version published for the first time are linked among each other
where they look alike or their names give the same key; what hangs together is a group. When such a group resembles
contents published before, it joins the group of the earliest of them. So the groups of published images never change,
whatever is published after them: later images can only join.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from sightline.annotations.recipe import Recipe
from sightline.images.similarity import find_similar, group_similar
from sightline.services.database.connection import Database
from sightline.services.database.versions import ImageRow, VersionRow, list_versions, stream_images

Item = TypeVar("Item", int, str)
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SplitImage:
    """One image as the splitter sees it."""

    name: str  # in the dataset; of an image that is not in it, one that it had
    sha256: str
    perceptual_hash: str  # empty where it is not known, and then the image resembles none
    labels: frozenset[str]  # those drawn on it when it was published first, after the label map
    generation: int  # position of the annotation version that published this content first; 0 is the oldest
    first_names: tuple[str, ...] = ()  # what the content was called in that version; empty means `name`
    generations: frozenset[int] = frozenset()  # of all versions that hold it; empty means that one and all later ones

    def is_in(self, generation: int) -> bool:
        """Whether an annotation version holds it."""
        return generation in self.generations if self.generations else generation >= self.generation


@dataclass(slots=True)
class Group:
    """Contents, by their positions, that share a split."""

    founders: tuple[int, ...]  # those that it began with, all of one generation
    members: list[int]  # all, founders first
    listed: str | None  # the split that a list gives a founder, and with it to all
    resembles: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Member -> the other groups, published before it, that it belongs to just as well."""


Images = Sequence[SplitImage]


def read_first_published(database: Database, annotations: VersionRow, recipe: Recipe) -> tuple[SplitImage, ...]:
    """Every content that the category's annotation versions published up to the given one, once per sha256, as at first.

    Later versions do not count, so recording an older version again gives what it gave before. Contents that were left
    out of later versions keep their place. The recipe's label map and choice of labels are applied.
    """

    def moment(version: VersionRow) -> tuple[datetime, int]:
        return version.published_at or datetime.max.replace(tzinfo=UTC), version.id

    versions = sorted(list_versions(database, annotations.category, "annotation"), key=moment)
    known = [one.id for one in versions if moment(one) <= moment(annotations)]
    return database.read(
        lambda session: assemble_first_published((stream_images(session, one) for one in known), recipe)
    )


def assemble_first_published(versions: Iterable[Iterable[ImageRow]], recipe: Recipe) -> tuple[SplitImage, ...]:
    """As `read_first_published`, from the images of each version, the version published first coming first."""
    generations: dict[str, frozenset[int]] = {}
    same: dict[frozenset[int] | frozenset[str], Any] = {}  # sets that many images share are kept once
    first = []
    for generation, rows in enumerate(versions):
        for row in rows:
            held = generations.get(row.sha256, frozenset()) | {generation}
            generations[row.sha256] = same.setdefault(held, held)
            if len(held) == 1:
                labels = wanted_labels(row, recipe)
                labels = same.setdefault(labels, labels)
                first.append(SplitImage(row.name, row.sha256, row.perceptual_hash or "", labels, generation))
    return tuple(replace(one, generations=generations[one.sha256]) for one in merge_images(first))


def wanted_labels(row: ImageRow, recipe: Recipe) -> frozenset[str]:
    """The labels of a published image, as the recipe renames and chooses them."""
    return frozenset(filter(recipe.wants, map(recipe.rename, row.labels or {})))


def as_first_published(images: Images, earlier: Images) -> tuple[list[SplitImage], list[SplitImage]]:
    """A dataset's images as they were published first, and the other contents of the history (`read_first_published`).

    Those that the history does not know stay as they are.
    """
    known = {one.sha256: one for one in earlier}
    placed = [replace(known.get(image.sha256, image), name=image.name) for image in images]
    here = {image.sha256 for image in placed}
    return placed, [one for one in earlier if one.sha256 not in here]


def merge_images(split_images: Iterable[SplitImage]) -> list[SplitImage]:
    """One content per sha256, with all names of its first publication, in the order of publication and then by sha256."""
    by_content: dict[str, list[SplitImage]] = {}
    for split_image in split_images:
        by_content.setdefault(split_image.sha256, []).append(split_image)
    contents = []
    for own in by_content.values():
        if len(own) == 1:
            contents.append(own[0] if own[0].first_names else replace(own[0], first_names=(own[0].name,)))
            continue
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
    contents: Images, distance: int | None, pattern: str | None, listed: Mapping[str, str]
) -> list[Group]:
    """Put every content (of `merge_images`) into one group, by generation; in the order in which the groups began.

    Images look alike whose hashes differ in at most `distance` bits (None: looks do not matter). What the groups of the
    pattern capture in a name (or the whole match, without groups) is its key. A group that begins with a listed image
    (name -> split) joins no other.
    """
    grouping = _Grouping(contents, distance, pattern, listed)
    for _, positions in groupby(range(len(contents)), key=lambda position: contents[position].generation):
        grouping.add(list(positions))
    return grouping.groups


class _Grouping:
    """The groups so far, and by which looks and keys a content of the next generation belongs to one."""

    def __init__(self, contents: Images, distance: int | None, pattern: str | None, listed: Mapping[str, str]) -> None:
        self.names = [content.first_names for content in contents]
        self.looks = ["" if distance is None else content.perceptual_hash for content in contents]
        self.keys = [_keys(names, pattern) for names in self.names]
        self.distance, self.listed = distance or 0, listed
        self.groups: list[Group] = []
        self.group_of = np.full(len(contents), -1, dtype=np.int64)
        self.groups_of_key: dict[Key, set[int]] = {}

    def add(self, new: Sequence[int]) -> None:
        """Put the contents of one generation into groups."""
        older = self._older_groups(new)
        for component in self._components(new):
            self._settle(component, older)
        for position in new:
            for key in self.keys[position]:
                self.groups_of_key.setdefault(key, set()).add(int(self.group_of[position]))

    def _settle(self, component: Sequence[int], older: Mapping[int, tuple[int, ...]]) -> None:
        """Let new contents that hang together join an older group, or begin one."""
        given = [self.listed[name] for one in component for name in self.names[one] if name in self.listed]
        relatives = {group for position in component for group in older.get(position, ())}
        if given or not relatives:
            home = len(self.groups)
            self.groups.append(Group(tuple(component), list(component), given[0] if given else None))
        else:
            # Groups are numbered as they began, so the first is that of the content published first.
            home = min(relatives)
            self.groups[home].members.extend(component)
        self.group_of[component] = home
        for position in component:
            if others := tuple(group for group in older.get(position, ()) if group != home):
                self.groups[home].resembles[position] = others

    def _components(self, new: Sequence[int]) -> list[list[int]]:
        """What hangs together among new contents; sorted, by their first."""
        hashed = self._hashed(new)
        linked = group_similar([self.looks[one] for one in hashed], self.distance)
        of_key: dict[Key, list[int]] = {}
        for position in new:
            for key in self.keys[position]:
                of_key.setdefault(key, []).append(position)
        return join_linked(new, [*[[hashed[index] for index in group] for group in linked], *of_key.values()])

    def _older_groups(self, new: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """New content -> the older groups that it resembles or shares a key with, oldest first."""
        older = {one: set[int]().union(*(self.groups_of_key.get(key, ()) for key in self.keys[one])) for one in new}
        hashed, known = self._hashed(new), self._hashed(range(new[0]))
        if hashed and known:
            group_of_known = self.group_of[known]
            looks, known_looks = ([self.looks[one] for one in ones] for ones in (hashed, known))
            found = find_similar(looks, known_looks, self.distance)
            for one, similar in zip(hashed, found, strict=True):
                older[one] |= set(group_of_known[similar].tolist())
        return {one: tuple(sorted(groups)) for one, groups in older.items() if groups}

    def _hashed(self, positions: Iterable[int]) -> list[int]:
        """Those whose looks are known and matter."""
        return [one for one in positions if self.looks[one]]


def _keys(names: Iterable[str], pattern: str | None) -> list[Key]:
    if pattern is None:
        return []
    found = (re.search(pattern, name) for name in names)
    return sorted({tuple(part or "" for part in match.groups()) or (match[0],) for match in found if match})


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
