"""Put this checkout's helper code on the volume, once or after every change, and tell what lies there."""

import getpass
import hashlib
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from laptop.volume.cluster import LostError
from laptop.volume.doors import FolderDoor, HeldError, PodDoor
from sightline.errors import SightlineError, some_of
from sightline.services.runs.closure import digest_contents
from sightline.services.runs.freeze import PACKAGE, BrokenCodeError, check_syntax
from sightline.services.runs.live_files import JUNK_ENDINGS, JUNK_NAMES, list_files

Door = FolderDoor | PodDoor
SHOWN_NAMES = 10
LARGE = 2_000_000  # bytes; whoever sends more wants to see how far it is
SETTLED_MILLISECONDS = 500  # an editor saves several files at once
LONGEST_PAUSE_SECONDS = 30.0


class EditedError(SightlineError):
    """The live copy holds what no sync brought."""


class ChangedWhileSentError(SightlineError):
    """Somebody saved a file while it travelled."""


@dataclass(frozen=True, slots=True)
class LiveCopy:
    """The live copy on the volume."""

    files: Mapping[str, str]  # path -> SHA-256 of the content
    note: Mapping[str, Any] | None  # who, when, commit, dirty, digest, files of the sync that brought it, if one did

    def edited(self) -> list[str]:
        """The files that differ from what the last sync brought; none when no sync did."""
        before, now = (self.note["files"] if self.note else self.files), self.files
        return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))


def sync(source: Path, door: Door, force: bool) -> str:
    """Make a volume's live copy equal to a folder, with `force` also where somebody edited it. Returns what happened.

    Raises:
        BrokenCodeError: a syntax error here; nothing was sent.
        EditedError: somebody edited files on the volume; names them.
        HeldError: another sync is at work; says whose.
        LostError: the connection broke; the live copy is the old or the new one.
    """
    files, sizes = _read_code(source)
    digest = _digest_of(files)
    origin = _origin_of(source)
    with door.open() as channel:
        channel.say({"volume": door.volume, "sync": True, "who": origin["who"]})
        live = LiveCopy(**channel.hear())
        if live.files == files and live.note and not live.edited():
            return f"code_digest {digest}: {door.name} has it already, nothing sent"
        edited = [path for path in live.edited() if live.files.get(path) != files.get(path)]
        if edited and not force:
            raise EditedError(
                f"Edited on the volume ({_synced(live.note)}): {_names(edited)}. Take these edits over into "
                f"{source}, or replace them with --force (the edited copy is kept on the volume)."
            )
        changed = [path for path, sha256 in files.items() if live.files.get(path) != sha256]
        channel.say({**origin, "digest": digest, "files": files})
        _send(channel, source, {path: sizes[path] for path in changed})
        done = channel.hear()
    _check(done, source)
    deleted = len(live.files.keys() - files.keys())
    size = decimal(sum(sizes[path] for path in changed))
    summary = f"code_digest {digest}: {len(changed)} of {len(files)} files, {size}, to {door.name}"
    return "\n  ".join([f"{summary}; {deleted} deleted" if deleted else summary, *_remarks(live, done)])


def watch(source: Path, door: Door, force: bool) -> NoReturn:
    """Sync now and after every change, until the process is stopped.

    A syntax error, or an edit on the volume, is told and waits for the next change here. A lost connection and another
    sync at work are tried again, after ever longer pauses. Any other error is raised.
    """
    import watchfiles

    source = source.resolve()
    changes = watchfiles.watch(
        source, watch_filter=partial(_is_code, source), rust_timeout=SETTLED_MILLISECONDS, yield_on_timeout=True
    )
    pause = 0.0
    while True:
        if source.is_dir():  # else sync says so
            next(changes)  # from here on they are collected, also while a sync is at work
        try:
            print(sync(source, door, force), flush=True)
        except (LostError, HeldError) as error:
            pause = min(2 * pause + 1, LONGEST_PAUSE_SECONDS)
            print(f"{error}\n  trying again in {pause:.0f} s", flush=True)
            time.sleep(pause)
            continue
        except ChangedWhileSentError:
            continue
        except (BrokenCodeError, EditedError) as error:
            print(f"{error}\n  waiting for the next change", flush=True)
        pause = 0.0
        while not next(changes):
            pass


