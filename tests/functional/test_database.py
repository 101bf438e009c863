"""The database, on SQLite and on a real MariaDB: the same behaviours from both."""

import math
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import yaml
from sqlalchemy import func, select, update

from sightline.errors import SightlineError
from sightline.services.database.connection import (
    HEAD,
    MIGRATIONS,
    Database,
    DatabaseDeniedError,
    DatabaseError,
    DatabaseUnreachableError,
    connect,
)
from sightline.services.database.models import Base, Image, MetricValue, RunRow, StepRow, VersionRow
from sightline.services.database.runs import (
    beat,
    end_step,
    find_step,
    list_runs,
    list_steps,
    start_step,
    stop_steps,
    tracked_step,
    write_event,
)
from sightline.services.database.scores import find_model, list_evaluations, write_evaluation, write_model
from sightline.services.database.versions import (
    ClaimLostError,
    Content,
    FindingRow,
    ImageRow,
    VersionClaimedError,
    VersionTakenError,
    claim_version,
    find_version,
    list_findings,
    list_images,
    list_versions,
    publish_version,
    release_claim,
    renew_claim,
)
from sightline.versions import Kind
from tests.ports import closed_port, silent_port
from tests.workspace import find_run

# Names that a careless collation takes for one.
CONFUSABLE = ["a.jpg", "A.jpg", "ä.jpg", "á.jpg", "a\u0301.jpg", "ß.jpg", "ss.jpg", "日本.jpg", "🚗.jpg", "🚙.jpg"]
PUBLISHED: dict[str, Any] = {"tag": "desk_ann_v0.1.0", "commit": "c" * 40, "digest": "d" * 64}
RUN: dict[str, Any] = {"category": "desk", "code": "train-12ab", "code_digest": "e" * 64, "parameters": {"epochs": 3}}


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new folder/sightline.db"
    return str(request.getfixturevalue("mariadb_url"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = connect(url)
    database.migrate()
    yield database
    database.close()


def image(name: str, split: str | None = None, annotations: int = 2) -> ImageRow:
    return ImageRow(name, split, 640, 480, 12345, "ab" * 32, annotations)


def claim(database: Database, owner: str = "me", version: str = "v0.1.0", **options: Any) -> VersionRow:
    return claim_version(database, "desk", "annotation", version, owner, **options)


def publish(database: Database, version: str, kind: Kind = "annotation", category: str = "desk") -> VersionRow:
    return publish_version(database, claim_version(database, category, kind, version, "me"), **PUBLISHED)


def count(database: Database, table: type[Base]) -> int:
    return database.read(lambda session: session.scalar(select(func.count()).select_from(table)) or 0)


# Versions


def test_a_published_version_reads_back_whole(database: Database) -> None:
    images = [image("b.jpg", "train", 3), image("a.jpg", None, 0)]
    findings = [
        FindingRow("empty-shape", "a.json", 0, "no points " * 10_000, "dropped"),
        FindingRow("cut", "b.json", None, "🚗", "fixed"),
    ]
    before = datetime.now(UTC)
    content = Content(images, findings, {"seed": 1, "name": "ä"})
    published = publish_version(database, claim(database), **PUBLISHED, content=content)
    assert published == find_version(database, "desk", "annotation", "v0.1.0")
    assert (published.status, published.owner, published.tag) == ("published", "me", "desk_ann_v0.1.0")
    assert (published.image_count, published.annotation_count) == (2, 3)
    assert published.recipe == {"seed": 1, "name": "ä"}
    assert published.published_at is not None
    assert before <= published.published_at <= datetime.now(UTC)
    assert list_images(database, published.id) == [images[1], images[0]]
    assert list_findings(database, published.id) == findings


def test_times_are_utc_whatever_the_zone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        made = publish(database, "v0.1.0").created_at
        assert made.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - made) < timedelta(seconds=20)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_names_that_differ_by_a_byte_are_different_images(database: Database) -> None:
    published = publish_version(
        database, claim(database), **PUBLISHED, content=Content([image(name) for name in CONFUSABLE])
    )
    assert {row.name for row in list_images(database, published.id)} == set(CONFUSABLE)


def test_the_longest_names_fit_the_index(database: Database) -> None:
    longest = ["🚗" * 699 + last for last in "ab"]
    published = publish_version(
        database, claim(database), **PUBLISHED, content=Content([image(name) for name in longest])
    )
    assert [row.name for row in list_images(database, published.id)] == longest
    assert write_model(database, "gs://" + "🚗" * 763, "f" * 64, "given").uri == "gs://" + "🚗" * 763


def test_two_images_of_one_name_publish_nothing(database: Database) -> None:
    mine = claim(database)
    with pytest.raises(DatabaseError, match="name of its own"):
        twice = Content([image("a.jpg"), image("b.jpg"), image("a.jpg")])
        publish_version(database, mine, **PUBLISHED, content=twice)
    pending = find_version(database, "desk", "annotation", "v0.1.0")
    assert pending is not None
    assert (pending.status, pending.tag, count(database, Image)) == ("pending", None, 0)
    publish_version(database, mine, **PUBLISHED, content=Content([image("a.jpg")]))


def test_an_unknown_parent_publishes_nothing(database: Database) -> None:
    with pytest.raises(DatabaseError, match="parent must be recorded"):
        publish_version(database, claim(database), **PUBLISHED, parent_id=99)
    assert list_versions(database) == []


@pytest.mark.parametrize("owner", ["me", "you"])
def test_a_published_version_cannot_be_claimed(database: Database, owner: str) -> None:
    publish(database, "v0.1.0")
    with pytest.raises(VersionTakenError, match=r"desk v0\.1\.0 is already published.*publish as v0\.1\.1") as caught:
        claim(database, owner, instead_of="me")
    assert caught.value.published.digest == "d" * 64


def test_a_claimed_version_says_who_holds_it(database: Database) -> None:
    claim(database, "run 7 on host")
    with pytest.raises(VersionClaimedError, match="by run 7 on host, who holds it until 2") as caught:
        claim(database, "you")
    assert caught.value.holder.owner == "run 7 on host"


def test_the_same_owner_may_claim_again(database: Database) -> None:
    assert claim(database).id == claim(database).id


@pytest.mark.parametrize("how", ["expired", "released", "dead"])
def test_another_takes_over_a_claim_and_the_first_cannot_publish(database: Database, how: str) -> None:
    first = claim(database, "first", lease_seconds=-1 if how == "expired" else 600)
    if how == "released":
        release_claim(database, first)
    second = claim(database, "second", instead_of="first" if how == "dead" else None)
    for use in (lambda: publish_version(database, first, **PUBLISHED), lambda: renew_claim(database, first)):
        with pytest.raises(ClaimLostError, match="no longer held by first"):
            use()
    release_claim(database, first)
    assert publish_version(database, second, **PUBLISHED).owner == "second"


def test_a_renewed_claim_holds_longer(database: Database) -> None:
    mine = renew_claim(database, claim(database, lease_seconds=-1), 600)
    assert mine.lease_until > datetime.now(UTC)
    with pytest.raises(VersionClaimedError):
        claim(database, "you")


def test_publishing_again_after_a_lost_answer_is_the_same_publication(database: Database) -> None:
    mine = claim(database)
    assert publish_version(database, mine, **PUBLISHED) == publish_version(database, mine, **PUBLISHED)
    with pytest.raises(ClaimLostError):
        publish_version(database, mine, **PUBLISHED | {"digest": "other"})


def test_versions_are_listed_by_number_the_newest_last(database: Database) -> None:
    for version in ("v0.10.0", "v0.9.0", "v0.2.0"):
        publish(database, version)
    publish(database, "v3.0.0", "dataset")
    publish(database, "v4.0.0", category="other")
    claim(database, version="v5.0.0")
    assert list_versions(database, "nothing", "annotation") == []
    assert [row.version for row in list_versions(database, "desk", "annotation")] == ["v0.2.0", "v0.9.0", "v0.10.0"]
    assert len(list_versions(database, pending=True)) == 6


def _claim_in_a_process(url: str, owner: str, start: Any, answers: Any) -> None:
    start.wait()
    database = connect(url)
    try:
        claim(database, owner)
        answers.put(owner)
    except VersionClaimedError:
        answers.put(None)


@pytest.mark.slow
def test_of_many_claiming_processes_one_wins(url: str, database: Database) -> None:
    context = multiprocessing.get_context("fork")
    start, answers = context.Event(), context.Queue()
    arguments = [(url, f"owner {number}", start, answers) for number in range(6)]
    processes = [context.Process(target=_claim_in_a_process, args=each) for each in arguments]
    for process in processes:
        process.start()
    start.set()
    winners = [answer for answer in (answers.get(timeout=30) for _ in processes) if answer]
    for process in processes:
        process.join()
    pending = find_version(database, "desk", "annotation", "v0.1.0")
    assert pending is not None
    assert winners == [pending.owner]


# Runs


def test_a_step_records_its_start_its_life_and_its_end(database: Database) -> None:
    start_step(database, "run-1", "train", **RUN)
    (started,) = list_steps(database, "run-1")
    assert (started.state, started.code, started.ended_at, started.lost()) == ("running", "train-12ab", None, False)
    beat(database, "run-1", "train")
    assert list_steps(database, "run-1")[0].heartbeat_at > started.heartbeat_at
    end_step(database, "run-1", "train", "done")
    beat(database, "run-1", "train")
    (ended,) = list_steps(database, "run-1")
    assert ended.state == "done"
    assert ended.ended_at == ended.heartbeat_at
    run = find_run(database, "run-1")
    assert run is not None
    assert (run.state, run.parameters, run.code_digest) == ("done", {"epochs": 3}, "e" * 64)
    assert [each.id for each in list_runs(database, "desk")] == ["run-1"]
    assert find_run(database, "run-2") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["done", "done"], "done"),
        (["done", None], "running"),
        (["failed", None], "failed"),
        (["failed", "done"], "failed"),
        (["done", "stopped"], "stopped"),
        (["stopped", None], "running"),
        (["stopped", "failed"], "failed"),
    ],
)
def test_a_runs_state_follows_from_its_steps(database: Database, states: list[Any], expected: str) -> None:
    for number in range(len(states)):
        start_step(database, "run-1", f"step-{number}", **RUN)
    for number, state in enumerate(states):
        if state:
            end_step(database, "run-1", f"step-{number}", state, "why")
    run = find_run(database, "run-1")
    assert run is not None
    assert run.state == expected


