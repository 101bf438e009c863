"""What doctor says: a line for everything it looked at, and a second with what to do where that is not ok."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from sightline.errors import SightlineError

State = Literal["ok", "note", "fail", "skip"]
ELSE = "docs/troubleshooting.md lists what is known; then repeat"
STATES: tuple[State, ...] = ("ok", "note", "fail", "skip")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    do: str = ""

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> "Line":
        """A line of another doctor's JSON, which may be older or newer."""
        state: State = entry["state"] if entry.get("state") in STATES else "note"
        name, found, do = (str(entry.get(key) or "") for key in ("name", "found", "do"))
        return cls(name, state, found, do) if do or state == "ok" else as_told(name, found, state)


Check = Callable[[], Line | Sequence[Line]]


def as_told(name: str, text: str, state: State = "fail") -> Line:
    """A line of an error's sentences: the first says what is wrong, the others what to do."""
    found, *rest = re.split(r"(?<=[.?!]) (?=[A-Z`-])", " ".join(text.split()), maxsplit=1)
    return Line(name, state, found, rest[0] if rest else ELSE)


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
        return [as_told(name, str(error))]
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
