"""What doctor looks at on the machine it runs on, a laptop or the helper's pod: Python, disk, and what the settings name."""

import contextlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from laptop.doctor.lines import Check, Line
from laptop.setup_environment import PYTHONS
from laptop.workspace import CONNECTED, LIBRARY
from sightline.errors import SightlineError, counted
from sightline.settings import Settings

LOCKS = LIBRARY.parent / "docker" / "requirements"
LEAST_FREE = 2 * 10**9  # bytes, below which a small training fails
SCANT = 0.1  # of a disk
GIT_SECONDS = 10.0
WRITTEN = ("dvc-cache", "work", "sources", "datasets", "models", "releases")  # on the volume, by commands and steps
SETUP = "make setup (make setup-submit without torch)"


def checks(settings: Settings | SightlineError, workspace: Path) -> dict[str, Check]:
    """What can be looked at with these settings, or without any."""
    always: dict[str, Check] = {"python": check_python, "GPU": check_gpu}
    if isinstance(settings, SightlineError):
        told = str(settings)
        return {**always, "settings": lambda: Line("settings", "fail", told)}
    return {
        **always,
        "disk": lambda: check_disk(settings),
        "prune": lambda: check_prune(settings, workspace),
        "database": lambda: check_database(settings),
        "storage": lambda: check_storage(settings),
        "repository": lambda: check_repository(settings),
        "volume": lambda: check_volume(settings),
    }


def check_python() -> Line:
    """The interpreter, and whether the packages are those that the lock pins."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        wanted = " to ".join(".".join(map(str, each)) for each in PYTHONS)
        return Line("python", "fail", f"{version}; {wanted} is needed", f"{SETUP} with PYTHON=/path/to/one")
    lock = LOCKS / ("dev.txt" if _version("torch") else "submit.txt")
    if not lock.is_file():
        return Line("python", "ok", f"{version} in {sys.prefix}")
    wrong = [
        f"{name} {_version(name) or 'is missing'} instead of {pinned}"
        for name, pinned in _pinned(lock)
        if _version(name) != pinned
    ]
    if wrong:
        found = f"{version} in {sys.prefix}; not as {lock.name} pins: {', '.join(wrong[:3])}"
        return Line("python", "fail", f"{found}{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}", SETUP)
    return Line("python", "ok", f"{version} in {sys.prefix}, packages as {lock.name} pins them")


def _version(package: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return ""


def _pinned(lock: Path) -> Iterator[tuple[str, str]]:
    from packaging.requirements import Requirement

    for line in lock.read_text().splitlines():
        if "==" in line and not line.lstrip().startswith(("#", "-")):
            pin = Requirement(line.split(" \\")[0].split(" #")[0])
            if pin.marker is None or pin.marker.evaluate():
                yield pin.name, str(pin.specifier).removeprefix("==")


def check_gpu() -> Line:
    """Whether models can use a GPU that is there."""
    torch = _version("torch")
    if not Path("/dev/nvidia0").exists():
        return Line("GPU", "ok", f"none; what trains here uses {counted(os.cpu_count() or 1, 'core')}")
    if not torch:
        return Line("GPU", "ok", "an NVIDIA GPU, and no torch that could use it in this environment")
    if torch.endswith("+cpu"):
        return Line("GPU", "note", f"an NVIDIA GPU, and torch {torch} that cannot use it", "make clean setup")
    import torch as loaded

    if not loaded.cuda.is_available():
        return Line(
            "GPU",
            "fail",
            f"an NVIDIA GPU that torch {torch} cannot use",
            "run nvidia-smi: the driver may be too old for it",
        )
    return Line("GPU", "ok", f"{loaded.cuda.get_device_name(0)}, {counted(loaded.cuda.device_count(), 'device')}")


def check_disk(settings: Settings) -> list[Line]:
    """How full the disks are that the volume and a storage in a folder lie on."""
    from sightline.services.storage.folder import local_path

    places = {"volume": settings.volume}
    if settings.storage.startswith("file://"):
        places["storage"] = local_path(settings.storage)
    disks: dict[int, tuple[list[str], Path]] = {}
    for name, folder in places.items():
        there = next(each for each in (folder, *folder.parents) if each.exists())
        disks.setdefault(there.stat().st_dev, ([], there))[0].append(name)
    return [_disk(" and ".join(names), shutil.disk_usage(folder)) for names, folder in disks.values()]


def _disk(names: str, usage: "shutil._ntuple_diskusage") -> Line:
    found = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.0f} GB are free for {names}"
    if usage.total and usage.free < LEAST_FREE:
        return Line("disk", "fail", found, "make room: a small training needs 2 GB")
    if usage.free < SCANT * usage.total:
        return Line("disk", "note", found, "make room before it is full")
    return Line("disk", "ok", found)


def check_prune(settings: Settings, workspace: Path) -> list[Line]:
    """What `prune` would free; nothing is said where it cannot be told, the reason of which is another check's."""
    with contextlib.suppress(SightlineError, OSError, ImportError):
        from rich.filesize import decimal

        from laptop.prune import models_in_cache
        from sightline.catalogue.pruning.find import find_prunable
        from sightline.services.database.connection import HEAD

        if _tables(settings)[1] == HEAD:  # a look is to change no tables
            plan = find_prunable(settings, named=models_in_cache(workspace))
            return [Line("prune", "ok", f"python pipeline.py prune would free {decimal(plan.size)}")]
    return []


