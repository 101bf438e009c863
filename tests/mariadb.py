"""A private MariaDB server: the installed program, with a folder and a port of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

START_SECONDS = 300  # on a busy machine
STOP_SECONDS = 20
TRIES = 5
PASSWORD = "canary-database-password-c4f1e8"
"""One that no other text holds: a test looks for it in everything that is written."""
SEARCHED = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin"
"""Debian keeps the server where only root's PATH leads."""
PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb")
ACCOUNT = f"""
CREATE DATABASE sightline CHARACTER SET utf8mb4;
CREATE USER 'sightline'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON *.* TO 'sightline'@'127.0.0.1';
"""
FORGETFUL = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--sync-binlog=0")
"""Its data end with the tests: no crash of the machine need be survived."""


def missing_programs() -> list[str]:
    """Programs that a server needs and this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]


@contextmanager
def running_mariadb() -> Iterator[str]:
    """The SQLAlchemy URL of a database on a server of one's own; its user may make further databases."""
    # Not pytest's folder: for root the server runs as another user, who could not enter it.
    folder = Path(tempfile.mkdtemp(prefix="sightline-mariadb-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        _install(folder)
        process, port = _start(folder)
        try:
            client = [_program("mariadb"), "--no-defaults", f"--socket={folder}/socket", "-uroot"]
            subprocess.run([*client, "-e", ACCOUNT], check=True, capture_output=True, timeout=START_SECONDS)
            yield f"mysql+pymysql://sightline:{PASSWORD}@127.0.0.1:{port}/sightline?charset=utf8mb4"
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _install(folder: Path) -> None:
    """Make the system tables; on a busy machine that has been seen to fail, and to succeed a moment later."""
    command = _command(folder, "mariadb-install-db", "--auth-root-authentication-method=normal", "--skip-test-db")
    for _ in range(TRIES):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_SECONDS)
        if done.returncode == 0:
            return
        shutil.rmtree(folder / "data", ignore_errors=True)
    raise RuntimeError(f"MariaDB cannot be set up: {(done.stdout + done.stderr)[-2000:]}")


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The server once it answers, and its port. It cannot be told to take any free port, so another may take ours first."""
    for _ in range(TRIES):
        port = _free_port()
        options = (f"--socket={folder}/socket", f"--port={port}", "--bind-address=127.0.0.1", *FORGETFUL)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(_command(folder, "mariadbd", *options), stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < until:
            if (folder / "socket").exists() and _listens(port):
                return process, port
            time.sleep(0.05)
        process.kill()
        process.wait()
    raise RuntimeError(f"MariaDB does not start: {(folder / 'log').read_text(errors='replace')[-2000:]}")


def _command(folder: Path, program: str, *options: str) -> list[str]:
    user = ["--user=nobody"] if os.geteuid() == 0 else []
    return [_program(program), "--no-defaults", *user, f"--datadir={folder}/data", *options]


def _program(name: str) -> str:
    return shutil.which(name, path=SEARCHED) or name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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
