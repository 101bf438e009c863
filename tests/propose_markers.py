"""What `make test-times` prints: each test's seconds, and which tests should be marked `slow` or no longer be.

    python -m tests.propose_markers TIMES.json     of `pytest --times=TIMES.json`

A function's tests are judged together. Those that tests/promises.yaml names stay unmarked, however long they take.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.promises import read_promises
from tests.tiers import TOGETHER

MANY_SECONDS, FEW_SECONDS = 1.0, 0.5
"""Of all tests of a function: from the first on it is slow, up to the second it need not be; between them it stays as it is."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The tests of one function; seconds of the test itself and in all, with what was made for it first."""

    name: str
    tests: int
    marked: int
    seconds: float
    in_all: float


def measure(times: Mapping[str, Mapping[str, Any]]) -> list[Measured]:
    """By function, the longest first."""
    functions: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for test, facts in times.items():
        functions[test.partition("[")[0]].append(facts)
    found = [
        Measured(
            name,
            len(tests),
            sum(bool(facts["slow"]) for facts in tests),
            sum(facts.get("call", 0.0) for facts in tests),
            sum(facts.get(phase, 0.0) for facts in tests for phase in ("setup", "call", "teardown")),
        )
        for name, tests in functions.items()
    ]
    return sorted(found, key=lambda one: -one.in_all)


def propose(measured: list[Measured], promised: set[str]) -> tuple[list[Measured], list[Measured]]:
    """Functions to mark, and functions to take the marker from."""
    free = [one for one in measured if one.name not in promised and not one.name.startswith(TOGETHER)]
    mark = [one for one in free if not one.marked and one.seconds >= MANY_SECONDS]
    unmark = [one for one in free if one.marked == one.tests and one.seconds <= FEW_SECONDS]
    return mark, unmark


def main() -> int:
    """Print seconds and proposals."""
    parser = argparse.ArgumentParser(description="Propose the marker slow from measured times.")
    parser.add_argument("times", type=Path, help="what pytest --times wrote")
    times = json.loads(parser.parse_args().times.read_text())
    promised = {test.partition("[")[0] for promise in read_promises() for test in promise.tests}
    measured = measure(times)
    for test, facts in sorted(times.items(), key=lambda item: -item[1].get("call", 0.0)):
        print(f"{facts.get('call', 0.0):8.2f} s  {'slow  ' if facts['slow'] else '      '}{test}")
    mark, unmark = propose(measured, promised)
    for title, found in (("mark as slow", mark), ("take the marker slow from", unmark)):
        print(f"\n{title} ({len(found)}):")
        for one in found:
            print(f"{one.seconds:8.2f} s  {one.tests:4} tests  {one.name}")
    quick = [facts for facts in times.values() if not facts["slow"]]
    seconds = sum(facts.get(phase, 0.0) for facts in quick for phase in ("setup", "call", "teardown"))
    print(f"\nnot marked: {len(quick):,} of {len(times):,} tests, {seconds:.0f} s one after the other")
    return 0


if __name__ == "__main__":
    sys.exit(main())
