"""Publishing a version, all or nothing: claim, build, push, verify, tag, rows.

A reader uses published versions only. Whatever step an attempt dies at, the next one finishes or takes over, and a
public tag can always be pulled because the bytes are on the remote before the tag is.
"""

import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.database import (
    Database,
    FindingRow,
    ImageRow,
    VersionRecord,
    VersionTakenError,
    claim_version,
    find_version,
    publish_version,
    release_claim,
)
from sightline.dataset_repo import DatasetRepo, WorkingCopy
from sightline.errors import SightlineError
from sightline.storage import Storage
from sightline.versions import Kind, make_tag, next_version

log = logging.getLogger(__name__)

FOLDERS: dict[Kind, str] = {"annotation": "annotations", "dataset": "datasets"}
"""Kind of version -> its folder in the dataset repository, which is also its DVC remote's name."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a builder put into the version's folder: the rows that describe it."""

    images: Sequence[ImageRow]
    findings: Sequence[FindingRow] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Services:
    """The three places a publication writes to."""

    repo: DatasetRepo
    storage: Storage
    database: Database


@dataclass(frozen=True, slots=True)
class Outcome:
    """The published version's record, and whether this call wrote anything."""

    record: VersionRecord
    new: bool


def publish(
    services: Services,
    category: str,
    kind: Kind,
    version: str,
    build: Callable[[Path], Content],
    parent_id: int | None = None,
) -> Outcome:
    """Publish what `build` puts into an empty folder as a version that never changes again.

    The same content again writes nothing.

    Raises:
        VersionTakenError: the version is published with other content.
        SightlineError: another publisher holds the version; or Git, DVC, the storage or the database failed.
    """
    database = services.database
    services.repo.require_storage()
    published = find_version(database, category, kind, version)
    if published is not None and published.status == "published":
        with services.repo.working_copy() as copy:
            _, digest = _build(copy, kind, category, build)
        _require_same(published, digest)
        return Outcome(published, new=False)
    claim = claim_version(
        database, category, kind, version, f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    )
    try:
        tag = make_tag(category, kind, version)
        with services.repo.working_copy() as copy:
            content, digest = _build(copy, kind, category, build)
            place = copy.place(FOLDERS[kind], category)
            commit = _commit_of_interrupted(services, tag, kind, category, digest)
            if commit is None:
                copy.push(place)
                _verify(services.storage, FOLDERS[kind], copy.objects(place))
                commit = copy.commit_and_tag(f"{category}: {kind} version {version}", tag)
        record = publish_version(
            database,
            claim,
            tag=tag,
            commit=commit,
            digest=digest,
            recipe=content.recipe,
            parent_id=parent_id,
            images=content.images,
            findings=content.findings,
        )
    except BaseException:
        release_claim(database, claim)
        raise
    return Outcome(record, new=True)


def _build(copy: WorkingCopy, kind: Kind, category: str, build: Callable[[Path], Content]) -> tuple[Content, str]:
    place = copy.place(FOLDERS[kind], category)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    began = time.monotonic()
    content = build(place)
    log.info("built %d images in %.1f s", len(content.images), time.monotonic() - began)
    return content, copy.add(place)


def _commit_of_interrupted(services: Services, tag: str, kind: Kind, category: str, digest: str) -> str | None:
    """The commit of an attempt that pushed its tag and died before its rows: same content goes on from there."""
    commit = services.repo.tags().get(tag)
    if commit is None:
        return None
    with services.repo.working_copy(tag) as copy:
        tagged = copy.digest(copy.place(FOLDERS[kind], category))
    if tagged != digest:
        raise SightlineError(
            f"The tag {tag} exists with other content ({tagged}, not {digest}). Published versions never change: "
            f"publish as {next_version(tag.rpartition('_')[2])} instead."
        )
    return commit


def _verify(storage: Storage, remote: str, needed: Mapping[str, int]) -> None:
    """Every object is on the remote with the right size; `dvc push` alone does not prove it."""
    prefix = f"dvc/{remote}"
    there = {item.key.removeprefix(f"{prefix}/"): item.size for item in storage.list(f"{prefix}/files/md5")}
    wrong = [name for name, size in needed.items() if there.get(name) != size]
    if wrong:
        raise SightlineError(
            f"{len(wrong)} of {len(needed)} objects are missing or cut short at {storage.uri(prefix)} after the upload, "
            f"the first {wrong[0]}. Nothing was published; run the same command again."
        )


def _require_same(published: VersionRecord, digest: str) -> None:
    if published.digest != digest:
        raise VersionTakenError(
            f"{published.category} {published.version} is already published with other content "
            f"({published.digest}, not {digest}). Published versions never change: "
            f"publish as {next_version(published.version)} instead.",
            published,
        )
