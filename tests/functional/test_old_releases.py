"""Runs start, one after the other, on a volume with old frozen code: what is removed, and what a run still uses."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy

from sightline import errors
from sightline.services.database.connection import connect
from sightline.services.database.models import StepRow
from sightline.services.database.runs import start_step
from sightline.settings import read_settings
from sightline.steps.snapshot.start import Frozen, start_run
from tests.installed import Installed, install
from tests.live_code import append, copy_live, file_of
from tests.ports import closed_port

CONFIG = "mask_rcnn_r18_small"


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Installed:
    """An installation that keeps one release per step, and more for thirty days."""
    monkeypatch.setenv("SIGHTLINE_KEEP_RELEASES", "1")
    here = install(tmp_path, monkeypatch)
    copy_live(here.settings.volume / "code")
    return here


def start(run: str, monkeypatch: pytest.MonkeyPatch) -> Frozen:
    """A run's snapshot step."""
    monkeypatch.setenv("SIGHTLINE_RUN", run)
    read_settings.cache_clear()
    return start_run("desk", config=CONFIG, record_follows=False)


def edit(installed: Installed, number: int) -> None:
    """A change that all steps see."""
    append(installed.settings.volume / "code", errors, f"# edit {number}")


def codes(frozen: Frozen) -> set[str]:
    return {Path(frozen.record_code).name, Path(frozen.train_code).name} | {
        Path(frozen.evaluate_code).name,
        Path(frozen.test_code).name,
    }


def let_pass(volume: Path, days: float) -> None:
    """Make everything on the volume so many days older."""
    for path in (*(volume / "releases").iterdir(), *(volume / "runs").iterdir()):
        when = path.stat().st_mtime - days * 86_400
        os.utime(path, (when, when))


def releases(volume: Path) -> set[str]:
    return {path.name for path in (volume / "releases").iterdir() if path.name[0] != "."}


def beat(installed: Installed, run: str, step: str, days_ago: float) -> None:
    """A step of the run that gave its last sign of life so many days ago."""
    database = connect(installed.settings.database_url.get_secret_value())
    database.migrate()
    start_step(database, run, step, category="desk", code="", code_digest="", parameters={})
    when = datetime.now(UTC) - timedelta(days=days_ago)
    changed = sqlalchemy.update(StepRow).where(StepRow.run_id == run).values(heartbeat_at=when)
    database.write(lambda session: session.execute(changed))
    database.close()


@pytest.mark.parametrize(
    ("days", "last_beat", "stays"),
    [
        pytest.param(29, None, True, id="within the age", marks=pytest.mark.slow),
        pytest.param(31, None, False, id="older, and never recorded", marks=pytest.mark.slow),
        pytest.param(31, 30.5, False, id="older, and silent for as long", marks=pytest.mark.slow),
        pytest.param(90, 0.1, True, id="older, and training still"),
    ],
)
def test_the_releases_of_an_earlier_run_when_another_starts(installed, monkeypatch, days, last_beat, stays):
    volume = installed.settings.volume
    first = start("first", monkeypatch)
    assert set(json.loads((volume / "runs" / "first.json").read_text())["releases"]) == codes(first)
    let_pass(volume, days)
    if last_beat is not None:
        beat(installed, "first", "train", last_beat)
    edit(installed, 1)
    second = start("second", monkeypatch)
    assert codes(first).isdisjoint(codes(second))
    assert releases(volume) == codes(second) | (codes(first) if stays else set())
    assert (volume / "runs" / "first.json").exists() == stays
    assert (volume / "runs" / "second.json").exists()


@pytest.mark.slow
def test_the_last_releases_stay_and_are_used_again_however_old(installed, monkeypatch):
    first = start("first", monkeypatch)
    let_pass(installed.settings.volume, 400)
    file = Path(first.train_code) / file_of(errors)
    made = file.stat().st_mtime_ns
    assert start("second", monkeypatch) == first
    assert file.stat().st_mtime_ns == made
    assert time.time() - Path(first.train_code).stat().st_mtime < 3600


@pytest.mark.slow
def test_a_database_out_of_reach_removes_nothing_and_stops_nobody(installed, monkeypatch, caplog):
    first = start("first", monkeypatch)
    let_pass(installed.settings.volume, 400)
    edit(installed, 1)
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "1")
    with closed_port() as port:
        monkeypatch.setenv("SIGHTLINE_DATABASE_URL", f"mysql+pymysql://nobody@127.0.0.1:{port}/none")
        second = start("second", monkeypatch)
    assert releases(installed.settings.volume) == codes(first) | codes(second)
    assert "old releases stay for now" in caplog.text
