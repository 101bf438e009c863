"""Helper code to a volume that is mounted here: `sync` beside rsync, which builds a copy beside the live one as `sync` does.

    python benchmarks/sync.py [--files 200]

rsync compares contents (--checksum), takes what did not change from the live copy (--copy-dest) and talks to a second
rsync by a pipe, which is the least that a way to a pod could cost; one rename of a link then makes the copy live. The sides
take turns, and the median counts. Below that: what becomes of an edit on the volume, and of a kill in the middle where
rsync writes into the live folder itself. Exits with 1 when `sync` takes twice as long and half a second more, or replaces an edit.
"""

import argparse
import contextlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1] / "shared_volume"), str(HERE.parents[1])]

from laptop.volume import doors  # noqa: E402
from laptop.volume.sync import EditedError, sync  # noqa: E402

ROUNDS = 7
KILLS = 20
LINES = 120  # of a file, about a module's
SLOWER, SECONDS = 2.0, 0.5

sent: list[int] = []


class Counted(doors.Channel):
    """A channel that counts the bytes that leave this side."""

    def write(self, data: bytes) -> None:
        sent.append(len(data))
        super().write(data)


class Ours:
    """`python pipeline.py sync --volume FOLDER`."""

    def __init__(self, volume: Path) -> None:
        self.volume = volume
        doors.Channel = Counted  # type: ignore[misc]  # the class that the door makes

    def send(self, source: Path) -> int:
        """Returns the bytes that were sent."""
        sent.clear()
        sync(source, doors.FolderDoor(self.volume), force=False)
        return sum(sent)


class Rsync:
    """rsync into a new folder, and one rename of a link."""

    def __init__(self, volume: Path) -> None:
        self.volume, self.count = volume, 0
        self.shell = volume.parent / "shell"
        self.shell.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
        self.shell.chmod(0o755)

    def send(self, source: Path) -> int:
        """Returns the bytes that were sent."""
        self.count += 1
        copy, code, link = self.volume / f"copy{self.count}", self.volume / "code", self.volume / ".code"
        printed = self.copy(source, copy, f"--copy-dest={code.resolve()}").communicate()[0]
        link.symlink_to(copy)
        link.replace(code)
        line = next(line for line in printed.splitlines() if line.startswith("Total bytes sent"))
        return int(line.rpartition(" ")[2].replace(",", ""))

    def copy(self, source: Path, target: Path, *how: str) -> "subprocess.Popen[str]":
        """Start rsync."""
        command = ["rsync", "-a", "--checksum", "--delete", "--stats", "-e", str(self.shell), *how]
        to = [f"{source}/", f"pod:{target}/"]
        return subprocess.Popen([*command, *to], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def main() -> int:
    """Print both sides; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=200)
    options = parser.parse_args()
    if shutil.which("rsync") is None:
        print("rsync is not installed, so there is nothing to compare with (Debian: apt install rsync)")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return _compare(Path(folder), options.files)


def _compare(folder: Path, files: int) -> int:
    source = folder / "source"
    sides: dict[str, Ours | Rsync] = {}
    for name, side in (("sync", Ours), ("rsync", Rsync)):
        volume = folder / name / "volume"
        volume.mkdir(parents=True)
        sides[name] = side(volume)
    (source / "sightline").mkdir(parents=True)
    (source / "sightline" / "__init__.py").touch()
    print(f"{files} files of {LINES} lines          " + "".join(f"{name:>22}" for name in sides))
    slow = False
    cases: tuple[tuple[str, Callable[[], None]], ...] = (
        ("all of them changed", lambda: _write(source, range(files))),
        ("one changed", lambda: _write(source, [random.randrange(files)])),
        ("none changed", lambda: None),
    )
    for title, change in cases:
        took: dict[str, list[float]] = {name: [] for name in sides}
        size = dict.fromkeys(sides, 0)
        for _ in range(ROUNDS):
            change()
            for name, side in sides.items():
                began = time.monotonic()
                size[name] = side.send(source)
                took[name].append(time.monotonic() - began)
        medians = {name: statistics.median(seconds) for name, seconds in took.items()}
        print(f"{title:30}" + "".join(f"{medians[name]:8.2f} s {size[name]:>9,} B" for name in sides), flush=True)
        slow |= medians["sync"] > SLOWER * medians["rsync"] + SECONDS
    replaced = {name: _replaces_edit(side, source) for name, side in sides.items()}
    print(
        f"{'an edit on the volume':30}" + "".join(f"{'replaced' if replaced[name] else 'kept':>22}" for name in sides)
    )
    mixed = sum(_killed_is_mixed(sides["rsync"], source, files) for _ in range(KILLS))
    print(f"killed while it writes into the live folder: rsync left a mixture of old and new {mixed} of {KILLS} times")
    return int(slow or replaced["sync"])


def _write(source: Path, numbers: "range | list[int]") -> None:
    for number in numbers:
        path = source / f"room{number % 10}" / f"file{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"value_{line} = {random.getrandbits(64)}  # of file {number}" for line in range(LINES)]
        path.write_text("\n".join(lines) + "\n")


def _replaces_edit(side: Ours | Rsync, source: Path) -> bool:
    edited = side.volume / "code" / "room0" / "file0.py"
    edited.write_text("edited = True\n")
    _write(source, [0])
    with contextlib.suppress(EditedError):
        side.send(source)
    return edited.read_text() != "edited = True\n"


def _killed_is_mixed(side: Ours | Rsync, source: Path, files: int) -> bool:
    """Whether a folder holds files of before and of now after rsync was killed while it wrote into it."""
    assert isinstance(side, Rsync)
    live = side.volume / "live"
    side.copy(source, live).communicate()
    before = {path: (live / path).read_bytes() for path in _paths(live)}
    _write(source, range(files))
    began = time.monotonic()
    side.copy(source, side.volume / "unbroken", f"--copy-dest={live}").communicate()
    whole = time.monotonic() - began
    process = side.copy(source, live)
    time.sleep(random.uniform(0.0, whole))
    process.kill()
    process.communicate()
    time.sleep(0.2)  # the other rsync ends by itself
    states = {(live / path).read_bytes() == content for path, content in before.items()}
    shutil.rmtree(side.volume / "unbroken")
    return len(states) == 2


def _paths(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]


if __name__ == "__main__":
    sys.exit(main())