def test_a_step_that_starts_again_forgets_its_failure(database: Database) -> None:
    start_step(database, "run-1", "train", **RUN)
    end_step(database, "run-1", "train", "failed", "out of memory")
    first = find_run(database, "run-1")
    start_step(database, "run-1", "train", **RUN)
    (step,) = list_steps(database, "run-1")
    again = find_run(database, "run-1")
    assert first is not None
    assert again is not None
    assert (step.state, step.reason, step.ended_at, again.state) == ("running", "", None, "running")
    assert again.started_at == first.started_at


def test_what_happens_to_a_step_is_kept_through_its_attempts(database: Database) -> None:
    with pytest.raises(SightlineError, match="never started"):
        write_event(database, "run-1", "train", "resumed", "too early")
    assert start_step(database, "run-1", "train", **RUN) is None
    (first,) = list_steps(database, "run-1")
    killed = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    for _ in range(2):  # repeated after a lost answer
        write_event(database, "run-1", "train", "out of memory", "was killed", iteration=12, at=killed)
    again = start_step(database, "run-1", "train", **RUN, goes_on=True)
    write_event(database, "run-1", "train", "restarted", "4 as 2 x 2", iteration=10)
    assert again is not None
    assert (again.state, len(again.events)) == ("running", 1)
    assert list_steps(database, "run-1")[0].started_at == first.started_at

    before = start_step(database, "run-1", "train", **RUN, attempt=1)
    write_event(database, "run-1", "train", "resumed", "after attempt 0 was lost")
    assert before is not None
    assert (before.state, before.attempt) == ("running", 0)
    found = find_step(database, "run-1", "train")
    assert found is not None
    assert (found.attempt, found.started_at > first.started_at) == (1, True)
    assert [(event.attempt, event.kind, event.iteration) for event in found.events] == [
        (0, "out of memory", 12),
        (0, "restarted", 10),
        (1, "resumed", None),
    ]
    assert (found.events[0].at, found.events[0].message) == (killed, "was killed")
    assert list_steps(database, "run-1") == [found]
    assert find_step(database, "run-1", "evaluate") is None


