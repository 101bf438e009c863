"""A small installation with a published, recorded dataset, and steps run in processes of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.services.database.connection import Database
from sightline.services.database.runs import RunRow, list_runs

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Installation:
    """Settings of one installation; several files of tests may work in it, each with volumes of its own.

    Attributes:
        folder: storage, database and repository.
        volume: its name is the run's id.
        prefix: begins the names of further volumes.
    """

    folder: Path
    volume: Path
    prefix: str = ""

    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")},
            "SIGHTLINE_STORAGE": (self.folder / "storage").as_uri(),
            "SIGHTLINE_DATABASE_URL": f"sqlite:///{self.folder / 'sightline.db'}",
            "SIGHTLINE_DATASET_REPO": str(self.folder / "dataset.git"),
            "SIGHTLINE_VOLUME": str(self.volume),
            "SIGHTLINE_RUN": self.volume.name,
            "PYTHONPATH": str(REPOSITORY / "shared_volume"),
        }

    def with_fresh_volume(self, name: str) -> "Installation":
        """The same storage, database and repository, seen from a machine that has done nothing yet."""
        volume = self.folder / f"{self.prefix}{name}"
        volume.mkdir()
        return replace(self, volume=volume)

    def python(self, script: str, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Start a Python script that imports the library."""
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env=self.environment() | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def find_run(database: Database, run_id: str) -> RunRow | None:
    """The run's row, or None."""
    return next((run for run in list_runs(database) if run.id == run_id), None)


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for a process that must succeed; its output."""
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def new_installation(folder: Path) -> Installation:
    volume = folder / "volume"
    volume.mkdir(parents=True)
    return Installation(folder, volume)


PUBLISH_AND_RECORD = """
import sys
from pathlib import Path
sys.path.append(sys.argv[2])
from laptop.samples import make_plates
from sightline.publish.annotations import publish_annotations
from sightline.steps.record.record import record_dataset
from sightline.settings import read_settings
folder = Path(sys.argv[1])
make_plates(folder, int(sys.argv[3]), seed=7, labels="board", size=(320, 240))
row = publish_annotations(read_settings(), folder, "plates", "v0.1.0").publication.row
record_dataset("/nowhere/record-0", "plates", "v0.1.0", row.commit)
"""


def with_plates(folder: Path, images: int) -> Installation:
    """An installation that holds plates v0.1.0, made of so many generated photographs."""
    installation = new_installation(folder)
    finished(installation.python(PUBLISH_AND_RECORD, str(folder / "plates"), str(REPOSITORY), str(images)))
    return installation


def copy_checkout(target: Path) -> Path:
    """Copy what the commands and the steps are made of to a new folder, where a test may edit it."""
    target.mkdir(parents=True)
    shutil.copy(REPOSITORY / "pipeline.py", target)
    for name in ("laptop", "components", "shared_volume"):
        shutil.copytree(REPOSITORY / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def run_pipeline(
    *arguments: str, environment: Mapping[str, str] | None = None, checkout: Path = REPOSITORY
) -> subprocess.CompletedProcess[str]:
    """`python pipeline.py …` as a user types it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    return subprocess.run(
        [sys.executable, str(checkout / "pipeline.py"), *arguments],
        env=clean | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
