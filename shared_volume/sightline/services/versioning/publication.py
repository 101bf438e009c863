"""Publishing a version, all or nothing: the steps of PROTOCOL, in that order.

A reader uses published versions only. Whatever step an attempt dies at, the next one finishes or takes over, and a
public tag can always be pulled because the bytes are on the remote before the tag is.
"""

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sightline.errors import SightlineError, some_of
from sightline.services.database.connection import Database
from sightline.services.database.versions import Content, VersionRow, VersionTakenError, list_versions, publish_version
from sightline.services.versioning.adding import Noted
from sightline.services.versioning.belonging import require_one_installation
from sightline.services.versioning.claims import Lease, wait_for_claim
from sightline.services.versioning.description import FILE, FOLDER, parse_description, write_description
from sightline.services.versioning.repository import DatasetRepo, TagExistsError, WorkingCopy
from sightline.services.versioning.shards import SPLITS_FILE
from sightline.versions import Kind, make_tag, next_version

__all__ = ["PROTOCOL", "Content", "Publication", "Services", "publish"]

log = logging.getLogger(__name__)

# Kind of version -> its folder in the dataset repository, which is also its DVC remote's name.
FOLDERS: dict[Kind, str] = {"annotation": "annotations", "dataset": "datasets"}

MOST_NAMES_SHOWN = 10
Build = Callable[[Path], Content]  # puts a version's files into an empty folder


@dataclass(frozen=True, slots=True)
class Services:
    """The places a publication writes to."""

    repo: DatasetRepo
    database: Database


@dataclass(frozen=True, slots=True)
class Publication:
    """The published version's row, and whether this call wrote anything."""

    row: VersionRow
    new: bool


@dataclass(slots=True)
class Attempt:
    """One attempt to publish one version, as far as it has come."""

    services: Services
    category: str
    kind: Kind
    version: str
    build: Build
    parent_id: int | None
    copy: WorkingCopy  # the private one that the version is built in
    noted: dict[str, Noted]
    lease: Lease | None = None  # the claim, while it is ours
    published: VersionRow | None = None  # the version's row, when it is published already
    content: Content = field(default_factory=Content)  # what was built, and `digest` its name in DVC
    digest: str = ""
    commit: str | None = None  # that the tag names, when it is public
    publication: Publication | None = None  # set when there is nothing left to do

    @property
    def tag(self) -> str:
        """The version's tag."""
        return make_tag(self.category, self.kind, self.version)

    @property
    def remote(self) -> str:
        """The DVC remote, and the folder in the dataset repository."""
        return FOLDERS[self.kind]

    @property
    def folder(self) -> Path:
        """The version's folder in the working copy."""
        return self.copy.category_folder(self.remote, self.category)

    def require_claim(self) -> VersionRow:
        """The claim, which nobody took over; else a ClaimLostError."""
        assert self.lease is not None, "what is published already is settled by `compare`"
        self.lease.require()
        return self.lease.claim


def publish(
    services: Services,
    category: str,
    kind: Kind,
    version: str,
    build: Build,
    parent_id: int | None = None,
    noted: dict[str, Noted] | None = None,
) -> Publication:
    """Publish what `build` puts into an empty folder as a version that never changes again.

    `noted` holds, after `build`, files that need no digesting any more, as `NewFiles` notes them; it is emptied. The same
    content again writes nothing; an attempt that was interrupted is finished. While another publisher has the version this
    waits for it.

    Raises:
        VersionTakenError: the version is public with other content; says what differs and which version is free.
        OtherInstallationError: database, repository and storage do not belong together.
        SightlineError: another publisher held the version for too long; or Git, DVC, the storage or the database failed.
    """
    services.repo.require_storage()
    require_one_installation(services.repo, services.database, make_tag(category, kind, version))
    with services.repo.working_copy() as copy:
        attempt = Attempt(services, category, kind, version, build, parent_id, copy, {} if noted is None else noted)
        try:
            for step in PROTOCOL:
                step(attempt)
                if attempt.publication is not None:
                    break
        except BaseException as error:
            try:
                if attempt.lease is not None:
                    attempt.lease.release()
            except SightlineError as unreleased:
                error.add_note(f"(The claim could not be given back, and ends by itself: {unreleased})")
            raise
        if attempt.lease is not None:
            attempt.lease.end()
    assert attempt.publication is not None, "the last step settles"
    return attempt.publication


def claim(attempt: Attempt) -> None:
    """Become the version's one publisher, or find it published."""
    try:
        attempt.lease = wait_for_claim(attempt.services.database, attempt.category, attempt.kind, attempt.version)
    except VersionTakenError as taken:
        attempt.published = taken.published


def build(attempt: Attempt) -> None:
    """Put the version's files, and its description, into the private folder."""
    shutil.rmtree(attempt.folder, ignore_errors=True)
    attempt.folder.mkdir(parents=True)
    began = time.monotonic()
    attempt.content = attempt.build(attempt.folder)
    write_description(attempt.folder, attempt.content)
    log.info("built %d images in %.1f s", len(attempt.content.images), time.monotonic() - began)