def test_attempts_are_counted_on_where_kubeflow_begins_again_at_0(database: Database) -> None:
    """After a retry of a run the server gives the step's first pod the index 0 once more."""
    counted = []
    for index in (0, 1, 0, 3):  # a pod was lost, the run retried, and of two more pods one could not tell SQL
        start_step(database, "run-1", "train", **RUN, attempt=index)
        write_event(database, "run-1", "train", f"began {index}", "")
        start_step(database, "run-1", "train", **RUN, attempt=index, goes_on=True)
        counted.append(list_steps(database, "run-1")[0].attempt)
    assert counted == [0, 1, 2, 3]
    assert [event.attempt for event in list_steps(database, "run-1")[0].events] == [0, 1, 2, 3]


def test_the_steps_at_work_of_a_run_that_was_terminated_are_stopped_and_the_others_stay(database: Database) -> None:
    for step in ("record", "train", "evaluate"):
        start_step(database, "run-1", step, **RUN)
    start_step(database, "run-2", "train", **RUN)
    end_step(database, "run-1", "record", "done")
    silence(database, "evaluate")
    assert stop_steps(database, "run-1") == ["train", "evaluate"]
    assert [(step.step, step.state, step.reason) for step in list_steps(database, "run-1")] == [
        ("record", "done", ""),
        ("train", "stopped", "terminated"),
        ("evaluate", "stopped", "terminated"),
    ]
    run, other = find_run(database, "run-1"), find_run(database, "run-2")
    assert run is not None and run.state == "stopped" and run.ended_at is not None
    assert other is not None and other.state == "running"
    assert stop_steps(database, "run-1") == stop_steps(database, "unknown") == []
    beat(database, "run-1", "train")  # its last ones
    assert list_steps(database, "run-1")[1].state == "stopped"


