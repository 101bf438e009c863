"""The half of `sync` that runs beside the volume. It travels there as text behind live_files.py, so:
Python's standard library only.

It hears a request and says what lies there; a sync goes on with an order and a tar stream of the files that changed, and
hears what became of it. On the volume, `code` is a symbolic link to `copies/<name>`. A new copy is built in
`copies/.building-…`, compared with what the laptop announced, renamed, and made live by one rename of a link. Whoever is
killed in between leaves `code` as it was or as it should be; the next sync removes what was left. One sync at a time: a
lock on `copies/.lock`, which dies with this process; and this process ends when the laptop's end of the pipe closes or
says nothing for a minute.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.services.runs.live_files import Stamp, stamp_files

SILENCE_SECONDS = 60
BUSY_SECONDS = 5.0  # between two signs of life to the laptop
KEPT_COPIES = 5  # that were live before; and as many that hold what no sync brought
NOTE = ".synced.json"  # in a copy: who brought it, and what
MARK = ".not-synced"  # in a copy: somebody edited it on the volume, or no sync brought it
RENAME_EXCHANGE = 2
AT_FDCWD = -100


class Laptop:
    """Lines of JSON to and from the laptop, and the bytes of a tar stream. This process ends when nobody is there."""

    def __init__(self) -> None:
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(1))
        threading.Thread(target=self._give_signs, daemon=True).start()

    def hear(self) -> Any:
        return json.loads(self._await(sys.stdin.buffer.readline))

    def read(self, size: int) -> bytes:
        return self._await(lambda: sys.stdin.buffer.read(size))

    def say(self, **message: Any) -> None:
        self._write(json.dumps(message).encode() + b"\n")

    def _await(self, read: Callable[[], bytes]) -> bytes:
        signal.alarm(SILENCE_SECONDS)
        data = read()
        signal.alarm(0)
        return data or sys.exit(1)

    def _write(self, line: bytes) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    def _give_signs(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                time.sleep(BUSY_SECONDS)
                self._write(b"\n")


class Live:
    """The live copy as it lay there when this object was made."""

    def __init__(self, volume: Path) -> None:
        self._code = volume / "code"
        real = self._code.resolve()
        self.folder = real if real.is_dir() else None
        self.note: Any = None  # what the sync that brought it wrote down, if one did
        with contextlib.suppress(OSError, ValueError):
            note = json.loads((real / NOTE).read_text())
            if isinstance(note, dict) and note.keys() >= {"who", "when", "commit", "dirty", "digest", "files"}:
                self.note = note
        self._stamps = _stamps(real)
        self.files = {path: _digest(real / path) for path in self._stamps}
        # Whether it holds what no sync brought.
        self.foreign = self.folder is not None and (self.note or {}).get("files") != self.files

    def touched(self) -> list[str]:
        """The files that somebody has changed, made or removed meanwhile."""
        return self.touched_in(self.folder) if self._code.resolve() == self.folder else sorted(self._stamps)

    def touched_in(self, folder: Path | None) -> list[str]:
        """The same for the place that the folder has moved to."""
        now = _stamps(folder) if folder else {}
        return sorted(path for path in self._stamps.keys() | now.keys() if self._stamps.get(path) != now.get(path))


def main() -> None:
    """Answer one request: to look at the live copy, or to replace it."""
    laptop = Laptop()
    try:
        request = laptop.hear()
        volume = Path(request["volume"]).resolve()
        if not volume.is_dir():
            raise OSError(f"there is no folder {volume}: is the claim mounted there?")
        if request["sync"]:
            if holder := _lock(volume, request["who"]):
                laptop.say(held=holder)
                return
            _tidy(volume)
        live = Live(volume)
        laptop.say(files=live.files, note=live.note)
        if request["sync"]:
            _replace(laptop, volume, live, laptop.hear())
    except OSError as error:
        path = f" ({error.filename})" if error.filename else ""
        laptop.say(failed=f"{error.strerror or error}{path}")


def _replace(laptop: Laptop, volume: Path, live: Live, order: dict[str, Any]) -> None:
    files = order["files"]
    building = volume / "copies" / f".building-{secrets.token_hex(6)}"
    building.mkdir()
    try:
        _build(laptop, building, live, files)
        built = {path: _digest(building / path) for path in _stamps(building)}
        if touched := live.touched():
            laptop.say(touched=touched)
        elif built != files:
            laptop.say(differ=[path for path in sorted(files) if built.get(path) != files[path]])
        else:
            laptop.say(**_make_live(volume, building, live, order))
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _build(stream: Any, building: Path, live: Live, files: dict[str, str]) -> None:
    """Make the new copy: what was sent from the tar stream, all else from the live copy."""
    with tarfile.open(fileobj=stream, mode="r|") as sent:
        for member in sent:
            _write(building / member.name, sent.extractfile(member))
    for path in files:
        if live.folder and not (building / path).exists():
            with contextlib.suppress(FileNotFoundError), (live.folder / path).open("rb") as source:
                _write(building / path, source)


def _write(target: Path, source: Any) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as handle:
        shutil.copyfileobj(source, handle)
        handle.flush()
        os.fsync(handle.fileno())  # a machine that loses its power must not leave empty files behind a new link


def _make_live(volume: Path, building: Path, live: Live, order: dict[str, Any]) -> dict[str, Any]:
    """Make the built copy the live one, and tell what became of the one before."""
    copies = volume / "copies"
    name = _free_name(copies, order["digest"])
    (building / NOTE).write_text(json.dumps({**order, "when": _now("%Y-%m-%dT%H:%M:%SZ")}))
    building.rename(copies / name)
    if live.folder and live.foreign and (live.folder == volume / "code" or live.folder.parent == copies):
        _mark(live.folder)
    replaced, gap = _replace_code(volume, name)
    before = replaced or live.folder
    late = live.touched_in(before)
    kept = before.name if before and before.parent == copies else ""
    if kept:
        if late:
            _mark(copies / kept)
        with contextlib.suppress(OSError):  # another user's folder
            os.utime(copies / kept)  # copies are sorted by when they stopped being live
    _remove_old(copies, name)
    return {"kept": kept, "foreign": live.foreign, "late": late, "gap": gap}


def _replace_code(volume: Path, name: str) -> tuple[Path | None, bool]:
    """Point `code` at a copy by one rename.

    A real folder changes places with the link in one step where the file system can do that. Elsewhere there is a moment
    without `code`; a process killed just then leaves the link for the next sync to put there. Returns the copy that a
    real folder has become (None when `code` was a link), and whether there was such a moment.
    """
    code, copies = volume / "code", volume / "copies"
    link = volume / f".code-{secrets.token_hex(6)}"
    link.symlink_to(Path("copies", name))
    if code.is_symlink() or not code.exists():
        link.replace(code)
        return None, False
    kept = copies / _free_name(copies, "replaced")
    if _exchange(link, code):
        return link.rename(kept), False
    code.rename(kept)
    link.rename(code)
    return kept, True


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step. Returns whether the system and the file system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _tidy(volume: Path) -> None:
    """Remove what dead syncs left, and finish the conversion of a real folder. Only under the lock."""
    code, copies = volume / "code", volume / "copies"
    for folder in (*copies.glob(".building-*"), *copies.glob(".removing-*")):
        shutil.rmtree(folder, ignore_errors=True)
    for path in volume.glob(".code-*"):
        if not path.is_symlink():
            path.rename(copies / _free_name(copies, "replaced"))
        elif path.exists() and not os.path.lexists(code):
            path.rename(code)
        else:
            path.unlink()


def _remove_old(copies: Path, live: str) -> None:
    """Keep a few copies: a snapshot may be reading the last ones, and somebody may miss what was edited here."""
    folders = [path for path in copies.iterdir() if path.is_dir() and path.name != live and path.name[0] != "."]
    folders.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for marked in (False, True):
        for path in [each for each in folders if (each / MARK).exists() == marked][KEPT_COPIES:]:
            hidden = copies / f".removing-{secrets.token_hex(6)}"
            with contextlib.suppress(OSError):  # another user's folder
                path.rename(hidden)
                shutil.rmtree(hidden, ignore_errors=True)


def _stamps(folder: Path) -> "dict[str, Stamp]":
    return {path.as_posix(): stamp for path, stamp in stamp_files(folder).items()}


def _lock(volume: Path, who: str) -> str:
    """Take the lock for as long as this process lives, and say so in its file. Returns who has it, if another has."""
    copies = volume / "copies"
    copies.mkdir(exist_ok=True)
    lock = os.open(copies / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise OSError("its file system has no locks, so two syncs at once could not be kept apart") from None
        return os.pread(lock, 1000, 0).decode() or "somebody"
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{who} since {_now('%Y-%m-%d %H:%M:%S UTC')}".encode(), 0)
    return ""


def _mark(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another user's folder
        (folder / MARK).touch()


def _free_name(copies: Path, ending: str) -> str:
    name = f"{_now('%Y%m%d-%H%M%S')}-{ending}"
    return f"{name}-{secrets.token_hex(2)}" if (copies / name).exists() else name


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _now(form: str) -> str:
    return time.strftime(form, time.gmtime())


if __name__ == "__main__":
    main()
