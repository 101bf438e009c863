"""The SQL database as far as a laptop reaches it: what the steps said of themselves."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.services.database.connection import Database
    from sightline.services.database.runs import RunRow, StepRow

SECONDS = "15"  # a laptop that cannot reach the cluster's database should say so soon


@dataclass(frozen=True, slots=True)
class Metadata:
    """The database, or why there is none."""

    database: "Database | None"
    missing: str = ""
    own: bool = False  # whether it is this laptop's, which knows nothing of a cluster's runs


def open_metadata(workspace: Path) -> Metadata:
    """The database that SIGHTLINE_DATABASE_URL names, else this laptop's own when it has one."""
    url = os.environ.get("SIGHTLINE_DATABASE_URL", "")
    local = workspace / "sightline.db"
    own = not url and local.is_file()
    if own:
        url = f"sqlite:///{local.resolve()}"
    if not url:
        return Metadata(None, "SIGHTLINE_DATABASE_URL is not set")
    os.environ.setdefault("SIGHTLINE_TIMEOUT", SECONDS)
    try:
        from sightline.services.database.connection import connect
        from sightline.services.database.runs import list_runs, list_steps

        database = connect(url)
        list_runs(database, category="")  # nothing, but only where the tables are those of this code
        list_steps(database, "")
    except ImportError as error:
        return Metadata(None, f"{error.name} is not installed here; `make setup` installs it")
    except SightlineError as error:
        return Metadata(None, str(error))
    return Metadata(database, own=own)


def rows_of_runs(metadata: Metadata, category: str | None = None) -> "dict[str, RunRow]":
    """The runs that SQL knows by their ids, newest first."""
    if metadata.database is None:
        return {}
    from sightline.services.database.runs import list_runs

    return {run.id: run for run in list_runs(metadata.database, category)}


def rows_of_steps(metadata: Metadata, run_id: str) -> "dict[str, StepRow]":
    """What a run's steps wrote, by their names, in the order they started."""
    if metadata.database is None:
        return {}
    from sightline.services.database.runs import list_steps

    return {step.step: step for step in list_steps(metadata.database, run_id)}


def write_stopped(metadata: Metadata, run_id: str) -> str:
    """Have SQL say that the steps at work of a run that was terminated are stopped. Returns what came of it, in words."""
    missing = metadata.missing
    if metadata.database is not None:
        from sightline.services.database.runs import stop_steps

        try:
            steps = stop_steps(metadata.database, run_id)
            return f"stopped in SQL: {', '.join(steps)}" if steps else "SQL knows of no step of it that was running"
        except SightlineError as error:
            missing = str(error)
    return f"its steps will write that to SQL themselves if they have the time (from here: {missing})"


def write_retried(metadata: Metadata, run_id: str, step: str, message: str) -> None:
    """Have SQL say, beside what else happened to the step, that its run was retried; to its newest step where it has no such one."""
    rows = rows_of_steps(metadata, run_id)
    if metadata.database is None or not rows:
        return
    from sightline.services.database.runs import write_event

    write_event(metadata.database, run_id, step if step in rows else list(rows)[-1], "retried", message)


def still_there(metadata: Metadata) -> Metadata:
    """The same database, or why it can no longer be read: who followed a run for a night does not end with an error."""
    try:
        rows_of_steps(metadata, "")
    except SightlineError as error:
        return Metadata(None, str(error))
    return metadata
