"""The run that a user means by some of its id."""

import itertools
import re
from collections.abc import Iterator

from laptop.kubeflow.connect import Server
from laptop.kubeflow.ours import Ours, newest_runs
from laptop.kubeflow.sql import Metadata, rows_of_runs
from sightline.errors import SightlineError

LATEST = "latest"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LOCAL = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
"""The id of a run on a laptop."""
SHORT = 8


def short_id(run_id: str) -> str:
    """Enough of a run's id to tell it from others; those of a laptop begin alike for a day."""
    return run_id[:SHORT] if UUID.fullmatch(run_id) else run_id


def find_run_id(which: str, server: Server | None, metadata: Metadata, problem: str) -> str:
    """The one run whose id begins so, or the newest of ours for `latest`.

    Raises:
        SightlineError: none, or several.
    """
    if UUID.fullmatch(which):
        return which
    if server is None and metadata.database is None:
        raise SightlineError(
            f"{which} is no whole run id, and runs cannot be looked up. {problem} SQL: {metadata.missing}."
        )
    found = list(dict.fromkeys(_matching(which, server, metadata)))
    if which == LATEST and found:
        return found[0]
    if which == LATEST:
        raise SightlineError(
            "There is no run of ours yet. `python pipeline.py runs --all` lists other pipelines' runs too."
        )
    if len(found) != 1:
        what = f"begins several runs: {', '.join(found[:5])}. Give more of it" if found else "begins no run's id"
        raise SightlineError(f"{which} {what}. `python pipeline.py runs` lists runs.")
    return found[0]


def _matching(which: str, server: Server | None, metadata: Metadata) -> Iterator[str]:
    if which == LATEST:
        # Runs on laptops are in SQL only.
        ours = Ours(server, rows_of_runs(metadata)).newest() if server else ()
        yield from itertools.islice(itertools.chain((run.run_id for run in ours), rows_of_runs(metadata)), 1)
        return
    on_server = (run.run_id for run in newest_runs(server)) if server else ()
    yield from (each for each in itertools.chain(on_server, rows_of_runs(metadata)) if each.startswith(which))
