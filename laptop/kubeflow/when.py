"""When a schedule fires: as it was typed, which its description keeps, and when next. The server tells only its own line."""

import contextlib
import re
from datetime import UTC, datetime, tzinfo

from laptop.kubeflow.answers import Schedule
from laptop.kubeflow.cron import Cron, read_cron, zone_of
from sightline.errors import SightlineError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TYPED = re.compile(r"cron '([^']+)' in (\S+), which is '([^']+)' by the server's clock \(([^)\s]+)\)")


def kept(typed: str, here: tzinfo, sent: Cron, there: tzinfo) -> str:
    """What the description of a schedule says of its cron."""
    return f"cron '{' '.join(typed.split())}' in {here}, which is '{sent}' by the server's clock ({there})"


def when(found: Schedule, server_zone: tzinfo = UTC) -> str:
    """Its cron with a time zone, or its interval; in the server's zone where it does not keep how it was typed."""
    if found.cron:
        typed, here, _ = _clock(found, server_zone)
        return f"{typed} {here}"
    seconds = found.interval_seconds
    if not seconds:
        return "not known"
    unit = next((name for name in "dhm" if seconds % UNITS[name] == 0), "s")
    return f"every {seconds // UNITS[unit]}{unit}"


def next_firing(found: Schedule, server_zone: tzinfo) -> str:
    """By the clock that `when` names; empty for an interval, whose beginning the server does not tell, and while it is paused."""
    if not found.cron or found.status == "DISABLED":
        return ""
    _, here, there = _clock(found, server_zone)
    try:
        following = read_cron(found.cron).next_after(datetime.now(there))
    except SightlineError:  # somebody else's, in words that only the server knows
        return ""
    return f"{following.astimezone(here):%Y-%m-%d %H:%M}" if following else ""


def _clock(found: Schedule, server_zone: tzinfo) -> tuple[str, tzinfo, tzinfo]:
    """A line of cron, the time zone by whose clock it was typed, and the server's zone."""
    told = TYPED.search(found.description)
    if told and told[3] == found.cron:  # else somebody copied the description, or wrote it
        with contextlib.suppress(SightlineError):
            return told[1], zone_of("--time-zone", told[2]), zone_of("--server-time-zone", told[4])
    return found.cron, server_zone, server_zone