def test_an_error_that_is_left_to_others_leaves_the_step_running(database: Database) -> None:
    with (
        pytest.raises(KeyError),
        tracked_step(database, "run-1", "train", **RUN, left_to_others=KeyError) as before,
    ):
        raise KeyError
    assert before is None
    assert list_steps(database, "run-1")[0].state == "running"


def test_a_step_without_heartbeat_is_lost(database: Database) -> None:
    start_step(database, "run-1", "train", **RUN)
    (step,) = list_steps(database, "run-1")
    assert not step.lost(step.heartbeat_at + timedelta(seconds=170))
    assert step.lost(step.heartbeat_at + timedelta(seconds=190))


def silence(database: Database, *steps: str) -> None:
    """Make steps of run-1 give no sign of life for longer than anybody waits."""
    long_ago = datetime.now(UTC) - timedelta(minutes=10)
    named = (StepRow.run_id == "run-1") & StepRow.step.in_(steps)
    database.write(lambda session: session.execute(update(StepRow).where(named).values(heartbeat_at=long_ago)))


@pytest.mark.parametrize(
    "look",
    [
        lambda database: list_runs(database),
        lambda database: list_steps(database, "another run"),
        lambda database: find_run(database, "run-1"),
        lambda database: find_step(database, "run-1", "record"),
    ],
    ids=["list_runs", "list_steps", "find_run", "find_step"],
)
def test_whoever_looks_records_that_a_silent_step_is_lost_and_its_run_ended(database: Database, look: Any) -> None:
    start_step(database, "run-1", "record", **RUN)
    end_step(database, "run-1", "record", "done")
    start_step(database, "run-1", "train", **RUN)
    silence(database, "train")
    look(database)
    with database.engine.connect() as connection:  # as it stands there, whoever reads it
        rows = connection.execute(
            select(StepRow.step, StepRow.state, StepRow.reason, StepRow.ended_at == StepRow.heartbeat_at)
        ).all()
        run = connection.execute(select(RunRow.state, RunRow.ended_at)).one()
    assert [(name, state, ended) for name, state, _, ended in rows] == [
        ("record", "done", True),
        ("train", "lost", True),
    ]
    assert rows[1].reason.startswith("gave no sign of life after 20")
    assert run.state == "lost" and run.ended_at is not None


