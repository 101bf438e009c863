"""Perceptual hashes of many photographs, by processes beside this one: of threads, one at a time would run most of the work.

A process reads the paths of some photographs from a line of its input (JSON) and answers with a line of `[hash, error]`.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sightline.images.files import ImageError
from sightline.images.similarity import perceptual_hash

LIBRARY: Final = Path(__file__).resolve().parents[2]
FEW: Final = 500  # photographs that are hashed here while others would still be starting


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

    def hash(self, paths: Sequence[str]) -> list[str | ImageError]:
        """Of each photograph its `perceptual_hash`, or why it has none."""
        if not paths:
            return []
        if self._few > 0:
            self._few -= len(paths)
            return [_hash(path) for path in paths]
        process = self._idle.pop() if self._idle else None
        try:
            process = process or self._start()
            answers = _ask(process, paths)
        except (OSError, ValueError):  # it could not be started, or was killed, perhaps for memory
            if process is not None:
                process.kill()
            return [_hash(path) for path in paths]
        self._idle.append(process)
        return [looks if error is None else ImageError(error) for looks, error in answers]

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, (str(LIBRARY), os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="ascii",
            env=os.environ | {"PYTHONPATH": path},
            process_group=0,  # Ctrl-C is for who started it, which then ends it
        )
        self._started.append(process)
        return process


def _ask(process: subprocess.Popen[str], paths: Sequence[str]) -> list[tuple[str, str | None]]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{json.dumps(paths)}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def _hash(path: str) -> str | ImageError:
    try:
        return perceptual_hash(Path(path))
    except ImageError as error:
        return error


def main() -> None:
    """Answer until nobody asks any more."""
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin:
            hashed = [_hash(path) for path in json.loads(line)]
            print(json.dumps([(one, None) if isinstance(one, str) else ("", str(one)) for one in hashed]), flush=True)


if __name__ == "__main__":
    main()
