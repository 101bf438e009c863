"""Fixtures of real services that run on this machine: a Cloud Storage emulator and a MariaDB server."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mariadb import missing_programs, new_database, running_mariadb

EMULATOR = Path(__file__).with_name("gcs_emulator.py")
EMULATOR_SETTINGS: dict[str, str] = {
    "GOOGLE_CLOUD_PROJECT": "test",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # or each of DVC's probes waits 60 s
}


def start_emulator() -> tuple[subprocess.Popen[bytes], str]:
    """A running emulator and its URL, ready to answer."""
    process = subprocess.Popen(
        [sys.executable, str(EMULATOR)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    )
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    if not url:
        process.kill()
        raise RuntimeError(f"the Cloud Storage emulator did not start: python {EMULATOR}")
    return process, url


def make_bucket(emulator: str, name: str = "") -> str:
    """Make a bucket, named so or as no other; its name."""
    name = name or f"test-{os.urandom(6).hex()}"
    request = urllib.request.Request(
        f"{emulator}/storage/v1/b?project=test",
        data=b'{"name": "%s"}' % name.encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()
    return name


@pytest.fixture(scope="session")
def gcs_emulator() -> Iterator[str]:
    """The URL of a running Cloud Storage emulator, with STORAGE_EMULATOR_HOST set to it for the whole session.

    Make a bucket of your own with the fixture `bucket`.
    """
    process, url = start_emulator()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**EMULATOR_SETTINGS, "STORAGE_EMULATOR_HOST": url}.items():
            environment.setenv(name, value)
        yield url
    process.kill()
    process.communicate()


@pytest.fixture
def bucket(gcs_emulator: str) -> str:
    """The name of a new, empty bucket in the emulator."""
    return make_bucket(gcs_emulator)


@pytest.fixture
def mortal_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """An emulator of one's own to kill: its process, and a bucket in it; STORAGE_EMULATOR_HOST is set to it."""
    process, url = start_emulator()
    for name, value in {**EMULATOR_SETTINGS, "STORAGE_EMULATOR_HOST": url}.items():
        monkeypatch.setenv(name, value)
    make_bucket(url, "mortal")
    yield process, "mortal"
    process.kill()
    process.communicate()


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[str]:
    """The SQLAlchemy URL of a running MariaDB server's database; use `mariadb_url` for an empty one of your own."""
    if missing_programs():
        pytest.skip("MariaDB is not installed (Debian: apt install mariadb-server)")
    with running_mariadb() as url:
        yield url


@pytest.fixture
def mariadb_url(mariadb_server: str) -> Iterator[str]:
    """The SQLAlchemy URL of a new, empty database on a real MariaDB."""
    with new_database(mariadb_server) as url:
        yield url
