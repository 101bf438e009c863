"""Which tests run, how thoroughly, and what is said of those that did not: a plug-in of pytest.

`make test` leaves out what is marked `slow` and gives hypothesis few examples; `make test-all` runs everything.
"""

import json
import re
from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

QUICK_EXAMPLES, FULL_EXAMPLES = 25, 300
TOO_SLOW = "slow"
COUNTED = "sightline_left_out"
TOGETHER = "tests/cluster/"

hypothesis.settings.register_profile("quick", max_examples=QUICK_EXAMPLES, deadline=None)
hypothesis.settings.register_profile("full", max_examples=FULL_EXAMPLES, deadline=None)
hypothesis.settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of ours, beside --hypothesis-profile."""
    group = parser.getgroup("sightline")
    group.addoption(
        "--allowed-skips",
        type=Path,
        action="append",
        help="fail for a skip whose reason matches no line (regex) of these files; any number of times",
    )
    group.addoption("--times", type=Path, help="write each test's seconds to this file as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """What is counted while the tests run; with pytest-xdist the workers collect and the first process tells."""
    config.pluginmanager.register(Tally(config), "sightline-tally")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file stay together, as they share what they made; those of one engine and one Kubernetes all do."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return TOGETHER if file.startswith(TOGETHER) else file

    return ByFile(config, log)


class Tally:
    """What ran, what did not and why, and how long it took."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.left_out = 0
        self.ran: set[str] = set()
        self.skipped: dict[str, str] = {}
        self.times: dict[str, dict[str, Any]] = {}

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        self.left_out += len(list(items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.left_out = getattr(node, "workeroutput", {}).get(COUNTED, self.left_out)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            self.skipped[report.nodeid] = report.longrepr[2].removeprefix("Skipped: ")
        elif report.when == "call" or report.failed:
            self.ran.add(report.nodeid)
        facts = self.times.setdefault(report.nodeid, {TOO_SLOW: TOO_SLOW in report.keywords})
        facts[str(report.when)] = round(report.duration, 3)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """One line per reason to skip."""
        for reason, number in Counter(self.skipped.values()).most_common():
            terminalreporter.line(f"skipped {number}: {reason}", yellow=True)
        for reason in self._forbidden():
            terminalreporter.line(f"not allowed to be skipped here: {reason}", red=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput[COUNTED] = self.left_out
            return (yield)
        if self._forbidden() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        result = yield
        if path := self.config.getoption("--times"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.times, indent=1))
        if self.ran and self.left_out and TOO_SLOW in self.config.getoption("markexpr"):
            total = self.left_out + len(self.ran) + len(self.skipped)
            line = f"{len(self.ran):,} of {total:,} tests run; the rest: make test-all"
            self.config.get_terminal_writer().line(line)
        return result

    def _forbidden(self) -> list[str]:
        paths = self.config.getoption("--allowed-skips")
        if paths is None:
            return []
        lines = [line for path in paths for line in path.read_text().splitlines()]
        allowed = [re.compile(line) for line in lines if line.strip() and not line.startswith("#")]
        return sorted({why for why in self.skipped.values() if not any(each.search(why) for each in allowed)})
