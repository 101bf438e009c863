"""A step's work in a child process, started again with less at a time when memory runs out, its failures recorded."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from sightline.errors import SightlineError
from sightline.processes.child import ChildDiedError, run_in_child
from sightline.processes.lifetime import Terminated, ends_when_asked
from sightline.processes.memory import OutOfMemoryError

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """The step that is at work: its name, its release, the category, and when this process began with it."""

    name: str
    code: str
    category: str
    began: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Stopped:
    """How and when memory ran out; the other fields are those of `OutOfMemoryError`."""

    reason: str
    worker: bool
    gpu: bool
    at: datetime


def run_step(step: Step, work: Callable[..., T], *arguments: Any, shrinks: bool = False, advice: str = "") -> T:
    """A step's result from a child process (see `run_in_child`); a failure that the child could not record is recorded.

    When this process is asked to end, it records that the step was stopped, and ends. Work that `shrinks` also takes `stopped`,
    None at first; after running out of memory it is started again and told how that came about, until it gives up by an error
    of its own. The advice says what else a user can do about memory.

    Raises:
        SightlineError: the work failed, in its own words; or it ran out of memory.
    """
    with ends_when_asked():
        try:
            return _run(step, work, arguments, shrinks, advice)
        except Terminated:
            log.warning("%s was asked to end", step.name)
            _write_end(step)
            raise


def _run(step: Step, work: Callable[..., T], arguments: Sequence[Any], shrinks: bool, advice: str) -> T:
    stopped: Stopped | None = None
    while True:
        try:
            return run_in_child(work, *arguments, **({"stopped": stopped} if shrinks else {}))
        except OutOfMemoryError as error:
            stopped = Stopped(error.reason, error.worker, error.gpu, datetime.now(UTC))
            if not (shrinks and error.began):
                more = "a GPU with more memory" if error.gpu else f"more memory ({step.name}_memory)"
                sentence = f"The step {step.name} {error.reason}: give it {more}{f', {advice}' if advice else ''}."
                _write_end(step, sentence, stopped)
                raise SightlineError(sentence) from None
            log.warning("%s %s; it goes on from its newest checkpoint with less at a time", step.name, error.reason)
        except ChildDiedError as error:
            sentence = f"The step {step.name} {error}"
            _write_end(step, sentence)
            raise SightlineError(sentence) from None


def _write_end(*ended: Any) -> None:
    """Record by a child of its own what the step's could not: SQL's libraries would stay in this process."""
    try:
        run_in_child(_write, *ended)
    except SightlineError as error:
        log.error("this end could not be recorded: %s", error)


def _write(step: Step, failure: str | None = None, stopped: Stopped | None = None) -> None:
    from sightline.services.runs.running_step import write_end

    write_end(step.name, step.code, step.category, step.began, failure, stopped.at if stopped else None)
