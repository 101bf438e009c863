"""Perceptual hashes of many photographs, by processes beside this one: of threads, one at a time would run most of the work.

A process reads the paths and headers of some photographs from a line of its input (JSON) and answers with a line of
`[hash, error]`.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sightline.images.files import ImageError, ImageHeader
from sightline.images.similarity import perceptual_hash
from sightline.processes.child import environment

FEW: Final = 500  # photographs that are hashed here while others would still be starting
# Pixels of each photograph are allocated and freed: glibc, left to itself, gives them back to the system every time.
_KEEP_MEMORY: Final = {"MALLOC_MMAP_THRESHOLD_": f"{32 << 20}", "MALLOC_TRIM_THRESHOLD_": f"{64 << 20}"}

Photograph = tuple[str, ImageHeader]  # its path, and what `read_header` has said of it


class Hashers:
    """Hashes photographs for several threads, each served by a process of its own once there are many photographs."""

    def __init__(self, few: int = FEW) -> None:
        self._few = few
        self._idle: list[subprocess.Popen[str]] = []
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            process.kill()
            process.communicate()

    @property
    def processes(self) -> list[int]:
        """Those that were started, by number."""
        return [process.pid for process in self._started]

    def hash(self, photographs: Sequence[Photograph]) -> list[str | ImageError]:
        """Of each photograph its `perceptual_hash`, or why it has none."""
        if not photographs:
            return []
        if self._few > 0:
            self._few -= len(photographs)
            return [_hash(*one) for one in photographs]
        process = self._idle.pop() if self._idle else None
        try:
            process = process or self._start()
            answers = _ask(process, photographs)
        except (OSError, ValueError):  # it could not be started, or was killed, perhaps for memory
            if process is not None:
                process.kill()
            return [_hash(*one) for one in photographs]
        self._idle.append(process)
        return [looks if error is None else ImageError(error) for looks, error in answers]

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="ascii",
            env=environment() | _KEEP_MEMORY,
            process_group=0,  # Ctrl-C is for who started it, which then ends it
        )
        self._started.append(process)
        return process


def _ask(process: subprocess.Popen[str], photographs: Sequence[Photograph]) -> list[tuple[str, str | None]]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{json.dumps([(path, astuple(header)) for path, header in photographs])}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def _hash(path: str, header: ImageHeader) -> str | ImageError:
    try:
        return perceptual_hash(Path(path), header=header)
    except ImageError as error:
        return error


def main() -> None:
    """Answer until nobody asks any more."""
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin:
            hashed = [_hash(path, ImageHeader(*header)) for path, header in json.loads(line)]
            print(json.dumps([(one, None) if isinstance(one, str) else ("", str(one)) for one in hashed]), flush=True)


if __name__ == "__main__":
    main()
