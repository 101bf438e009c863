"""Freeze the helper code that a run uses: one release per step, found by import statements and named by digest.

`code/` on the volume is the live copy that people edit; `releases/<step>-<digest>/` is what a step runs from.
"""

import contextlib
import gzip
import io
import json
import logging
import shutil
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.processes.folders import private_folder
from sightline.services.runs import homes
from sightline.services.runs.closure import DOOR, PACKAGE, Imports, digest_files, door_imports, reach, read_imports
from sightline.services.runs.config_chains import BrokenCodeError, check_syntax, config_chain, modules_imported
from sightline.services.runs.live_files import Stamp, list_files, stamp_files
from sightline.services.runs.releases import take_release

log = logging.getLogger(__name__)

STEPS = ("record", "train", "evaluate", "test")
QUIET_NANOSECONDS = 200_000_000  # an editor empties a file and fills it again, and saves several files, within less
PAUSE_SECONDS = 0.1
EDITED_SECONDS = 15.0
# Where a file system cannot exchange two names, a sync that converts a real folder leaves a moment without code.
ABSENT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a run uses."""

    releases: Mapping[str, Path]  # step -> folder of its frozen code
    code_digest: str  # of the whole live copy
    tarball: bytes  # the whole live copy as tar.gz; the same bytes for the same files


def freeze(
    volume: Path,
    config: str,
    category: str,
    steps: Iterable[str] = STEPS,
    parts: Mapping[str, Iterable[str]] = {},
    metrics: Sequence[str] = (),
) -> Snapshot:
    """Copy what each step can import to a release of its own; a release that exists is reused.

    The volume's `code/` is the live copy, the config a model config's name (with or without .py); the category names the
    optional recipe, and the folder beside it. `parts` are, by step, dotted names of modules that it loads by name (those that
    are not there are passed over), `metrics` names for evaluate to find in its release.

    A BrokenCodeError names the file and line of a syntax error; a ConfigError says that there is no such config, or that it
    inherits what is not there.
    """
    releases = volume / "releases"
    with private_folder(releases, ".freezing-") as private:
        # Everything below looks at this copy, so an edit in between cannot mix old and new.
        copy = private / "live"
        _copy_live(volume / "code", copy)
        files = sorted(list_files(copy))
        for file in files:
            if file.suffix == ".py":
                check_syntax((copy / file).read_bytes(), volume / "code" / file)
        imports = read_imports(copy, files)
        snapshot_of_all = digest_files(copy, files), _tarball(copy, files)
        # From here on the copy is no longer what people wrote, but what steps read.
        if recipe := homes.recipe_file(copy, category):
            homes.keep_stated(copy / recipe)
        if metrics:
            (copy / homes.METRICS_FILE).write_text(json.dumps(list(metrics)))
        closures = {step: _closure(copy, step, imports, config, category, parts.get(step, ())) for step in steps}
        frozen = {step: _release(releases, step, copy, sorted(closure), private) for step, closure in closures.items()}
        return Snapshot(frozen, *snapshot_of_all)


def _copy_live(code: Path, target: Path) -> None:
    """Copy the live copy as it is at one moment: never half of an edit, nor half one sync and half another.

    `code` is usually a link that a sync points at another folder: it is followed once. A folder that somebody is
    writing to is looked at again until it has been quiet for a moment.
    """
    began = time.monotonic()
    before: Mapping[Path, Stamp] = {}
    live = code.resolve()
    while True:
        with contextlib.suppress(FileNotFoundError):  # edited, or an old copy that was removed just now
            before = stamp_files(live)
            if _is_quiet(before, target.parent):
                _copy(live, target, before)
                if stamp_files(live) == before and (target / PACKAGE / "__init__.py").is_file():
                    return
        shutil.rmtree(target, ignore_errors=True)
        there = (live / PACKAGE / "__init__.py").is_file()
        waited = time.monotonic() - began
        if not there and waited > ABSENT_SECONDS:
            raise BrokenCodeError(f"There is no helper code at {code}. Put it there: python pipeline.py sync")
        if waited > EDITED_SECONDS:
            newest = max(before, key=lambda file: before[file], default=Path())
            raise BrokenCodeError(
                f"The helper code at {code} has kept changing for {EDITED_SECONDS:.0f} s; the last change was to {newest}. Run "
                "again when the edit is finished; files that programs write all the time belong elsewhere."
            )
        time.sleep(PAUSE_SECONDS)
        live = live if there else code.resolve()


def _is_quiet(stamps: Mapping[Path, Stamp], private: Path) -> bool:
    """Whether nothing was written a moment ago, by the clock of the file system that tells the files' times."""
    clock = private / ".clock"
    clock.touch()
    now = clock.stat().st_mtime_ns
    return all(abs(now - written) > QUIET_NANOSECONDS for written, *_ in stamps.values())


def _closure(root: Path, step: str, imports: Imports, config: str, category: str, parts: Iterable[str]) -> set[Path]:
    """The files that a step can reach, relative to the root."""
    own: set[Path] = set()
    if step == "record":  # the category's recipe, and its folder with what the recipe names: split file, plug-in
        recipe = homes.recipe_file(root, category)
        named_by_it = (root / homes.recipe_folder(root, category)).rglob("*")
        own |= {path.relative_to(root) for path in named_by_it if path.is_file()} | ({recipe} if recipe else set())
    named: list[tuple[str, ...]] = []
    if step in ("train", "trial"):
        own |= set(config_chain(root, config))
        named += modules_imported(root, config)
    if step == "evaluate" and (root / homes.METRICS_FILE).is_file():
        own.add(homes.METRICS_FILE)
    named += [module for file in own for module in imports.get(file, ())]
    named += [tuple(part.split(".")) for part in parts]
    return own | {DOOR} | reach(root, (*imports[DOOR], *door_imports(root, step), *named), imports)


def _release(releases: Path, step: str, root: Path, files: list[Path], private: Path) -> Path:
    release = releases / f"{step}-{digest_files(root, files)}"
    if not take_release(release):
        _copy(root, private / step, files)
        try:
            (private / step).rename(release)
        except OSError:  # another run made the same release meanwhile
            if not release.is_dir():
                raise
    return release


def _copy(source: Path, target: Path, files: Iterable[Path]) -> None:
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, target / file)


def _tarball(root: Path, files: Iterable[Path]) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for file in files:
            content = (root / file).read_bytes()
            entry = tarfile.TarInfo(file.as_posix())
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
