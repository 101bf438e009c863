"""The half of `sync` that runs beside the volume. It travels there as text, so: Python's standard library only.

On the volume, `code` is a symbolic link to `copies/<name>`. A new copy is built in `copies/.building-…`, compared with
what the laptop announced, renamed, and made live by one rename of a link. Whoever is killed in between leaves `code` as
it was or as it should be; the next sync removes what was left. One sync at a time: a lock on `copies/.lock`, which dies
with this process; and this process ends when the laptop's end of the pipe closes or says nothing for a minute.
"""

from __future__ import annotations

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
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

SILENCE_SECONDS = 60
BUSY_SECONDS = 5.0  # between two signs of life to the laptop
KEPT_COPIES = 5  # that were live before; and as many that hold what no sync brought
CHUNK = 1 << 18  # bytes
RECORD = ".synced.json"  # in a copy: who brought it, and what
MARK = ".not-synced"  # in a copy: somebody edited it on the volume, or no sync brought it
RENAME_EXCHANGE = 2
AT_FDCWD = -100

Stamp = tuple[int, int, int]
"""Size, time of the last change and number of a file: equal ones, and nobody has written to it."""


class RefusedError(Exception):
    """What the user is told, in a sentence."""


class Talk:
    """Lines of JSON to and from the laptop, and the bytes of files."""

    def __init__(self) -> None:
        self._waiting = b""
        self._said = time.monotonic()
        signal.signal(signal.SIGALRM, _nobody_there)

    def hear(self) -> Any:
        """The laptop's next message."""
        while b"\n" not in self._waiting:
            self._read()
        line, _, self._waiting = self._waiting.partition(b"\n")
        return json.loads(line)

    def take(self, size: int) -> Iterator[bytes]:
        """So many bytes, in pieces."""
        while size:
            if not self._waiting:
                self._read()
            piece, self._waiting = self._waiting[:size], self._waiting[size:]
            size -= len(piece)
            yield piece

    def say(self, **message: Any) -> None:
        """Send a message."""
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(1, line) :]
        self._said = time.monotonic()

    def work_on(self) -> None:
        """Give a sign of life now and then."""
        if time.monotonic() - self._said > BUSY_SECONDS:
            self.say(busy=True)

    def _read(self) -> None:
        signal.alarm(SILENCE_SECONDS)
        piece = os.read(0, CHUNK)
        signal.alarm(0)
        if not piece:
            raise EOFError
        self._waiting += piece


class Live:
    """The live copy as it lay there when this object was made; `folder` is None when there was none."""

    def __init__(self, volume: Path, junk: list[list[str]], talk: Talk) -> None:
        self._junk = junk
        self._code = volume / "code"
        real = self._code.resolve()
        self.folder = real if real.is_dir() else None
        self.copy = real.name if self.folder and real.parent == volume.resolve() / "copies" else ""
        self.record = _read_record(real)
        self._stamps = _stamps(self.folder, junk) if self.folder else {}
        self.files = {path: (_digest(real / path, talk), size) for path, (size, *_) in self._stamps.items()}

    def as_recorded(self) -> bool:
        """Whether the files are still those that the last sync brought."""
        brought = (self.record or {}).get("files")
        return brought == {path: digest for path, (digest, _) in self.files.items()}

    def touched(self) -> list[str]:
        """The files that somebody has changed, made or removed meanwhile."""
        if self.folder is None:
            return []
        return self.touched_in(self.folder) if self._code.resolve() == self.folder else sorted(self._stamps)

    def touched_in(self, folder: Path) -> list[str]:
        """The same for the place that the folder has moved to."""
        now = _stamps(folder, self._junk)
        return sorted(path for path in self._stamps.keys() | now.keys() if self._stamps.get(path) != now.get(path))


def main() -> None:
    """Answer one request: to look at the live copy, or to replace it."""
    talk = Talk()
    try:
        request = talk.hear()
        volume = Path(request["volume"])
        if not volume.is_dir():
            raise RefusedError(f"there is no folder {volume}: is the claim mounted there?")
        if not request["sync"]:
            _tell(talk, Live(volume, request["junk"], talk))
        elif _lock(volume, request["who"], talk):
            _sync(talk, volume, request["junk"])
    except EOFError:
        sys.exit(1)  # nobody is left to tell
    except RefusedError as error:
        talk.say(failed=str(error))
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        talk.say(failed=f"{error.strerror or error}{place}")


def _sync(talk: Talk, volume: Path, junk: list[list[str]]) -> None:
    _tidy(volume)
    live = Live(volume, junk, talk)
    _tell(talk, live)
    order = talk.hear()
    if not order["files"]:
        return
    building = volume / "copies" / f".building-{secrets.token_hex(6)}"
    building.mkdir()
    try:
        _build(talk, building, live, order["files"], order["sent"])
        built = {path: _digest(building / path, talk) for path in _files(building, junk)}
        if touched := live.touched():
            talk.say(touched=touched)
        elif built != order["files"]:
            talk.say(differ=[path for path in sorted(order["files"]) if built.get(path) != order["files"][path]])
        else:
            talk.say(**_make_live(volume, building, live, order["record"]))
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _tell(talk: Talk, live: Live) -> None:
    talk.say(files=live.files, record=live.record, copy=live.copy)


