"""Which of a server's runs are ours: others use it too."""

from collections.abc import Collection, Iterator

from components.parameters import CATEGORY, PARAMETERS
from laptop.kubeflow.answers import Pipeline, Run, read
from laptop.kubeflow.connect import Server, ServerError

NAME = "sightline"
"""What our pipelines are called, and what the names of those of some steps only begin with."""
ENOUGH = 3
"""Parameters besides the category by which a run is known."""
MOST = 1000
"""Runs that are looked through for ours, the newest."""


def newest_runs(server: Server) -> Iterator[Run]:
    """The server's runs, everybody's, newest first."""
    within = {"namespace": server.namespace} if server.namespace else {}
    for said in server.list(server.api("runs").run_service_list_runs, "runs", sort_by="created_at desc", **within):
        if (run := read(Run, said)).run_id:
            yield run


class Ours:
    """Tells our runs from others; a pipeline's name is asked for once."""

    def __init__(self, server: Server, sql_rows: Collection[str]) -> None:
        self._server, self._sql_rows = server, sql_rows
        self._names: dict[str, str] = {}
        self.looked_through = True
        """Whether `newest`, once it came to its end, has seen all of the server's runs."""

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
        if run.run_id in self._sql_rows or _has_our_parameters(run):
            return True
        name = run.own_name or run.own_name_beside_platform or self._name_of(run.pipeline_id)
        return name == NAME or name.startswith(f"{NAME}-")

    def _name_of(self, pipeline_id: str) -> str:
        if not pipeline_id:
            return ""
        if pipeline_id not in self._names:
            ask = self._server.api("pipelines").pipeline_service_get_pipeline
            try:
                said = read(Pipeline, self._server.ask(ask, pipeline_id=pipeline_id))
            except ServerError:  # deleted since
                said = Pipeline()
            self._names[pipeline_id] = said.name or said.display_name
        return self._names[pipeline_id]


def _has_our_parameters(run: Run) -> bool:
    given = run.parameters
    names = {name for each in PARAMETERS for name in (each.name, each.was)} - {CATEGORY.name, ""}
    return CATEGORY.name in given and len(names & given.keys()) >= ENOUGH
