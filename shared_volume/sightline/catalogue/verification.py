"""Proof that every version can be read: the remote, Git and SQL say the same of it."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sightline.catalogue.contents import Remote, check_copy, check_images, check_listing, check_objects
from sightline.catalogue.git_tags import GitTags, Tagged, open_git_tags
from sightline.catalogue.listing import Installation, Rows, State, is_held, open_installation, settled_rows, state_of
from sightline.catalogue.problems import OBJECTS, PUBLISHING, Problem, Trouble
from sightline.catalogue.rows import check_parent, check_rows, missing_rows, read_content, read_rows
from sightline.errors import SightlineError, nearest
from sightline.services.database.versions import Content, VersionRow
from sightline.services.versioning.publication import FOLDERS
from sightline.settings import Settings
from sightline.versions import KINDS, Kind, Tag, parse_tag, parse_version


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out about one version."""

    tag: str
    state: State  # how far it got; a version that somebody is publishing right now is left alone
    images: int | None  # by its rows, or None without
    objects: int | None  # how many files on the remote it needs, or None when nobody knows
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found out about an installation, or about one version of it."""

    versions: tuple[Checked, ...]  # by category, annotation versions first, oldest first
    # On the remotes, for no version; None when that was not looked at or cannot be told. Somebody may be uploading them.
    unneeded_objects: int | None = None
    unneeded_bytes: int = 0  # their size
    abandoned_folders: int = 0  # private work folders on this volume that dead processes left; they were removed

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(version.problems for version in self.versions)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What storage, Git and SQL say, each asked once."""

    installation: Installation
    git_tags: GitTags
    rows: Rows
    remotes: Mapping[Kind, Remote]
    listed: bool  # whether the remotes were listed; else each is asked about the objects that are needed


@contextmanager
def _without_collector() -> Iterator[None]:
    """Hundreds of thousands of rows and digests are kept to the end: looking for garbage among them doubles the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_without_collector()
def verify_versions(settings: Settings, tag: str | None = None, full: bool = False) -> Verification:
    """Check one version, or all, against the remote, Git and SQL. Changes nothing and fetches no image.

    With `full`, every object is read back and its content compared, and what this volume holds unpacked; without it sizes
    are compared, and the md5 where the remote's listing tells it (Cloud Storage does). A SightlineError for no such version,
    or where storage, Git or SQL is out of reach.
    """
    asked = parse_tag(tag) if tag is not None else None
    installation = open_installation(settings)
    abandoned = installation.repo.remove_abandoned()
    before = installation.rows()
    with open_git_tags(installation.repo) as git_tags:
        rows = settled_rows(before, installation.rows(), git_tags.tagged)
        tags = _choose(asked, [*rows, *git_tags.tagged])
        remotes = (
            {kind: list_remote(installation, kind) for kind in KINDS}
            if asked is None
            else {asked.kind: Remote(installation.objects(asked.kind), {}, {})}
        )
        evidence = _Evidence(installation, git_tags, rows, remotes, asked is None)
        needed: dict[Kind, set[str] | None] = {kind: set() for kind in remotes}
        versions = tuple(_check(evidence, one, full, needed) for one in tags)
    unneeded, size = _unneeded(remotes, needed) if asked is None else (None, 0)
    return Verification(versions, unneeded, size, abandoned)


def _choose(asked: Tag | None, known: list[str]) -> list[Tag]:
    tags = {parse_tag(name) for name in known}
    if asked is None:
        return sorted(tags, key=lambda tag: (tag.category, tag.kind, parse_version(tag.version)))
    if asked not in tags:
        raise SightlineError(
            f"There is no version {asked}, neither in the database nor in Git.{nearest(str(asked), known)} "
            "All: python pipeline.py versions"
        )
    return [asked]


def list_remote(installation: Installation, kind: Kind) -> Remote:
    """The objects of one DVC remote, as one listing shows them."""
    prefix = f"dvc/{FOLDERS[kind]}"
    start = len(f"{prefix}/files/md5/")
    there = {item.key[start:].replace("/", "", 1): item for item in installation.storage.list(prefix)}
    return Remote(installation.objects(kind), there, {})


def _check(evidence: _Evidence, tag: Tag, full: bool, needed: dict[Kind, set[str] | None]) -> Checked:
    """Everything about one version; adds the objects that it needs to `needed`, None when nobody knows them."""
    row, tagged = evidence.rows.get(str(tag)), evidence.git_tags.tagged.get(str(tag))
    state = state_of(row, tagged is not None)
    if state == State.PENDING:
        return Checked(str(tag), state, None, None, tuple(_check_claim(row)))
    published = row if row is not None and row.status == "published" else None
    digest = _digest(published, tagged)
    if digest is None:
        message = (
            f"the commit of its tag has no readable {FOLDERS[tag.kind]}/{tag.category}.dvc, and there are no rows of it"
        )
        remedy = f"it was not published by Sightline: git push --delete origin {tag}"
        return Checked(str(tag), state, None, None, (Problem(Trouble.POINTER_MISSING, message, remedy, False),))
    remote = evidence.remotes[tag.kind]
    if not evidence.listed:
        remote.there.update(remote.objects.stored([digest]))
    listing, problems = check_listing(remote, digest)
    known = needed[tag.kind]
    if listing is None:
        needed[tag.kind] = None
    elif known is not None:
        known.update(listing.values(), [digest])
    if listing is not None and not evidence.listed:
        remote.there.update(remote.objects.stored(set(listing.values())))
    content = read_content(remote.objects, listing or {})
    in_sql = read_rows(evidence.installation.database, published) if published is not None else None
    images = (content or in_sql or Content(images=())).images
    if listing is not None:
        sizes = {image.name: image.bytes for image in images} if tag.kind == "annotation" else {}
        pointer = tagged.pointer if tagged else None
        total = pointer.size if pointer and pointer.digest == digest else None
        problems += check_objects(remote, listing, sizes, total, full)
        problems += check_images(remote, listing, images)
        if full:
            problems += check_copy(evidence.installation.settings.volume, tag, digest, listing, images)
    if published is None or in_sql is None:
        problems.append(missing_rows(content))
    else:
        problems += _check_tag(evidence.git_tags, published, tagged)
        problems += check_rows(published, digest, in_sql, content)
        problems += check_parent(tag, published, (content or in_sql).recipe, evidence.rows)
    return Checked(str(tag), state, len(images), len(listing) + 1 if listing else None, _agree(problems))


def _digest(published: VersionRow | None, tagged: Tagged | None) -> str | None:
    """Of the version's listing: as the tag says where the row does not contradict the tag, else as the row says."""
    pointer = tagged.pointer if tagged else None
    if published is None or (tagged and pointer and tagged.commit == published.commit):
        return pointer.digest if pointer else None
    return published.digest


