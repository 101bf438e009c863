"""Work in a child process, watched by a parent that stays small.

The kernel kills the largest process of a container that needs too much memory, and what it killed can record nothing. So
the process that a step is started as loads no torch and no SQL: it starts `python -m sightline.supervise` from the same
helper code, waits, and tells why the child ended. Child and parent end together.
"""

import contextlib
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sightline.errors import SightlineError
from sightline.memory import (
    OutOfMemoryError,
    kernel_kills_all,
    killed_for_memory,
    memory_limit,
    nearly_out_of_memory,
    oom_kills,
    out_of_shared_memory,
    size,
)
from sightline.parent import VARIABLE as PARENT
from sightline.parent import die_with_direct_parent, die_with_parent
from sightline.threads import set_thread_environment

log = logging.getLogger(__name__)

LIBRARY = Path(__file__).resolve().parents[1]
RECORD_FAILURE = "sightline.step_record:record_failure"
INTERRUPTED_SECONDS = 10.0
"""How long a child may take, after Ctrl-C, to record that it was interrupted."""
SECONDS_BETWEEN_LOOKS = 0.02
FIRST_TO_GO = 300
"""Added to the child's oom_score_adj: the kernel takes it before its parent and KFP's launcher."""

_to_parent: IO[bytes] | None = None


class ChildDiedError(SightlineError):
    """The child ended without a word, or by an error that nobody foresaw."""


@dataclass(frozen=True, slots=True)
class Step:
    """The step that is at work: its name, its release, and the category."""

    name: str
    code: str
    category: str


def run_step(step: Step, work: str, request: Mapping[str, Any], *, shrinks: bool = False, advice: str = "") -> Any:
    """A step's result from a child process; a failure that the child could not record is recorded.

    Args:
        step: for the record and the messages.
        work: `module:function`, called in the child with the request; returns plain JSON.
        request: plain JSON.
        shrinks: after running out of memory the work is started again, its request then with `stopped`: what happened.
            The work gives up by an error of its own.
        advice: what else a user can do about memory.

    Raises:
        SightlineError: the work failed, in its own words; or it ran out of memory.
    """
    stopped: dict[str, Any] | None = None
    while True:
        try:
            return run_in_child(work, {**request, "stopped": stopped})
        except OutOfMemoryError as error:
            stopped = {"reason": error.reason, "worker": error.worker, "gpu": error.gpu, "at": _now()}
            if not (shrinks and error.began):
                more = "a GPU with more memory" if error.gpu else f"more memory ({step.name}_memory)"
                sentence = f"The step {step.name} {error.reason}: give it {more}{f', {advice}' if advice else ''}."
                _record_failure(step, sentence, stopped)
                raise SightlineError(sentence) from None
            log.warning("%s %s; it goes on from its newest checkpoint with less at a time", step.name, error.reason)
        except ChildDiedError as error:
            sentence = f"The step {step.name} {error}"
            _record_failure(step, sentence)
            raise SightlineError(sentence) from None


def run_in_child(work: str, request: Mapping[str, Any]) -> Any:
    """What `work` (`module:function`) returns for a request, called in a child process.

    Raises:
        SightlineError: what the work raised; of its message the lines are joined.
        OutOfMemoryError: it ran out of memory or was killed; `began` says whether it had told that it began.
        ChildDiedError: it ended in any other way.
    """
    die_with_parent()
    kills = oom_kills()
    # Files without a name: nothing is left behind when this process is killed.
    with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as answer:
        question.write(json.dumps(request).encode())
        question.seek(0)
        child = _start(work, question.fileno(), answer.fileno())
        try:
            status, stopped_short = _wait(child)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        answer.seek(0)
        told: dict[str, Any] = {}
        for line in answer.read().splitlines():
            with contextlib.suppress(ValueError):  # cut off by the kill
                told |= json.loads(line)
    if stopped_short:
        reason = f"was stopped just below the memory limit ({size(memory_limit() or 0)})"
        told |= {"out_of_memory": {"reason": reason, "worker": False, "gpu": False}}
    return _result(told, status, kills)


def tell_began() -> None:
    """Tell the parent that the work has begun: from now on doing less at a time may save it."""
    _tell({"began": True})


