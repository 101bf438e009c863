"""`pipeline.py runs`: what Kubeflow says of each run and what the steps themselves wrote to SQL, side by side."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from components.parameters import STEPS
from laptop.kubeflow.access import access_of
from laptop.kubeflow.answers import Run
from laptop.kubeflow.connect import Server, try_connect
from laptop.kubeflow.find import UUID, Ours, newest_runs, short_id
from laptop.kubeflow.log_text import cut
from laptop.kubeflow.pods import Glance
from laptop.kubeflow.retry import retry_lost_runs
from laptop.kubeflow.sql import Metadata, open_metadata, rows_of_runs
from laptop.kubeflow.steps import Evidence, StepShown, others, shown_steps, why_lost
from laptop.kubeflow.tasks import DONE, ENDED, LOST, RUNNING, nothing_new, state_of, stopped_while_it_waited
from laptop.smoke import publishes_as
from laptop.tables import print_table

CLUSTER, THIS_LAPTOP, A_LAPTOP = "cluster", "this laptop", "a laptop"
LONGEST_REASON = 300  # characters of a reason in the table
MOST_EVENTS = 3  # of a step in the table, the newest


@dataclass(frozen=True, slots=True)
class RunShown:
    """A run by Kubeflow and by SQL; `where` is the cluster, this laptop or, of a shared database, a laptop."""

    id: str
    name: str
    category: str
    started_at: datetime
    kubeflow: str = ""
    sql: str = ""
    note: str = ""
    where: str = CLUSTER
    steps: tuple[StepShown, ...] = ()


def runs(options: argparse.Namespace) -> int:
    """Print the newest runs. 1 when neither Kubeflow nor SQL can be read; of what retries lost runs, when one cannot."""
    server, problem, namespace = try_connect(access_of(options))
    metadata = open_metadata(options.workspace)
    for name, missing in (("Kubeflow", problem), ("SQL", metadata.missing)):
        if missing:
            print(f"{name} is missing: {missing}", file=sys.stderr)
    if server is None and metadata.database is None:
        return 1
    if server is not None and metadata.own:
        print("SQL: this workspace's sightline.db, not the cluster's; set SIGHTLINE_DATABASE_URL", file=sys.stderr)
    if options.retry_lost and server is not None:
        retry_lost_runs(server, metadata)
    rows = _rows(server, metadata, Glance(namespace), options)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], default=datetime.isoformat, indent=2, ensure_ascii=False))
    elif rows:
        titles = ("run", "name", "category", "started (UTC)", "Kubeflow", "SQL", "steps")
        print_table(titles, map(_cells, rows))
        for number, line in enumerate(f"{short_id(row.id)}  {line}" for row in rows for line in _sentences(row)):
            print(line if number else f"\n{line}")
    else:
        print(f"no runs{f' of {options.category}' if options.category else ''} yet")
    return 1 if options.retry_lost and (problem or metadata.missing) else 0


def _rows(server: Server | None, metadata: Metadata, glance: Glance, options: argparse.Namespace) -> list[RunShown]:
    """Newest first. Runs on a laptop are known to SQL only, runs that have not begun to Kubeflow only.

    Where there are more than the limit, a laptop's are left out first: who asks a cluster wants to see the cluster's.
    """
    sql_rows = rows_of_runs(metadata)
    listed, whole = _listed(server, sql_rows, options)
    known = {run.run_id for run in listed}
    near = cache(lambda: others(server))
    wanted = [each for each in sql_rows.values() if options.category in (None, each.category)]
    unlisted = [each for each in wanted if each.id not in known]
    # A cluster's run that is not among the newest is older, or gone from Kubeflow: that shows when it lists all.
    gone = [each for each in unlisted if whole and (server is None or UUID.fullmatch(each.id))]
    on_laptops = [each for each in unlisted if server is not None and not UUID.fullmatch(each.id)]
    rows = [_row(run, sql_rows.get(run.run_id), metadata, glance, near) for run in listed]
    rows += [_row(None, each, metadata, glance, near, gone=server is not None) for each in gone[: options.limit]]
    rows = _newest(rows)[: options.limit]
    rows += [_row(None, each, metadata, glance, near) for each in on_laptops[: options.limit - len(rows)]]
    return _newest([_located(row, metadata, options.workspace) for row in rows])


def _newest(rows: list[RunShown]) -> list[RunShown]:
    return sorted(rows, key=lambda row: row.started_at, reverse=True)


def _located(row: RunShown, metadata: Metadata, workspace: Path) -> RunShown:
    if UUID.fullmatch(row.id):
        return row
    here = metadata.own or (workspace / "logs" / f"{row.id}.log").is_file()
    return replace(row, where=THIS_LAPTOP if here else A_LAPTOP)


def _listed(server: Server | None, sql_rows: dict[str, Any], options: argparse.Namespace) -> tuple[list[Run], bool]:
    """The newest runs that Kubeflow lists, ours only unless all are wanted, and whether there are no others."""
    if server is None:
        return [], True
    found: list[Run] = []
    ours = Ours(server, sql_rows)
    for run in newest_runs(server) if options.all else ours.newest():
        if options.category not in (None, _category(run, sql_rows.get(run.run_id))):
            continue
        if len(found) == options.limit:
            return found, False
        found.append(run)
    return found, ours.looked_through


def _category(run: Run | None, sql_row: Any) -> str:
    given = publishes_as(run.parameters) if run else ""
    return str(given or (sql_row.category if sql_row else ""))


def _row(
    run: Run | None, sql_row: Any, metadata: Metadata, glance: Glance, near: Callable[[], set[str]], gone: bool = False
) -> RunShown:
    run_id = run.run_id if run else sql_row.id
    on_cluster = bool(UUID.fullmatch(run_id))
    in_sql = metadata if sql_row else replace(metadata, database=None)
    known = Evidence(run_id, run, in_sql, glance if on_cluster else Glance(""))
    steps, lost = shown_steps(known), why_lost(known, near)
    state = state_of(run) if run else ""
    note = f"lost: {lost}" if lost else ""
    if state == DONE and nothing_new(list(known.steps.values())):
        note = "nothing new: every step reused"
    if waited := stopped_while_it_waited(run) if run else "":
        note = f"{waited}: stopped by somebody while it waited to begin"
    if on_cluster and gone and run is None:
        note = "Kubeflow no longer has this run"
    return RunShown(
        id=run_id,
        name=run.display_name if run else "",
        category=_category(run, sql_row),
        started_at=run.began if run else sql_row.started_at,
        kubeflow=LOST if lost else state,
        sql=_in_sql(sql_row, steps, goes_on=run is not None and run.state not in ENDED, told=run is not None or gone),
        note=note,
        steps=steps,
    )


def _in_sql(sql_row: Any, steps: tuple[StepShown, ...], goes_on: bool, told: bool) -> str:
    """A run's state in SQL, which knows the steps that began: of a run that goes on they are done only so far."""
    if sql_row is None:
        return ""
    if any(step.sql == LOST for step in steps):
        return LOST
    if sql_row.state != DONE:
        return str(sql_row.state)
    last = any(step.name == STEPS[-1] for step in steps)
    if goes_on:
        return RUNNING
    return DONE if told or last or not UUID.fullmatch(sql_row.id) else "done so far"


def _cells(row: RunShown) -> tuple[str, ...]:
    return (
        short_id(row.id),
        row.name,
        row.category,
        f"{row.started_at:%Y-%m-%d %H:%M}",
        row.kubeflow or ("-" if row.where == CLUSTER else row.where),
        row.sql or "-",
        ", ".join(map(str, row.steps)),
    )


def _sentences(row: RunShown) -> list[str]:
    """What is told below the table, where no column breaks a command that somebody copies."""
    lines = [row.note] if row.note else []
    lines += [f"{step.name}: {event}" for step in row.steps for event in step.events[-MOST_EVENTS:]]
    lines += [f"{step.name} cannot start: {cut(step.waits, LONGEST_REASON)}" for step in row.steps if step.waits]
    return lines + [f"{step.name}: {cut(step.reason, LONGEST_REASON)}" for step in row.steps if step.reason]
