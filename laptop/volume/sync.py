"""Put helper code on the volume, once or after every change, and tell what lies there."""

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

from laptop.volume.doors import FolderDoor, HeldError, LostError
from laptop.volume.local_code import ChangedWhileSentError, LocalCode, digest_of, origin_of, read_code
from laptop.volume.pod import PodDoor
from sightline.errors import SightlineError
from sightline.services.runs.freeze import BrokenCodeError
from sightline.services.runs.live_files import JUNK_ENDINGS, JUNK_NAMES

Door = FolderDoor | PodDoor
SHOWN_NAMES = 10
LARGE = 2_000_000  # bytes; whoever sends more wants to see how far it is
SETTLED_MILLISECONDS = 500  # an editor saves several files at once
LONGEST_PAUSE_SECONDS = 30.0


class EditedError(SightlineError):
    """The live copy holds what no sync brought."""


@dataclass(frozen=True, slots=True)
class LiveCopy:
    """The live copy on the volume.

    Attributes:
        files: path -> SHA-256 of the content; empty when there is none.
        note: what the sync that brought it wrote down: who, when, commit, dirty, digest, files. None: no sync did.
    """

    files: Mapping[str, str]
    note: Mapping[str, Any] | None

    def edited(self) -> list[str]:
        """The files that differ from what the last sync brought; none when no sync did."""
        before, now = (self.note["files"] if self.note else self.files), self.files
        return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))


def sync(source: Path, door: Door, force: bool) -> str:
    """Make a volume's live copy equal to a folder. Returns a line that says what happened.

    Args:
        force: replace also what somebody edited on the volume; it stays among the kept copies.

    Raises:
        BrokenCodeError: a syntax error here; nothing was sent.
        EditedError: somebody edited files on the volume; names them.
        HeldError: another sync is at work; says whose.
        LostError: the connection broke; the live copy is the old or the new one.
    """
    code = read_code(source)
    digest = digest_of(code.files)
    origin = origin_of(source)
    with door.open() as channel:
        channel.say({"volume": door.volume, "sync": True, "who": origin["who"]})
        live = LiveCopy(**channel.hear())
        if live.files == code.files and live.note and not live.edited():
            return f"code_digest {digest}: {door.name} has it already, nothing sent"
        edited = [path for path in live.edited() if live.files.get(path) != code.files.get(path)]
        if edited and not force:
            raise EditedError(
                f"Edited on the volume ({_synced(live.note)}): {_names(edited)}. Take these edits over into "
                f"{source}, or replace them with --force (the edited copy is kept on the volume)."
            )
        changed = [path for path, sha256 in code.files.items() if live.files.get(path) != sha256]
        channel.say({**origin, "digest": digest, "files": code.files})
        _send(channel, code, changed)
        done = channel.hear()
    _check(done, source)
    deleted = len(live.files.keys() - code.files.keys())
    size = decimal(sum(code.sizes[path] for path in changed))
    summary = f"code_digest {digest}: {len(changed)} of {len(code.files)} files, {size}, to {door.name}"
    return "\n  ".join([f"{summary}; {deleted} deleted" if deleted else summary, *_remarks(live, done)])


def watch(source: Path, door: Door, force: bool) -> NoReturn:
    """Sync now and after every change, until the process is stopped.

    A syntax error, or an edit on the volume, is told and waits for the next change here. A lost connection and another
    sync at work are tried again, after ever longer pauses.

    Raises:
        SightlineError: what trying again does not mend: no access, no such folder, no watchfiles.
    """
    try:
        import watchfiles
    except ModuleNotFoundError:
        raise SightlineError(
            "sync --watch needs watchfiles, which is not installed here; `make setup` installs it."
        ) from None

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
    code = read_code(source)
    lines = [f"code_digest {digest_of(live.files)} on {door.name}"]
    lines.append("same as here" if live.files == code.files else f"here code_digest {digest_of(code.files)}:")
    here, there = code.files.keys(), live.files.keys()
    for title, paths in (
        ("changed", {path for path in here & there if live.files[path] != code.files[path]}),
        ("only here", here - there),
        ("only on the volume", there - here),
    ):
        lines += [f"  {title}: {path}" for path in sorted(paths)]
    lines.append(_synced(live.note))
    if live.note:
        lines.append(f"edited since: {_names(live.edited())}" if live.edited() else "not edited since")
    return "\n".join(lines)


def _is_code(source: Path, _: Any, changed: str) -> bool:
    path = Path(changed).relative_to(source)
    hidden = any(part.startswith(".") or part in JUNK_NAMES for part in path.parts)
    return not hidden and not changed.endswith(JUNK_ENDINGS)


def _send(pipe: Any, code: LocalCode, paths: list[str]) -> None:
    total = sum(code.sizes[path] for path in paths)
    columns = ("sending", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = total < LARGE or not console.is_terminal
    with (
        Progress(*columns, console=console, transient=True, disable=hidden) as progress,
        tarfile.open(fileobj=pipe, mode="w|") as stream,
    ):
        task = progress.add_task("", total=total)
        for path in paths:
            member = tarfile.TarInfo(path)
            member.size = code.sizes[path]
            try:
                with progress.open(code.folder / path, "rb", total=total, task_id=task) as handle:
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
    more = f" and {len(paths) - SHOWN_NAMES} more" if len(paths) > SHOWN_NAMES else ""
    return ", ".join(paths[:SHOWN_NAMES]) + more