def _result(told: Mapping[str, Any], status: int, kills: int) -> Any:
    if "result" in told:
        return told["result"]
    if "error" in told:
        raise SightlineError(told["error"])
    if "unexpected" in told:
        raise ChildDiedError(f"failed: {told['unexpected']}")
    if "out_of_memory" in told or status == -signal.SIGKILL:
        facts = told.get("out_of_memory") or {"reason": f"was {killed_for_memory(kills)}"}
        raise OutOfMemoryError(**facts, began="began" in told)
    if status == -signal.SIGBUS:
        raise ChildDiedError(out_of_shared_memory())
    if status < 0:
        raise ChildDiedError(f"was ended by signal {-status} ({signal.strsignal(-status)}).")
    raise ChildDiedError(f"ended with exit status {status} and no result.")


def _start(work: str, question: int, answer: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, (str(LIBRARY), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        # -P: the folder that a step happens to start in holds no modules of ours.
        [sys.executable, "-P", "-m", __name__, work, str(os.getpid()), str(question), str(answer)],
        env=os.environ | {"PYTHONPATH": path, PARENT: str(os.getpid())},
        pass_fds=(question, answer),
    )


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, bool]:
    """The child's exit status, and whether it was stopped short of the memory limit.

    A request to end goes on to the child first.
    """
    stopped = False

    def forward(number: int, _frame: Any) -> None:
        nonlocal stopped
        stopped = True
        child.send_signal(number)

    with _handling(signal.SIGTERM, forward):
        try:
            stopped_short = _guard(child) if kernel_kills_all() else False
            status = child.wait()
        except KeyboardInterrupt:  # the terminal has told the child as well
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(INTERRUPTED_SECONDS)
            raise
    if stopped:
        os.kill(os.getpid(), signal.SIGTERM)
    return status, stopped_short


def _guard(child: subprocess.Popen[bytes]) -> bool:
    """Kill the child before the kernel would kill this process with it. Returns whether that was necessary."""
    while child.poll() is None:
        if nearly_out_of_memory():
            child.kill()
            return True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return False


@contextlib.contextmanager
def _handling(number: signal.Signals, handler: Callable[[int, Any], None]) -> Iterator[None]:
    try:
        before = signal.signal(number, handler)
    except ValueError:  # not the main thread: the default stays, and the child ends with this process
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)


def _record_failure(step: Step, sentence: str, stopped: Mapping[str, Any] | None = None) -> None:
    """Write what the child could not, by a child of its own: SQL's libraries would stay in this process."""
    try:
        run_in_child(RECORD_FAILURE, {**asdict(step), "reason": sentence, "stopped": stopped})
    except SightlineError as error:
        log.error("the failure could not be recorded: %s", error)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def main() -> int:
    """The child: read the request, work, answer."""
    work, parent, question, answer = sys.argv[1:]
    die_with_direct_parent()
    if os.getppid() != int(parent):  # it ended before the kernel knew
        return 1
    _go_first()
    set_thread_environment()  # before the work imports torch
    with open(int(question), "rb") as file:  # noqa: PTH123
        request = json.loads(file.read())
    global _to_parent
    _to_parent = open(int(answer), "wb", buffering=0)  # noqa: PTH123, SIM115
    _tell(_outcome(work, request))
    return 0


def _outcome(work: str, request: Mapping[str, Any]) -> dict[str, Any]:
    module, _, function = work.partition(":")
    try:
        return {"result": getattr(importlib.import_module(module), function)(request)}
    except OutOfMemoryError as error:
        return {"out_of_memory": {"reason": error.reason, "worker": error.worker, "gpu": error.gpu}}
    except SightlineError as error:
        if error.__cause__:
            traceback.print_exc()
        return {"error": one_line(str(error))}
    except Exception as error:
        traceback.print_exc()
        return {"unexpected": one_line(f"{type(error).__name__}: {error}")}


def one_line(text: str) -> str:
    """A text without line ends: Python prints an error's message last, and a log's last line must tell all.

    Of a traceback (torch puts those of data loading processes into its messages) the last line is kept.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if "Traceback (most recent call last)" in text else " ".join(lines)


def _tell(fact: Mapping[str, Any]) -> None:
    if _to_parent is not None:
        _to_parent.write(json.dumps(fact).encode() + b"\n")


def _go_first() -> None:
    with contextlib.suppress(OSError, ValueError):
        place = Path("/proc/self/oom_score_adj")
        place.write_text(str(min(1000, int(place.read_text()) + FIRST_TO_GO)))


if __name__ == "__main__":
    from sightline import supervise  # the module that the work imports too, not this double of it

    sys.exit(supervise.main())
