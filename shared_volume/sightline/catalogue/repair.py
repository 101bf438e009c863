"""Finishing what a crash left: bytes from this volume's cache, tags from rows, rows from a version's own description."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sightline.catalogue.git_tags import GitTags, open_git_tags
from sightline.catalogue.listing import Installation, open_installation
from sightline.catalogue.problems import OBJECTS, Problem, Trouble
from sightline.catalogue.rows import parent_of, read_content
from sightline.catalogue.verification import Checked, Verification
from sightline.errors import SightlineError, counted
from sightline.services.database.restore import VersionRows, restore_version
from sightline.services.database.versions import find_version, release_claim
from sightline.services.versioning.claims import is_dead, name_owner
from sightline.services.versioning.datasets import find_dataset, mend_dataset
from sightline.settings import Settings
from sightline.versions import Tag, parse_tag

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done about one problem."""

    tag: str
    trouble: Trouble
    message: str  # what was done, or why it could not be
    done: bool  # whether it could


def repair_versions(settings: Settings, found: Verification) -> tuple[Deed, ...]:
    """Repair what `verify_versions` found a moment ago and what can be repaired; nothing is deleted but dead claims. Verify again.

    A SightlineError where storage, Git or SQL is out of reach.
    """
    installation = open_installation(settings)
    installation.database.migrate()
    deeds = []
    with open_git_tags(installation.repo) as git_tags:
        for version in found.versions:
            deeds += _mend(installation, git_tags, version)
    return tuple(deeds)


def _mend(installation: Installation, git_tags: GitTags, version: Checked) -> list[Deed]:
    deeds: list[Deed] = []
    menders: set[Callable[..., str]] = set()
    for problem in version.problems:
        mender = _MENDERS.get(problem.trouble, _mend_objects)
        if not problem.repairable or (mender in menders and problem.trouble not in OBJECTS):
            continue
        menders.add(mender)
        try:
            message = mender(installation, git_tags, parse_tag(version.tag), problem)
            deeds.append(Deed(version.tag, problem.trouble, message, True))
        except SightlineError as error:
            deeds.append(Deed(version.tag, problem.trouble, str(error), False))
            break  # what follows needs this
    return deeds


def _mend_objects(installation: Installation, _git_tags: GitTags, tag: Tag, problem: Problem) -> str:
    objects = installation.objects(tag.kind)
    files = {objects.key(digest): path for digest in problem.digests if (path := objects.cached(digest)) is not None}
    installation.storage.upload_files(files)
    return f"uploaded {counted(len(files), 'file')} from {objects.cache}"


def _mend_tag(installation: Installation, git_tags: GitTags, tag: Tag, _problem: Problem) -> str:
    row = find_version(installation.database, tag.category, tag.kind, tag.version)
    if row is None or row.commit is None:
        raise SightlineError(f"{tag} has no published row any more. Type: python pipeline.py verify {tag}")
    git_tags.push_tag(str(tag), row.commit, f"{tag.category}: {tag.kind} version {tag.version}")
    return f"made the tag name {row.commit[:12]} again"


def _mend_rows(installation: Installation, git_tags: GitTags, tag: Tag, _problem: Problem) -> str:
    """Write a version's rows from its description; a commit that the repository has and a recorded date stay."""
    row = find_version(installation.database, tag.category, tag.kind, tag.version)
    commit, date = (row.commit or "", row.published_at) if row is not None else ("", None)
    pointer = git_tags.pointer_at(commit, tag.kind, tag.category) if commit else None
    if (tagged := git_tags.tagged.get(str(tag))) is not None:
        if pointer is None:
            commit, pointer = tagged.commit, tagged.pointer
        date = date or tagged.date
    if pointer is None or date is None:
        raise SightlineError(f"Git has no commit of {tag} any more. Type: python pipeline.py verify {tag}")
    objects = installation.objects(tag.kind)
    content = read_content(objects, objects.listing(pointer.digest))
    if content is None:
        raise SightlineError(f"The description of {tag} cannot be read. Type: python pipeline.py verify {tag}")
    _, parent = parent_of(tag, content.recipe, installation.rows())
    parent_id = parent.id if parent is not None else row.parent_id if row is not None else None
    rows = VersionRows(tag, commit, pointer.digest, date, parent_id, content)
    dead = row.owner if row is not None and is_dead(row.owner) else None
    restore_version(installation.database, rows, name_owner(), dead)
    return f"wrote the rows: {counted(len(content.images), 'image')}, {counted(len(content.findings), 'finding')}"


def _mend_claim(installation: Installation, _git_tags: GitTags, tag: Tag, _problem: Problem) -> str:
    row = find_version(installation.database, tag.category, tag.kind, tag.version)
    removed = row is not None and release_claim(installation.database, row, only_expired=not is_dead(row.owner))
    return "removed the claim" if removed else "left the claim: somebody holds it again"


def _mend_copy(installation: Installation, _git_tags: GitTags, tag: Tag, _problem: Problem) -> str:
    changed = mend_dataset(installation.settings, find_dataset(installation.settings, tag.category, tag.version))
    return f"unpacked {counted(len(changed), 'file')} again"


_MENDERS: dict[Trouble, Callable[[Installation, GitTags, Tag, Problem], str]] = {
    Trouble.TAG_MISSING: _mend_tag,
    Trouble.TAG_MOVED: _mend_tag,
    Trouble.ROWS_MISSING: _mend_rows,
    Trouble.ROWS_DIFFER: _mend_rows,
    Trouble.PARENT_MISSING: _mend_rows,
    Trouble.CLAIM_EXPIRED: _mend_claim,
    Trouble.COPY_DIFFERS: _mend_copy,
}