def test_a_lost_step_that_starts_again_or_gives_a_sign_of_life_runs(database: Database) -> None:
    for revive in (
        lambda: start_step(database, "run-1", "train", **RUN, attempt=1),
        lambda: beat(database, "run-1", "train"),
    ):
        start_step(database, "run-1", "train", **RUN)
        silence(database, "train")
        assert list_steps(database, "run-1")[0].state == "lost"
        revive()
        (step,), run = list_steps(database, "run-1"), find_run(database, "run-1")
        assert (step.state, step.reason, step.ended_at, step.lost()) == ("running", "", None, False)
        assert run is not None and (run.state, run.ended_at) == ("running", None)


def test_a_stopped_step_that_starts_again_runs(database: Database) -> None:
    start_step(database, "run-1", "train", **RUN)
    end_step(database, "run-1", "train", "stopped", "terminated")
    run = find_run(database, "run-1")
    assert run is not None and run.state == "stopped" and run.ended_at is not None
    before = start_step(database, "run-1", "train", **RUN, attempt=1)
    assert before is not None and (before.state, before.reason) == ("stopped", "terminated")
    run = find_run(database, "run-1")
    assert run is not None and (run.state, run.ended_at) == ("running", None)


def test_a_recorded_step_beats_and_records_how_it_ended(database: Database) -> None:
    with tracked_step(database, "run-1", "train", **RUN, beat_seconds=0.05):
        (first,) = list_steps(database, "run-1")
        until = time.monotonic() + 5
        while list_steps(database, "run-1")[0].heartbeat_at == first.heartbeat_at and time.monotonic() < until:
            time.sleep(0.02)
        assert list_steps(database, "run-1")[0].heartbeat_at > first.heartbeat_at
    with pytest.raises(ValueError, match="bad"), tracked_step(database, "run-1", "test", **RUN):
        raise ValueError("bad")
    assert {step.step: (step.state, step.reason) for step in list_steps(database, "run-1")} == {
        "train": ("done", ""),
        "test": ("failed", "ValueError: bad"),
    }


@pytest.mark.slow
def test_steps_of_one_run_may_start_at_once(url: str, database: Database) -> None:
    failures: list[Exception] = []

    def start(number: int) -> None:
        try:
            start_step(database, "run-1", f"step-{number}", **RUN)
            end_step(database, "run-1", f"step-{number}", "done")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {step.state for step in list_steps(database, "run-1")} == {"done"}
    assert len(list_steps(database, "run-1")) == 8


# Scores


@pytest.fixture
def trained(database: Database) -> tuple[int, int]:
    """A model and a dataset version of run-1: their ids."""
    start_step(database, "run-1", "train", **RUN)
    version = publish(database, "v0.1.0", "dataset")
    model = write_model(database, "gs://b/best", "f" * 64, "best", run_id="run-1", version_id=version.id, config="r18")
    return model.id, version.id


