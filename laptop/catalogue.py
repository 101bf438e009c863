"""`pipeline.py versions`, `diff`, `verify` and `export`: what they print."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from laptop.tables import as_table

if TYPE_CHECKING:
    from sightline.catalogue.difference import Difference
    from sightline.catalogue.listing import Listed
    from sightline.catalogue.repair import Deed
    from sightline.catalogue.verification import Checked, Verification

SHOWN = 10  # names of each kind, unless all are asked for
COMMIT = 12  # characters of a commit


def versions(category: str | None, as_json: bool) -> int:
    """Print every version as a table, newest last."""
    from sightline.catalogue.listing import State, list_catalogue
    from sightline.services.versioning.git import without_password
    from sightline.settings import read_settings

    listed = list_catalogue(read_settings(), category)
    if as_json:
        _print_json(listed)
    elif listed:
        print(_versions_table(listed))
        if any(one.state == State.LOST for one in listed):
            print(f"lost: its tag is not in the dataset repository {without_password(read_settings().dataset_repo)}")
    else:
        print(f"no versions{f' of {category}' if category else ''} yet")
        print(f"next: python pipeline.py publish FOLDER --category {category or 'desk'} --version v0.1.0")
    return 0


def diff(before: str, after: str, as_json: bool, everything: bool) -> int:
    """Print how two versions differ: counts first, then names."""
    from sightline.catalogue.difference import compare_versions
    from sightline.settings import read_settings

    difference = compare_versions(read_settings(), before, after)
    if as_json:
        _print_json(difference.to_json())
    else:
        print("\n".join(_diff_lines(difference, None if everything else SHOWN)))
    return 0


def verify(tag: str | None, repair: bool, full: bool, as_json: bool) -> int:
    """Print a line per version, and what is wrong with it; mend it when asked. 1 when something is (still) wrong."""
    from sightline.catalogue.repair import repair_versions
    from sightline.catalogue.verification import verify_versions
    from sightline.settings import read_settings

    found = verify_versions(read_settings(), tag, full)
    deeds: tuple[Deed, ...] = ()
    first = found
    if repair and not found.ok:
        deeds = repair_versions(read_settings(), found)
        found = verify_versions(read_settings(), tag, full)
    if as_json:
        _print_json({"ok": found.ok, "repaired": deeds} | asdict(found))
    else:
        for deed in deeds:
            print(f"{deed.tag}: {'' if deed.done else 'could not be repaired: '}{deed.message}")
        print("\n".join(_verify_lines(found, first.abandoned_folders, repair)))
    return 0 if found.ok else 1


def export(tag: str, form: str, target: Path) -> int:
    """Write a version in another format, and say where."""
    from sightline.catalogue.export import export_version
    from sightline.settings import read_settings

    exported = export_version(read_settings(), tag, form, target)
    print(f"exported {tag} as {form} to {target}: {exported}")
    return 0


def _versions_table(listed: "Sequence[Listed]") -> str:
    """With a column for tasks only where some version is for another than detection."""
    from sightline.references import DETECTION

    head, rows = ["version", "state", "images", "objects", "parent", "commit", "date (UTC)"], map(_row, listed)
    if all(one.task in (None, DETECTION) for one in listed):
        return as_table(head, rows)
    return as_table(
        [*head[:2], "task", *head[2:]],
        [(*row[:2], one.task or "-", *row[2:]) for one, row in zip(listed, rows, strict=True)],
    )


def _row(one: "Listed") -> tuple[str, ...]:
    state = str(one.state)
    if one.owner is not None and one.state == "pending":
        until = f", until {one.lease_until:%H:%M:%S}" if one.lease_until else ""
        state = f"{state}: {one.owner.partition(' [')[0] or 'nobody'}{until}"
    return (
        one.tag,
        state,
        "-" if one.images is None else str(one.images),
        "-" if one.annotations is None else str(one.annotations),
        one.parent or "-",
        (one.commit or "-")[:COMMIT],
        f"{one.date:%Y-%m-%d %H:%M}" if one.date else "-",
    )


def _diff_lines(difference: "Difference", most: int | None) -> list[str]:
    counts = difference.to_json()["counts"]
    lines = [f"{difference.before} -> {difference.after}", ""]
    shown = {name: f"{count} {name.partition('_')[2]}" for name, count in counts.items()}
    shown["images_moved"] = f"{counts['images_moved']} in another split"
    for what, key in (("images", "images"), ("objects", "annotations")):
        lines.append(f"{what}: {', '.join(text for name, text in shown.items() if name.startswith(key))}")
    lines += ["", _class_table(difference)]
    lines += _names("images added", difference.images_added, most, str)
    lines += _names("images removed", difference.images_removed, most, str)
    lines += _names("images changed (other bytes)", difference.images_changed, most, str)
    lines += _names("images renamed", difference.images_renamed, most, lambda one: f"{one.before} -> {one.after}")
    lines += _names(
        "images moved to another split",
        difference.images_moved,
        most,
        lambda one: f"{one.image}: {one.before} -> {one.after}",
    )
    lines += _names("objects added", difference.annotations_added, most, lambda one: f"{one.image}: {one.label}")
    lines += _names("objects removed", difference.annotations_removed, most, lambda one: f"{one.image}: {one.label}")
    lines += _names("objects changed", difference.annotations_changed, most, _changed)
    return lines


def _changed(one: Any) -> str:
    label = one.before if one.before == one.after else f"{one.before} -> {one.after}"
    return f"{one.image}: {label}{', redrawn' if one.redrawn else ''}"


def _class_table(difference: "Difference") -> str:
    rows = [
        (one.label, str(one.before), str(one.after), f"{one.after - one.before:+d}") for one in difference.class_counts
    ]
    return as_table(("class", difference.before, difference.after, "difference"), rows)


def _names(title: str, items: Sequence[Any], most: int | None, show: Callable[[Any], str]) -> list[str]:
    if not items:
        return []
    lines = ["", f"{title} ({len(items)})", *(f"  {show(item)}" for item in items[:most])]
    if most is not None and len(items) > most:
        lines.append(f"  … and {len(items) - most} more (--all)")
    return lines


def _verify_lines(found: "Verification", abandoned: int, repaired: bool) -> list[str]:
    lines = [line for version in found.versions for line in _version_lines(version)]
    if not found.versions:
        lines.append("no versions yet: nothing to verify")
    if found.unneeded_objects:
        lines.append(
            f"on the remote for no version: {found.unneeded_objects} files, {decimal(found.unneeded_bytes)} (left alone: "
            "somebody may be uploading them, or gave up)"
        )
    if abandoned:
        lines.append(f"removed from this volume: {abandoned} work folders of dead processes")
    bad = sum(bool(version.problems) for version in found.versions)
    if bad:
        lines.append(f"{bad} of {len(found.versions)} versions {'has' if bad == 1 else 'have'} problems")
        if not repaired and any(problem.repairable for version in found.versions for problem in version.problems):
            lines.append("next: python pipeline.py verify --repair")
    elif found.versions:
        lines.append(f"all {len(found.versions)} ok" if len(found.versions) > 1 else "ok")
    return lines


def _version_lines(version: "Checked") -> list[str]:
    if not version.problems:
        if version.objects is None:
            return [f"{version.tag}  {version.state}: somebody is publishing it, left alone"]
        return [f"{version.tag}  ok: {version.images} images, {version.objects} files"]
    lines = [f"{version.tag}  {version.state}, but:"]
    for problem in version.problems:
        lines += [f"  {problem.trouble}: {problem.message}", f"    {problem.remedy}"]
    return lines


def _print_json(content: object) -> None:
    print(json.dumps(content, default=_plain, indent=2, ensure_ascii=False))


def _plain(value: Any) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else str(value)