def show_status(source: Path, door: Door) -> str:
    """Say what lies on a volume: its digest, whether it is the same as here, who synced it, and whether it was edited."""
    with door.open() as channel:
        channel.say({"volume": door.volume, "sync": False})
        live = LiveCopy(**channel.hear())
    if not live.files:
        return f"{door.name} holds no helper code yet: python pipeline.py sync"
    files, _ = _read_code(source)
    lines = [f"code_digest {_digest_of(live.files)} on {door.name}"]
    lines.append("same as here" if live.files == files else f"here code_digest {_digest_of(files)}:")
    here, there = files.keys(), live.files.keys()
    for title, paths in (
        ("changed", {path for path in here & there if live.files[path] != files[path]}),
        ("only here", here - there),
        ("only on the volume", there - here),
    ):
        lines += [f"  {title}: {path}" for path in sorted(paths)]
    lines.append(_synced(live.note))
    if live.note:
        lines.append(f"edited since: {_names(live.edited())}" if live.edited() else "not edited since")
    return "\n".join(lines)


def _read_code(folder: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Helper code in a folder as it is read now: path -> SHA-256 of the content, and path -> size in bytes."""
    if not (folder / PACKAGE / "__init__.py").is_file():
        raise SightlineError(
            f"{folder} holds no helper code (no {PACKAGE}/__init__.py). Name the folder with --source."
        )
    files, sizes = {}, {}
    for path in sorted(list_files(folder)):
        try:
            if path.suffix == ".py":  # what is checked is what is digested
                source = (folder / path).read_bytes()
                check_syntax(source, folder / path, "Correct it; nothing was sent.")
                files[path.as_posix()], sizes[path.as_posix()] = hashlib.sha256(source).hexdigest(), len(source)
                continue
            with (folder / path).open("rb") as file:
                files[path.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
                sizes[path.as_posix()] = file.tell()
        except OSError as error:
            raise SightlineError(f"{folder / path} cannot be read: {error.strerror}. Nothing was sent.") from None
    return files, sizes


def _digest_of(files: Mapping[str, str]) -> str:
    """What the snapshot step would call the code_digest of files: path -> SHA-256 of the content."""
    return digest_contents({Path(path): sha256 for path, sha256 in files.items()})


def _origin_of(folder: Path) -> dict[str, str | bool]:
    """Who syncs, and the commit that the folder comes from ("" outside Git; dirty: with changes since)."""
    commit = _git(folder, "rev-parse", "HEAD")
    dirty = bool(commit and _git(folder, "status", "--porcelain", "--", "."))
    return {"who": f"{getpass.getuser()}@{socket.gethostname()}", "commit": commit, "dirty": dirty}


def _git(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no Git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _is_code(source: Path, _: Any, changed: str) -> bool:
    path = Path(changed).relative_to(source)
    hidden = any(part.startswith(".") or part in JUNK_NAMES for part in path.parts)
    return not hidden and not changed.endswith(JUNK_ENDINGS)


def _send(pipe: Any, folder: Path, sizes: Mapping[str, int]) -> None:
    """Send files as a tar stream, with a bar where it takes long; their sizes are those when they were read."""
    total = sum(sizes.values())
    columns = ("sending", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = total < LARGE or not console.is_terminal
    with (
        Progress(*columns, console=console, transient=True, disable=hidden) as progress,
        tarfile.open(fileobj=pipe, mode="w|") as stream,
    ):
        task = progress.add_task("", total=total)
        for path, size in sizes.items():
            member = tarfile.TarInfo(path)
            member.size = size
            try:
                with progress.open(folder / path, "rb", total=total, task_id=task) as handle:
                    stream.addfile(member, handle)
            except OSError:  # shorter now, or gone
                raise ChangedWhileSentError(
                    f"{path} was changed while it was being sent. Nothing was replaced: sync again."
                ) from None


def _check(done: Mapping[str, Any], source: Path) -> None:
    if differ := done.get("differ"):
        raise ChangedWhileSentError(
            f"{_names(differ)}: changed in {source} while it was being sent. Nothing was replaced: sync again."
        )
    if touched := done.get("touched"):
        raise EditedError(
            f"Edited on the volume while this sync ran: {_names(touched)}. Nothing was replaced: sync again."
        )


def _remarks(live: LiveCopy, done: Mapping[str, Any]) -> Iterator[str]:
    if done["foreign"] or done["late"]:
        what = "edited on the volume" if live.note else "brought by no sync"
        kept = f"is kept as copies/{done['kept']}" if done["kept"] else "stays in the folder that code was a link to"
        yield f"what was there before ({what}) {kept}"
    if done["late"]:
        yield f"edited at the very moment of the switch, so not in the new copy: {_names(done['late'])}"
    if done["gap"]:
        yield "the volume's file system cannot let two names change places: for a moment there was no code on it"


def _synced(note: Mapping[str, Any] | None) -> str:
    if not note:
        return "brought by no sync"
    commit = f"commit {note['commit'][:12]}" if note["commit"] else "no commit"
    dirty = " with uncommitted changes" if note["dirty"] else ""
    when = datetime.fromisoformat(note["when"]).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"synced by {note['who']} on {when} from {commit}{dirty}"


def _names(paths: list[str]) -> str:
    return some_of(paths, SHOWN_NAMES)