def test_a_model_has_one_record_by_its_uri(database: Database, trained: tuple[int, int]) -> None:
    first = find_model(database, "gs://b/best")
    again = write_model(database, "gs://b/best", "0" * 64, "last", run_id="run-1")
    assert first is not None
    assert (again.id, again.created_at) == (first.id, first.created_at)
    assert (again.sha256, again.kind) == ("0" * 64, "last")
    assert find_model(database, "gs://b/Best") is None


def test_a_model_says_what_its_training_began_from(database: Database, trained: tuple[int, int]) -> None:
    """A migrated database of MariaDB or SQLite has the columns; a model from random weights has nothing in them."""
    lineage = {
        "weights_sha256": "a" * 64,
        "weights_origin": f"https://server/{'n' * 5000}.pth",
        "parent_sha256": "f" * 64,
    }
    child = write_model(database, "gs://b/child", "1" * 64, "best", run_id="run-1", **lineage)  # type: ignore[arg-type]
    assert {name: getattr(child, name) for name in lineage} == lineage
    parent = find_model(database, "gs://b/best")
    assert parent is not None and parent.sha256 == child.parent_sha256
    assert {getattr(parent, name) for name in lineage} == {None}


def test_an_evaluation_reads_back_with_every_value(database: Database, trained: tuple[int, int]) -> None:
    model, version = trained
    overall = {"bbox_mAP": 1 / 3, "segm_mAP": math.nan, "bbox_AR_1": None, "low": -1.0}
    per_class = {"Mug": {"bbox_mAP": 0.1}, "mug": {"bbox_mAP": 0.2}, "空": {"bbox_mAP": 0.3}}
    key: dict[str, Any] = {"run_id": "run-1", "model_id": model, "version_id": version, "split": "test"}
    recorded = write_evaluation(database, **key, selected=True, overall=overall, per_class=per_class)
    assert [recorded] == list_evaluations(database, "run-1")
    assert recorded.overall == {"bbox_mAP": 1 / 3, "segm_mAP": None, "bbox_AR_1": None, "low": -1.0}
    assert recorded.per_class == per_class
    again = write_evaluation(database, **key, selected=False, overall={"bbox_mAP": 0.5})
    assert [again] == list_evaluations(database, "run-1")
    assert (again.id, again.selected, again.overall, again.per_class) == (recorded.id, False, {"bbox_mAP": 0.5}, {})
    assert count(database, MetricValue) == 1


@pytest.mark.slow
@pytest.mark.parametrize("unknown", ["run_id", "model_id", "version_id"])
def test_an_evaluation_of_what_is_not_recorded_is_refused(
    database: Database, trained: tuple[int, int], unknown: str
) -> None:
    key: dict[str, Any] = {"run_id": "run-1", "model_id": trained[0], "version_id": trained[1], "split": "test"}
    key[unknown] = "nothing" if unknown == "run_id" else 999
    with pytest.raises(DatabaseError):
        write_evaluation(database, **key, selected=True, overall={"bbox_mAP": 0.5})
    assert list_evaluations(database, "run-1") == []


# Tables


