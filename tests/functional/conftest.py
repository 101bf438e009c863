"""Installations for the tests: of files, or of the real services."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.settings import read_settings
from tests.installed import Installed, install
from tests.services import bucket, gcs_emulator, mariadb_server, mariadb_url, mortal_emulator
from tests.workspace import REPOSITORY, Installation, with_plates

__all__ = ["bucket", "gcs_emulator", "mariadb_server", "mariadb_url", "mortal_emulator"]
"""Fixtures, which pytest finds by being here."""


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """plates v0.1.0, published and recorded: 24 photographs. Made once a session, and only ever added to."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all workers
    place, made = folder / "recorded", folder / "recorded.made"
    with (folder / "recorded.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with_plates(place, images=24)
            made.touch()
    return Installation(place, place / "volume")


@pytest.fixture
def installed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """An empty installation: of files and SQLite, or (parameter "cloud") of the emulator and MariaDB."""
    storage = database = ""
    if getattr(request, "param", "files") == "cloud":
        storage = f"gs://{request.getfixturevalue('bucket')}/team"
        database = request.getfixturevalue("mariadb_url")
    yield install(tmp_path, monkeypatch, storage, database)
    read_settings.cache_clear()


@pytest.fixture(scope="session")
def labelme_python() -> str:
    """The interpreter of an environment that has labelme."""
    python = os.environ.get("SIGHTLINE_LABELME_PYTHON") or str(REPOSITORY / ".venv-annotate" / "bin" / "python")
    if not Path(python).is_file():
        pytest.skip("labelme is not installed: make annotate-setup, or set SIGHTLINE_LABELME_PYTHON")
    return python
