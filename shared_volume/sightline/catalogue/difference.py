"""What one version has that another has not: images, annotations, splits, class counts."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from sightline.catalogue.listing import Installation, open_installation, published_row
from sightline.catalogue.reading import Corners, Instance, Instances, annotation_files, read_instances
from sightline.errors import SightlineError
from sightline.services.database.versions import ImageRow, VersionRow, list_images
from sightline.services.versioning.objects import Objects
from sightline.settings import Settings
from sightline.versions import parse_tag

SAME_PLACE: Final = 0.5  # overlap of boxes (intersection over union) above which another label means: relabelled


class DifferentKindsError(SightlineError):
    """An annotation version cannot be compared with a dataset version."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """An image whose bytes lie under another name."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Moved:
    """An image that went to another split."""

    image: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation that only one of the versions has."""

    image: str
    label: str


@dataclass(frozen=True, slots=True)
class Changed:
    """An annotation that both versions have, not alike: its image's name in the second, its labels, whether it was redrawn."""

    image: str
    before: str
    after: str
    redrawn: bool


@dataclass(frozen=True, slots=True)
class ClassCount:
    """How many annotations of one class each version has."""

    label: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How the version `after` differs from `before`; every list is sorted."""

    before: str
    after: str
    images_added: tuple[str, ...]
    images_removed: tuple[str, ...]
    images_changed: tuple[str, ...]  # other bytes under the same name
    images_renamed: tuple[Renamed, ...]
    images_moved: tuple[Moved, ...]  # to another split; of dataset versions only
    annotations_added: tuple[Annotation, ...]
    annotations_removed: tuple[Annotation, ...]
    annotations_changed: tuple[Changed, ...]  # moved, redrawn, or with another label, group, flag or description
    class_counts: tuple[ClassCount, ...]  # of every class, also of those whose counts are equal

    def to_json(self) -> dict[str, Any]:
        """Everything, with the counts of each list first."""
        document = asdict(self)
        counts = {name: len(found) for name, found in document.items() if name.startswith(("images_", "annotations_"))}
        return {"before": self.before, "after": self.after, "counts": counts} | document


def compare_versions(settings: Settings, before: str, after: str) -> Difference:
    """Compare two published versions (tags) of one kind, by their rows and by those annotation files that differ.

    Raises:
        DifferentKindsError: one is an annotation version, the other a dataset version.
        SightlineError: one is not published, or a file of it is nowhere to be had.
    """
    kinds = parse_tag(before).kind, parse_tag(after).kind
    if kinds[0] != kinds[1]:
        raise DifferentKindsError(
            f"{before} is of the kind {kinds[0]}, {after} of the kind {kinds[1]}. Compare two annotation versions "
            "(…_ann_…) or two dataset versions (…_train_…); python pipeline.py versions lists them."
        )
    installation = open_installation(settings)
    rows = installation.rows()
    old, new = (_side(installation, row) for row in [published_row(rows, tag) for tag in (before, after)])
    pairs = _pair_images(old.images, new.images)
    names = {one.name: other.name for one, other in pairs}
    added, removed, changed = _compare_annotations(old, new, names)
    return Difference(
        before=before,
        after=after,
        images_added=tuple(sorted(new.images.keys() - set(names.values()))),
        images_removed=tuple(sorted(old.images.keys() - names.keys())),
        images_changed=tuple(other.name for one, other in pairs if one.sha256 != other.sha256),
        images_renamed=tuple(Renamed(was, name) for was, name in sorted(names.items()) if was != name),
        images_moved=tuple(
            Moved(other.name, str(one.split), str(other.split)) for one, other in pairs if one.split != other.split
        ),
        annotations_added=tuple(added),
        annotations_removed=tuple(removed),
        annotations_changed=tuple(changed),
        class_counts=_compare_classes(old, new),
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two versions: its image rows by name, and its annotation files' digests by name."""

    images: Mapping[str, ImageRow]
    files: Mapping[str, str]
    objects: Objects
    kind: str

    def read(self, files: Mapping[str, str]) -> Instances:
        return read_instances(self.objects, files, self.kind)


