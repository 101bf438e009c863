"""What doctor looks at on the machine it runs on, a laptop or the helper's pod: Python, disk, and what the settings name."""

import contextlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from laptop.doctor.lines import Check, Line, as_told
from laptop.doctor.names import check_names
from laptop.doctor.services import MADE, can_make, check_services, tables_of
from laptop.doctor.versions import check_versions
from laptop.setup_environment import PYTHONS
from laptop.workspace import LIBRARY, own_volume
from sightline.errors import SightlineError, counted, some_of
from sightline.settings import Settings

LOCKS = LIBRARY.parent / "docker" / "requirements"
LEAST_FREE = 2 * 10**9  # bytes, below which a small training fails
SCANT = 0.1  # of a disk
WRITTEN = ("dvc-cache", "work", "sources", "datasets", "models", "weights", "releases")
"""Folders on the volume that commands and steps write to."""
ELSEWHERE = "make your user its owner, or name another folder with --workspace"
SETUP = "make setup (make setup-submit without torch)"


def checks(settings: Settings | SightlineError, workspace: Path) -> dict[str, Check]:
    """What can be looked at with these settings, or without any."""
    always: dict[str, Check] = {
        "python": check_python,
        "GPU": check_gpu,
        "names": check_names,
        "workspace": lambda: check_workspace(workspace),
    }
    if isinstance(settings, SightlineError):
        told = str(settings)
        return {**always, "settings": lambda: as_told("settings", told)}
    return {
        **always,
        "disk": lambda: check_disk(settings),
        "prune": lambda: check_prune(settings, workspace),
        "database": lambda: check_services(settings),
        "versions": lambda: check_versions(settings),
        "volume": lambda: check_volume(settings, workspace),
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
        found = f"{version} in {sys.prefix}; not as {lock.name} pins: {some_of(wrong, 3)}"
        return Line("python", "fail", found, SETUP)
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


def check_workspace(folder: Path) -> list[Line]:
    """Whether commands can work in a workspace; nothing is said of one in which they can, or which they can make."""
    if can_make(folder):
        return []
    what = "cannot be written by this user" if folder.is_dir() else "cannot be made"
    return [Line("workspace", "fail", f"the workspace {folder} {what}", ELSEWHERE)]


def check_disk(settings: Settings) -> list[Line]:
    """How full the disks are that the volume and a storage in a folder lie on."""
    from sightline.services.storage.folder import local_path

    places = {"volume": settings.volume}
    if not settings.storage.startswith("gs://"):
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
    """What `prune` would free; nothing is said of a volume on which nothing is yet."""
    if not (settings.volume / "dvc-cache").is_dir():
        return []  # lists of files would be kept there
    with contextlib.suppress(SightlineError, OSError, ImportError):
        from rich.filesize import decimal

        from laptop.prune import models_in_cache
        from sightline.catalogue.pruning.find import find_prunable
        from sightline.services.database.connection import HEAD
        from sightline.services.versioning.repository import DatasetRepo

        to_be_made = DatasetRepo.of(settings).is_to_be_made
        if tables_of(settings)[1] == HEAD and not to_be_made:  # a look is to make nothing
            plan = find_prunable(settings, named=models_in_cache(workspace))
            return [Line("prune", "ok", f"python pipeline.py prune would free {decimal(plan.size)}")]
    return [
        Line(
            "prune",
            "skip",
            "what prune would free cannot be told",
            "first what fails here, else python pipeline.py prune says why",
        )
    ]


def check_volume(settings: Settings, workspace: Path) -> Line:
    """Write a file, and look for the helper code."""
    volume, own = settings.volume, settings.volume == own_volume(workspace)
    if own and not volume.exists():
        return (
            Line("volume", "ok", f"{volume}: {MADE}")
            if can_make(volume)
            else Line("volume", "fail", f"{volume} cannot be made", ELSEWHERE)
        )
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
            ELSEWHERE if own else "the init job gives it to user 1001; on NFS look at the export",
        )
    code = volume / "code"
    if own and not code.exists():
        return Line("volume", "ok", f"{volume} is writable; the first command that works here links the helper code")
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
