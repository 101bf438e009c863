"""`pipeline.py runs`: what Kubeflow says of each run and what the steps themselves wrote to SQL, side by side."""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from laptop.kubeflow.access import access_of
from laptop.kubeflow.connect import Server, ServerError, connect
from laptop.kubeflow.sql import Records, open_records
from laptop.kubeflow.tasks import STATES, StepState, nothing_new, steps_of

WIDE = 160  # columns, where the output is no terminal
SHORT = 8  # characters of a run's id, enough to tell runs apart
SHORTEST_REASON = 200  # characters of a reason in the table


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step: its state by Kubeflow and by SQL (`lost` when the heartbeat stopped), empty where one knows nothing."""

    name: str
    kubeflow: str = ""
    sql: str = ""
    seconds: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        states = [state for state in dict.fromkeys((self.kubeflow, self.sql)) if state]
        return f"{self.name} {' / '.join(states)}"


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run by Kubeflow and by SQL."""

    id: str
    name: str
    category: str
    started_at: datetime
    kubeflow: str = ""
    sql: str = ""
    note: str = ""
    steps: tuple[StepRow, ...] = field(default=())


def runs(options: argparse.Namespace) -> int:
    """Print the newest runs. 1 when neither Kubeflow nor SQL can be read."""
    server, problem = _server(options)
    records = open_records(options.workspace)
    for name, missing in (("Kubeflow", problem), ("SQL", records.missing)):
        if missing:
            print(f"{name} is missing: {missing}", file=sys.stderr)
    if server is None and records.database is None:
        return 1
    rows = list(itertools.islice(_rows(server, records, options.category, options.limit), options.limit))
    if options.json:
        print(json.dumps([asdict(row) for row in rows], default=_plain, indent=2, ensure_ascii=False))
    elif rows:
        _print(rows)
    else:
        print(f"no runs{f' of {options.category}' if options.category else ''} yet")
    return 0


def _server(options: argparse.Namespace) -> tuple[Server | None, str]:
    try:
        return connect(access_of(options)), ""
    except ServerError as error:
        return None, str(error)


def _rows(server: Server | None, records: Records, category: str | None, limit: int) -> Iterator[RunRow]:
    """Newest first. Runs on a laptop are known to SQL only, runs that have not begun to Kubeflow only."""
    recorded = _recorded(records, category)
    kubeflow: list[RunRow] = []
    for run in _listed(server):
        row = _row(run, recorded.pop(run.run_id, None), records)
        if category in (None, row.category):
            kubeflow.append(row)
        if len(kubeflow) == limit:
            break
    others = (_row(None, record, records) for record in recorded.values())
    return iter(sorted(itertools.chain(kubeflow, others), key=lambda row: row.started_at, reverse=True))


def _listed(server: Server | None) -> Iterator[Any]:
    if server is None:
        return iter(())
    place = {"namespace": server.namespace} if server.namespace else {}
    return server.list(server.api("runs").run_service_list_runs, "runs", sort_by="created_at desc", **place)


def _recorded(records: Records, category: str | None) -> dict[str, Any]:
    if records.database is None:
        return {}
    from sightline.database import list_runs

    return {run.id: run for run in list_runs(records.database, category)}


def _row(run: Any, record: Any, records: Records) -> RunRow:
    steps = steps_of(run) if run else ()
    rows = _steps(steps, record, records)
    parameters: Mapping[str, Any] = (run.runtime_config.parameters or {}) if run and run.runtime_config else {}
    sql = record.state if record else ""
    if any(step.sql == "lost" for step in rows):
        sql = "lost"
    state = STATES.get(run.state, str(run.state).lower()) if run else ""
    return RunRow(
        id=run.run_id if run else record.id,
        name=run.display_name if run else "on a laptop" if record.id[:2] == "20" else "",
        category=str(parameters.get("category") or (record.category if record else "")),
        started_at=run.created_at if run else record.started_at,
        kubeflow=state,
        sql=sql,
        note="nothing new: every step reused" if state == "done" and nothing_new(steps) else "",
        steps=rows,
    )


def _steps(steps: tuple[StepState, ...], record: Any, records: Records) -> tuple[StepRow, ...]:
    rows = {step.name: StepRow(step.name, step.state, seconds=step.seconds(), reason=step.message) for step in steps}
    if record is not None and records.database is not None:
        from sightline.database import list_steps

        for each in list_steps(records.database, record.id):
            known = rows.get(each.step, StepRow(each.step))
            seconds = (each.ended_at or each.heartbeat_at) - each.started_at
            rows[each.step] = StepRow(
                each.step,
                known.kubeflow,
                "lost" if each.lost() else each.state,
                known.seconds if known.seconds is not None else seconds.total_seconds(),
                each.reason or known.reason,
            )
    return tuple(rows.values())


def _print(rows: list[RunRow]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("run", "name", "category", "started (UTC)", "Kubeflow", "SQL", "steps"):
        table.add_column(title, overflow="fold")
    for row in rows:
        failed = [step for step in row.steps if step.reason and "failed" in (step.kubeflow, step.sql)]
        lines = [", ".join(map(str, row.steps)), row.note]
        lines += [f"{step.name}: {step.reason.strip().splitlines()[-1][:SHORTEST_REASON]}" for step in failed]
        table.add_row(
            row.id if len(row.id) < 4 * SHORT else row.id[:SHORT],
            row.name,
            row.category,
            f"{row.started_at:%Y-%m-%d %H:%M}",
            row.kubeflow or "-",
            row.sql or "-",
            "\n".join(line for line in lines if line),
        )
    console = Console(file=sys.stdout, highlight=False)
    Console(file=sys.stdout, highlight=False, width=console.width if console.is_terminal else WIDE).print(table)


def _plain(value: Any) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)
