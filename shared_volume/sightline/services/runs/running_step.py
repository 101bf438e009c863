"""The running step's own record in SQL, and where its results lie."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sightline.errors import SightlineError
from sightline.processes.lifetime import TERMINATED, die_with_parent, ends_when_asked
from sightline.processes.memory import OutOfMemoryError, explained, oom_kills
from sightline.references import DatasetReference
from sightline.services.database.connection import Database, connect
from sightline.services.database.runs import StepRow, end_step, find_step, start_step, tracked_step, write_event
from sightline.services.database.scores import (
    MadeBy,
    ModelKind,
    PerClass,
    Values,
    find_model,
    write_evaluation,
    write_model,
)
from sightline.services.database.versions import find_version
from sightline.settings import Settings, read_settings

log = logging.getLogger(__name__)

UNNAMED = "unnamed"  # the run of a step that was started by hand, without SIGHTLINE_RUN
OUT_OF_MEMORY = "out of memory"  # the kind of event


@dataclass(frozen=True, slots=True)
class RunningStep:
    """The running step's door to SQL; `before` is its row from before this process started it, None the first time."""

    database: Database
    run: str
    name: str
    before: StepRow | None

    def write_event(self, kind: str, message: str, iteration: int | None = None, at: datetime | None = None) -> None:
        """Record something that happened; an event that cannot be written is logged and left out."""
        try:
            write_event(self.database, self.run, self.name, kind, message, iteration=iteration, at=at)
        except SightlineError as error:
            log.warning("not recorded (%s): %s", message, error)

    def write_model(
        self,
        kind: ModelKind,
        uri: str,
        sha256: str,
        dataset: DatasetReference,
        config: str,
        lineage: Mapping[str, str] = MappingProxyType({}),
    ) -> int:
        """Record a model bundle, with what `lineage_of` says of it; one that is recorded already stays as it is. Returns its row's id."""
        known = find_model(self.database, uri)
        if known and known.sha256 == sha256:
            return known.id
        version = self._version_id(dataset)
        made_by = MadeBy(run_id=self.run, version_id=version, config=config, **lineage)  # type: ignore[typeddict-item]
        return write_model(self.database, uri, sha256, kind, **made_by).id

    def write_evaluation(
        self, model_id: int, dataset: DatasetReference, split: str, overall: Values, per_class: PerClass, selected: bool
    ) -> None:
        """Record every metric value of one model on one split."""
        version = self._version_id(dataset)
        write_evaluation(
            self.database, self.run, model_id, version, split, selected=selected, overall=overall, per_class=per_class
        )

    def _version_id(self, dataset: DatasetReference) -> int:
        found = find_version(self.database, dataset.category, "dataset", dataset.version)
        if found is None:
            raise SightlineError(
                f"The dataset version {dataset.tag} is not in the {self.database.name}. Set SIGHTLINE_DATABASE_URL to "
                "the one that it was recorded in, or record it here."
            )
        return found.id


@contextlib.contextmanager
def open_step(
    settings: Settings, step: str, code: str, category: str, *, watched: bool = False, goes_on: bool = False
) -> Iterator[RunningStep]:
    """Record a step as running, with a heartbeat, then as done, failed with the reason, or stopped when asked to end.

    When `watched`, this process has a parent (`supervise.run_step`) that decides what happens when memory runs out: then an
    OutOfMemoryError leaves the record saying that the step runs. With `goes_on` the parent started it again.
    """
    kills = oom_kills()
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {step} %(message)s", force=True)
    database, run = _open_database(settings)
    log.info("run %s of %s starts from %s", run, category, code)
    asked = contextlib.nullcontext() if watched else ends_when_asked()
    facts = _attempt_facts(settings, run, category, code)
    others = OutOfMemoryError if watched else ()
    with asked, tracked_step(database, run, step, **facts, goes_on=goes_on, left_to_others=others) as before:
        try:
            yield RunningStep(database, run, step, before)
        except Exception as error:
            known = explained(error, kills) if watched else error
            if known is error:
                raise
            log.warning("%s: %s", type(error).__name__, error)
            raise known from None
    log.info("done")


def write_end(
    step: str, code: str, category: str, began: datetime, failure: str | None = None, ran_out: datetime | None = None
) -> None:
    """Record how a step ended that could not do so itself: it failed for this reason, or without one was asked to end.

    What it recorded itself stays: it has more to say than its parent knows. What SQL knows from before it `began` is of another
    pod, and this attempt's start is recorded first. `ran_out` is when memory ran out, if that was it.
    """
    settings = read_settings()
    database, run = _open_database(settings)
    found = find_step(database, run, step)
    if found is None or found.started_at < began:
        start_step(database, run, step, **_attempt_facts(settings, run, category, code))
        found = find_step(database, run, step)
    state = found.state if found else ""
    if failure is None:
        if state in ("running", "lost"):
            end_step(database, run, step, "stopped", TERMINATED)
    elif state != "failed":
        if ran_out:
            write_event(database, run, step, OUT_OF_MEMORY, failure, at=ran_out)
        end_step(database, run, step, "failed", failure)


def _open_database(settings: Settings) -> tuple[Database, str]:
    """The database with its tables up to date, and the run's id."""
    database = connect(settings.database_url.get_secret_value())
    database.migrate()
    return database, settings.run or UNNAMED


def _attempt_facts(settings: Settings, run: str, category: str, code: str) -> dict[str, Any]:
    """What SQL is told of an attempt when it starts."""
    facts: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError):
        facts = json.loads(_facts_path(settings.volume, run).read_text())
    retry = os.environ.get("KFP_RETRY_INDEX", "")
    return {
        "category": category,
        "code": code,
        "code_digest": facts.get("code_digest", ""),
        "parameters": facts.get("parameters", {}),
        # Which pod of its task this is; KFP counts them from 0, and again after a retry of the run.
        "attempt": int(retry) if retry.isdecimal() else 0,
    }


def write_run_facts(
    settings: Settings,
    code_digest: str,
    parameters: Mapping[str, Any],
    releases: Sequence[str] = (),
    fetched: Sequence[str] = (),
) -> None:
    """Leave on the volume what the snapshot step knows of a run: for the first step that works to record, and for those
    who remove what no run needs, the names of its releases and of what was fetched for it, like `weights/<sha256>`."""
    path = _facts_path(settings.volume, settings.run or UNNAMED)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "code_digest": code_digest,
        "parameters": dict(parameters),
        "releases": list(releases),
        "fetched": list(fetched),
    }
    path.write_text(json.dumps(facts))


def results_prefix(category: str, dataset_version: str, run: str) -> str:
    """Where a run's results lie under the storage root."""
    return f"results/{category}/{dataset_version}/{run}"


def _facts_path(volume: Path, run: str) -> Path:
    return volume / "runs" / f"{run}.json"
