"""What doctor says: a line for everything it looked at, and a second with what to do where that fails."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Self

from sightline.errors import SightlineError

State = Literal["ok", "note", "fail", "skip"]
STATES: tuple[State, ...] = ("ok", "note", "fail", "skip")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    do: str = ""

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Self:
        """A line of another doctor's JSON, which may be older or newer."""
        state: State = entry["state"] if entry.get("state") in STATES else "note"
        return cls(str(entry.get("name", "")), state, str(entry.get("found", "")), str(entry.get("do", "")))


Check = Callable[[], Line | Sequence[Line]]


def look(checks: Mapping[str, Check]) -> list[Line]:
    """The lines of all checks, in their order; they are made at once, since each may wait for something that is silent."""
    with ThreadPoolExecutor(len(checks) or 1) as pool:
        found = pool.map(_outcome, checks.items())
        return [line for lines in found for line in lines]


def _outcome(check: tuple[str, Check]) -> Sequence[Line]:
    name, ask = check
    try:
        said = ask()
    except (SightlineError, OSError) as error:
        return [Line(name, "fail", " ".join(str(error).split()))]
    return [said] if isinstance(said, Line) else said


def as_text(lines: Iterable[Line]) -> str:
    """For a person."""
    lines = list(lines)
    width = max((len(line.name) for line in lines), default=0)
    said = []
    for line in lines:
        said.append(
            f"{line.state.upper() if line.state == 'fail' else line.state:<4}  {line.name:<{width}}  {line.found}"
        )
        if line.do:
            said.append(f"{'':<{6 + width}}  do: {line.do}")
    return "\n".join(said)


def as_json(lines: Iterable[Line]) -> str:
    """For a program, and for the doctor that asks this one."""
    return json.dumps([dataclasses.asdict(line) for line in lines])
