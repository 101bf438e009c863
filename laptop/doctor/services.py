"""What doctor says of database, storage and dataset repository, each alone and beside the others: they hold the same versions."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laptop.doctor.lines import Line, as_told
from laptop.workspace import CONNECTED
from sightline.errors import SightlineError, counted
from sightline.settings import Settings

if TYPE_CHECKING:
    from sightline.services.versioning.repository import DatasetRepo

GIT_SECONDS = 10.0
MADE = "the first command makes it"
LOST = {
    "database": "if it is right, its tables were lost: python pipeline.py verify --repair writes the versions' rows again "
    "(not those of runs and scores: restore a copy for these)",
    "storage": "if it is right, the files were lost: python pipeline.py verify --repair uploads what this volume's cache has",
    "repository": "if it is right, it was lost: put a copy of it there again, or of any clone of it with all tags",
}
SETTINGS = {
    "database": "SIGHTLINE_DATABASE_URL",
    "storage": "SIGHTLINE_STORAGE",
    "repository": "SIGHTLINE_DATASET_REPO",
}


@dataclass(frozen=True, slots=True)
class Holding:
    """What was found of one of the three.

    Attributes:
        line: what is said of it, where the others hold no more than it does.
        shown: what it is called.
        there: whether there is such a thing yet.
        holds: whether versions are in it; None where that cannot be told.
    """

    line: Line
    shown: str
    there: bool = True
    holds: bool | None = None


def check_services(settings: Settings) -> list[Line]:
    """A line for each of the three; one that holds nothing is no new one where another holds versions."""
    from concurrent.futures import ThreadPoolExecutor

    checks: dict[str, Callable[[Settings], Holding]] = {
        "database": check_database,
        "storage": check_storage,
        "repository": check_repository,
    }
    with ThreadPoolExecutor(len(checks)) as pool:
        found = dict(zip(checks, pool.map(lambda name: _found(name, checks[name], settings), checks), strict=True))
    return [_beside_the_others(name, found) for name in found]


def _found(name: str, check: Callable[[Settings], Holding], settings: Settings) -> Holding:
    try:
        return check(settings)
    except (SightlineError, OSError) as error:
        return Holding(as_told(name, str(error)), "")


def _beside_the_others(name: str, found: Mapping[str, Holding]) -> Line:
    one = found[name]
    full = [f"the {other} {each.shown}" for other, each in found.items() if each.holds]
    if one.holds is not False or not full:
        return one.line
    lacks = "holds no version" if one.there else "is not there"
    told = f"{one.shown} {lacks}, while versions are in {' and in '.join(full)}"
    return Line(
        name, "fail", told, f"check {SETTINGS[name]}, which is likely not the one of these versions; {LOST[name]}"
    )


def can_make(path: Path) -> bool:
    """Whether this user could make a folder, or write to it where it is there."""
    there = next(each for each in (path, *path.parents) if each.exists() or each.is_symlink())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _new(name: str, shown: str, folder: Path, held_by: str) -> Holding:
    """What is not there yet: whether it can be made in the folder."""
    if can_make(folder):
        return Holding(Line(name, "ok", f"{shown}: {MADE}"), shown, there=False, holds=False)
    do = f"make your user the folder's owner, or set {SETTINGS[name]} to another place"
    return Holding(
        Line(name, "fail", f"{shown} cannot be made: {held_by} cannot be written", do), shown, False, holds=False
    )


def tables_of(settings: Settings) -> tuple[str, str | None]:
    """What the database is called, and the migration of its tables: "" for none yet, None where its file is yet to be made."""
    from sightline.services.database.connection import connect

    text = settings.database_url.get_secret_value()
    if (file := _sqlite_file(text)) and not file.exists():
        return str(file), None
    database = connect(text)
    try:
        return database.name, database.revision() or ""
    finally:
        database.close()


def _sqlite_file(text: str) -> Path | None:
    from sqlalchemy.engine import make_url

    with contextlib.suppress(Exception):  # `connect` says what is wrong with a URL
        url = make_url(text)
        if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
            return Path(url.database)
    return None


def _not_writable(file: Path | None) -> str:
    """What stands in the way of writes to a SQLite file: it, or its folder, in which SQLite makes a journal; empty for nothing."""
    places = {"the file": file, "its folder": file.absolute().parent} if file else {}
    return next((name for name, path in places.items() if not os.access(path, os.W_OK)), "")


def _lost_tables(settings: Settings, found: str) -> list[str]:
    """Tables that are missing though others are there; of an older form some are yet to be made."""
    from sightline.services.database.connection import HEAD, connect
    from sightline.services.database.models import Base

    database = connect(settings.database_url.get_secret_value())
    try:
        missing = sorted({*Base.metadata.tables, "alembic_version"} - (there := database.table_names()))
    finally:
        database.close()
    is_old = "" < found < HEAD
    return missing if not is_old and there & Base.metadata.tables.keys() else []


def _has_versions(settings: Settings) -> bool:
    from sightline.services.database.connection import connect
    from sightline.services.database.versions import list_versions

    database = connect(settings.database_url.get_secret_value())
    try:
        return bool(list_versions(database))
    finally:
        database.close()


def check_database(settings: Settings) -> Holding:
    """Whether the database answers, and has the tables that this code knows."""
    from sightline.services.database.connection import HEAD

    name, found = tables_of(settings)
    if found is None:
        return _new("database", f"SQLite file {name}", Path(name).absolute().parent, "its folder")
    if lost := _lost_tables(settings, found):
        told = f"{name} has lost tables: {', '.join(lost)}"
        do = "put a copy of the database back; without one, begin an empty one and type: python pipeline.py verify --repair"
        return Holding(Line("database", "fail", told, do), name)
    if not found:
        do = "nothing: the first command, or the migration job, makes them"
        return Holding(Line("database", "note", f"{name} answers; it has no tables yet", do), name, holds=False)
    if found < HEAD:
        told = f"{name} has tables of an older Sightline ({found}, this is {HEAD})"
        return Holding(Line("database", "note", told, "nothing: the next command updates them"), name)
    newer = found > HEAD
    line = Line("database", "ok", f"{name} answers, its tables are up to date")
    if newer:
        told = f"{name} answers; its tables are of a newer Sightline ({found}, this is {HEAD})"
        line = Line(
            "database", "note", told, "use the release that the team uses: prune refuses, and new columns stay empty"
        )
    if refused := _not_writable(_sqlite_file(settings.database_url.get_secret_value())):
        told = f"{name} can be read and not written: {refused} is not writable by this user"
        line = Line(
            "database",
            "fail",
            told,
            "to publish or run from here, make your user its owner, or give it the right to write",
        )
    return Holding(line, name, holds=None if newer else _has_versions(settings))


def check_storage(settings: Settings) -> Holding:
    """Write, read and delete one object, and look whether there are files of versions."""
    from sightline.services.storage.access import open_storage
    from sightline.services.storage.folder import local_path

    if namespace := os.environ.get(CONNECTED):
        told = f"{settings.storage} is on the volume of namespace {namespace}, which laptops cannot reach"
        return Holding(Line("storage", "skip", told, "doctor --cluster"), settings.storage)
    storage, key, data = open_storage(settings.storage), f"doctor-{uuid.uuid4().hex}", os.urandom(16)
    if not settings.storage.startswith("gs://") and not (folder := local_path(settings.storage)).exists():
        return _new("storage", storage.root, folder, "the folder above it")
    holds = next(iter(storage.list("dvc")), None) is not None
    storage.write_bytes(key, data, create_only=True)
    try:
        if storage.read_bytes(key) != data:
            told, do = "returned other bytes than were written", "look at what is in between, such as a proxy or cache"
            return Holding(Line("storage", "fail", f"{storage.root} {told}", do), storage.root, holds=holds)
    finally:
        storage.delete(key)
    line = Line("storage", "ok", f"{storage.root}: one object was written, read and deleted")
    return Holding(line, storage.root, holds=holds)


def check_repository(settings: Settings) -> Holding:
    """List the dataset repository's tags, and try a push that sends nothing."""
    from sightline.services.versioning import git
    from sightline.services.versioning.repository import DatasetRepo
    from sightline.versions import version_tags

    repo = DatasetRepo.of(settings)
    shown, here = git.without_password(repo.url), git.local_repository(repo.url)
    git.run_git(repo.url, repo.author, None, "version")  # says where there is no git
    if here and repo.is_to_be_made:
        return _new("repository", shown, here.absolute().parent, "the folder above it")
    tags = git.remote_tags(repo.url, repo.author, GIT_SECONDS)
    if here:
        git.run_git(repo.url, repo.author, here, "fsck", "--connectivity-only", "--no-dangling", seconds=GIT_SECONDS)
    found, holds = f"{shown}: {counted(len(tags), 'tag')}", bool(version_tags(tags))
    if refused := _refused_push(repo):
        reads = "this machine may read it only, which is enough for all but publish and record"
        do = f"to publish from here, get the right to push: {refused}"
        return Holding(Line("repository", "note", f"{found}; {reads}", do), shown, holds=holds)
    if here and not os.access(here / "refs", os.W_OK):
        told, do = "it cannot be written by this user", "make the user who publishes its owner"
        return Holding(Line("repository", "fail", f"{found}; {told}", do), shown, holds=holds)
    return Holding(Line("repository", "ok", f"{found}, writable"), shown, holds=holds)


def _refused_push(repo: "DatasetRepo") -> str:
    """Why a push would be refused; empty where it would not."""
    from sightline.services.versioning import git

    url, author = repo.url, repo.author
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        git.run_git(url, author, folder, "init", "--quiet")
        git.run_git(url, author, folder, "commit", "--quiet", "--allow-empty", "--message", "doctor")
        dry = ("push", "--quiet", "--dry-run", url, "HEAD:refs/heads/doctor")
        try:
            git.run_git(url, author, folder, *dry, seconds=GIT_SECONDS)
        except git.GitError as error:
            return " ".join(str(error).split())
    return ""
