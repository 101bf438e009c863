"""The SQL database as far as a laptop reaches it: what the steps said of themselves."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.services.database.connection import Database

SECONDS = "15"  # a laptop that cannot reach the cluster's database should say so soon


@dataclass(frozen=True, slots=True)
class Records:
    """The database, or why there is none."""

    database: "Database | None"
    missing: str = ""


def open_records(workspace: Path) -> Records:
    """The database that SIGHTLINE_DATABASE_URL names, else this laptop's own when it has one."""
    url = os.environ.get("SIGHTLINE_DATABASE_URL", "")
    local = workspace / "sightline.db"
    if not url and local.is_file():
        url = f"sqlite:///{local.resolve()}"
    if not url:
        return Records(None, "SIGHTLINE_DATABASE_URL is not set")
    os.environ.setdefault("SIGHTLINE_TIMEOUT", SECONDS)
    try:
        from sightline.services.database.connection import connect
        from sightline.services.database.runs import list_runs, list_steps

        database = connect(url)
        list_runs(database, category="")  # nothing, but only where the tables are those of this code
        list_steps(database, "")
    except ImportError as error:
        return Records(None, f"{error.name} is not installed here; `make setup` installs it")
    except SightlineError as error:
        return Records(None, str(error))
    return Records(database)


def failure_of(records: Records, run_id: str) -> tuple[str, str] | None:
    """The step that failed in a run and the reason that it recorded; None when SQL knows of none."""
    if records.database is None:
        return None
    from sightline.services.database.runs import list_steps

    for step in list_steps(records.database, run_id):
        if step.state == "failed" or step.lost():
            reason = step.reason or "it gave no sign of life for minutes: its pod is gone, or was killed"
            return step.step, reason
    return None
