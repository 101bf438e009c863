"""The way to the volume: a process beside it that runs remote.py, and talks by its standard input and output."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from sightline.errors import SightlineError

# The program comes by the pipe: a command line has room for a few kB only on its way through proxies. The alarm ends
# a process that never gets it.
START = """
import os, signal, sys
def take(count):
    data = b""
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            sys.exit(1)
        data += part
    return data
sys.path = [place for place in sys.path if place]
signal.alarm(60)
program = take(int(take(8)))
signal.alarm(0)
exec(compile(program, "sync", "exec"), {"__name__": "__main__"})
"""


class LostError(SightlineError):
    """The way to the volume is closed at the moment: trying again may help."""


class HeldError(SightlineError):
    """Somebody else is at it."""


class Pipe(Protocol):
    """Bytes to and from a process."""

    def send(self, data: bytes) -> None:
        """Send bytes."""

    def receive(self) -> bytes:
        """The next bytes, however many; none when the process has ended."""

    def last_words(self) -> str:
        """What the process complained about before it ended."""


class Channel:
    """Messages to and from remote.py."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._waiting = b""
        program = Path(__file__).with_name("remote.py").read_bytes()
        self.send(b"%8d" % len(program) + program)

    def say(self, message: object) -> None:
        """Send a message."""
        self.send(json.dumps(message).encode() + b"\n")

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._pipe.send(data)

    def hear(self) -> dict[str, Any]:
        """The next message.

        Raises:
            HeldError: another sync is at work there.
            LostError: the process has ended, or cannot be heard.
            SightlineError: it could not do what it was asked for.
        """
        while True:
            message = json.loads(self._line())
            if "held" in message:
                raise HeldError(
                    f"The volume is being synced by {message['held']}. Nothing was sent: sync again when that is through."
                )
            if "failed" in message:
                raise SightlineError(f"The volume cannot be synced: {message['failed']}.")
            if "busy" not in message:
                return message

    def _line(self) -> bytes:
        while b"\n" not in self._waiting:
            received = self._pipe.receive()
            if not received:
                raise LostError(
                    "The process beside the volume, or the connection to it, ended before it had answered"
                    f"{self._pipe.last_words()}. The live copy is whole, the old one or the new one: sync again."
                )
            self._waiting += received
        line, _, self._waiting = self._waiting.partition(b"\n")
        return line


class Door(Protocol):
    """A volume that can be reached."""

    @property
    def name(self) -> str:
        """What to call it, to a person."""

    @property
    def volume(self) -> str:
        """Where it is mounted there."""

    def open(self) -> contextlib.AbstractContextManager[Channel]:
        """Start remote.py beside the volume; it ends with the block."""


class FolderDoor:
    """A volume that is mounted on this machine."""

    def __init__(self, volume: Path) -> None:
        self.volume = str(volume.resolve())
        self.name = str(volume)

    @contextlib.contextmanager
    def open(self) -> Iterator[Channel]:
        """Start remote.py here."""
        process = subprocess.Popen(
            [sys.executable, "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        try:
            yield Channel(_ProcessPipe(process))
        finally:
            assert process.stdin and process.stdout
            process.stdin.close()
            process.wait()
            process.stdout.close()


class _ProcessPipe:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def send(self, data: bytes) -> None:
        assert self._process.stdin
        # A process that has ended is noticed at the next answer, which says more.
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[self._process.stdin.write(data) or 0 :]

    def receive(self) -> bytes:
        assert self._process.stdout
        return self._process.stdout.read(1 << 16)

    def last_words(self) -> str:
        status = self._process.wait()
        return f" (killed by signal {-status})" if status < 0 else f" (exit {status})"