def add(attempt: Attempt) -> None:
    """Digest the files."""
    attempt.digest = attempt.copy.add(attempt.folder, attempt.noted)
    attempt.noted.clear()  # of hundreds of thousands of files: the upload takes memory too


def compare(attempt: Attempt) -> None:
    """Find what is public under this version's name: the same content is left, or finished, and other content refused."""
    digest = attempt.published.digest if attempt.published else None
    if digest is None:
        tagged = attempt.copy.digest_at(attempt.tag, attempt.folder)
        if tagged is None:
            return
        attempt.commit, digest = tagged
    if digest != attempt.digest:
        _require_same_files(attempt, digest)
    if attempt.published is not None:
        attempt.publication = Publication(attempt.published, new=False)
        return
    log.info("%s is public without its rows: finishing what an interrupted attempt began", attempt.tag)
    if digest != attempt.digest:
        _adopt_description(attempt, digest)


def push(attempt: Attempt) -> None:
    """Upload what the remote does not have."""
    attempt.copy.push(attempt.folder)


def verify(attempt: Attempt) -> None:
    """Prove that every object is on the remote, by asking about it."""
    attempt.copy.verify(attempt.folder)


def tag(attempt: Attempt) -> None:
    """Make commit and tag public, both at once."""
    attempt.require_claim()
    if attempt.commit is not None:
        return
    message = f"{attempt.category}: {attempt.kind} version {attempt.version}"
    try:
        attempt.commit = attempt.copy.commit_and_tag(message, attempt.tag)
    except TagExistsError:
        compare(attempt)


def write_rows(attempt: Attempt) -> None:
    """Write all rows, in one transaction."""
    assert attempt.commit is not None
    row = publish_version(
        attempt.services.database,
        attempt.require_claim(),
        tag=attempt.tag,
        commit=attempt.commit,
        digest=attempt.digest,
        content=attempt.content,
        parent_id=attempt.parent_id,
    )
    attempt.publication = Publication(row, new=True)


PROTOCOL: tuple[Callable[[Attempt], None], ...] = (claim, build, add, compare, push, verify, tag, write_rows)
"""A killed attempt may end before, in or after any of these. The order is what makes that harmless."""


def _require_same_files(attempt: Attempt, digest: str) -> None:
    objects = attempt.services.repo.objects(attempt.remote)
    theirs, ours = _files(objects.listing(digest)), _files(objects.listing(attempt.digest))
    if SPLITS_FILE not in theirs:  # published before the source's own splits were kept
        ours.pop(SPLITS_FILE, None)
    if theirs == ours:
        return
    free = _next_free(attempt)
    state = "published" if attempt.published else "public, from an attempt that was interrupted before its rows,"
    raise VersionTakenError(
        f"{attempt.category} {attempt.version} is already {state} with other content: {_differences(theirs, ours)} "
        f"Published versions never change: publish as {free} instead.",
        attempt.published,
        free,
    )


def _files(listing: Mapping[str, str]) -> dict[str, str]:
    """Without the description, whose words may change from one release of this library to the next."""
    return {name: digest for name, digest in listing.items() if name.partition("/")[0] != FOLDER}


def _differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    groups = {
        "added": sorted(ours.keys() - theirs.keys()),
        "removed": sorted(theirs.keys() - ours.keys()),
        "changed": sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]),
    }
    told = []
    for what, names in groups.items():
        shown = f" ({some_of(names, MOST_NAMES_SHOWN)})" if names else ""
        told.append(f"{len(names)} {what}{shown}")
    return "; ".join(told) + "."


def _next_free(attempt: Attempt) -> str:
    """The next version that is neither published nor claimed nor tagged."""
    rows = list_versions(attempt.services.database, attempt.category, attempt.kind, pending=True)
    taken, tags = {row.version for row in rows}, attempt.services.repo.tags()
    free = next_version(attempt.version)
    while free in taken or make_tag(attempt.category, attempt.kind, free) in tags:
        free = next_version(free)
    return free


def _adopt_description(attempt: Attempt, digest: str) -> None:
    """Take the public description in place of ours, so that the rows say what the files say."""
    objects = attempt.services.repo.objects(attempt.remote)
    listing = objects.listing(digest)
    shutil.rmtree(attempt.folder)  # `add` has moved away what the cache lacked, and left the rest
    attempt.copy.pull(attempt.folder)
    if SPLITS_FILE not in listing:
        (attempt.folder / SPLITS_FILE).unlink(missing_ok=True)
    if entry := listing.get(FILE):
        file, data = attempt.folder / FILE, objects.read(entry)
        file.unlink()
        file.write_bytes(data)
        attempt.content = parse_description(data, str(file))
    attempt.digest = attempt.copy.add(attempt.folder)
    if attempt.digest != digest:
        raise SightlineError(
            f"{attempt.tag} holds {digest}, which cannot be made again from the same files. "
            f"Publish as {_next_free(attempt)} instead."
        )
