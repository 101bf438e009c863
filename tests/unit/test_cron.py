"""Cron as Kubeflow reads it, and the same firings by another clock."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptop.kubeflow.cron import convert, next_change, read_cron
from sightline.errors import SightlineError

NOW = datetime(2026, 11, 24, 20, 0, tzinfo=UTC)  # a Tuesday
BERLIN, KOLKATA, TOKYO = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata"), ZoneInfo("Asia/Tokyo")


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("0 2 * * *", "2026-11-25 02:00:00"),
        ("30 15 2 * * *", "2026-11-25 02:15:30"),
        ("*/15 * * * *", "2026-11-24 20:15:00"),
        ("10/20 * * * *", "2026-11-24 20:10:00"),
        ("0 2 1 * *", "2026-12-01 02:00:00"),
        ("0 2 * * mon", "2026-11-30 02:00:00"),
        ("0 2 * * 0", "2026-11-29 02:00:00"),
        ("0 2 13 * FRI", "2026-11-27 02:00:00"),  # either, as cron has it
        ("0 2 13 * ?", "2026-12-13 02:00:00"),
        ("0 0 29 feb *", "2028-02-29 00:00:00"),
        ("0 9-17/4 * * 1-5", "2026-11-25 09:00:00"),
        ("@hourly", "2026-11-24 21:00:00"),
        ("@weekly", "2026-11-29 00:00:00"),
    ],
)
def test_when_a_line_fires_first(line, first):
    found = read_cron(line).next_after(NOW)
    assert found is not None
    assert f"{found:%Y-%m-%d %H:%M:%S}" == first


def test_five_fields_begin_with_minutes_and_six_with_seconds():
    """Kubeflow would take '0 2 * * *' for the second 0 of the minute 2 of every hour."""
    assert str(read_cron("0 2 * * *")) == "0 0 2 * * *"
    assert str(read_cron("0 0 2 * * *")) == "0 0 2 * * *"


@pytest.mark.parametrize("line", ["", "1", "a b c d e", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "@reboot", "0 2 30 2 *", "1.5 * * * *", "-1 * * * *", "1,, * * * *"])  # fmt: skip
def test_what_is_no_cron(line):
    with pytest.raises(SightlineError):
        read_cron(line)


@pytest.mark.parametrize(
    ("line", "zone", "sent"),
    [
        ("0 2 * * *", BERLIN, "0 0 1 * * *"),
        ("0 0 * * *", BERLIN, "0 0 23 * * *"),
        ("30 0 * * mon", BERLIN, "0 30 23 * * 0"),
        ("0 2 * * *", KOLKATA, "0 30 20 * * *"),
        ("0 2 * * 1-5", TOKYO, "0 0 17 * * 0,1,2,3,4"),
        ("0 12 1 * *", BERLIN, "0 0 11 1 * *"),
        ("*/15 * * * *", KOLKATA, "0 */15 * * * *"),
        ("*/2 * * * *", BERLIN, "0 */2 * * * *"),
        ("*/20 * * * *", KOLKATA, "0 10,30,50 * * * *"),
        ("*/10 2 * * *", BERLIN, "0 */10 1 * * *"),
        ("0 2 * * *", UTC, "0 0 2 * * *"),
    ],
)
def test_the_same_firings_by_the_servers_clock(line, zone, sent):
    assert str(convert(read_cron(line), zone, UTC, NOW)) == sent


@pytest.mark.parametrize("line", ["0 0 1 * *", "0 0,12 * * mon", "0 0 * 3 *"])
def test_a_day_that_is_another_for_the_server_is_refused(line):
    with pytest.raises(SightlineError, match="cannot be written for a server whose clock is UTC"):
        convert(read_cron(line), BERLIN, UTC, NOW)


@pytest.mark.slow
@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=3),
    weekdays=st.sets(st.integers(0, 6), max_size=3),
    shift=st.integers(-12 * 4, 14 * 4).map(lambda quarters: timedelta(minutes=15 * quarters)),
)
def test_a_converted_line_fires_at_the_same_moments(minutes, hours, weekdays, shift):
    fields = [",".join(map(str, sorted(each))) or "*" for each in (minutes, hours, weekdays)]
    here, line = timezone(shift), read_cron(f"{fields[0]} {fields[1]} * * {fields[2]}")
    try:
        sent = convert(line, here, UTC, NOW)
    except SightlineError:
        return
    wanted, moment = NOW.astimezone(here), NOW
    for _ in range(10):
        wanted, moment = line.next_after(wanted), sent.next_after(moment)
        assert wanted == moment


def test_when_clocks_change():
    nightly = read_cron("0 2 * * *")
    assert next_change(nightly, BERLIN, UTC, NOW).date().isoformat() in ("2027-03-28", "2027-03-29")
    assert next_change(nightly, ZoneInfo("Europe/London"), UTC, NOW) is not None  # as the two stand now, they are one
    assert next_change(nightly, KOLKATA, UTC, NOW) is None
    assert next_change(nightly, BERLIN, ZoneInfo("Europe/Paris"), NOW) is None


@pytest.mark.parametrize("line", ["*/2 * * * *", "7 * * * *", "@hourly"])
def test_a_line_that_fires_every_hour_does_not_mind_summer_time(line):
    assert str(convert(read_cron(line), BERLIN, UTC, NOW)) == str(read_cron(line))
    assert next_change(read_cron(line), BERLIN, UTC, NOW) is None
