"""Break every promise of tests/promises.yaml, one at a time, on a copy of the checkout, and see that its tests fail.

    .venv/bin/python -m tests.break_promises [WORDS …] [--whole] [--jobs 2]

First every test that the table names must pass on an unbroken copy. Then each promise gets a copy of its own, in which the
table's change is made and the promise's tests are run as `make test` runs them (with --whole: `make test` itself). Noticed is
a change only when one of the tests fails: not when none could be collected, none was chosen or all were skipped. WORDS choose
the promises whose sentence, place or `covers` holds one of them. Promises whose tests need a container engine, a Kubernetes or
MariaDB are left out where there is none.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.checkout import copy_whole_checkout
from tests.promises import REPOSITORY, VARIABLES, Promise, broken, read_promises

SECONDS = 1800.0
"""How long the tests of one promise may take; some changes let a program wait for what never comes."""
WHOLE_SECONDS = 7200.0
"""The same for all tests together."""
LONGEST_LINE = 150
OK, FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Result:
    """What pytest said: its exit status (None when it was stopped), and per test the error's first line, or "" when it passed."""

    status: int | None
    tests: dict[str, str]
    output: str

    @property
    def failed(self) -> tuple[str, str] | None:
        """The first test that failed, and why."""
        return next(((name, why) for name, why in self.tests.items() if why), None)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 1 when a change was not noticed or an unbroken copy's tests do not pass."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORDS", help="only promises that hold one of these")
    parser.add_argument("--whole", action="store_true", help="run all of `make test` for every promise")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="copies at a time (default: 2)")
    options = parser.parse_args(arguments)
    chosen = _choose(options.words)
    if not chosen:
        print("no promise was chosen")
        return 1
    if not _passes_unbroken(chosen, options.jobs):
        return 1
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            noticed = list(pool.map(lambda promise: _try(promise, options.whole), chosen))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    print(f"{sum(noticed)} of {len(noticed)} broken promises were noticed")
    return 0 if all(noticed) else 1


def _choose(words: Sequence[str]) -> list[Promise]:
    chosen = []
    for promise in read_promises():
        text = "\n".join((promise.sentence, promise.where, *promise.covers)).lower()
        if words and not any(word.lower() in text for word in words):
            continue
        if why := promise.lacking():
            print(f"left out, as {why}:  {promise.sentence}")
            continue
        chosen.append(promise)
    return chosen


def _passes_unbroken(chosen: Sequence[Promise], jobs: int) -> bool:
    tests = list(dict.fromkeys(test for promise in chosen for test in promise.tests))
    with _copy() as copy:
        result = _run_tests(copy, tests, everything=any(map(_in_full, chosen)), jobs=jobs, first_only=False)
    failed = {name: why for name, why in result.tests.items() if why}
    for name, why in failed.items():
        print(f"fails before anything is broken:  {name}: {why}")
    untried = [promise for promise in chosen if not _passed(promise, result)]
    for promise in untried:
        print(f"none of its tests passed unbroken:  {promise.sentence}")
    if result.status != OK or failed or untried:
        print(result.output[-3000:])
        return False
    print(f"unbroken: {len(result.tests)} tests of {len(chosen)} promises pass", flush=True)
    return True


def _in_full(promise: Promise) -> bool:
    """Whether its tests are among those that `make test` leaves out."""
    return promise.needs in VARIABLES


def _passed(promise: Promise, result: Result) -> bool:
    return any(
        not why and (name == test or name.startswith(f"{test}["))
        for test in promise.tests
        for name, why in result.tests.items()
    )


def _try(promise: Promise, whole: bool) -> bool:
    """Break one promise; whether it was noticed, which is printed."""
    with _copy() as copy:
        (copy / promise.breaks.file).write_text(broken(promise, copy))
        result = _run_all(copy) if whole else _run_tests(copy, promise.tests, everything=_in_full(promise))
    noticed = result.failed if result.status == FAILED else None
    if noticed:
        print(f"broken and noticed  {promise.sentence}  <- {noticed[0]}: {noticed[1]}", flush=True)
        return True
    told = "it did not end in time" if result.status is None else f"exit status {result.status}"
    last = [line for line in result.output.splitlines() if line.strip()][-3:]
    print(
        "\n".join(
            [f"NOT NOTICED         {promise.sentence}  ({told})", *(f"    {line[:LONGEST_LINE]}" for line in last)]
        )
    )
    sys.stdout.flush()
    return False


@contextlib.contextmanager
def _copy() -> Iterator[Path]:
    """A copy of the checkout as it is, and a link to its .venv."""
    with tempfile.TemporaryDirectory(prefix="broken-", ignore_cleanup_errors=True) as folder:
        copy = copy_whole_checkout(Path(folder) / "checkout")
        # Of its own: what lists the files of a checkout finds the copy's.
        subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
        subprocess.run(["git", "add", "--all"], cwd=copy, check=True)
        _link_environment(copy / ".venv")
        yield copy


def _link_environment(folder: Path) -> None:
    """A link to each thing in .venv, not to the whole: what a broken program clears away are the links."""
    folder.mkdir()
    for path in (REPOSITORY / ".venv").resolve().iterdir():
        (folder / path.name).symlink_to(path)


def _run_tests(copy: Path, tests: Sequence[str], *, everything: bool, jobs: int = 1, first_only: bool = True) -> Result:
    """The named tests, without what is marked slow unless everything is asked for."""
    command = [".venv/bin/python", "-m", "pytest", *tests]
    command += [] if everything else ["-m", "not slow"]
    command += ["-x"] if first_only else []
    command += ["-n", str(jobs), "--dist", "loadfile"] if jobs > 1 else []
    return _run(copy, command, "", SECONDS if first_only else WHOLE_SECONDS)


def _run_all(copy: Path) -> Result:
    """`make test` up to the first failure; PYTHON=true, as setting up would replace the .venv that the copy only links to."""
    return _run(copy, ["make", "test", "PYTHON=true"], "--maxfail=1", WHOLE_SECONDS)


def _run(copy: Path, command: Sequence[str], more: str, seconds: float) -> Result:
    report = copy.parent / "report.xml"
    told = f"-p no:cacheprovider --basetemp={copy.parent / 'tests'} --junitxml={report} {more}"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SIGHTLINE_", "PYTEST_")) or name.startswith("SIGHTLINE_TEST_")
    }
    process = subprocess.Popen(
        command, cwd=copy, env=environment | {"PYTEST_ADDOPTS": told},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    status: int | None = None
    try:
        output, _ = process.communicate(timeout=seconds)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    tests = dict(_told(report)) if report.is_file() else {}
    if command[0] == "make" and status:  # 2, whatever pytest said
        status = FAILED if any(tests.values()) else status
    return Result(status, tests, output)


def _told(report: Path) -> Iterator[tuple[str, str]]:
    """Node id -> "" when the test passed, or the first line of why it failed; what was skipped or not collected is left out."""
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.get("classname", "").replace(".", "/") + ".py"
        node = f"{file}::{case.get('name')}"
        bad = case.find("failure")
        if bad is None:
            bad = case.find("error")
        if bad is not None and bad.get("message") != "collection failure":
            yield node, " ".join((bad.get("message") or bad.text or "failed").split())[:LONGEST_LINE] or "failed"
        elif bad is None and case.find("skipped") is None:
            yield node, ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
