"""Files that an interrupted publisher left, pruned while another one publishes the same: what is published has them all."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy

from laptop.cli import main
from sightline.catalogue.pruning.find import find_prunable, remove
from sightline.catalogue.verification import verify_versions
from sightline.errors import SightlineError
from sightline.publish.annotations import publish_annotations
from sightline.services.database.models import VersionRow
from sightline.services.storage.access import open_storage
from sightline.services.storage.base import Storage
from sightline.services.versioning import publication
from sightline.services.versioning.objects import LISTING_ENDING
from sightline.settings import read_settings
from tests.installed import BOTH, Installed
from tests.kept import grow_old, opened
from tests.make_labelme import make_labelme
from tests.publishers import Answer, Kill, Publisher, run_publisher

SECONDS = 60.0
VERSION = "v0.1.0"


def publish(folder: Path) -> bool:
    return publish_annotations(read_settings(), folder, "desk", VERSION).publication.new


def publish_with_a_pause(folder: Path, step: str) -> bool:
    """Stop, as a laptop that is closed does, before a step of the protocol."""

    def pause(attempt: publication.Attempt) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    at = [one.__name__ for one in publication.PROTOCOL].index(step)
    publication.PROTOCOL = (*publication.PROTOCOL[:at], pause, *publication.PROTOCOL[at:])
    return publish(folder)


@pytest.fixture
def folder(installed: Installed, tmp_path: Path) -> Iterator[Path]:
    """Annotated photographs whose publisher was killed two days ago, in the middle of bringing them to the remote."""
    folder = make_labelme(tmp_path / "desk", [f"{number}.png" for number in range(4)])
    assert run_publisher(publish, folder, kill=Kill("before", "verify")).killed
    storage = open_storage(installed.settings.storage)
    for listing in [item.key for item in storage.list("dvc") if item.key.endswith(LISTING_ENDING)]:
        storage.delete(listing)  # comes last, and with it the folder would be a whole one, perhaps of a stranger
    grow_old(installed.settings, 2)
    assert {item.what for item in find_prunable(installed.settings).items} > {
        "claims",
        "uploaded files",
        "cached files",
    }
    yield folder


def require_whole(installed: Installed) -> None:
    found = verify_versions(installed.settings, full=True)
    assert found.ok and [one.tag for one in found.versions] == [f"desk_ann_{VERSION}"]
    assert sorted(path.name for path in installed.clone_and_pull(f"desk_ann_{VERSION}", "clone").rglob("?.png")) == [
        f"{number}.png" for number in range(4)
    ]


@BOTH
def test_what_was_published_since_it_was_looked_at_stays(installed, folder):
    plan = find_prunable(installed.settings)
    assert publish(folder)
    removed, failed = remove(plan, lambda item: None)
    assert removed == [] and not failed  # the publisher tidied the abandoned folder itself
    require_whole(installed)


@BOTH
def test_what_is_public_without_rows_since_it_was_looked_at_stays(installed, folder):
    """The publisher's database went away after its tag was pushed, and was back when it gave its claim back."""
    plan = find_prunable(installed.settings)
    assert run_publisher(publish_without_rows, folder).error == "SightlineError"
    assert installed.tags() == [f"desk_ann_{VERSION}"] and installed.rows("versions")["versions"] == []
    before = installed.stored()
    remove(plan, lambda item: None)
    assert installed.stored() == before
    assert publish(folder)
    require_whole(installed)


@BOTH
def test_what_is_published_while_a_removal_is_on_its_way_is_put_back(installed, folder, monkeypatch):
    plan = find_prunable(installed.settings)
    storage = type(open_storage(installed.settings.storage))
    delete, published = storage.delete, []

    def delete_slowly(self: Storage, key: str) -> bool:
        if not published:
            published.append(publish(folder))
        return delete(self, key)

    monkeypatch.setattr(storage, "delete", delete_slowly)
    removed, failed = remove(plan, lambda item: None)
    assert published == [True] and not failed
    assert "uploaded files" not in {item.what for item in removed}
    require_whole(installed)


def publish_without_rows(folder: Path) -> bool:
    def fail(attempt: publication.Attempt) -> None:
        raise SightlineError("no database")

    publication.PROTOCOL = (*publication.PROTOCOL[:-1], fail)
    return publish(folder)


def stopped(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wait_for(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.05)


def let_lease_end(installed: Installed) -> None:
    """As if an hour had gone by."""
    database = opened(installed.settings)
    past = datetime.now(UTC) - timedelta(hours=1)
    database.write(lambda session: session.execute(sqlalchemy.update(VersionRow).values(lease_until=past)))
    database.close()


def paused_while_pruning(installed: Installed, folder: Path, step: str, asleep: bool) -> Answer:
    """What becomes of a publisher that stands still before a step while `prune --yes` runs."""
    publisher = Publisher(publish_with_a_pause, folder, step)
    process = publisher.process.pid
    wait_for(lambda: stopped(process))
    if asleep:
        let_lease_end(installed)
    before = installed.stored()
    assert main(["prune", "--workspace", str(installed.folder), "--yes"]) == 0
    assert (installed.stored() != before) == (asleep and step not in WHOLE)
    os.kill(process, signal.SIGCONT)
    return publisher.answer()


WHOLE = ("verify", "tag", "write_rows")
"""Before these the folder is on the remote with its listing, and stays: it might be another installation's."""
STEPS = [one.__name__ for one in publication.PROTOCOL[2:]]


@pytest.mark.parametrize("step", [pytest.param(one, marks=() if one == "push" else pytest.mark.slow) for one in STEPS])
@BOTH
def test_while_a_publisher_is_at_work_nothing_that_it_counts_on_goes(installed, folder, step):
    assert paused_while_pruning(installed, folder, step, asleep=False) == Answer(result=True)
    require_whole(installed)


@pytest.mark.parametrize(
    "step", [pytest.param(one, marks=() if one in ("add", "tag") else pytest.mark.slow) for one in STEPS[:-1]]
)
@BOTH
def test_a_publisher_that_slept_for_an_hour_publishes_nothing_that_is_not_whole(installed, folder, step):
    """Closed laptop: its claim has run out, and what it counted on may go; the same command again publishes."""
    answer = paused_while_pruning(installed, folder, step, asleep=True)
    assert answer.error in ("LostObjectError", "ClaimLostError")
    assert "again" in answer.message
    assert installed.tags() == []
    assert publish(folder)
    require_whole(installed)