def _build(talk: Talk, building: Path, live: Live, files: Iterable[str], sent: Mapping[str, int]) -> None:
    """Make the new copy: what was sent from the pipe, all else from the live copy."""
    for path, size in sent.items():
        _write(building, path, talk.take(size), talk)
    for path in files:
        if path not in sent and live.folder:
            with (live.folder / path).open("rb") as source:
                _write(building, path, _pieces(source), talk)


def _write(root: Path, path: str, pieces: Iterable[bytes], talk: Talk) -> None:
    if path.startswith("/") or ".." in path.split("/"):
        raise RefusedError(f"the path {path!r} leads out of the copy")
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as handle:
        for piece in pieces:
            handle.write(piece)
            talk.work_on()
        handle.flush()
        os.fsync(handle.fileno())  # a machine that loses its power must not leave empty files behind a new link


def _make_live(volume: Path, building: Path, live: Live, record: dict[str, Any]) -> dict[str, Any]:
    """Make the built copy the live one, and tell what became of the one before."""
    copies = volume / "copies"
    name = _free_name(copies, record["digest"])
    (building / RECORD).write_text(json.dumps({**record, "when": _now("%Y-%m-%dT%H:%M:%SZ")}))
    building.rename(copies / name)
    foreign = live.folder is not None and not live.as_recorded()
    if foreign and live.copy:
        _mark(copies / live.copy)
    replaced, gap = _replace_code(volume, name)
    kept = replaced or live.copy
    before = copies / kept if kept else live.folder
    late = live.touched_in(before) if before else []
    if kept:
        if late:
            _mark(copies / kept)
        with contextlib.suppress(OSError):  # another user's folder
            os.utime(copies / kept)  # copies are sorted by when they stopped being live
    _remove_old(copies, name)
    return {"done": name, "kept": kept, "foreign": foreign, "late": late, "gap": gap}


def _replace_code(volume: Path, name: str) -> tuple[str, bool]:
    """Point `code` at a copy by one rename.

    A real folder changes places with the link in one step where the file system can do that. Elsewhere there is a moment
    without `code`; a process killed just then leaves the link for the next sync to put there.

    Returns:
        The copy that a real folder has become ("" when `code` was a link), and whether there was such a moment.
    """
    code, copies = volume / "code", volume / "copies"
    link = volume / f".code-{secrets.token_hex(6)}"
    link.symlink_to(Path("copies", name))
    if code.is_symlink() or not code.exists():
        link.replace(code)
        return "", False
    _mark(code)
    kept = _free_name(copies, "replaced")
    if _exchange(link, code):
        link.rename(copies / kept)
        return kept, False
    code.rename(copies / kept)
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


def _files(folder: Path, junk: list[list[str]]) -> list[str]:
    """All files below a folder but what editors and Python leave there, as paths relative to it."""
    names, endings = junk
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name not in names and not name.startswith(".")]
        paths = [Path(place, name) for name in files if not name.startswith(".") and not name.endswith(tuple(endings))]
        found += [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
    return found


def _stamps(folder: Path, junk: list[list[str]]) -> dict[str, Stamp]:
    stamps = {}
    for path in _files(folder, junk):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            found = (folder / path).stat()
            stamps[path] = (found.st_size, found.st_mtime_ns, found.st_ino)
    return stamps


def _lock(volume: Path, who: str, talk: Talk) -> bool:
    """Take the lock for as long as this process lives, and say so in its file. False, and told, when another has it."""
    copies = volume / "copies"
    copies.mkdir(exist_ok=True)
    lock = os.open(copies / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise RefusedError("its file system has no locks, so two syncs at once could not be kept apart") from None
        talk.say(held=os.pread(lock, CHUNK, 0).decode() or "somebody")
        return False
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{who} since {_now('%Y-%m-%d %H:%M:%S UTC')}".encode(), 0)
    return True


def _mark(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another user's folder
        (folder / MARK).touch()


def _read_record(folder: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / RECORD).read_text())
    return None


def _free_name(copies: Path, ending: str) -> str:
    name = f"{_now('%Y%m%d-%H%M%S')}-{ending}"
    return f"{name}-{secrets.token_hex(2)}" if (copies / name).exists() else name


def _digest(path: Path, talk: Talk) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as handle:
        for piece in _pieces(handle):
            whole.update(piece)
            talk.work_on()
    return whole.hexdigest()


def _pieces(handle: Any) -> Iterator[bytes]:
    return iter(lambda: handle.read(CHUNK), b"")


def _now(form: str) -> str:
    return time.strftime(form, time.gmtime())


def _nobody_there(*_: object) -> NoReturn:
    raise EOFError


if __name__ == "__main__":
    main()
