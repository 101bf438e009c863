"""What an interrupted publisher left: claims, and files that belong to no version, in the storage and on the volume."""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from sightline.catalogue.git_tags import GitTags, open_git_tags
from sightline.catalogue.listing import Installation, is_held
from sightline.catalogue.pruning.plan import NEWEST_SECONDS, Look, Prunable, moment, size_of
from sightline.catalogue.verification import list_remote
from sightline.errors import SightlineError
from sightline.processes.folders import find_abandoned, remove_abandoned
from sightline.services.database.versions import VersionRow, release_claim
from sightline.services.storage.base import PART, StoredObject
from sightline.services.storage.folder import UPLOADS, local_path
from sightline.services.versioning.objects import FOLDER, object_name
from sightline.versions import KINDS, Kind

WHY: Final = "of no version: a publisher was interrupted"


def find_left_by_publishers(look: Look, installation: Installation) -> Iterator[Prunable]:
    """All of it; nothing while somebody publishes."""
    yield from _parts(look, installation)
    rows = installation.rows()
    if held := _held(rows):
        look.notes.append(f"files of no version were not looked for: {held} is being published")
        return
    with open_git_tags(installation.repo, tidies=False) as git_tags:
        for name, row in rows.items():
            if row.status != "published" and name not in git_tags.tagged:
                remove = partial(release_claim, installation.database, row, only_expired=False)
                yield Prunable("claims", name, 0, "whoever claimed the version died or gave up", remove)
        needed = {kind: _needed(look, installation, rows, git_tags, kind) for kind in KINDS}
    for kind, digests in needed.items():
        if digests is not None:
            yield from _uploads(look, installation, kind, digests)
    if None not in needed.values():
        yield from _cached(look, installation, {digest for digests in needed.values() for digest in digests or ()})


def _held(rows: Mapping[str, VersionRow]) -> str | None:
    return next((name for name, row in rows.items() if is_held(row)), None)


def _needed(
    look: Look, installation: Installation, rows: Mapping[str, VersionRow], git_tags: GitTags, kind: Kind
) -> set[str] | None:
    """The digests of all objects of versions of a kind; None when they are not known of every one."""
    folders = {row.digest for row in rows.values() if row.kind == kind and row.status == "published"}
    tagged = [one.pointer for one in git_tags.tagged.values() if one.tag.kind == kind]
    folders |= {pointer.digest if pointer else None for pointer in tagged}
    needed: set[str] = set()
    for digest in folders:
        try:
            needed |= {digest or "", *installation.objects(kind).listing(digest or "").values()}
        except SightlineError:
            look.notes.append(
                f"files of no {kind} version stay: the files of some version are not known. Type: python pipeline.py verify"
            )
            return None
    return needed


def _uploads(look: Look, installation: Installation, kind: Kind, needed: set[str]) -> Iterator[Prunable]:
    for digest, item in list_remote(installation, kind).there.items():
        written = item.changed_at
        if digest not in needed and written and written < moment(look.now - NEWEST_SECONDS):
            remove = partial(_remove_upload, installation, item)
            yield Prunable("uploaded files", item.key, item.size, WHY, remove)


def _remove_upload(installation: Installation, item: StoredObject) -> bool:
    if _held(installation.rows()):
        return False  # whoever publishes just now may have found it there, and counts on it
    installation.storage.delete(item.key)
    return True


def _cached(look: Look, installation: Installation, needed: set[str]) -> Iterator[Prunable]:
    names = {object_name(digest) for digest in needed}
    cache = installation.repo.cache
    for path in sorted((cache / FOLDER).glob("??/*")):
        name = path.relative_to(cache).as_posix()
        if name not in names and not name.endswith(PART) and _is_older(path, look.now - NEWEST_SECONDS):
            yield Prunable("cached files", name, size_of(path), WHY, partial(_remove_cached, installation, path))


def _remove_cached(installation: Installation, path: Path) -> bool:
    if _held(installation.rows()):
        return False
    path.unlink(missing_ok=True)
    return True


def _parts(look: Look, installation: Installation) -> Iterator[Prunable]:
    """What was being written to files of this machine when the writer died."""
    roots = [installation.repo.cache]
    if not installation.storage.root.startswith("gs://"):
        root = local_path(installation.storage.root)
        roots.append(root)
        for folder in find_abandoned(root / UPLOADS):
            remove = partial(_remove_abandoned, folder)
            yield Prunable("abandoned folders", folder.name, size_of(folder), "the process that made it died", remove)
    for root in roots:
        for parent, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name != UPLOADS]
            for path in (Path(parent, name) for name in names if name.endswith(PART)):
                if _is_older(path, look.now - NEWEST_SECONDS):
                    why = "it was being written when the writer died"
                    yield Prunable("half files", path.name, size_of(path), why, partial(_remove_part, path))


def _remove_abandoned(folder: Path) -> bool:
    remove_abandoned(folder.parent)
    return not folder.exists()


def _remove_part(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True


def _is_older(path: Path, limit: float) -> bool:
    return path.lstat().st_mtime < limit
