"""Fixtures of real services: a Cloud Storage emulator and a MariaDB server, where their tools lie beside the checkout."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy

TOOLS = Path(__file__).resolve().parents[2] / "shared" / "tools"
START_SECONDS = 20
DATABASE_PASSWORD = "canary-database-password-c4f1e8"
EMULATOR_SETTINGS: dict[str, str] = {
    "GOOGLE_CLOUD_PROJECT": "test",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # or each of DVC's probes waits 60 s
}


def find_tool(name: str) -> Path:
    tool = TOOLS / name
    if not tool.is_file():
        pytest.skip(f"the tool {name} is not beside this checkout")
    return tool


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_emulator() -> tuple[subprocess.Popen[bytes], str]:
    """A running emulator and its URL, ready to answer."""
    tool, port = find_tool("gcs_emulator.py"), free_port()
    process = subprocess.Popen(
        [sys.executable, str(tool), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/storage/v1/b?project=test", timeout=1).close()
            return process, url
        except urllib.error.HTTPError:
            return process, url
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise RuntimeError("the Cloud Storage emulator did not start")


def make_bucket(emulator: str, name: str) -> None:
    request = urllib.request.Request(
        f"{emulator}/storage/v1/b?project=test",
        data=b'{"name": "%s"}' % name.encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


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
    process.wait()


@pytest.fixture
def bucket(gcs_emulator: str) -> str:
    """The name of a new, empty bucket in the emulator."""
    name = f"test-{os.urandom(6).hex()}"
    make_bucket(gcs_emulator, name)
    return name


@pytest.fixture
def mortal_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """An emulator of one's own to kill: its process, and a bucket in it; STORAGE_EMULATOR_HOST is set to it."""
    process, url = start_emulator()
    for name, value in {**EMULATOR_SETTINGS, "STORAGE_EMULATOR_HOST": url}.items():
        monkeypatch.setenv(name, value)
    make_bucket(url, "mortal")
    yield process, "mortal"
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[str]:
    """The SQLAlchemy URL of a running MariaDB server's database; use `mariadb_url` for an empty one of your own."""
    tool = find_tool("mariadb")
    if os.geteuid() != 0:
        pytest.skip("a MariaDB of our own needs root")
    # Not pytest's folder: the server runs as another user, who cannot enter it.
    folder = tempfile.mkdtemp(prefix="sightline-mariadb-")
    started = subprocess.run([str(tool), "up", folder], capture_output=True, text=True, timeout=300, check=False)
    if started.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"MariaDB does not start here: {started.stderr.strip()[-200:]}")
    # A password that no other text holds: a test looks for it in everything that is written.
    statement = f"ALTER USER 'sightline'@'127.0.0.1' IDENTIFIED BY '{DATABASE_PASSWORD}'"
    root = ["mariadb", "--no-defaults", f"--socket={folder}/socket", "-uroot", "-e", statement]
    subprocess.run(root, check=True, capture_output=True, timeout=60)
    url = sqlalchemy.make_url(started.stdout.strip().splitlines()[-1]).set(password=DATABASE_PASSWORD)
    yield url.render_as_string(hide_password=False)
    pid = Path(folder, "pid")
    number = int(pid.read_text()) if pid.exists() else 0
    subprocess.run([str(tool), "down", folder], capture_output=True, timeout=60, check=False)
    until = time.monotonic() + START_SECONDS
    while number and Path(f"/proc/{number}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """The SQLAlchemy URL of a new, empty database on a server, dropped afterwards."""
    name = f"test_{os.urandom(6).hex()}"
    engine = sqlalchemy.create_engine(server)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    yield sqlalchemy.make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name}"))
    engine.dispose()


@pytest.fixture
def mariadb_url(mariadb_server: str) -> Iterator[str]:
    """The SQLAlchemy URL of a new, empty database on a real MariaDB."""
    with new_database(mariadb_server) as url:
        yield url
