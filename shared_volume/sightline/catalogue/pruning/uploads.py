"""What an interrupted publisher left: claims, and files that belong to no version, in the storage and on the volume."""

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sightline.catalogue.git_tags import GitTags, open_git_tags
from sightline.catalogue.listing import Installation, is_held
from sightline.catalogue.pruning.plan import NEWEST_SECONDS, Look, Prunable, moment, size_of
from sightline.catalogue.verification import list_remote
from sightline.errors import SightlineError
from sightline.processes.folders import find_abandoned, remove_abandoned_folder, remove_file
from sightline.services.database.versions import VersionRow, release_claim
from sightline.services.storage.base import PART, ObjectExistsError, StorageError, StoredObject
from sightline.services.storage.folder import UPLOADS, local_path
from sightline.services.versioning.claims import is_dead
from sightline.services.versioning.objects import FOLDER, LISTING_ENDING, object_name
from sightline.services.versioning.publication import FOLDERS
from sightline.versions import KINDS, Kind

WHY: Final = "of no version: a publisher was interrupted"
DIGEST: Final = re.compile(rf"[0-9a-f]{{32}}({re.escape(LISTING_ENDING)})?")  # other names are not ours
TAGS_SECONDS: Final = (
    5.0  # between two looks at Git's tags; at SQL's rows, which tell of nearly all, before each removal
)


@dataclass(slots=True)
class _Known:
    """The versions that were there when the plan was made: who publishes since may count on files that were of none."""

    installation: Installation
    rows: Mapping[str, VersionRow]
    tags: Collection[str]
    looked: float = -TAGS_SECONDS  # at the tags, by the clock that never goes back

    def is_outdated(self) -> bool:
        """Whether somebody has published, or begun to, since."""
        return self._has_other_rows() or self._has_new_tags()

    def _has_other_rows(self) -> bool:
        return any(
            is_held(row) or name not in self.rows or _mark(row) != _mark(self.rows[name])
            for name, row in self.installation.rows().items()
        )

    def _has_new_tags(self) -> bool:
        """Who pushed a tag and failed at its rows gave the claim back."""
        if time.monotonic() - self.looked < TAGS_SECONDS:
            return False
        if not self.installation.repo.tags().keys() <= set(self.tags):
            return True
        self.looked = time.monotonic()
        return False


def _mark(row: VersionRow) -> tuple[str, str | None, str]:
    return row.status, row.digest, row.owner


def find_left_by_publishers(look: Look, installation: Installation) -> Iterator[Prunable]:
    """All of it; nothing while somebody publishes."""
    yield from _parts(look, installation)
    rows = installation.rows()
    if held := _held(rows):
        look.notes.append(f"files of no version were not looked for: {held} is being published")
        return
    known, used = _Known(installation, rows, set(installation.repo.tags())), set[str]()
    with open_git_tags(installation.repo, tidies=False) as git_tags:
        for name, row in rows.items():
            if row.status != "published" and name not in git_tags.tagged:
                remove = partial(_remove_claim, installation, row)
                yield Prunable("claims", name, 0, "whoever claimed the version died or gave up", remove)
        used |= git_tags.referenced()  # of others who keep files there with DVC, too
        needed = {kind: _needed(look, installation, rows, git_tags, kind) for kind in KINDS}
    is_whole = True
    for kind, digests in needed.items():
        if digests is None:
            is_whole = False
            continue
        there = {
            digest: item for digest, item in list_remote(installation, kind).there.items() if DIGEST.fullmatch(digest)
        }
        strangers = _of_strangers(look, installation, kind, there.keys() - digests)
        if strangers is None:
            is_whole = False
            continue
        used |= digests | strangers
        yield from _uploads(look, known, kind, {one: there[one] for one in there.keys() - used})
    if is_whole:
        yield from _cached(look, known, used)


def _remove_claim(installation: Installation, row: VersionRow) -> bool:
    # By the database's clock: this machine's may be wrong, and the publisher alive.
    return release_claim(installation.database, row, only_expired=not is_dead(row.owner))


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


def _of_strangers(look: Look, installation: Installation, kind: Kind, unneeded: Collection[str]) -> set[str] | None:
    """The unneeded objects that make whole folders, which a listing proves: another installation's versions, perhaps.

    None when a listing cannot be read.
    """
    whole: set[str] = set()
    for listing in sorted(digest for digest in unneeded if digest.endswith(LISTING_ENDING)):
        try:
            whole |= {listing, *installation.objects(kind).listing(listing).values()}
        except SightlineError as error:
            look.notes.append(f"files of no version stay: {error}")
            return None
    if found := whole & set(unneeded):
        look.notes.append(
            f"{len(found)} files below {installation.storage.uri(f'dvc/{FOLDERS[kind]}')} stay: they make whole folders, perhaps of "
            "versions of another database and dataset repository. Check SIGHTLINE_DATABASE_URL and SIGHTLINE_DATASET_REPO"
        )
    return whole


def _uploads(look: Look, known: _Known, kind: Kind, unneeded: Mapping[str, StoredObject]) -> Iterator[Prunable]:
    for digest, item in sorted(unneeded.items()):
        written = item.changed_at
        if written and written < moment(look.now - NEWEST_SECONDS):
            remove = partial(_remove_upload, known, kind, digest, item)
            yield Prunable("uploaded files", item.key, item.size, WHY, remove)


def _remove_upload(known: _Known, kind: Kind, digest: str, item: StoredObject) -> bool:
    if known.is_outdated():
        return False  # whoever publishes just now may have found it there, and counts on it
    installation = known.installation
    is_ours = installation.storage.delete(item.key)
    if not known.is_outdated():
        return is_ours
    cached = installation.objects(kind).cached(digest)
    if cached is None:
        raise StorageError(
            "it was removed while somebody began to publish, who may need it. When that has ended, type: python pipeline.py verify"
        )
    with contextlib.suppress(ObjectExistsError):
        installation.storage.write_bytes(item.key, cached.read_bytes(), create_only=True)
    return False


def _cached(look: Look, known: _Known, needed: set[str]) -> Iterator[Prunable]:
    names = {object_name(digest) for digest in needed}
    cache = known.installation.repo.cache
    for path in sorted((cache / FOLDER).glob("??/*")):
        name = path.relative_to(cache).as_posix()
        ours = DIGEST.fullmatch(f"{path.parent.name}{path.name}") and path.is_file()
        if ours and name not in names and _is_older(path, look.now - NEWEST_SECONDS):
            yield Prunable("cached files", name, size_of(path), WHY, partial(_remove_cached, known, path))


def _remove_cached(known: _Known, path: Path) -> bool:
    return not known.is_outdated() and remove_file(path)


def _parts(look: Look, installation: Installation) -> Iterator[Prunable]:
    """What was being written to files of this machine when the writer died."""
    roots = [installation.repo.cache]
    if not installation.storage.root.startswith("gs://"):
        root = local_path(installation.storage.root)
        roots.append(root)
        for folder in find_abandoned(root / UPLOADS):
            remove = partial(remove_abandoned_folder, folder)
            yield Prunable("abandoned folders", folder.name, size_of(folder), "the process that made it died", remove)
    for root in roots:
        for parent, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name != UPLOADS]
            for path in (Path(parent, name) for name in names if name.endswith(PART)):
                if _is_older(path, look.now - NEWEST_SECONDS):
                    why = "it was being written when the writer died"
                    yield Prunable("half files", path.name, size_of(path), why, partial(remove_file, path))


def _is_older(path: Path, limit: float) -> bool:
    return path.lstat().st_mtime < limit
