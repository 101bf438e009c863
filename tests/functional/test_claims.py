"""Claims: who holds a version, whether he lives, and how long others wait for him."""

import logging
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sightline.services.database import versions
from sightline.services.database.connection import Database, connect
from sightline.services.database.versions import (
    ClaimLostError,
    VersionClaimedError,
    claim_version,
    find_version,
    publish_version,
    release_claim,
)
from sightline.services.versioning import claims
from sightline.services.versioning.claims import Lease, is_dead, name_owner, wait_for_claim

SHORT_SECONDS = 3.0
"""A lease that a test can see the end of, and of which a busy machine takes no third."""
ELSEWHERE = "process 1 on elsewhere [0123456789ab-17-00000000]"


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    url = f"sqlite:///{tmp_path}/x.db" if request.param == "sqlite" else request.getfixturevalue("mariadb_url")
    database = connect(url)
    database.migrate()
    return database


def claim(database: Database, owner: str, seconds: float = 60) -> claims.VersionRow:
    return claim_version(database, "desk", "annotation", "v0.1.0", owner, seconds)


def wait(database: Database) -> Lease:
    return wait_for_claim(database, "desk", "annotation", "v0.1.0")


def lease_of(database: Database) -> datetime:
    """When the lease ends that SQL knows of."""
    found = find_version(database, "desk", "annotation", "v0.1.0")
    assert found is not None and found.lease_until is not None
    return found.lease_until


def owner_of(process: subprocess.Popen[bytes]) -> str:
    """How another process on this machine would name itself."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    mine = name_owner()
    machine = mine[mine.index("[") + 1 :].split("-")[0]
    return f"process {process.pid} on here [{machine}-{fields[19]}-00000000]"


def test_an_owner_is_dead_when_its_process_is_not_there_any_more() -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)  # lives as long as somebody may write to it
    owner = owner_of(process)
    assert not is_dead(owner)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(owner), "nobody has taken note of its end yet, but it does nothing more"
    process.wait()
    assert is_dead(owner)


def test_nobody_else_is_called_dead() -> None:
    mine = name_owner()
    assert mine.startswith(f"process {os.getpid()} on ")
    assert name_owner() != mine
    assert not is_dead(mine)
    assert not is_dead(ELSEWHERE)
    assert not is_dead("a person")
    start = mine.split("-")[-2]
    assert is_dead(mine.replace(f"-{start}-", f"-{int(start) - 1}-")), "a process had this number before"


@pytest.mark.slow
def test_a_dead_owner_is_taken_over_at_once(database: Database) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    claim(database, owner_of(process), 600)
    process.wait()
    lease = wait(database)
    assert lease.claim.owner.startswith(f"process {os.getpid()} on ")
    lease.release()
    assert find_version(database, "desk", "annotation", "v0.1.0") is None


def test_an_owner_elsewhere_is_waited_for_until_its_lease_ends(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    held = claim(database, ELSEWHERE, 1)
    lease = wait(database)
    assert lease.claim.lease_until > held.lease_until
    assert f"is being published by {ELSEWHERE}, who holds it until {held.lease_until:%H:%M:%S} UTC" in caplog.text
    with pytest.raises(ClaimLostError):
        publish_version(database, held, tag="t", commit="c", digest="d")
    lease.release()


def test_a_living_owner_is_reported_in_the_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LONGEST_WAIT_SECONDS", 0.0)
    claim(database, name_owner())
    with pytest.raises(VersionClaimedError, match=rf"is being published by process {os.getpid()} on "):
        wait(database)


@pytest.mark.slow
def test_who_waits_gets_the_version_when_it_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    held = claim(database, name_owner())
    given_up: list[float] = []

    def give_up(seconds: float) -> None:
        release_claim(database, held)
        given_up.append(seconds)

    monkeypatch.setattr(claims.time, "sleep", give_up)
    wait(database).release()
    assert given_up, "nobody waited"


@pytest.mark.slow
def test_a_lease_is_renewed_until_it_is_given_back(database: Database) -> None:
    held = claim(database, name_owner(), SHORT_SECONDS)
    lease = Lease(database, held, SHORT_SECONDS)
    # A lease that ends so late was renewed after the first one's end.
    later = held.lease_until + timedelta(seconds=SHORT_SECONDS)
    until = time.monotonic() + 20
    while lease_of(database) < later:
        with pytest.raises(VersionClaimedError):
            claim(database, ELSEWHERE)
        assert time.monotonic() < until, "it is not renewed"
        time.sleep(0.05)
    lease.release()
    claim(database, ELSEWHERE)
    with pytest.raises(ClaimLostError, match="no longer held by"):
        lease.require()


def test_a_wrong_clock_takes_nothing_over(mariadb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=1)

    database = connect(mariadb_url)
    database.migrate()
    held = claim(database, ELSEWHERE)
    monkeypatch.setattr(versions, "datetime", Tomorrow)
    with pytest.raises(VersionClaimedError):
        claim(database, "somebody with a wrong clock")
    assert abs(held.lease_until - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=30)
