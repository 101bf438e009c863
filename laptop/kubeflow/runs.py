"""`pipeline.py runs`: what Kubeflow says of each run and what the steps themselves wrote to SQL, side by side."""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from laptop.kubeflow.access import access_of
from laptop.kubeflow.answers import Run
from laptop.kubeflow.connect import Server, try_connect
from laptop.kubeflow.find import UUID, newest_runs
from laptop.kubeflow.sql import Records, open_records
from laptop.kubeflow.tables import print_table
from laptop.kubeflow.tasks import StepState, nothing_new, state_of, steps_of

SHORT = 8  # characters of a run's id, enough to tell runs apart
LONGEST_REASON = 200  # characters of a reason in the table
MOST_EVENTS = 3  # of a step in the table, the newest


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step: its state by Kubeflow and by SQL (`lost` when the heartbeat stopped), empty where one knows nothing."""

    name: str
    kubeflow: str = ""
    sql: str = ""
    seconds: float | None = None
    reason: str = ""
    attempt: int = 0
    events: tuple[str, ...] = ()

    def __str__(self) -> str:
        states = [state for state in dict.fromkeys((self.kubeflow, self.sql)) if state]
        again = f" (attempt {self.attempt + 1})" if self.attempt else ""
        return f"{self.name} {' / '.join(states)}{again}"


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
    server, problem = try_connect(access_of(options))
    records = open_records(options.workspace)
    for name, missing in (("Kubeflow", problem), ("SQL", records.missing)):
        if missing:
            print(f"{name} is missing: {missing}", file=sys.stderr)
    if server is None and records.database is None:
        return 1
    if options.retry_lost and server is not None:
        from laptop.kubeflow.retry import retry_lost_runs

        retry_lost_runs(server, records)
    rows = list(itertools.islice(_rows(server, records, options.category, options.limit), options.limit))
    if options.json:
        print(json.dumps([asdict(row) for row in rows], default=_plain, indent=2, ensure_ascii=False))
    elif rows:
        titles = ("run", "name", "category", "started (UTC)", "Kubeflow", "SQL", "steps")
        print_table(titles, map(_cells, rows))
    else:
        print(f"no runs{f' of {options.category}' if options.category else ''} yet")
    return 0


def _rows(server: Server | None, records: Records, category: str | None, limit: int) -> Iterator[RunRow]:
    """Newest first. Runs on a laptop are known to SQL only, runs that have not begun to Kubeflow only."""
    recorded = _recorded(records, category)
    kubeflow: list[RunRow] = []
    for run in newest_runs(server) if server else ():
        row = _row(run, recorded.pop(run.run_id, None), records)
        if category in (None, row.category):
            kubeflow.append(row)
        if len(kubeflow) == limit:
            break
    others = (_row(None, record, records) for record in recorded.values())
    return iter(sorted(itertools.chain(kubeflow, others), key=lambda row: row.started_at, reverse=True))


def _recorded(records: Records, category: str | None) -> dict[str, Any]:
    if records.database is None:
        return {}
    from sightline.services.database.runs import list_runs

    return {run.id: run for run in list_runs(records.database, category)}


def _row(run: Run | None, record: Any, records: Records) -> RunRow:
    steps = steps_of(run) if run else ()
    rows = _steps(steps, record, records)
    parameters = run.runtime_config.parameters if run else {}
    sql = record.state if record else ""
    if any(step.sql == "lost" for step in rows):
        sql = "lost"
    state = state_of(run) if run else ""
    return RunRow(
        id=run.run_id if run else record.id,
        name=run.display_name if run else "",
        category=str(parameters.get("category") or (record.category if record else "")),
        started_at=run.began if run else record.started_at,
        kubeflow=state,
        sql=sql,
        note="nothing new: every step reused" if state == "done" and nothing_new(steps) else "",
        steps=rows,
    )


def _steps(steps: tuple[StepState, ...], record: Any, records: Records) -> tuple[StepRow, ...]:
    rows = {step.name: StepRow(step.name, step.state, seconds=step.seconds(), reason=step.message) for step in steps}
    if record is not None and records.database is not None:
        from sightline.services.database.runs import list_steps

        for each in list_steps(records.database, record.id):
            known = rows.get(each.step, StepRow(each.step))
            seconds = (each.ended_at or each.heartbeat_at) - each.started_at
            rows[each.step] = StepRow(
                each.step,
                known.kubeflow,
                "lost" if each.lost() else each.state,
                known.seconds if known.seconds is not None else seconds.total_seconds(),
                each.reason or known.reason,
                each.attempt,
                tuple(f"{event.kind}: {event.message}" for event in each.events),
            )
    return tuple(rows.values())


def _cells(row: RunRow) -> tuple[str, ...]:
    failed = [step for step in row.steps if step.reason and "failed" in (step.kubeflow, step.sql)]
    lines = [", ".join(map(str, row.steps)), row.note]
    lines += [f"{step.name}: {event}" for step in row.steps for event in step.events[-MOST_EVENTS:]]
    lines += [f"{step.name}: {step.reason.strip().splitlines()[-1][:LONGEST_REASON]}" for step in failed]
    return (
        row.id[:SHORT] if UUID.fullmatch(row.id) else row.id,
        row.name,
        row.category,
        f"{row.started_at:%Y-%m-%d %H:%M}",
        row.kubeflow or "-",
        row.sql or "-",
        "\n".join(line for line in lines if line),
    )


def _plain(value: Any) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)