def _side(installation: Installation, row: VersionRow) -> _Side:
    objects = installation.objects(row.kind)  # type: ignore[arg-type]  # the column is a text
    images = {image.name: image for image in list_images(installation.database, row.id)}
    return _Side(images, annotation_files(objects.listing(str(row.digest)), row.kind), objects, row.kind)


def _pair_images(old: Mapping[str, ImageRow], new: Mapping[str, ImageRow]) -> list[tuple[ImageRow, ImageRow]]:
    """The images that are in both versions, by name, else by content; sorted by the name in the second."""
    pairs = [(row, new[name]) for name, row in old.items() if name in new]
    appeared: dict[str, list[ImageRow]] = defaultdict(list)
    for name in sorted(new.keys() - old.keys(), reverse=True):
        appeared[new[name].sha256].append(new[name])
    for name in sorted(old.keys() - new.keys()):
        if same := appeared[old[name].sha256]:
            pairs.append((old[name], same.pop()))
    return sorted(pairs, key=lambda pair: pair[1].name)


def _compare_annotations(
    old: _Side, new: _Side, names: Mapping[str, str]
) -> tuple[list[Annotation], list[Annotation], list[Changed]]:
    """What was added, removed and changed, by the image's name in the second version (else in the first)."""
    before = old.read(dict(old.files.items() - new.files.items()))
    after = new.read(dict(new.files.items() - old.files.items()))
    before = {names.get(image, image): instances for image, instances in before.items()}
    added, removed, changed = [], [], []
    for image in sorted(before.keys() | after.keys()):
        matched = match_instances(before.get(image, ()), after.get(image, ()))
        added += [Annotation(image, one.label) for one in matched.added]
        removed += [Annotation(image, one.label) for one in matched.removed]
        changed += [Changed(image, a.label, b.label, a.outline != b.outline) for a, b in matched.changed]
    return added, removed, changed


def _compare_classes(old: _Side, new: _Side) -> tuple[ClassCount, ...]:
    before, after = _count_classes(old), _count_classes(new)
    return tuple(ClassCount(label, before[label], after[label]) for label in sorted(before.keys() | after.keys()))


def _count_classes(side: _Side) -> Counter[str]:
    """Annotations per class: from the rows, or from every annotation where older rows do not say."""
    counts: Counter[str] = Counter()
    for image in side.images.values():
        if image.labels is None:
            return Counter(one.label for found in side.read(side.files).values() for one in found)
        counts.update(image.labels)
    return counts


class Matched(NamedTuple):
    """What became of an image's annotations."""

    added: list[Instance]
    removed: list[Instance]
    changed: list[tuple[Instance, Instance]]


def match_instances(before: Sequence[Instance], after: Sequence[Instance]) -> Matched:
    """Pair an image's annotations: the equal, then those of one geometry, then by label and overlap.

    An annotation that was moved or redrawn counts as changed while its boxes overlap; one that got another label too must
    cover half of what both cover. The best overlap is paired first, whatever the order of the annotations.
    """
    old, new = Counter(before), Counter(after)
    rest = Matched([*(new - old).elements()], [*(old - new).elements()], [])
    _pair(rest, lambda a, b: float(a.outline == b.outline))
    _pair(rest, lambda a, b: overlap(a.corners, b.corners) if a.label == b.label else 0.0)
    _pair(rest, lambda a, b: share if (share := overlap(a.corners, b.corners)) > SAME_PLACE else 0.0)
    return rest


def overlap(a: Corners, b: Corners) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def _pair(rest: Matched, likeness: Callable[[Instance, Instance], float]) -> None:
    """Move pairs with a likeness above 0 to the changed ones, the most alike first."""
    removed, added = dict(enumerate(rest.removed)), dict(enumerate(rest.added))
    likely = ((likeness(a, b), i, j) for i, a in removed.items() for j, b in added.items())
    for _, i, j in sorted((-share, i, j) for share, i, j in likely if share > 0):
        if i in removed and j in added:
            rest.changed.append((removed.pop(i), added.pop(j)))
    rest.removed[:], rest.added[:] = removed.values(), added.values()
