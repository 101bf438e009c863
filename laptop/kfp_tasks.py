"""Run a pipeline through kfp.local and watch its tasks.

kfp 2.17.0's local runner tells about its tasks in log lines only. Which task ran, which came from the cache, how long it
took and what it gave is taken where its orchestrator runs a task, by wrapping two of its functions.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO


@dataclass(slots=True)
class Task:
    """One task of a local run; state is running, done, reused or failed."""

    name: str
    state: str = "running"
    seconds: float = 0.0
    outputs: dict[str, Any] = field(default_factory=dict)


def run_pipeline(
    runner: Any, pipeline: Any, arguments: dict[str, Any], folder: Path, log: TextIO, on_change: Callable[[Task], None]
) -> dict[str, Task]:
    """Run a pipeline by a runner of kfp.local's; what was run before with the same inputs and code is reused.

    The folder keeps outputs and the cache; the log takes all output of the tasks and of kfp. Returns the tasks that
    were started, by name; the last one is `failed` when the run failed.
    """
    from kfp import local

    tasks: dict[str, Task] = {}
    local.init(
        runner,
        pipeline_root=str(folder / "outputs"),
        raise_on_error=True,
        enable_caching=True,
        cache_root=str(folder / "cache"),
    )
    with _watched(tasks, on_change), warnings.catch_warnings(), contextlib.redirect_stdout(log):
        # "You may be attempting to run a task that uses a custom image": yes, that is what this runner is for.
        warnings.simplefilter("ignore", RuntimeWarning)
        # "settings [...] have no effect in the current local runner": sizes and retries are meant for a cluster.
        warnings.filterwarnings("ignore", message=".*have no effect in the current local runner")
        try:
            pipeline(**arguments)
        except RuntimeError:
            if not any(task.state == "failed" for task in tasks.values()):
                raise
    return tasks


@contextlib.contextmanager
def _watched(tasks: dict[str, Task], on_change: Callable[[Task], None]) -> Iterator[None]:
    from kfp.local.orchestrator import task_executor
    from kfp.local.status import Status

    execute, run = task_executor.execute_single_task, task_executor.task_dispatcher.run_single_task_implementation
    ran: set[str] = set()

    def watched_execute(task_name: str, *args: Any, **kwargs: Any) -> Any:
        task = tasks[task_name] = Task(task_name)
        on_change(task)
        began = time.monotonic()
        # On a cluster a pod that was lost is made again. Here none is lost, and what failed would fail again.
        kwargs["task_spec"].ClearField("retry_policy")
        try:
            outputs, status = execute(task_name, *args, **kwargs)
        except BaseException:
            task.state = "failed"
            raise
        finally:
            task.seconds = time.monotonic() - began
        task.state = "failed" if status != Status.SUCCESS else "done" if task_name in ran else "reused"
        task.outputs = dict(outputs)
        on_change(task)
        return outputs, status

    def watched_run(*args: Any, **kwargs: Any) -> Any:
        ran.add(kwargs["component_name"].removeprefix("comp-"))
        return run(*args, **kwargs)

    with (
        replaced(task_executor, "execute_single_task", watched_execute),
        replaced(task_executor.task_dispatcher, "run_single_task_implementation", watched_run),
    ):
        yield


@contextlib.contextmanager
def replaced(module: ModuleType, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Another function under this name of a module, where kfp takes none as an argument."""
    before = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, before)
