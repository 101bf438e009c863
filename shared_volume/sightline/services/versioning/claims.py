"""Holding a claim on a version: who holds it, for how long, and when somebody else may take it over."""

import contextlib
import hashlib
import logging
import os
import random
import re
import secrets
import socket
import threading
import time
from functools import cache
from pathlib import Path
from typing import Final

from sightline.errors import SightlineError
from sightline.processes.lifetime import lives
from sightline.services.database.connection import Database
from sightline.services.database.versions import (
    LEASE_SECONDS,
    ClaimLostError,
    VersionClaimedError,
    VersionRow,
    claim_version,
    release_claim,
    renew_claim,
)
from sightline.versions import Kind

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS: Final = 1800.0  # for another publisher that is alive
POLL_SECONDS: Final = 1.0
TELL_SECONDS: Final = 10.0  # between two lines of the log that say who is waited for
LONGEST_HOST = 64

_OWNER = re.compile(r"process (?P<process>\d+) on .* \[(?P<machine>[0-9a-f]+)-(?P<started>\d+)-[0-9a-f]+\]")


def name_owner() -> str:
    """Who claims, for one attempt: readable, unique, and enough to tell on this machine whether the process lives."""
    number = os.getpid()
    _, started = _state_and_start(number) or ("", "0")
    host = socket.gethostname()[:LONGEST_HOST]
    return f"process {number} on {host} [{_machine()}-{started}-{secrets.token_hex(4)}]"


def is_dead(owner: str) -> bool:
    """Whether the owner was a process on this machine and is no more; False when nobody here can know."""
    match = _OWNER.fullmatch(owner)
    if match is None or match["machine"] != _machine():
        return False
    number = int(match["process"])
    if not lives(number):
        return True
    state, started = _state_and_start(number) or ("", match["started"])
    # Another start: the number was given to another process.
    return state in ("Z", "X") or started != match["started"]


class Lease:
    """A claim that a thread renews until it is given back."""

    def __init__(self, database: Database, claim: VersionRow, seconds: float = LEASE_SECONDS) -> None:
        self.claim = claim
        self._database = database
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name=f"lease-{claim.version}", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Make sure that the claim is still ours, from now for a whole lease, or raise a ClaimLostError."""
        self.claim = renew_claim(self._database, self.claim, self._seconds)

    def end(self) -> None:
        """Stop renewing; the claim was used up or lost."""
        self._ended.set()
        self._thread.join()

    def release(self) -> None:
        """Stop renewing, and leave nothing of the claim behind if it is still ours."""
        self.end()
        release_claim(self._database, self.claim)

    def _keep_renewing(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            try:
                self.require()
            except ClaimLostError:  # or published by now; whoever needs the claim asks for it
                return
            except SightlineError as error:
                log.warning("the claim could not be renewed: %s", error)


def wait_for_claim(database: Database, category: str, kind: Kind, version: str) -> Lease:
    """Claim a version: at once when it is free or its owner is dead, else when its owner ends or stops renewing.

    A VersionTakenError where it is published (by now), and a VersionClaimedError where the owner was still at work after
    LONGEST_WAIT_SECONDS.
    """
    owner, instead_of = name_owner(), None
    began, told = time.monotonic(), -TELL_SECONDS
    while True:
        try:
            return Lease(database, claim_version(database, category, kind, version, owner, LEASE_SECONDS, instead_of))
        except VersionClaimedError as claimed:
            holder, waited = claimed.holder, time.monotonic() - began
            if is_dead(holder.owner) and holder.owner != instead_of:
                log.info("taking over %s %s from %s, which died", category, version, holder.owner)
                instead_of = holder.owner
                continue
            if waited > LONGEST_WAIT_SECONDS:
                raise
            if waited - told >= TELL_SECONDS:
                told = waited
                _tell(holder)
        time.sleep(POLL_SECONDS * random.uniform(0.5, 1.0))


def _tell(holder: VersionRow) -> None:
    until = f"{holder.lease_until:%H:%M:%S} UTC" if holder.lease_until else "further notice"
    told = "%s %s is being published by %s, who holds it until %s unless that is renewed; waiting"
    log.info(told, holder.category, holder.version, holder.owner, until)


@cache
def _machine() -> str:
    """Names the running kernel and this process's number space: the same number means the same process there."""
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts = [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def _state_and_start(number: int) -> tuple[str, str] | None:
    """The letter of a process's state, and its start in the kernel's ticks; None where that cannot be known."""
    try:
        # After the name, which may hold anything, come the state and, 19 fields on, the start.
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], fields[19]
