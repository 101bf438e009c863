"""When a schedule fires, by cron as Kubeflow reads it: six fields, seconds first, in the one time zone of the installation.

Kubeflow's cron library (robfig/cron 1.2) takes a line of five fields for seconds to month, so a five-field line never
reaches it, and knows no CRON_TZ= before the fields: another time zone is turned into the server's.
"""

import contextlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import product
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from laptop.kubeflow.answers import Schedule
from sightline.errors import SightlineError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 6, DAYS),
)
SHORTHANDS = {
    "@hourly": "0 0 * * * *",
    **dict.fromkeys(("@daily", "@midnight"), "0 0 0 * * *"),
    "@weekly": "0 0 0 * * 0",
    "@monthly": "0 0 0 1 * *",
    **dict.fromkeys(("@yearly", "@annually"), "0 0 0 1 1 *"),
}
YEARS = 5  # a line that does not fire within them never will, but for some 29th of February
MINUTES = 24 * 60
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TYPED = re.compile(r"cron '([^']+)' in (\S+), which is '([^']+)' by the server's clock \(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Cron:
    """Six fields, as written and as the numbers they stand for."""

    fields: tuple[str, ...]
    numbers: tuple[frozenset[int], ...]

    def __str__(self) -> str:
        return " ".join(self.fields)

    def every(self, field: int) -> bool:
        """Whether the field leaves its days, months or hours open."""
        return self.fields[field][0] in "*?"

    def next_after(self, moment: datetime) -> datetime | None:
        """The first firing after a moment, in the moment's time zone; None when there is none for years."""
        seconds, minutes, hours = (sorted(numbers) for numbers in self.numbers[:3])
        for offset in range(366 * YEARS):
            day = (moment + timedelta(days=offset)).date()
            if not self._fires_on(day.day, day.month, (day.weekday() + 1) % 7):
                continue
            for hour, minute, second in product(hours, minutes, seconds):
                found = datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=moment.tzinfo)
                if found > moment:
                    return found
        return None

    def _fires_on(self, day: int, month: int, weekday: int) -> bool:
        by_day, by_weekday = day in self.numbers[3], weekday in self.numbers[5]
        both = by_day and by_weekday if self.every(3) or self.every(5) else by_day or by_weekday
        return month in self.numbers[4] and both


def read_cron(text: str) -> Cron:
    """Read five fields (from minutes on), six (from seconds on), or a word like @daily; refuses what never fires."""
    fields = tuple(SHORTHANDS.get(text.strip().lower(), text).split())
    if len(fields) == 5:
        fields = ("0", *fields)
    if len(fields) != 6:
        raise SightlineError(
            f"--cron {text!r} has {len(fields)} fields. Write five, 'minute hour day month weekday' like '0 2 * * *', or "
            "six with seconds before them. A time zone goes into --time-zone."
        )
    cron = Cron(fields, tuple(_numbers(text, field, *kind) for field, kind in zip(fields, FIELDS, strict=True)))
    if cron.next_after(datetime.now(UTC)) is None:
        raise SightlineError(f"--cron {text!r} never fires: no month has such a day.")
    return cron


def zone_of(option: str, name: str) -> ZoneInfo:
    """The time zone of that name, which an option gave."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SightlineError(f"{option} {name} is not a time zone. Write it like Europe/Berlin or UTC.") from None


def next_change(cron: Cron, here: tzinfo, there: tzinfo, now: datetime) -> datetime | None:
    """The day on which the line as converted now stops meaning the same; None when not within a year.

    The two zones' clocks then differ by another amount, which a line that fires every hour does not mind.
    """
    first = _minutes_between(here, there, now)
    days = (now + timedelta(days=number) for number in range(1, 367))
    changed = (day for day in days if _minutes_between(here, there, day) != first)
    return next((day for day in changed if not _same(cron, here, there, now, day)), None)


def _same(cron: Cron, here: tzinfo, there: tzinfo, now: datetime, later: datetime) -> bool:
    with contextlib.suppress(SightlineError):
        return str(convert(cron, here, there, now)) == str(convert(cron, here, there, later))
    return False


def convert(cron: Cron, here: tzinfo, there: tzinfo, now: datetime) -> Cron:
    """The same firings by the other zone's clock, as the two stand now; refuses what six fields cannot say."""
    shift = _minutes_between(here, there, now)
    if not shift:
        return cron
    moments = [hour * 60 + minute + shift for hour, minute in product(cron.numbers[2], cron.numbers[1])]
    days = {moment // MINUTES for moment in moments}
    hours = {moment % MINUTES // 60 for moment in moments}
    minutes = {moment % 60 for moment in moments}
    dated, weekly = not (cron.every(3) and cron.every(4)), not cron.every(5)
    whole = len(hours) * len(minutes) == len({moment % MINUTES for moment in moments})
    if not whole or (days != {0} and (dated or (weekly and len(days) > 1))):
        raise SightlineError(
            f"'{cron}' in {here} cannot be written for a server whose clock is {there}. Choose hours that fall on the same "
            f"day there, or write --cron for {there} and leave out --time-zone."
        )
    fields = list(cron.fields)  # what the zone does not change stays as written
    if minutes != cron.numbers[1]:
        fields[1] = _written(minutes, 60)
    if hours != cron.numbers[2]:
        fields[2] = _written(hours, 24)
    if weekly and days != {0}:
        fields[5] = _written({(day + next(iter(days))) % 7 for day in cron.numbers[5]}, 7)
    return read_cron(" ".join(fields))


def _minutes_between(here: tzinfo, there: tzinfo, moment: datetime) -> int:
    """What to add to a time of day here to have it there."""
    offsets = [moment.astimezone(zone).utcoffset() or timedelta() for zone in (here, there)]
    return round((offsets[1] - offsets[0]).total_seconds() / 60)


def _written(numbers: Collection[int], whole: int) -> str:
    return "*" if len(numbers) == whole else ",".join(str(number) for number in sorted(numbers))


def _numbers(line: str, field: str, name: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    try:
        return frozenset(number for part in field.split(",") for number in _range(part, low, high, names))
    except ValueError:
        words = f", or {names[0].upper()} to {names[-1].upper()}" if names else ""
        raise SightlineError(
            f"--cron {line!r}: {field!r} is no {name}. It takes {low} to {high}{words}; also *, 1-5, */15, 1,15."
        ) from None


def _range(part: str, low: int, high: int, names: tuple[str, ...]) -> range:
    """The numbers of `*`, `5`, `mon`, `1-5` or one of these with `/step`; ValueError for anything else."""
    span, slash, step = part.partition("/")
    first, dash, last = span.partition("-")
    if span in ("*", "?"):
        start, end = low, high
    else:
        numbers = {name: str(low + index) for index, name in enumerate(names)}
        start = int(numbers.get(first.lower(), first))
        end = int(numbers.get(last.lower(), last)) if dash else (high if slash else start)
    stride = int(step) if slash else 1
    if not low <= start <= end <= high or stride < 1:
        raise ValueError(part)
    return range(start, end + 1, stride)


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
