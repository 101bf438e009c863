"""Publishers in processes of their own, forked from a server that has imported everything, and killed where a test says.

Each is a process group, so that the Git and SSH programs it started die with it.
"""

import importlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from sightline.services.storage.access import open_storage
from sightline.services.versioning import publication
from tests.services import EMULATOR_SETTINGS

REPOSITORY = Path(__file__).resolve().parents[1]
# What a publisher imports sooner or later.
MODULES = (
    *(
        "sightline.publish",
        "sightline.steps.record",
        "google.cloud.storage",
        "pymysql",
    ),
    *("dvc.repo", "dvc.repo.add", "dvc.repo.pull", "dvc.repo.index", "dvc.repo.graph", "dvc.repo.brancher", "dvc.scm"),
    *("dvc.repo.artifacts", "dvc.repo.datasets", "dvc.repo.metrics", "dvc.repo.params", "dvc.repo.plots"),
    *("dvc.repo.stage", "dvc.cachemgr", "dvc.data_cloud", "dvc.lock", "dvc.rwlock", "dvc.utils.strictyaml"),
    *("dvc_data.index.checkout", "dvc_data.index.collect", "dvc_data.index.fetch", "dvc_gs", "gcsfs", "networkx"),
    *("scmrepo.git.backend.dulwich", "scmrepo.git.backend.gitpython", "scmrepo.git.backend.pygit2", "ruamel.yaml"),
)
SECONDS = 120.0
FORKS = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Kill:
    """Where a publisher dies: before, in the middle of, or after a step of the protocol."""

    when: str
    step: str

    def __str__(self) -> str:
        return f"{self.when}-{self.step}"


@dataclass(frozen=True)
class Answer:
    """What became of a publisher: its result, or its error's type and message, or neither when it was killed."""

    result: Any = None
    error: str = ""
    message: str = ""
    killed: bool = False


class Publisher:
    """One function running in a forked process; its own environment, a process group of its own."""

    def __init__(self, work: Callable[..., Any], *arguments: Any, kill: Kill | None = None, **environment: str) -> None:
        _start_server()
        self._answers, theirs = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(
            target=_work, args=(theirs, dict(os.environ) | environment, kill, work, *arguments), daemon=True
        )
        self.process.start()
        theirs.close()

    def answer(self) -> Answer:
        """Wait for it to end."""
        try:
            assert self._answers.poll(SECONDS), f"no answer after {SECONDS:g} s"
            answer: Answer = self._answers.recv()
        except EOFError:
            answer = Answer(killed=True)
        self.process.join(SECONDS)
        assert not answer.killed or self.process.exitcode == -signal.SIGKILL, "died of something else"
        return answer


def run_publisher(work: Callable[..., Any], *arguments: Any, kill: Kill | None = None) -> Answer:
    """Run a function in a forked process until it ends or is killed."""
    return Publisher(work, *arguments, kill=kill).answer()


def result_of(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function that runs in a forked process and must succeed."""
    answer = run_publisher(work, *arguments)
    assert not answer.error and not answer.killed, f"{answer.error}: {answer.message}"
    return answer.result


def _start_server() -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'shared_volume'}")
        for name, value in EMULATOR_SETTINGS.items():  # some are read when a module is imported
            environment.setenv(name, value)
        FORKS.set_forkserver_preload([*MODULES, __name__])
        multiprocessing.forkserver.ensure_running()


def _work(
    answers: Connection, environment: Mapping[str, str], kill: Kill | None, work: Callable[..., Any], *arguments: Any
) -> None:
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(environment)
    importlib.import_module("sightline.settings").read_settings.cache_clear()
    if kill is not None:
        publication.PROTOCOL = tuple(
            _armed(step, kill.when) if step.__name__ == kill.step else step for step in publication.PROTOCOL
        )
    try:
        answers.send(Answer(result=work(*arguments)))
    except Exception as error:
        answers.send(Answer(error=type(error).__name__, message=str(error)))


def _die() -> None:
    os.killpg(0, signal.SIGKILL)


def _armed(step: Callable[[Any], None], when: str) -> Callable[[Any], None]:
    def deadly(attempt: Any) -> None:
        if when == "before":
            _die()
        if when == "in":
            with MIDDLES[step.__name__](attempt):
                step(attempt)
        step(attempt)
        _die()

    return deadly


@contextmanager
def _as_soon_as(reached: Callable[[], bool]) -> Any:
    """A thread that kills this process when something has come about."""

    def watch() -> None:
        while not reached():
            pass
        _die()

    threading.Thread(target=watch, daemon=True).start()
    yield
    _die()


def _in_build(attempt: Any) -> Any:
    return _as_soon_as(lambda: any(attempt.folder.glob("*.png")) or any(attempt.folder.glob("*.tar")))


def _in_add(attempt: Any) -> Any:
    cache = attempt.services.repo.volume / "dvc-cache"
    before = len(list(cache.glob("files/md5/*/*")))
    return _as_soon_as(lambda: len(list(cache.glob("files/md5/*/*"))) > before)


def _in_push(attempt: Any) -> Any:
    def stored() -> int:
        return sum(1 for _ in open_storage(attempt.services.repo.storage).list(f"dvc/{attempt.remote}"))

    before = stored()
    return _as_soon_as(lambda: stored() > before)


def _in_tag(attempt: Any) -> Any:
    """While Git receives the objects or moves a branch or tag."""
    bare = Path(attempt.services.repo.url)
    places = (bare / "objects", bare / "refs" / "heads", bare / "refs" / "tags")

    def receiving() -> bool:
        names = [name for place in places for name in os.listdir(place)]
        return any(name.startswith("tmp_objdir") or name.endswith(".lock") for name in names)

    return _as_soon_as(receiving)


@contextmanager
def _in_write_rows(attempt: Any) -> Any:
    """In the transaction, with some of its rows written."""
    import sqlalchemy

    @sqlalchemy.event.listens_for(attempt.services.database.engine, "after_cursor_execute")
    def die(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO images"):
            _die()

    yield


MIDDLES: dict[str, Callable[[Any], Any]] = {
    "build": _in_build,
    "add": _in_add,
    "push": _in_push,
    "tag": _in_tag,
    "write_rows": _in_write_rows,
}


def all_kills() -> list[Kill]:
    """Before every step of the protocol, in the middle of those that take a while, and after the last.

    Nothing happens between two steps, so dying after one is dying before the next.
    """
    steps = [step.__name__ for step in publication.PROTOCOL]
    assert MIDDLES.keys() <= set(steps)
    within = [Kill(when, step) for step in steps for when in ("before", "in") if when == "before" or step in MIDDLES]
    return [*within, Kill("after", steps[-1])]


def start_honest_publisher(script: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A new interpreter as a user starts one, in a process group of its own; what it reads from stdin never comes."""
    path = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'shared_volume'}"
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
