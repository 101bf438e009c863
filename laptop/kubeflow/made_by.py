"""The scores of a run, also of one whose evaluation came from the cache: then those of the run that made them."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from components.parameters import CANDIDATE_MODELS, PARAMETERS
from laptop.kubeflow.answers import Run
from laptop.kubeflow.sql import Metadata, rows_of_runs, rows_of_steps
from laptop.kubeflow.tasks import REUSED, steps_of
from sightline.annotations.recipe import whole

MOST = 50  # earlier runs that are compared
MADE_BY = ("record", "train", "evaluate")  # the steps whose code decides what a score is


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
    made_of = {_what_made(metadata, each.id, found) for each, found in makers}
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


def _what_made(metadata: Metadata, run_id: str, evaluation: Any) -> tuple[Any, ...]:
    steps = rows_of_steps(metadata, run_id)
    return (evaluation.version_id, *(steps[name].code if name in steps else None for name in MADE_BY))
