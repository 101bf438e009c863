"""The run that a user means by some of its id."""

import itertools
import re
from collections.abc import Iterator

from laptop.kubeflow.answers import Run, read
from laptop.kubeflow.connect import Server
from laptop.kubeflow.sql import Records
from sightline.errors import SightlineError

LATEST = "latest"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def find_run_id(which: str, server: Server | None, records: Records, problem: str) -> str:
    """The one run whose id begins so, or the newest for `latest`.

    Raises:
        SightlineError: none, or several.
    """
    if UUID.fullmatch(which):
        return which
    if server is None and records.database is None:
        raise SightlineError(
            f"{which} is no whole run id, and runs cannot be looked up. {problem} SQL: {records.missing}."
        )
    found = list(dict.fromkeys(_matching(which, server, records)))
    if which == LATEST and found:
        return found[0]
    if len(found) != 1:
        what = f"begins several runs: {', '.join(found[:5])}. Give more of it" if found else "begins no run's id"
        raise SightlineError(f"{which} {what}. `python pipeline.py runs` lists runs.")
    return found[0]


def newest_runs(server: Server) -> Iterator[Run]:
    """The server's runs, newest first."""
    place = {"namespace": server.namespace} if server.namespace else {}
    for said in server.list(server.api("runs").run_service_list_runs, "runs", sort_by="created_at desc", **place):
        if (run := read(Run, said)).run_id:
            yield run


def _matching(which: str, server: Server | None, records: Records) -> Iterator[str]:
    begins = "" if which == LATEST else which
    for each in itertools.chain(_on_server(server), _in_sql(records)):
        if each.startswith(begins):
            yield each
            if which == LATEST:
                return


def _on_server(server: Server | None) -> Iterator[str]:
    return (run.run_id for run in newest_runs(server)) if server else iter(())


def _in_sql(records: Records) -> Iterator[str]:
    """Runs on laptops are here only."""
    if records.database is None:
        return iter(())
    from sightline.services.database.runs import list_runs

    return (run.id for run in list_runs(records.database))
