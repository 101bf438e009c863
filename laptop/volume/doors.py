"""The way to the volume: a process beside it that runs remote.py, and talks by its standard input and output."""

import contextlib
import inspect
import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.services.runs import live_files

# The program comes by the pipe: a command line has room for a few kB only on its way through proxies. The alarm ends
# a process that never gets it. -P: what lies in the pod's working folder is no library.
START = (
    "-P",
    "-c",
    "import signal, sys; signal.alarm(60); exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))",
)
SILENCE_SECONDS = 60.0
CHUNK = 1 << 16  # bytes


class LostError(SightlineError):
    """The way to the volume is closed at the moment: trying again may help."""


class HeldError(SightlineError):
    """Somebody else is at it."""


class Door:
    """A volume that can be reached.

    Attributes:
        name: what to call it, to a person.
        volume: where it is mounted there.
    """

    name: str
    volume: str

    def python(self) -> Sequence[str]:
        """The command that starts Python beside the volume."""
        raise NotImplementedError

    def explain(self, complaint: str) -> None:
        """Raise what a command's complaint means, where trying again does not help."""

    @contextlib.contextmanager
    def open(self) -> Iterator["Channel"]:
        """Start remote.py beside the volume; it ends with the block."""
        with tempfile.TemporaryFile() as complaints:
            process = subprocess.Popen(
                [*self.python(), *START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                bufsize=0,
                start_new_session=True,
            )
            with process, contextlib.closing(Channel(self, process, complaints)) as channel:
                yield channel


class FolderDoor(Door):
    """A volume that is mounted on this machine."""

    def __init__(self, volume: Path) -> None:
        self.volume = str(volume.resolve())
        self.name = str(volume)

    def python(self) -> Sequence[str]:
        """This Python."""
        return [sys.executable]


class Channel:
    """Messages to and from remote.py."""

    def __init__(self, door: Door, process: subprocess.Popen[bytes], complaints: Any) -> None:
        self._door, self._process, self._complaints = door, process, complaints
        self._heard: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._ears = threading.Thread(target=self._listen, daemon=True)
        self._ears.start()
        program = (inspect.getsource(live_files) + Path(__file__).with_name("remote.py").read_text("utf-8")).encode()
        self.write(b"%d\n" % len(program) + program)

    def say(self, message: object) -> None:
        """Send a message."""
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        assert self._process.stdin
        # A process that has ended is noticed at the next answer, which says more.
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[self._process.stdin.write(data) or 0 :]

    def hear(self) -> dict[str, Any]:
        """The next message.

        Raises:
            HeldError: another sync is at work there.
            LostError: the process has ended, or cannot be heard.
            SightlineError: it could not do what it was asked for.
        """
        message = self._heard.get()
        if message is None:
            raise self._loss()
        if "held" in message:
            raise HeldError(
                f"The volume is being synced by {message['held']}. Nothing was sent: sync again when that is through."
            )
        if "failed" in message:
            raise SightlineError(f"The volume cannot be synced: {message['failed']}.")
        return message

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin
        self._process.stdin.close()
        self._ears.join()

    def _listen(self) -> None:
        assert self._process.stdout
        output, waiting = self._process.stdout.fileno(), b""
        while select.select([output], [], [], SILENCE_SECONDS)[0]:
            if not (piece := os.read(output, CHUNK)):
                break
            *lines, waiting = (waiting + piece).split(b"\n")
            for line in filter(None, lines):  # empty ones are signs of life
                self._heard.put(json.loads(line))
        else:
            self._process.kill()
        self._heard.put(None)

    def _loss(self) -> LostError:
        status = self._process.wait()
        self._complaints.seek(0)
        complaint = self._complaints.read().decode(errors="replace").strip()
        self._door.explain(complaint)
        ending = f"killed by signal {-status}" if status < 0 else f"exit {status}"
        return LostError(
            "The process beside the volume, or the connection to it, ended before it had answered "
            f"({complaint.splitlines()[-1] if complaint else ending}). The live copy is whole, the old one or the new one: "
            "sync again."
        )
