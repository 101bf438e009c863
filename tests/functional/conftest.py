"""Installations for the tests: of files, or of the real services."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.settings import settings
from tests.installed import Installed, install
from tests.services import bucket, gcs_emulator, mariadb_server, mariadb_url, mortal_emulator

__all__ = ["bucket", "gcs_emulator", "mariadb_server", "mariadb_url", "mortal_emulator"]
"""Fixtures, which pytest finds by being here."""


@pytest.fixture
def installed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """An empty installation: of files and SQLite, or (parameter "cloud") of the emulator and MariaDB."""
    storage = database = ""
    if getattr(request, "param", "files") == "cloud":
        storage = f"gs://{request.getfixturevalue('bucket')}/team"
        database = request.getfixturevalue("mariadb_url")
    yield install(tmp_path, monkeypatch, storage, database)
    settings.cache_clear()
