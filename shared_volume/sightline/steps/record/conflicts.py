"""Stage 8, last part: what a split keeps together, and what it could not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sightline.annotations.findings import Code, Finding, Policy
from sightline.steps.record.groups import Group, join_linked

_MOST_NAMED: Final = 3

Parts = dict[str, list[str]]
"""Split -> names of images in it, sorted."""


def part_group(group: Group, here: Mapping[int, Sequence[str]], sides: Mapping[str, str]) -> Parts:
    """Where a group's images are; in more than one split only when a list says so.

    Args:
        group: a group of contents.
        here: position of a content -> its names in the dataset.
        sides: name -> split.
    """
    parts: Parts = {}
    for name in sorted(name for member in group.members for name in here.get(member, ())):
        parts.setdefault(sides[name], []).append(name)
    return parts


def join_alike(
    groups: Sequence[Group], parts: Sequence[Parts], here: Mapping[int, Sequence[str]], sides: Mapping[str, str]
) -> tuple[tuple[str, ...], ...]:
    """The groups as a reader sees them: also joined with the older ones that they resemble, within a split.

    Returns:
        Names, sorted; groups of 2 and more, by their first.
    """
    links = [names for own in parts for names in own.values()]
    for group in groups:
        for member, older in group.resembles.items():
            for name in here.get(member, ()):
                links += [[name, *parts[other].get(sides[name], ())[:1]] for other in older]
    return tuple(tuple(names) for names in join_linked(sorted(sides), links) if len(names) > 1)


def find_conflicts(
    groups: Sequence[Group],
    parts: Sequence[Parts],
    here: Mapping[int, Sequence[str]],
    sides: Mapping[str, str],
    listed: Mapping[str, str],
    policy: Policy,
) -> Iterator[Finding]:
    """Images that are in another split than some that they belong to, and listed names that no image has."""
    for group, own in zip(groups, parts, strict=True):
        for name in sorted(name for names in own.values() for name in names if name in listed):
            others = {part: names for part, names in own.items() if part != sides[name]}
            if others:
                message = f"stays in {sides[name]} as listed, though it belongs to {_names_of_parts(others)}."
                yield policy.finding(Code.LISTED_APART, name, None, message)
        for member, older in sorted(group.resembles.items()):
            away: Parts = {}
            for part, names in (item for other in older for item in parts[other].items()):
                away.setdefault(part, []).extend(names)
            for name in here.get(member, ()):
                others = {part: names for part, names in away.items() if part != sides[name]}
                if others:
                    message = _explain(name, sides[name], others, listed)
                    yield policy.finding(Code.SIMILAR_TO_SEVERAL, name, None, message)
    for name in sorted(listed.keys() - sides.keys()):
        message = f"listed for {listed[name]}, but the dataset has no such image. Correct the name in the split file."
        yield policy.finding(Code.LISTED_UNKNOWN, name, None, message)


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _explain(name: str, side: str, others: Parts, listed: Mapping[str, str]) -> str:
    why = "as listed" if name in listed else "with the group that was published first"
    return (
        f"resembles images of several splits: it goes to {side} {why}, but {_names_of_parts(others)} do not move, since they were "
        "published before. Leave the image out if scores must not profit from it."
    )


def _names_of_parts(parts: Parts) -> str:
    return " and ".join(f"{some(sorted(names))} in {part}" for part, names in sorted(parts.items()))