def _tables(settings: Settings) -> tuple[str, str | None]:
    """What the database is called, and the migration of its tables: "" for none yet, None where its file is yet to be made."""
    from sqlalchemy.engine import make_url

    from sightline.services.database.connection import connect

    text = settings.database_url.get_secret_value()
    with contextlib.suppress(Exception):  # `connect` says what is wrong with a URL
        url = make_url(text)
        file = url.database if url.get_backend_name() == "sqlite" else None
        if file and file != ":memory:" and not Path(file).exists():
            return file, None
    database = connect(text)
    try:
        return database.name, database.revision() or ""
    finally:
        database.close()


def check_database(settings: Settings) -> Line:
    """Whether the database answers, and has the tables that this code knows."""
    from sightline.services.database.connection import HEAD

    name, found = _tables(settings)
    if found is None:
        if not os.access(Path(name).parent, os.W_OK):
            return Line(
                "database", "fail", f"SQLite file {name}: its folder cannot be written", "choose another folder"
            )
        return Line("database", "ok", f"SQLite file {name}: the first command makes it")
    if not found:
        do = "nothing: the first command, or the migration job, makes them"
        return Line("database", "note", f"{name} answers; it has no tables yet", do)
    if found < HEAD:
        told = f"{name} has tables of an older Sightline ({found}, this is {HEAD})"
        return Line("database", "note", told, "nothing: the next command updates them")
    newer = f"; they are of a newer Sightline ({found}, this is {HEAD})" if found > HEAD else ""
    return Line("database", "ok", f"{name} answers, its tables are up to date{newer}")


def check_storage(settings: Settings) -> Line:
    """Write, read and delete one object."""
    from sightline.services.storage.access import open_storage

    if namespace := os.environ.get(CONNECTED):
        return Line(
            "storage",
            "skip",
            f"{settings.storage} is on the volume of namespace {namespace}, which laptops cannot reach",
            "doctor --cluster",
        )
    storage, key, data = open_storage(settings.storage), f"doctor-{uuid.uuid4().hex}", os.urandom(16)
    storage.write_bytes(key, data, create_only=True)
    try:
        if storage.read_bytes(key) != data:
            return Line(
                "storage",
                "fail",
                f"{storage.root} returned other bytes than were written",
                "look at what is in between, such as a proxy or cache",
            )
    finally:
        storage.delete(key)
    return Line("storage", "ok", f"{storage.root}: one object was written, read and deleted")


def check_repository(settings: Settings) -> Line:
    """List the dataset repository's tags, and try a push that sends nothing."""
    from sightline.services.versioning import git
    from sightline.services.versioning.repository import require_plain_paths

    require_plain_paths(settings)
    url, author = settings.dataset_repo, (settings.git_user_name, settings.git_user_email)
    shown = git.without_password(url)
    here = git.local_repository(url)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        git.run_git(url, author, folder, "init", "--quiet")
        if here and not here.exists():
            return Line("repository", "ok", f"{shown}: the first publication makes it")
        tags = git.remote_tags(url, author, GIT_SECONDS)
        found = f"{shown}: {counted(len(tags), 'tag')}"
        git.run_git(url, author, folder, "commit", "--quiet", "--allow-empty", "--message", "doctor")
        try:
            git.run_git(
                url, author, folder, "push", "--quiet", "--dry-run", url, "HEAD:refs/heads/doctor", seconds=GIT_SECONDS
            )
        except git.GitError as error:
            reads = "this machine may read it only, which is enough for all but publish and record"
            return Line("repository", "note", f"{found}; {reads}", " ".join(str(error).split()))
    if here and not os.access(here / "refs", os.W_OK):
        return Line(
            "repository",
            "fail",
            f"{found}; it cannot be written by this user",
            "make the user who publishes its owner",
        )
    return Line("repository", "ok", f"{found}, writable")


def check_volume(settings: Settings) -> Line:
    """Write a file, and look for the helper code."""
    volume = settings.volume
    if not volume.is_dir():
        return Line("volume", "fail", f"there is no folder {volume}", "mount the volume, or set SIGHTLINE_VOLUME")
    folder = volume
    try:
        for folder in (volume, *filter(Path.is_dir, (volume / name for name in WRITTEN))):
            with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder):
                pass
    except OSError as error:
        who = f"user {os.getuid()}, group {os.getgid()}"
        return Line(
            "volume",
            "fail",
            f"{folder} cannot be written by {who} ({error.strerror})",
            "the init job gives it to user 1001; on NFS look at the export",
        )
    code = volume / "code"
    if not (code / "sightline" / "__init__.py").is_file():
        return Line("volume", "fail", f"{volume} is writable, but holds no helper code yet", "python pipeline.py sync")
    return Line("volume", "ok", f"{volume} is writable; its helper code is in {os.path.realpath(code)}")


def settings_or_reason() -> Settings | SightlineError:
    """The settings, or why there are none."""
    from sightline.processes.deadline import deadline_seconds
    from sightline.settings import read_settings

    try:
        deadline_seconds()
        return read_settings()
    except SightlineError as error:
        return error
