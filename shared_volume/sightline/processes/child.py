"""Work in a child process, watched by a parent that stays small.

The kernel kills the largest process of a container that needs too much memory, and what it killed can record nothing. So
the process that a step is started as loads no torch and no SQL: it starts `python -m sightline.processes.child` from the same
helper code, waits, and tells why the child ended. Child and parent end together.
"""

import base64
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from sightline.errors import SightlineError
from sightline.processes import memory
from sightline.processes.lifetime import VARIABLE, Terminated, die_with_direct_parent, die_with_parent, ends_when_asked
from sightline.processes.threads import set_thread_environment

T = TypeVar("T")

LIBRARY = Path(__file__).resolve().parents[2]
INTERRUPTED_SECONDS = 10.0  # that a child may take, after Ctrl-C, to record that it was interrupted
TERMINATED_SECONDS = 3.0  # that a child may take to end when it is asked to; then it is killed
SECONDS_BETWEEN_LOOKS = 0.02
FIRST_TO_GO = 300  # added to the child's oom_score_adj: the kernel takes it before its parent and KFP's launcher

_to_parent: IO[bytes] | None = None


class ChildDiedError(SightlineError):
    """The child ended without a word, or by an error that nobody foresaw."""


def run_in_child(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """What a function returns, called in a child process; it is of a module that this process may import too.

    Its arguments and its result travel as pickles between these two processes.

    Raises:
        SightlineError: what the work raised; of its message the lines are joined.
        OutOfMemoryError: it ran out of memory or was killed; `began` says whether it had told that it began.
        ChildDiedError: it ended in any other way.
        Terminated: this process was asked to end, and the child has ended.
    """
    die_with_parent()
    kills = memory.oom_kills()
    # Files without a name: nothing is left behind when this process is killed.
    with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as answer:
        pickle.dump((work, arguments, options), question)
        question.seek(0)
        child = _start(f"{work.__module__}.{work.__name__}", question.fileno(), answer.fileno())
        try:
            stopped_short = _wait(child)
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
        reason = f"was stopped just below the memory limit ({memory.size(memory.memory_limit() or 0)})"
        told |= {"out_of_memory": {"reason": reason}}
    return _result(told, child.returncode, kills)


def tell_began() -> None:
    """Tell the parent that the work has begun: from now on doing less at a time may save it."""
    _tell({"began": True})


def _result(told: Mapping[str, Any], status: int, kills: int) -> Any:
    if "result" in told:
        return pickle.loads(base64.b64decode(told["result"]))  # from our own child
    if "error" in told:
        raise SightlineError(told["error"])
    if "unexpected" in told:
        raise ChildDiedError(f"failed: {told['unexpected']}")
    if "out_of_memory" in told or status == -signal.SIGKILL:
        facts = told.get("out_of_memory") or {"reason": f"was {memory.killed_for_memory(kills)}"}
        raise memory.OutOfMemoryError(**facts, began="began" in told)
    if status == -signal.SIGBUS:
        raise ChildDiedError(memory.out_of_shared_memory())
    if status < 0:
        raise ChildDiedError(f"was ended by signal {-status} ({signal.strsignal(-status)}).")
    raise ChildDiedError(f"ended with exit status {status} and no result.")


def _start(shown_as: str, question: int, answer: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: the folder that a step happens to start in holds no modules of ours.
        [sys.executable, "-P", "-m", __name__, shown_as, str(os.getpid()), str(question), str(answer)],
        env=environment() | {VARIABLE: str(os.getpid())},
        pass_fds=(question, answer),
    )


def environment() -> dict[str, str]:
    """Of a process that imports this very helper code."""
    path = os.pathsep.join(filter(None, (str(LIBRARY), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path}


def _wait(child: subprocess.Popen[bytes]) -> bool:
    """Wait for the child's end, and say whether it was stopped short of the memory limit.

    That is done where the kernel would kill this process with it. A request to end goes on to the child, which has a moment to
    do so.
    """
    with ends_when_asked():
        try:
            guarded = memory.kernel_kills_all()
            while guarded and child.poll() is None:
                if memory.nearly_out_of_memory():
                    child.kill()
                    child.wait()
                    return True
                time.sleep(SECONDS_BETWEEN_LOOKS)
            child.wait()
            return False
        except KeyboardInterrupt:  # the terminal has told the child as well
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(INTERRUPTED_SECONDS)
            raise
        except Terminated:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(TERMINATED_SECONDS)
            raise


def main() -> int:
    """The child: read the request, work, answer."""
    _shown_as, parent, question, answer = sys.argv[1:]
    die_with_direct_parent()
    if os.getppid() != int(parent):  # it ended before the kernel knew
        return 1
    with contextlib.suppress(OSError, ValueError):
        path = Path("/proc/self/oom_score_adj")
        path.write_text(str(min(1000, int(path.read_text()) + FIRST_TO_GO)))
    set_thread_environment()  # before the work imports torch
    with open(int(question), "rb") as file:  # noqa: PTH123
        request = file.read()
    global _to_parent
    _to_parent = open(int(answer), "wb", buffering=0)  # noqa: PTH123, SIM115
    _tell(_outcome(request))
    return 0


def _outcome(request: bytes) -> dict[str, Any]:
    try:
        work, arguments, options = pickle.loads(request)  # from our own parent
        result = work(*arguments, **options)
        return {"result": base64.b64encode(pickle.dumps(result)).decode()}
    except memory.OutOfMemoryError as error:
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


if __name__ == "__main__":
    from sightline.processes import child  # the module that the work imports too, not this double of it

    sys.exit(child.main())
