"""The SQL database as far as a laptop reaches it: what the steps said of themselves, and how their models scored.

Of a run whose evaluation came from the cache the scores are those of the run that made them.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.parameters import CANDIDATE_MODELS, PARAMETERS
from laptop.kubeflow.answers import Run
from laptop.kubeflow.tasks import REUSED, steps_of
from sightline.annotations.recipe import whole
from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.services.database.connection import Database
    from sightline.services.database.runs import RunRow, StepRow

SECONDS = "15"  # a laptop that cannot reach the cluster's database should say so soon
MOST = 50  # earlier runs that are compared
MADE_BY = ("record", "train", "evaluate")  # the steps whose code decides what a score is


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


def scores_of(run: Run, metadata: Metadata) -> tuple[Mapping[str, float | None], str]:
    """The selected model's scores, none where SQL has none that are the run's, and which other run made them."""
    if metadata.database is None:
        return {}, ""
    if own := _selected(metadata.database, run.run_id):
        return own.overall, ""
    reused = any(step.name == "evaluate" and step.state == REUSED for step in steps_of(run))
    makers = list(islice(_makers(run, metadata), MOST)) if reused else []
    if not makers:
        return {}, ""
    sql_row, evaluation = makers[0]
    given = CANDIDATE_MODELS.value_in(run.parameters)  # of which SQL keeps nothing
    made_of = set()
    for each, found in makers:
        steps = rows_of_steps(metadata, each.id)
        made_of.add((found.version_id, *(steps[name].code if name in steps else None for name in MADE_BY)))
    made_by = f"made by the run {sql_row.id} of {sql_row.started_at:%Y-%m-%d %H:%M} UTC"
    if given or len(made_of) > 1:
        made_by += ", if it is the one that was reused: code or data of the runs with these parameters differ"
    return evaluation.overall, made_by


def _makers(run: Run, metadata: Metadata) -> Iterator[tuple[Any, Any]]:
    """Earlier runs that scored a model with the same parameters, newest first: the cache hands on the newest's."""
    given = run.parameters
    split = next((each.value_in(given) for each in PARAMETERS if each.to.get("evaluate") == "split"), None)
    wanted = _as_in_sql(run, metadata)
    for sql_row in rows_of_runs(metadata, str(given.get("category", ""))).values():
        if sql_row.id == run.run_id or sql_row.started_at > run.began or not sql_row.parameters:
            continue
        if any(sql_row.parameters.get(name, value) != value for name, value in wanted.items()):
            continue
        evaluation = _selected(metadata.database, sql_row.id)
        if evaluation and split in (None, "", evaluation.split):
            yield sql_row, evaluation


def _as_in_sql(run: Run, metadata: Metadata) -> dict[str, Any]:
    """The parameters that snapshot keeps in SQL, by their names there. What a run left to its default is any."""
    given = run.parameters
    found = {}
    for parameter in PARAMETERS:
        name, value = parameter.to.get("snapshot"), parameter.value_in(given)
        if name and name != "category" and value is not None and (value or parameter.kind is not str):
            found[name] = whole(value)
    if version := found.get("annotation_version") or _newest_version(run, metadata.database):
        found["annotation_version"] = version
    return found


def _newest_version(run: Run, database: Any) -> str:
    """Of the annotations, when the run began; empty where SQL does not know."""
    from sightline.services.database.versions import list_versions

    category = str(run.parameters.get("category", ""))
    versions = reversed(list_versions(database, category, "annotation"))
    before = (each.version for each in versions if each.published_at and each.published_at <= run.began)
    return next(before, "")


def _selected(database: Any, run_id: str) -> Any:
    from sightline.services.database.scores import list_evaluations

    return next((each for each in list_evaluations(database, run_id) if each.selected), None)
