"""One installation of Sightline in a test's own process, and everything in it that a publication can change."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from sightline.services.database.connection import connect
from sightline.services.database.models import Base
from sightline.services.storage.access import open_storage
from sightline.settings import Settings, read_settings

BOTH = pytest.mark.parametrize("installed", ["files", pytest.param("cloud", marks=pytest.mark.slow)], indirect=True)
"""For the fixture `installed`: files with SQLite, and the Cloud Storage emulator with MariaDB."""


@dataclass(frozen=True)
class Installed:
    """The settings, and the folder that everything local lies in."""

    settings: Settings
    folder: Path

    def stored(self) -> dict[str, tuple[int, str | None]]:
        """What lies in the storage: key -> size and checksum."""
        return {
            item.key: (item.size, item.checksum) for item in open_storage(self.settings.storage).list(checksums=True)
        }

    def refs(self) -> list[str]:
        """Every branch and tag of the dataset repository, with its commit."""
        if (repository := Path(self.settings.dataset_repo)).is_absolute() and not repository.exists():
            return []
        return run("git", "ls-remote", self.settings.dataset_repo).splitlines()

    def tags(self) -> list[str]:
        return sorted(line.split("refs/tags/")[1] for line in self.refs() if "refs/tags/" in line and "^" not in line)

    def rows(self, *tables: str) -> dict[str, list[Any]]:
        """The content of tables (all but the steps' and runs' records when none is named)."""
        database = connect(self.settings.database_url.get_secret_value())
        database.migrate()
        chosen = tables or ("versions", "images", "findings", "models", "evaluations")
        with database.engine.connect() as connection:
            found = {
                table.name: [dict(row._mapping) for row in connection.execute(sqlalchemy.select(table))]
                for table in Base.metadata.sorted_tables
                if table.name in chosen
            }
        database.close()
        return found

    def published(self) -> list[tuple[str, str, str]]:
        rows = self.rows("versions")["versions"]
        return [(row["category"], row["kind"], row["version"]) for row in rows if row["status"] == "published"]

    def state(self) -> tuple[Any, ...]:
        """Everything public: equal before and after means that nothing was written."""
        return self.stored(), self.refs(), self.rows()

    def left_behind(self) -> list[Path]:
        """Private folders that somebody forgot on the volume."""
        places = ((self.settings.volume / name) for name in ("work", "sources", "datasets"))
        return [
            path for settings in places for path in settings.glob("*") if settings.name == "work" or path.name[0] == "."
        ]

    def clone_and_pull(self, tag: str, name: str) -> Path:
        """What a stranger with Git and DVC gets at a tag: a fresh clone with a cache of its own."""
        clone = self.folder / name
        run("git", "clone", "--quiet", self.settings.dataset_repo, str(clone))
        run("git", "-C", str(clone), "checkout", "--quiet", tag)
        if self.settings.storage.startswith("gs://"):  # the emulator's, which knows no accounts
            for remote in ("annotations", "datasets"):
                run_dvc(clone, "remote", "modify", "--local", remote, "allow_anonymous_login", "true")
        run_dvc(clone, "pull", "--quiet")
        return clone


def install(folder: Path, environment: pytest.MonkeyPatch, storage: str = "", database: str = "") -> Installed:
    """Point this process's settings into a folder, except where a service is named."""
    values = {
        "SIGHTLINE_STORAGE": storage or (folder / "storage").as_uri(),
        "SIGHTLINE_DATABASE_URL": database or f"sqlite:///{folder / 'sightline.db'}",
        "SIGHTLINE_DATASET_REPO": str(folder / "dataset.git"),
        "SIGHTLINE_VOLUME": str(folder / "volume"),
        "SIGHTLINE_RUN": "run-1",
    }
    for name, value in values.items():
        environment.setenv(name, value)
    read_settings.cache_clear()
    return Installed(read_settings(), folder)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


def run_dvc(folder: Path, *arguments: str) -> str:
    """The program dvc, with the environment that its users have."""
    command = [sys.executable, "-m", "dvc", "--cd", str(folder), *arguments]
    own = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": f"{folder}-site"}
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"dvc {' '.join(arguments)}: {done.stderr or done.stdout}"
    return done.stdout