def test_the_migrations_make_the_tables_that_the_models_describe(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


@pytest.mark.slow
def test_a_migration_with_nothing_to_do_is_quick_and_loads_no_alembic(url: str, database: Database) -> None:
    script = (
        "import sys, time; from sightline.services.database.connection import connect\n"
        "database = connect(sys.argv[1]); times = []\n"
        "for _ in range(5):\n"
        "    started = time.perf_counter(); database.migrate(); times.append(time.perf_counter() - started)\n"
        "assert 'alembic' not in sys.modules; print(min(times))"
    )
    taken = subprocess.run(
        [sys.executable, "-c", script, url],
        env={**os.environ, "PYTHONPATH": "shared_volume"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(taken.stdout) < 0.05


def _migrate_in_a_process(url: str, start: Any, answers: Any) -> None:
    start.wait()
    try:
        connect(url).migrate()
        answers.put("")
    except BaseException as error:
        answers.put(repr(error))


@pytest.mark.slow
def test_processes_that_migrate_at_once_make_the_tables_once(url: str) -> None:
    context = multiprocessing.get_context("fork")
    start, answers = context.Event(), context.Queue()
    processes = [context.Process(target=_migrate_in_a_process, args=(url, start, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    assert [answers.get(timeout=60) for _ in processes] == [""] * 4
    for process in processes:
        process.join()
    publish(connect(url), "v0.1.0")


def connect_in_folder(url: str) -> Database:
    """Where not a migration but a test makes the first tables."""
    database = connect(url)
    if database.is_to_be_made:
        Path(str(database.engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
    return database


def test_a_migration_killed_halfway_is_finished_by_the_next(url: str) -> None:
    database = connect_in_folder(url)
    tables = [Base.metadata.tables[name] for name in ("versions", "images", "runs")]
    Base.metadata.create_all(database.engine, tables=tables)
    database.migrate()
    assert publish(database, "v0.1.0").version == "v0.1.0"
    assert set(sqlalchemy.inspect(database.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_steps_from_before_there_were_attempts_are_first_attempts(url: str) -> None:
    from alembic import command
    from alembic.config import Config

    database = connect_in_folder(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    old = sqlalchemy.text(
        "INSERT INTO steps (run_id, step, code, state, reason, started_at, heartbeat_at) "
        "VALUES ('run-1', :step, 'train-0', 'done', '', '2026-01-02 03:04:05', '2026-01-02 03:04:05')"
    )
    with database.engine.begin() as connection:
        run = "INSERT INTO runs VALUES ('run-1', 'desk', 'e', '{}', 'done', '2026-01-02 03:04:05', NULL)"
        connection.execute(sqlalchemy.text(run))
        connection.execute(old, {"step": "record"})
    database.migrate()
    with database.engine.begin() as connection:
        connection.execute(old, {"step": "train"})  # by a run that started before the upgrade
    assert [(each.step, each.attempt, each.events) for each in list_steps(database, "run-1")] == [
        ("record", 0, []),
        ("train", 0, []),
    ]


def test_tables_of_a_newer_sightline_are_left_alone(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    database.write(lambda session: session.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'")))
    database.migrate()
    assert "newer Sightline (9999" in caplog.text


@pytest.mark.slow
def test_the_migration_job_migrates_the_configured_database(url: str) -> None:
    environment = {"SIGHTLINE_DATABASE_URL": url, "SIGHTLINE_STORAGE": "file:///x", "SIGHTLINE_DATASET_REPO": "/x"}
    run = subprocess.run(
        [sys.executable, "-m", "sightline.entry", "migrate"],
        env={**os.environ, **environment, "PYTHONPATH": "shared_volume"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, "is up to date" in run.stderr) == (0, True), run.stderr
    assert list_versions(connect(url)) == []


# What goes wrong


def test_a_database_out_of_reach_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "1")
    with closed_port() as port:
        database = connect(f"mysql+pymysql://user:hidden-word@127.0.0.1:{port}/sightline")
        started = time.monotonic()
        for use in (database.migrate, lambda: list_versions(database)):
            told = rf"127\.0\.0\.1:{port}/sightline .*tried for \d s"
            with pytest.raises(DatabaseUnreachableError, match=told) as caught:
                use()
            assert "hidden-word" not in str(caught.value)
        assert 1 < time.monotonic() - started < 5


@pytest.mark.slow
def test_a_database_that_says_nothing_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "1")
    started = time.monotonic()
    with silent_port() as port, pytest.raises(DatabaseUnreachableError, match=f"127.0.0.1:{port}"):
        connect(f"mysql://user:hidden-word@127.0.0.1:{port}/sightline").migrate()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"password": "hidden-word"}, DatabaseDeniedError, "refused the user 'sightline'"),
        ({"username": "nobody"}, DatabaseDeniedError, "refused the user 'nobody'"),
        ({"database": "no_such"}, DatabaseError, "no such database"),
    ],
)
def test_a_refusal_names_user_and_server_but_no_password(
    mariadb_url: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    url = sqlalchemy.make_url(mariadb_url).set(**change).render_as_string(hide_password=False)
    with pytest.raises(error, match=message) as caught:
        connect(url).migrate()
    assert "hidden-word" not in str(caught.value)
    assert "127.0.0.1:" in str(caught.value)


def test_a_broken_connection_is_made_anew(mariadb_url: str) -> None:
    database = connect(mariadb_url)
    database.migrate()
    killed: list[int] = []

    def work(session: Any) -> int:
        if not killed:
            number = session.scalar(sqlalchemy.text("SELECT CONNECTION_ID()"))
            killed.append(number)
            with sqlalchemy.create_engine(mariadb_url).connect() as other:
                other.execute(sqlalchemy.text(f"KILL {number}"))
        return int(session.scalar(select(func.count()).select_from(VersionRow)))

    assert database.write(work) == 0
    assert killed


@pytest.mark.parametrize(
    "url", ["", "nonsense", "postgresql://u:hidden-word@h/d", "sqlite://", "sqlite:///:memory:", "mysql://h"]
)
def test_urls_of_no_usable_database_are_refused(url: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        connect(url)
    assert "hidden-word" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but text that is long enough to have a header" * 100)
    with pytest.raises(DatabaseError, match="notes.txt is not a SQLite database"):
        connect(f"sqlite:///{tmp_path}/notes.txt").migrate()


def test_a_locked_sqlite_file_is_waited_for_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "0.5")
    database = connect(f"sqlite:///{tmp_path}/x.db")
    database.migrate()
    holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnreachableError, match=r"x\.db .*locked"):
        claim(database)
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "30")
    with ThreadPoolExecutor() as pool:
        claiming = pool.submit(claim, connect(f"sqlite:///{tmp_path}/x.db"))
        with pytest.raises(TimeoutError):
            claiming.result(0.2)
        holder.execute("COMMIT")
        assert claiming.result().owner == "me"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mysqladmin") is None, reason="mysqladmin is not installed (Debian: mariadb-client)")
def test_the_manifests_readiness_probe_shakes_hands_as_a_client_does(mariadb_url, tmp_path):
    """A port that is only opened would count as a broken handshake, and block the address after a hundred."""
    manifest = Path(__file__).parents[2] / "manifests" / "mysql" / "mysql.yaml"
    (server,) = (each for each in yaml.safe_load_all(manifest.read_text()) if each["kind"] == "StatefulSet")
    mysql = next(each for each in server["spec"]["template"]["spec"]["containers"] if each["name"] == "mysql")
    assert any(each.startswith("--max-connect-errors=") for each in mysql["args"])
    url = sqlalchemy.make_url(mariadb_url)

    def probe(port: int) -> int:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MYSQL_TCP_PORT": str(port)}
        environment["MYSQL_PASSWORD"] = str(url.password)
        return subprocess.run(mysql["readinessProbe"]["exec"]["command"], env=environment, check=False).returncode

    engine = sqlalchemy.create_engine(mariadb_url)
    with engine.connect() as connection:
        counts = "SHOW GLOBAL STATUS LIKE 'Aborted_connects'"
        before = connection.execute(sqlalchemy.text(counts)).one()[1]
        assert [probe(int(url.port or 0)) for _ in range(3)] == [0, 0, 0]
        assert connection.execute(sqlalchemy.text(counts)).one()[1] == before
    with closed_port() as port:
        assert probe(port) != 0
