"""`pipeline.py versions`, `diff`, `verify` and `export`: what they print."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from laptop import called
from laptop.tables import as_table
from sightline.errors import counted
from sightline.references import DETECTION
from sightline.settings import Settings, read_settings
from sightline.versions import is_smoke, smoke_category

if TYPE_CHECKING:
    from sightline.catalogue.difference import Difference
    from sightline.catalogue.listing import Listed
    from sightline.catalogue.repair import Deed
    from sightline.catalogue.verification import Checked, Verification

SHOWN = 10  # names of each kind, unless all are asked for


def versions(category: str | None, as_json: bool, everything: bool = False) -> int:
    """Print every version as a table, newest last; those of smoke tests only when everything or their category is asked for."""
    from sightline.catalogue.listing import State, list_catalogue
    from sightline.services.versioning.git import without_password

    listed = list_catalogue(read_settings(), category)
    if everything and category:
        listed += list_catalogue(read_settings(), smoke_category(category))
    listed = tuple(one for one in listed if everything or category or not is_smoke(one.category))
    if as_json:
        _print_json(listed)
    elif listed:
        rows = [_row(one) for one in listed]
        # A column for tasks only where some version is for another than detection.
        titles = [
            title for title in rows[0] if title != "task" or any(one.task not in (None, DETECTION) for one in listed)
        ]
        print(as_table(titles, [[row[title] for title in titles] for row in rows]))
        if any(one.state == State.LOST for one in listed):
            print(f"lost: its tag is not in the dataset repository {without_password(read_settings().dataset_repo)}")
    else:
        print(f"no versions{f' of {category}' if category else ''} yet in {_places(read_settings())}")
        print(f"next: {called()} publish FOLDER --category {category or 'desk'} --version v0.1.0")
    return 0


def diff(before: str, after: str, as_json: bool, everything: bool) -> int:
    """Print how two versions differ: counts first, then names."""
    from sightline.catalogue.difference import compare_versions

    difference = compare_versions(read_settings(), before, after)
    if as_json:
        _print_json(difference.to_json())
    else:
        print("\n".join(_diff_lines(difference, None if everything else SHOWN)))
    return 0


def verify(tag: str | None, repair: bool, full: bool, as_json: bool) -> int:
    """Print a line per version, and what is wrong with it; repair it when asked. 1 when something is (still) wrong."""
    from sightline.catalogue.repair import repair_versions
    from sightline.catalogue.verification import verify_versions

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

    exported = export_version(read_settings(), tag, form, target)
    print(f"exported {tag} as {form} to {target}: {exported}")
    return 0


def _places(settings: Settings) -> str:
    """Where versions were looked for."""
    from sightline.services.database.connection import connect
    from sightline.services.versioning.git import without_password

    name = connect(settings.database_url.get_secret_value()).name
    return f"{name} and the dataset repository {without_password(settings.dataset_repo)}"


def _row(one: "Listed") -> dict[str, str]:
    state = str(one.state)
    if one.owner is not None and one.state == "pending":
        until = f", until {one.lease_until:%H:%M:%S}" if one.lease_until else ""
        state = f"{state}: {one.owner.partition(' [')[0] or 'nobody'}{until}"
    return {
        "version": one.tag,
        "state": state,
        "task": one.task or "-",
        "images": "-" if one.images is None else str(one.images),
        "objects": "-" if one.annotations is None else str(one.annotations),
        "parent": one.parent or "-",
        "commit": (one.commit or "-")[:12],
        "date (UTC)": f"{one.date:%Y-%m-%d %H:%M}" if one.date else "-",
    }


def _diff_lines(difference: "Difference", most: int | None) -> list[str]:
    counts = difference.to_json()["counts"]
    lines = [f"{difference.before} -> {difference.after}", ""]
    shown = {name: f"{count} {name.partition('_')[2]}" for name, count in counts.items()}
    shown["images_moved"] = f"{counts['images_moved']} in another split"
    for what, key in (("images", "images"), ("objects", "annotations")):
        lines.append(f"{what}: {', '.join(text for name, text in shown.items() if name.startswith(key))}")
    classes = [
        (one.label, str(one.before), str(one.after), f"{one.after - one.before:+d}") for one in difference.class_counts
    ]
    lines += ["", as_table(("class", difference.before, difference.after, "difference"), classes)]
    moved, annotation = "{0.image}: {0.before} -> {0.after}".format, "{0.image}: {0.label}".format
    kinds: list[tuple[str, Sequence[Any], Callable[[Any], str]]] = [
        ("images added", difference.images_added, str),
        ("images removed", difference.images_removed, str),
        ("images changed (other bytes)", difference.images_changed, str),
        ("images renamed", difference.images_renamed, "{0.before} -> {0.after}".format),
        ("images moved to another split", difference.images_moved, moved),
        ("objects added", difference.annotations_added, annotation),
        ("objects removed", difference.annotations_removed, annotation),
        ("objects changed", difference.annotations_changed, _changed),
    ]
    for title, items, show in kinds:
        if items:
            lines += ["", f"{title} ({len(items)})", *(f"  {show(item)}" for item in items[:most])]
        if most is not None and len(items) > most:
            lines.append(f"  … and {len(items) - most} more (--all)")
    return lines


def _changed(one: Any) -> str:
    label = one.before if one.before == one.after else f"{one.before} -> {one.after}"
    return f"{one.image}: {label}{', redrawn' if one.redrawn else ''}"


def _verify_lines(found: "Verification", abandoned: int, repaired: bool) -> list[str]:
    lines = [line for version in found.versions for line in _version_lines(version)]
    if not found.versions:
        lines.append("no versions yet: nothing to verify")
    if found.unneeded_objects:
        lines.append(
            f"on the remote for no version: {counted(found.unneeded_objects, 'file')}, {decimal(found.unneeded_bytes)} (left alone: "
            "somebody may be uploading them, or gave up)"
        )
    if abandoned:
        lines.append(f"removed from this volume: {abandoned} work folders of dead processes")
    bad = sum(bool(version.problems) for version in found.versions)
    if bad:
        lines.append(f"{bad} of {len(found.versions)} versions {'has' if bad == 1 else 'have'} problems")
        if not repaired and any(problem.repairable for version in found.versions for problem in version.problems):
            lines.append(f"next: {called()} verify --repair")
    elif found.versions:
        lines.append(f"all {len(found.versions)} ok" if len(found.versions) > 1 else "ok")
    return lines


def _version_lines(version: "Checked") -> list[str]:
    if not version.problems:
        if version.objects is None:
            return [f"{version.tag}  {version.state}: somebody is publishing it, left alone"]
        return [f"{version.tag}  ok: {counted(version.images or 0, 'image')}, {counted(version.objects, 'file')}"]
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
    return str(value)
