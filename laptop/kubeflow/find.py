"""A server's runs: the newest, which of them are ours, and the one that a user means by some of its id."""

import contextlib
import re
from collections.abc import Collection, Iterator
from itertools import chain

from components.parameters import CATEGORY, PARAMETERS
from laptop.kubeflow.answers import Pipeline, Run, read
from laptop.kubeflow.connect import Server, ServerError
from laptop.kubeflow.sql import Metadata, rows_of_runs
from sightline.errors import SightlineError

NAME = "sightline"  # of our pipelines; those of some steps only begin with it
ENOUGH = 3  # parameters besides the category, by which a run is known
MOST = 1000  # of the newest runs, looked through for ours
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LOCAL = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")  # a run on a laptop
SHORT = 8


def get_run(server: Server, run_id: str) -> Run:
    """What the server says of a run now."""
    return read(Run, {**server.ask("runs.run_service_get_run", run_id=run_id), "run_id": run_id})


def newest_runs(server: Server, **only: str) -> Iterator[Run]:
    """The server's runs, everybody's, newest first; `only` those of an experiment, say."""
    question, newest_first = "runs.run_service_list_runs", "created_at desc"
    found = server.list(Run, question, "runs", sort_by=newest_first, **server.within, **only)
    return (run for run in found if run.run_id)


class Ours:
    """Tells our runs from others; a pipeline's name is asked for once."""

    def __init__(self, server: Server, sql_rows: Collection[str]) -> None:
        self._server, self._sql_rows = server, sql_rows
        self._names = {"": ""}
        self.looked_through = True  # whether `newest`, once it came to its end, has seen all of the server's runs

    def newest(self) -> Iterator[Run]:
        """Our runs among the server's newest, newest first."""
        for seen, run in enumerate(newest_runs(self._server)):
            if seen == MOST:
                self.looked_through = False
                return
            if run in self:
                yield run

    def __contains__(self, run: Run) -> bool:
        """Whether a run is known to SQL, has our parameters, or is of a pipeline with our name."""
        ours = {name for each in PARAMETERS for name in (each.name, each.was)} - {CATEGORY.name, ""}
        shared = ours & run.parameters.keys()
        if run.run_id in self._sql_rows or (CATEGORY.name in run.parameters and len(shared) >= ENOUGH):
            return True
        name = run.own_name or run.own_name_beside_platform or self._name_of(run.pipeline_id)
        return name == NAME or name.startswith(f"{NAME}-")

    def _name_of(self, pipeline_id: str) -> str:
        if pipeline_id not in self._names:
            self._names[pipeline_id] = ""
            with contextlib.suppress(ServerError):  # deleted since
                said = self._server.ask("pipelines.pipeline_service_get_pipeline", pipeline_id=pipeline_id)
                pipeline = read(Pipeline, said)
                self._names[pipeline_id] = pipeline.name or pipeline.display_name
        return self._names[pipeline_id]


def short_id(run_id: str) -> str:
    """Enough of a run's id to tell it from others; those of a laptop begin alike for a day."""
    return run_id[:SHORT] if UUID.fullmatch(run_id) else run_id


def find_run_id(which: str, server: Server | None, metadata: Metadata, problem: str) -> str:
    """The one run whose id begins so, or the newest of ours for `latest`; `problem` is why there is no server."""
    if UUID.fullmatch(which):
        return which
    if server is None and metadata.database is None:
        raise SightlineError(
            f"{which} is not a whole run id, and runs cannot be looked up. {problem} SQL: {metadata.missing}."
        )
    sql_rows = rows_of_runs(metadata)
    if which == "latest":
        # Runs on laptops are in SQL only.
        ours = Ours(server, sql_rows).newest() if server else ()
        newest = next(chain((run.run_id for run in ours), sql_rows), None)
        if newest is None:
            raise SightlineError(
                "This pipeline has no runs yet. `python pipeline.py runs --all` lists other pipelines' runs too."
            )
        return newest
    on_server = (run.run_id for run in newest_runs(server)) if server else ()
    found = list(dict.fromkeys(each for each in chain(on_server, sql_rows) if each.startswith(which)))
    if len(found) != 1:
        what = f"begins several runs: {', '.join(found[:5])}. Give more of it" if found else "begins no run's id"
        raise SightlineError(f"{which} {what}. `python pipeline.py runs` lists runs.")
    return found[0]
