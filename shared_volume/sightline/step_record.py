"""The running step's own record in SQL, and where its results lie."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.database import (
    Database,
    connect,
    find_model,
    find_version,
    record_evaluation,
    record_model,
    recorded_step,
)
from sightline.database.scores import ModelKind, Values
from sightline.errors import SightlineError
from sightline.parent import die_with_parent
from sightline.references import DatasetReference
from sightline.settings import Settings

log = logging.getLogger(__name__)

UNNAMED = "unnamed"
"""The run of a step that was started by hand, without SIGHTLINE_RUN."""


@dataclass(frozen=True, slots=True)
class RunningStep:
    """The running step's door to SQL."""

    database: Database
    run: str

    def record_model(self, kind: ModelKind, uri: str, sha256: str, dataset: DatasetReference, config: str) -> int:
        """Record a model bundle; one that is recorded already stays as it is. Returns its row's id."""
        known = find_model(self.database, uri)
        if known and known.sha256 == sha256:
            return known.id
        version = self._version_id(dataset)
        return record_model(self.database, uri, sha256, kind, run_id=self.run, version_id=version, config=config).id

    def record_evaluation(
        self,
        model_id: int,
        dataset: DatasetReference,
        split: str,
        overall: Values,
        per_class: Mapping[str, Values],
        selected: bool,
    ) -> None:
        """Record every metric value of one model on one split."""
        record_evaluation(
            self.database,
            run_id=self.run,
            model_id=model_id,
            version_id=self._version_id(dataset),
            split=split,
            selected=selected,
            overall=overall,
            per_class=per_class,
        )

    def _version_id(self, dataset: DatasetReference) -> int:
        found = find_version(self.database, dataset.category, "dataset", dataset.version)
        if found is None:
            raise SightlineError(
                f"The dataset version {dataset.tag} is not in the {self.database.place}. Set SIGHTLINE_DATABASE_URL to "
                "the one that it was recorded in, or record it here."
            )
        return found.id


@contextlib.contextmanager
def record_step(place: Settings, step: str, code: str, category: str) -> Iterator[RunningStep]:
    """Record a step as running, with a heartbeat, then as done, or as failed with the reason.

    Args:
        place: the database, and the run's id.
        step: the step's name.
        code: the step's release.
        category: what the run works on.
    """
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {step} %(message)s", force=True)
    database = connect(place.database_url.get_secret_value())
    database.migrate()
    run = place.run or UNNAMED
    facts = _run_facts(place.volume, run)
    log.info("run %s of %s starts from %s", run, category, code)
    with recorded_step(
        database,
        run,
        step,
        category=category,
        code=code,
        code_digest=facts.get("code_digest", ""),
        parameters=facts.get("parameters", {}),
    ):
        yield RunningStep(database, run)
    log.info("done")


def write_run_facts(
    place: Settings, code_digest: str, parameters: Mapping[str, Any], releases: Sequence[str] = ()
) -> None:
    """Leave on the volume what the snapshot step knows of a run: for the first step that works to record, and for those
    who remove old releases, the names of its own."""
    path = _facts_path(place.volume, place.run or UNNAMED)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"code_digest": code_digest, "parameters": dict(parameters), "releases": list(releases)}
    path.write_text(json.dumps(facts))


def results_prefix(category: str, dataset_version: str, run: str) -> str:
    """Where a run's results lie under the storage root."""
    return f"results/{category}/{dataset_version}/{run}"


def _run_facts(volume: Path, run: str) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError):
        return json.loads(_facts_path(volume, run).read_text())
    return {}


def _facts_path(volume: Path, run: str) -> Path:
    return volume / "runs" / f"{run}.json"