def _check_tag(git_tags: GitTags, published: VersionRow, tagged: Tagged | None) -> list[Problem]:
    """Whether the tag of a published version is there and names its commit."""
    if tagged is not None and tagged.commit == published.commit:
        return []
    commit = str(published.commit)
    pointer = git_tags.pointer_at(commit, published.kind, published.category)  # type: ignore[arg-type]
    mends = pointer is not None and pointer.digest == published.digest
    if not mends and tagged and tagged.pointer and tagged.pointer.digest == published.digest:
        message = f"its row names the commit {commit[:12]}, which Git does not have; its tag has the same content"
        return [Problem(Trouble.ROWS_DIFFER, message, f"--repair writes {tagged.commit[:12]} into the row", True)]
    trouble = Trouble.TAG_MISSING if tagged is None else Trouble.TAG_MOVED
    found = "is gone from Git" if tagged is None else f"was moved: it names {tagged.commit[:12]}, not {commit[:12]}"
    remedy = (
        f"--repair makes it name {commit[:12]} again"
        if mends
        else f"the repository has no commit {commit[:12]} with this content any more: push that commit from a clone that "
        "has it, or publish the same content as a new version"
    )
    return [Problem(trouble, f"its tag {found}", remedy, mends)]


def _check_claim(row: VersionRow | None) -> list[Problem]:
    """Nothing while somebody is at work; a claim that nobody will finish is a problem."""
    if row is None or is_held(row):
        return []
    until = f"{row.lease_until:%Y-%m-%d %H:%M:%S} UTC" if row.lease_until is not None else "no time"
    message = f"the claim of {row.owner or 'nobody'} is abandoned: held until {until}, nothing was published"
    return [Problem(Trouble.CLAIM_EXPIRED, message, "--repair removes the claim; or publish the version again", True)]


def _agree(problems: list[Problem]) -> tuple[Problem, ...]:
    """The problems in the order in which they are repaired; nothing is made public again whose bytes are lost."""
    lost = any(problem.trouble in OBJECTS and not problem.repairable for problem in problems)
    order = list(Trouble)
    return tuple(
        replace(problem, repairable=False, remedy="only once all of its files are on the remote again")
        if lost and problem.repairable and problem.trouble in PUBLISHING
        else problem
        for problem in sorted(problems, key=lambda problem: order.index(problem.trouble))
    )


def _unneeded(remotes: Mapping[Kind, Remote], needed: Mapping[Kind, set[str] | None]) -> tuple[int | None, int]:
    """How many objects no version needs, and their bytes."""
    spare: list[int] = []
    for kind, used in needed.items():
        if used is None:
            return None, 0
        spare += [item.size for digest, item in remotes[kind].there.items() if digest not in used]
    return len(spare), sum(spare)
