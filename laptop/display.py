"""How a local run goes, as it goes: a bar on a terminal, plain lines where the output is a file or a pipe."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from laptop.kfp_tasks import Task
from sightline.processes.progress import VARIABLE

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_BETWEEN_LINES = 60.0  # within an epoch, and of a step that has none


class Display(Protocol):
    """What shows how far the running step is."""

    def begin(self, name: str, running: bool) -> None:
        """A step began to run, or ended."""

    def show(self, seen: Mapping[str, Any]) -> None:
        """What the running step told last, as `sightline.processes.progress` writes it."""


class Bar:
    """A bar that goes when its step has ended."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._bar = bars.add_task("", visible=False, total=1, note="")

    def begin(self, name: str, running: bool) -> None:
        """Without a total the bar pulses: the step loads its libraries and has not told yet how much there is to do."""
        self._bars.reset(self._bar, description=f"{name:<10}", total=None, visible=running, note="")

    def show(self, seen: Mapping[str, Any]) -> None:
        """Move the bar."""
        total, done = seen["total"], seen["done"]
        self._bars.update(self._bar, visible=True, total=total, completed=done, note=note_of(seen, beginning=True))


class Lines:
    """A line per epoch, and per minute of what takes longer."""

    def __init__(self, tell: Callable[[str], None], every: float = SECONDS_BETWEEN_LINES) -> None:
        self._tell, self._every = tell, every
        self.begin("", False)

    def begin(self, name: str, running: bool) -> None:
        """Forget the step before."""
        self._name, self._told_at = name if running else "", time.monotonic()
        self._last: Mapping[str, Any] = {}
        self._said = -1  # how much was done

    def show(self, seen: Mapping[str, Any]) -> None:
        """Say it where an epoch is over, or nothing was said for long."""
        last, self._last = self._last, seen
        if seen.get("resumed") and not last:
            self._tell(f"  {self._name:<10} {went_on(seen)} of {seen['total']}, where an earlier run stopped")
        over = seen["done"] >= seen["total"]
        if last and last.get("epoch", 0) < seen.get("epoch", 0):
            self._say(last)
        if over and seen.get("epoch") or time.monotonic() - self._told_at >= self._every:
            self._say(seen)

    def _say(self, seen: Mapping[str, Any]) -> None:
        if self._name and seen["done"] != self._said:
            self._said, self._told_at = seen["done"], time.monotonic()
            self._tell(f"  {self._name:<10} {note_of(seen).strip()}")


@contextlib.contextmanager
def displayed(console: Console, path: Path) -> Iterator[Callable[[Task], None]]:
    """A line per finished step, and how far a step is while it tells so in the file. Takes each change of a task."""
    columns = (TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with contextlib.ExitStack() as stack:
        display: Display
        if console.is_terminal:
            display = Bar(stack.enter_context(Progress(*columns, console=console, transient=True)))
        else:
            display = Lines(console.print)
        os.environ[VARIABLE] = str(path)
        stopped, turn = threading.Event(), threading.Lock()  # what a step told last is never shown as the next one's

        def follow() -> None:
            while not stopped.wait(SECONDS_BETWEEN_LOOKS):
                with turn:
                    _look(path, display)

        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()

        def on_change(task: Task) -> None:
            with turn:
                _look(path, display)
                path.unlink(missing_ok=True)
                display.begin(task.name, task.state == "running")
            if task.state != "running":
                console.print(f"  {task.name:<10} {task.state:<7} {task.seconds:7.1f} s")

        try:
            yield on_change
        finally:
            stopped.set()
            watcher.join()
            path.unlink(missing_ok=True)


def _look(path: Path, display: Display) -> None:
    with contextlib.suppress(OSError, ValueError):
        display.show(json.loads(path.read_text()))


def went_on(seen: Mapping[str, Any]) -> str:
    """Where a training went on from that an earlier run began."""
    return f"goes on after iteration {seen['resumed']}"


def note_of(seen: Mapping[str, Any], beginning: bool = False) -> str:
    """How far a step is, in words: ` 25%, epoch 2/4, loss 0.712, 1:23 left`; on demand also where it went on from."""
    parts = [f"{seen['done'] / max(seen['total'], 1):4.0%}"]
    if "epochs" in seen:
        parts.append(f"epoch {seen['epoch']}/{seen['epochs']}")
    if "loss" in seen:
        parts.append(f"loss {seen['loss']:.3f}")
    if seen.get("seconds_left"):
        minutes, seconds = divmod(round(seen["seconds_left"]), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    if beginning and seen.get("resumed"):
        parts.append(went_on(seen))
    return ", ".join(parts)
