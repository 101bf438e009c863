"""What may go from volume and storage, what never goes, and what is left when its removal is killed."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from pydantic import SecretStr

from laptop.cli import main
from sightline.catalogue.pruning import volume
from sightline.catalogue.pruning.find import find_prunable, remove, tidy_volume
from sightline.catalogue.pruning.plan import Plan
from sightline.catalogue.verification import verify_versions
from sightline.errors import SightlineError
from sightline.models.bundle import MANIFEST
from sightline.models.store import fetch_bundle
from sightline.processes.folders import take_shared
from sightline.publish.annotations import publish_annotations
from sightline.services.database.connection import HEAD, Database
from sightline.services.database.runs import end_step, start_step
from sightline.services.database.scores import write_evaluation, write_model
from sightline.services.database.versions import claim_version, find_version, renew_claim
from sightline.services.runs.running_step import write_run_facts
from sightline.services.storage import base
from sightline.services.storage.access import open_storage
from sightline.services.storage.base import NoSuchObjectError, Storage
from sightline.services.versioning.claims import name_owner
from sightline.services.versioning.datasets import find_dataset, pull_dataset, unpacked_folder
from sightline.services.versioning.objects import object_name
from sightline.settings import Settings, read_settings
from sightline.steps.snapshot.outside import models_digest
from sightline.versions import smoke_category
from tests.catalogued import ALL, fill
from tests.installed import install
from tests.kept import DAY, Kept, grow_old, keep, opened
from tests.make_labelme import make_labelme
from tests.mariadb import new_database
from tests.services import make_bucket
from tests.unit.test_work_folders import make as make_work_folder

FORKS = get_context("fork")
CATEGORY, VERSION = "desk", "v0.1.0"
BEST, LAST, LOSER, OTHER, NOBODYS = (f"{number}" * 64 for number in range(5))
"""Models: selected; of the same training; of a training without a selected one, the best and the last; without a row."""


@pytest.fixture(scope="module", params=["files", pytest.param("cloud", marks=pytest.mark.slow)])
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Four published versions; `old`, a run of forty days ago that selected a model; `lost`, one that did not, as old.

    On files with SQLite, and in the Cloud Storage emulator with MariaDB.
    """
    folder = tmp_path_factory.mktemp("pruned")
    with contextlib.ExitStack() as services:
        environment = services.enter_context(pytest.MonkeyPatch.context())
        storage = database = ""
        if request.param == "cloud":
            storage = f"gs://{make_bucket(request.getfixturevalue('gcs_emulator'))}/team"
            database = services.enter_context(new_database(request.getfixturevalue("mariadb_server")))
        settings = fill(install(folder / "here", environment, storage, database), folder).settings
        for version in ("v0.1.0", "v0.2.0"):
            pull_dataset(settings, find_dataset(settings, CATEGORY, version))
        add_runs(settings)
        for key, finished in (("a", True), ("b", True), ("c", False)):
            make_work_folder(settings.volume, key, finished=finished)
        grow_old(settings, 40)
        read_settings.cache_clear()
        yield keep(settings, folder / "here")


@pytest.fixture
def settings(pristine: Kept, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """That installation, as it was."""
    pristine.restore()
    database = pristine.settings.database_url.get_secret_value()
    yield install(pristine.folder, monkeypatch, pristine.settings.storage, database).settings
    read_settings.cache_clear()


def add_runs(settings: Settings) -> None:
    database, storage = opened(settings), open_storage(settings.storage)
    for run, models, selected in (("old", (BEST, LAST), BEST), ("lost", (LOSER, OTHER), None)):
        start_step(database, run, "train", category=CATEGORY, code="", code_digest="", parameters={})
        add_results(database, storage, run, models, selected)
        end_step(database, run, "train", "done")
    store_model(storage, NOBODYS)
    database.close()


def add_results(database: Database, storage: Storage, run: str, models: tuple[str, str], selected: str | None) -> None:
    """What train leaves, and evaluate, if it selected one."""
    prefix, version = f"results/{CATEGORY}/{VERSION}/{run}", find_version(database, CATEGORY, "dataset", VERSION)
    assert version is not None
    for kind, sha256 in zip(("best", "last"), models, strict=True):
        store_model(storage, sha256)
        write_reference(storage, f"{prefix}/train/{kind}.json", sha256)
        row = write_model(database, storage.uri(f"models/{sha256}"), sha256, kind, run_id=run, version_id=version.id)  # type: ignore[arg-type]
        if sha256 == selected:
            write_reference(storage, f"{prefix}/evaluate/selected.json", sha256)
            write_evaluation(database, run, row.id, version.id, "test", selected=True, overall={})
    storage.write_bytes(f"{prefix}/train/report.html", b"report" * 100)


def write_reference(storage: Storage, key: str, sha256: str) -> None:
    storage.write_bytes(key, json.dumps({"uri": storage.uri(f"models/{sha256}"), "sha256": sha256}).encode())


def store_model(storage: Storage, sha256: str) -> None:
    for name in ("model.safetensors", MANIFEST):
        storage.write_bytes(f"models/{sha256}/{name}", name.encode() * 100)


def run_step(settings: Settings, step: str, run: str = "now") -> None:
    """A step that is at work just now."""
    database = opened(settings)
    start_step(database, run, step, category=CATEGORY, code="", code_digest="", parameters={})
    database.close()


def by_kind(plan: Plan) -> dict[str, set[str]]:
    """The names of what may go; of a path its end."""
    found: dict[str, set[str]] = {}
    for item in plan.items:
        found.setdefault(item.what, set()).add(item.name.rpartition("/")[2])
    return found


def removed(plan: Plan) -> Plan:
    gone, failed = remove(plan, lambda item: None)
    assert not failed
    assert {item.name for item in gone} == {item.name for item in plan.items}
    return plan


def models(settings: Settings) -> set[str]:
    """The models that the storage has, each whole."""
    keys = [item.key.split("/") for item in open_storage(settings.storage).list("models")]
    found = {sha256 for _, sha256, name in keys if name == MANIFEST}
    assert len(keys) == 2 * len(found)
    return found


def datasets(settings: Settings) -> set[str]:
    return {path.name for path in (settings.volume / "datasets").iterdir()}


def unpacked(settings: Settings, version: str) -> Path:
    dataset = find_dataset(settings, CATEGORY, version)
    return unpacked_folder(settings.volume, CATEGORY, version, dataset.digest)


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time, but for the database's own and locks, which stay empty."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and ".db" not in path.suffix and not path.name.startswith(".")
    }


def test_a_repository_on_this_machine_is_read_where_it_lies_for_the_disk_may_be_full(installed, tmp_path):
    """A file where its private copy would be made stands for the full disk."""
    publish_annotations(installed.settings, make_labelme(tmp_path / "desk", ["a.png"]), "desk", "v0.1.0")
    shutil.rmtree(installed.settings.volume / "work")
    (installed.settings.volume / "work").touch()
    before = installed.state()
    assert find_prunable(installed.settings).notes == ()
    assert installed.state() == before


def test_what_nothing_refers_to_may_go(settings):
    use(settings.volume / "work" / "train-b" / "lock")
    assert take_shared(unpacked(settings, "v0.1.0"))
    plan = find_prunable(settings, keep=1)
    assert by_kind(plan) == {
        "models": {NOBODYS},
        "parts of work folders": {"train-b"},
        "unpacked datasets": {unpacked(settings, "v0.2.0").name},
        "work folders": {"train-a", "train-c"},
    }
    assert plan.notes == ()
    removed(plan)
    assert find_prunable(settings, keep=1).items == ()
    assert work_folders(settings) == {"train-b"}
    assert datasets(settings) == {unpacked(settings, "v0.1.0").name}
    assert models(settings) == {BEST, LAST, LOSER, OTHER}
    assert verify_versions(settings, full=True).ok


def use(path: Path) -> None:
    os.utime(path)


def work_folders(settings: Settings) -> set[str]:
    return {path.name for path in (settings.volume / "work").iterdir()}


def test_what_is_older_than_asked_may_go_but_never_a_selected_model_or_a_version(settings):
    before = find_prunable(settings, keep=0, older_than=41)
    assert by_kind(before).keys() == {"models", "unpacked datasets", "work folders"}
    plan = removed(find_prunable(settings, keep=0, older_than=39))
    assert by_kind(plan)["models"] == {LOSER, OTHER, NOBODYS}
    assert by_kind(plan)["results"] == {"old", "lost", "run-1"}
    assert models(settings) == {BEST, LAST}
    storage = open_storage(settings.storage)
    left = {item.key.removeprefix(f"results/{CATEGORY}/{VERSION}/") for item in storage.list("results")}
    assert left == {"old/train/best.json", "old/train/last.json", "old/evaluate/selected.json"}
    assert datasets(settings) == set()
    assert work_folders(settings) == set()
    found = verify_versions(settings, full=True)
    assert found.ok and {one.tag for one in found.versions} == set(ALL)
    assert find_prunable(settings, keep=0, older_than=39).items == ()
    assert pull_dataset(settings, find_dataset(settings, CATEGORY, VERSION)).is_dir()


def test_an_hour_protects_what_is_made_again_at_once_but_not_the_folder_of_a_finished_training(settings):
    assert take_shared(unpacked(settings, "v0.1.0"))
    use(settings.volume / "work" / "train-a" / "lock")
    plan = by_kind(find_prunable(settings, keep=0))
    assert "train-a" in plan["work folders"]
    assert unpacked(settings, "v0.1.0").name not in plan["unpacked datasets"]


def test_predictions_drawn_images_and_curves_of_an_old_run_go_from_the_storage_alone(settings):
    storage, curves = open_storage(settings.storage), settings.volume / "tensorboard" / "a run" / "events"
    prefix = f"results/{CATEGORY}/{VERSION}/old"
    files = [f"{prefix}/{name}" for name in ("test/predictions.json", "test/images/a.png", "train/tensorboard/events")]
    for key in files:
        storage.write_bytes(key, b"{}")
    curves.parent.mkdir(parents=True)
    curves.touch()
    grow_old(settings, 40)
    removed(find_prunable(settings, older_than=39))
    assert not any(storage.exists(key) for key in files) and curves.exists()
    assert storage.exists(f"{prefix}/train/best.json")


def test_what_a_smoke_test_selected_may_go(settings):
    storage = open_storage(settings.storage)
    for item in list(storage.list(f"results/{CATEGORY}/{VERSION}/old")):
        storage.write_bytes(item.key.replace(CATEGORY, smoke_category(CATEGORY), 1), storage.read_bytes(item.key))
        storage.delete(item.key)
    grow_old(settings, 40)
    removed(find_prunable(settings, keep=0, older_than=39))
    assert models(settings) == set()


def test_the_command_shows_then_removes(settings, capsys):
    workspace = str(settings.volume.parent)
    assert main(["prune", "--workspace", workspace, "--keep", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["prune", "--workspace", workspace, "--keep", "1"]) == 0
    shown = capsys.readouterr().out
    assert "work folders" in shown and shown.endswith("nothing was removed: the same command with --yes does it\n")
    assert work_folders(settings) == {"train-a", "train-b", "train-c"}
    assert main(["prune", "--workspace", workspace, "--keep", "1", "--yes"]) == 0
    assert f"removed {len(told['items'])} of {len(told['items'])}" in capsys.readouterr().out
    assert len(work_folders(settings)) == 1
    assert main(["prune", "--workspace", workspace, "--keep", "1"]) == 0
    assert capsys.readouterr().out == "nothing can be removed\n"
    assert main(["prune", "--workspace", workspace, "--yes", "--json"]) == 1


def test_showing_it_changes_nothing(settings):
    leave(settings)
    grow_old(settings, 2)
    before = everything(settings.volume.parent)
    assert find_prunable(settings, keep=0, older_than=1).size > 0
    assert everything(settings.volume.parent) == before


def test_what_a_run_uses_that_is_going_on_stays(settings):
    plan = find_prunable(settings, keep=0, older_than=39)
    assert len(by_kind(plan)["unpacked datasets"]) == 2
    run_step(settings, "train")
    going_on = find_prunable(settings, keep=0, older_than=39)
    assert "unpacked datasets" not in by_kind(going_on)
    gone = remove(plan, lambda item: None)[0]  # found before the run began
    assert {item.what for item in gone} == {"results", "work folders"}
    assert models(settings) == {BEST, LAST, LOSER, OTHER, NOBODYS}
    assert len(datasets(settings)) == 2


@pytest.mark.parametrize(
    ("what", "step"),
    [
        ("models", "train"),
        ("models", "evaluate"),
        ("models", "test"),
        ("weights", "snapshot"),
        ("weights", "record"),
        ("weights", "train"),
    ],
)
def test_what_was_fetched_stays_while_a_step_may_read_it(settings, what, step):
    fetched = settings.volume / what / BEST
    fetched.mkdir(parents=True)
    os.utime(fetched, (time.time() - 2 * DAY,) * 2)
    assert f"fetched {what}" not in by_kind(find_prunable(settings, keep=1)), "the newest one"
    plan = find_prunable(settings, keep=0)
    assert by_kind(plan)[f"fetched {what}"] == {BEST}
    run_step(settings, step)
    assert f"fetched {what}" not in by_kind(find_prunable(settings, keep=0))
    remove(plan, lambda item: None)
    assert fetched.is_dir()


@pytest.mark.parametrize("what", ["models", "weights"])
def test_what_snapshot_fetched_for_a_run_stays_until_the_run_is_over(settings, what):
    """Its train may wait for a node for days, and nothing else tells that it lives."""
    fetched, other = (settings.volume / what / digest for digest in (BEST, LAST))
    for folder in (fetched, other):
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - 2 * DAY,) * 2)
    write_run_facts(settings, "digest", {}, fetched=[f"{what}/{BEST}"])
    assert by_kind(find_prunable(settings, keep=0))[f"fetched {what}"] == {LAST}
    (facts,) = (settings.volume / "runs").iterdir()
    os.utime(facts, (time.time() - (settings.keep_days + 1) * DAY,) * 2)
    assert by_kind(find_prunable(settings, keep=0))[f"fetched {what}"] == {BEST, LAST}


def test_surplus_weights_are_removed_and_what_a_killed_fetch_left_too(settings):
    fetched = settings.volume / "weights" / BEST
    (settings.volume / "weights" / ".fetching-0" / "file").mkdir(parents=True)
    (settings.volume / "weights" / ".fetching-0.held").touch()
    fetched.mkdir()
    (fetched / "net.pth").write_bytes(b"weights")
    assert "fetched weights" not in by_kind(find_prunable(settings, keep=0)), "taken within the hour"
    os.utime(fetched, (time.time() - 2 * DAY,) * 2)
    found = {item.what: item.size for item in removed(find_prunable(settings, keep=0)).items}
    assert found["fetched weights"] == 7 and "abandoned folders" in found
    assert list((settings.volume / "weights").iterdir()) == []


def test_a_dataset_that_is_taken_since_it_was_looked_at_stays(settings):
    plan = find_prunable(settings, keep=0)
    assert take_shared(unpacked(settings, VERSION))
    remove(plan, lambda item: None)
    assert datasets(settings) == {unpacked(settings, VERSION).name}


def test_a_run_that_is_started_again_keeps_its_results(settings):
    plan = find_prunable(settings, older_than=39)
    database = opened(settings)
    start_step(database, "lost", "train", category=CATEGORY, code="", code_digest="", parameters={})
    end_step(database, "lost", "train", "failed", "no luck")
    database.close()
    remove(plan, lambda item: None)
    kept = {item.key.split("/")[3] for item in open_storage(settings.storage).list("results") if "report" in item.key}
    assert kept == {"lost"}


def test_a_model_that_a_cached_training_hands_on_stays(settings, capsys):
    workspace = settings.volume.parent
    entry = workspace / "kfp" / "0123" / "cache" / "entry.json"
    entry.parent.mkdir(parents=True)
    entry.write_text(json.dumps({"model_reference": json.dumps({"sha256": LOSER})}))
    assert main(["prune", "--workspace", str(workspace), "--older-than", "39", "--yes"]) == 0
    assert models(settings) == {BEST, LAST, LOSER}


def test_a_step_that_is_handed_a_model_that_is_gone_says_how_to_train_it_again(settings):
    """By Kubeflow's cache, which does not know what was removed."""
    removed(find_prunable(settings, older_than=39))
    uri = open_storage(settings.storage).uri(f"models/{LOSER}")
    with pytest.raises(NoSuchObjectError, match=rf"{uri}, which an earlier step hands on, is gone.*--set seed=1"):
        fetch_bundle(settings, uri, LOSER)
    with pytest.raises(NoSuchObjectError, match=f"There is nothing at {uri}"):
        fetch_bundle(settings, uri)


def test_in_a_storage_whose_runs_the_database_does_not_know_results_and_models_stay(settings):
    database = opened(settings)
    for table in ("metric_values", "evaluations", "models", "step_events", "steps", "runs"):
        database.write(lambda session, name=table: session.execute(sqlalchemy.text(f"DELETE FROM {name}")))
    database.close()
    plan = find_prunable(settings, older_than=1)
    assert not {"models", "results"} & by_kind(plan).keys()
    assert "likely not theirs" in plan.notes[0]


def test_results_of_a_run_that_the_database_does_not_know_may_go(settings):
    storage = open_storage(settings.storage)
    key = f"results/{CATEGORY}/{VERSION}/unknown/train/report.html"
    storage.write_bytes(key, b"report")
    assert "results" not in by_kind(find_prunable(settings)), "a run may be about to be recorded"
    grow_old(settings, 2)
    assert by_kind(removed(find_prunable(settings)))["results"] == {"unknown"}
    assert not storage.exists(key)


# --- what an interrupted publisher left ------------------------------------------------------------------------------


def leave(settings: Settings) -> None:
    """Files of no version, on the remote and in the cache; a folder and a half file of a dead process."""
    storage = open_storage(settings.storage)
    for remote in ("annotations", "datasets"):
        storage.write_bytes(f"dvc/{remote}/files/md5/ab/{'c' * 30}", b"12345")
    cached = settings.volume / "dvc-cache" / "files" / "md5" / "ab" / ("d" * 30)
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(b"123")
    (cached.parent / ".0123.sightline-part").write_bytes(b"12")
    for name in ("work/repo-dead", "sources/.reading-dead"):
        (settings.volume / name).mkdir(parents=True)
        (settings.volume / f"{name}.held").touch()
        (settings.volume / name / "file").write_bytes(b"1")


def test_what_an_interrupted_publisher_left_may_go(settings):
    leave(settings)
    assert by_kind(find_prunable(settings)).keys() & {"uploaded files", "cached files"} == set(), "it may be at work"
    grow_old(settings, 2)
    plan = removed(find_prunable(settings, keep=9))
    assert by_kind(plan) == {
        "abandoned folders": {"repo-dead", ".reading-dead"},
        "cached files": {"d" * 30},
        "half files": {".0123.sightline-part"},
        "models": {NOBODYS},
        "parts of work folders": {"train-a", "train-b"},
        "uploaded files": {"c" * 30},
    }
    assert sum(item.what == "uploaded files" for item in plan.items) == 2
    assert find_prunable(settings, keep=9).items == ()
    found = verify_versions(settings, full=True)
    assert (found.ok, found.unneeded_objects, found.abandoned_folders) == (True, 0, 0)


def test_while_somebody_publishes_no_files_go(settings):
    leave(settings)
    grow_old(settings, 2)
    plan = find_prunable(settings, keep=9)
    database = opened(settings)
    claim = claim_version(database, "chair", "annotation", "v0.1.0", name_owner(), 60.0)
    database.close()
    found = find_prunable(settings, keep=9)
    assert not {"uploaded files", "cached files", "claims"} & by_kind(found).keys()
    assert found.notes == ("files of no version were not looked for: chair_ann_v0.1.0 is being published",)
    gone = remove(plan, lambda item: None)[0]
    assert not {"uploaded files", "cached files"} & {item.what for item in gone}
    assert claim.status == "pending"


def test_what_is_published_since_keeps_its_files(settings, monkeypatch):
    """Whoever publishes while files are removed finds some of them there, and counts on them."""
    name, storage = object_name(hashlib.md5(b"12345").hexdigest()), open_storage(settings.storage)
    for remote in ("annotations", "datasets"):
        storage.write_bytes(f"dvc/{remote}/{name}", b"12345")
    cached = settings.volume / "dvc-cache" / name
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(b"12345")
    grow_old(settings, 2)
    plan = find_prunable(settings, keep=9)
    database, deleted = opened(settings), type(storage).delete

    def delete(storage: Storage, key: str) -> bool:
        was_there = deleted(storage, key)
        if key.startswith("dvc/"):  # and by now its claim has ended
            claim_version(database, "chair", "annotation", "v0.1.0", "somebody elsewhere", -1.0)
        return was_there

    monkeypatch.setattr(type(storage), "delete", delete)
    gone = {item.name for item in remove(plan, lambda item: None)[0]}
    database.close()
    files = {item.name for item in plan.items if item.what in ("uploaded files", "cached files")}
    assert len(files) == 3
    assert not files & gone
    assert cached.exists()
    assert [storage.read_bytes(f"dvc/{remote}/{name}") for remote in ("annotations", "datasets")] == [b"12345"] * 2


def test_what_goes_while_somebody_begins_to_publish_and_cannot_be_put_back_is_told(settings, monkeypatch):
    leave(settings)
    grow_old(settings, 2)
    plan, storage = find_prunable(settings, keep=9), open_storage(settings.storage)
    database, deleted = opened(settings), type(storage).delete

    def delete(storage: Storage, key: str) -> bool:
        if key.startswith("dvc/"):
            claim_version(database, "chair", "annotation", "v0.1.0", "somebody elsewhere", 60.0)
        return deleted(storage, key)

    monkeypatch.setattr(type(storage), "delete", delete)
    gone, failed = remove(plan, lambda item: None)
    database.close()
    files = [item.name for item in plan.items if item.what == "uploaded files"]
    assert [item for item in gone if item.what == "uploaded files"] == []
    assert failed.keys() == {files[0]}, "of the other one it was known before"
    assert "somebody began to publish" in failed[files[0]] and "pipeline.py verify" in failed[files[0]]


def test_another_installations_files_stay(settings, tmp_path):
    grow_old(settings, 2)
    elsewhere = {
        "database_url": SecretStr(f"sqlite:///{tmp_path}/other.db"),
        "dataset_repo": str(tmp_path / "other.git"),
    }
    stranger = settings.model_copy(update=elsewhere)
    found = find_prunable(stranger, keep=9)
    assert not {"uploaded files", "cached files"} & by_kind(found).keys()
    assert sum("stay: they make whole folders" in note for note in found.notes) == 2
    leave(stranger)
    grow_old(settings, 2)
    assert by_kind(find_prunable(stranger, keep=9))["uploaded files"] == {"c" * 30}
    assert verify_versions(settings, full=True).ok


def test_a_file_that_any_commit_of_the_repository_names_stays(settings, tmp_path):
    leave(settings)
    clone = tmp_path / "clone"
    run = partial(subprocess.run, check=True, capture_output=True, cwd=clone)
    subprocess.run(["git", "clone", "-q", settings.dataset_repo, str(clone)], check=True)
    (clone / "notes").mkdir()
    name = hashlib.md5(b"class definitions", usedforsecurity=False).hexdigest()
    (clone / "notes/classes.txt.dvc").write_text(
        f"outs:\n- md5: {name}\n  size: 17\n  hash: md5\n  path: classes.txt\n"
    )
    run(["git", "checkout", "-q", "-b", "notes"])
    run(["git", "add", "-A"])
    run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "notes"])
    run(["git", "push", "-q", "origin", "notes"])
    for remote in ("annotations", "datasets"):
        open_storage(settings.storage).write_bytes(f"dvc/{remote}/{object_name(name)}", b"class definitions")
    cached = settings.volume / "dvc-cache" / object_name(name)
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(b"class definitions")
    grow_old(settings, 2)
    plan = removed(find_prunable(settings, keep=9))
    assert by_kind(plan)["uploaded files"] == {"c" * 30}
    assert by_kind(plan)["cached files"] == {"d" * 30}
    assert open_storage(settings.storage).exists(f"dvc/annotations/{object_name(name)}")
    assert cached.is_file()


def test_tables_of_a_newer_release_are_not_pruned_by(settings):
    leave(settings)
    grow_old(settings, 2)
    engine = sqlalchemy.create_engine(settings.database_url.get_secret_value())

    def set_version(version: str) -> None:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"update alembic_version set version_num = '{version}'"))

    set_version("9999")
    try:
        with pytest.raises(SightlineError, match="newer Sightline, which may refer to more than this one knows"):
            find_prunable(settings)
    finally:
        set_version(HEAD)  # other tests have the same database


def test_what_cannot_be_removed_is_named_and_found_again(settings, monkeypatch):
    grow_old(settings, 60)
    names = by_kind(find_prunable(settings, keep=0))["work folders"]
    refused, refuses = [], shutil.rmtree

    def refuse(path, ignore_errors=False, **more):
        if Path(path).name in names and Path(path).parent.name.startswith(".removing-"):
            refused.append(Path(path))
            if not ignore_errors:
                raise PermissionError(13, "Permission denied", str(path / "mine"))
            return
        if Path(path).name.startswith(".removing-") and any(Path(path).iterdir()):
            if not ignore_errors:
                raise PermissionError(13, "Permission denied", str(path))
            return
        refuses(path, ignore_errors=ignore_errors, **more)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    done, failed = remove(find_prunable(settings, keep=0), lambda _: None)
    assert failed.keys() >= names
    assert all(failed[name].startswith("Permission denied (") and "mine" in failed[name] for name in names)
    assert not names & {item.name for item in done}
    monkeypatch.undo()
    left = {path.parent.name for path in refused}
    assert by_kind(find_prunable(settings, keep=0))["abandoned folders"] >= left
    removed(find_prunable(settings, keep=0))
    assert not any((settings.volume / "work" / name).exists() for name in left)


def test_a_folder_that_nobody_may_look_into_is_noted_and_the_others_go(settings, monkeypatch):
    grow_old(settings, 60)
    (closed, *others) = sorted(by_kind(find_prunable(settings, keep=0))["work folders"])
    looks = volume.is_in_use

    def look(folder):
        if folder.path.name == closed:
            raise PermissionError(13, "Permission denied", str(folder.path))
        return looks(folder)

    monkeypatch.setattr(volume, "is_in_use", look)
    plan = find_prunable(settings, keep=0)
    assert by_kind(plan)["work folders"] == set(others)
    assert any(f"{closed} stays: it cannot be looked at (Permission denied)" in note for note in plan.notes)


@pytest.mark.parametrize("pristine", ["files"], indirect=True)  # a bucket lists what it holds by itself
def test_files_that_go_while_the_storage_is_listed_are_not_missed(settings, monkeypatch):
    leave(settings)
    walks = base.walk

    def walk(folder):
        found = walks(folder)
        for path in found.values():
            if path.name == "c" * 30:
                path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(base, "walk", walk)
    assert "c" * 30 not in "".join(item.key for item in open_storage(settings.storage).list("dvc"))
    assert verify_versions(settings).ok


FOREIGN = (
    "models/pretrained.pth",
    "models/mine/model.pth",
    "results/notes/2024/jan/thoughts.txt",
    "dvc/annotations/mine/precious",
    "dvc/annotations/files/md5/aa/notes.txt",
)


def test_what_has_no_name_of_ours_stays(settings, tmp_path):
    storage = open_storage(settings.storage)
    for key in FOREIGN:
        storage.write_bytes(key, b"1")
    (settings.volume / "dvc-cache/files/md5/aa").mkdir(parents=True, exist_ok=True)
    (settings.volume / "dvc-cache/files/md5/aa/notes.txt").touch()
    (settings.volume / "dvc-cache/files/md5/aa" / ("b" * 30)).mkdir()
    own = tmp_path / "checkpoints"
    shutil.move(settings.volume / "work" / "train-a" / "checkpoints", own)
    (settings.volume / "work" / "train-a" / "checkpoints").symlink_to(own)
    shutil.move(settings.volume / "work" / "train-b", tmp_path / "train-b")
    (settings.volume / "work" / "train-b").symlink_to(tmp_path / "train-b")
    before = everything(tmp_path)
    grow_old(settings, 40)
    plan = removed(find_prunable(settings, keep=9, older_than=39))
    assert not {"cached files", "uploaded files", "parts of work folders"} & by_kind(plan).keys()
    assert all(storage.exists(key) for key in FOREIGN)
    assert everything(tmp_path) == before


def test_the_claim_of_a_dead_publisher_may_go(settings):
    database = opened(settings)
    claim_version(database, "chair", "annotation", "v0.1.0", "somebody elsewhere", -1.0)
    assert by_kind(removed(find_prunable(settings, keep=9)))["claims"] == {"chair_ann_v0.1.0"}
    assert find_version(database, "chair", "annotation", "v0.1.0") is None
    database.close()


def test_a_claim_that_its_publisher_renewed_since_stays(settings):
    """Its machine slept, or this one's clock is wrong: the database's tells."""
    database = opened(settings)
    claim = claim_version(database, "chair", "annotation", "v0.1.0", "somebody elsewhere", -1.0)
    plan = find_prunable(settings, keep=9)
    assert by_kind(plan)["claims"] == {"chair_ann_v0.1.0"}
    renew_claim(database, claim, 60.0)
    assert "claims" not in {item.what for item in remove(plan, lambda item: None)[0]}
    assert find_version(database, "chair", "annotation", "v0.1.0") is not None
    database.close()


# --- by itself -------------------------------------------------------------------------------------------------------


def test_when_a_run_starts_what_is_surplus_goes(settings, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_KEEP_FOLDERS", "1")
    read_settings.cache_clear()
    database = opened(settings)
    use(settings.volume / "work" / "train-a" / "lock")
    tidy_volume(read_settings(), database)
    database.close()
    assert work_folders(settings) == {"train-a"}
    assert len(datasets(settings)) == 1
    assert models(settings) == {BEST, LAST, LOSER, OTHER, NOBODYS}, "only on the volume"


# --- killed ----------------------------------------------------------------------------------------------------------


def remove_and_die(settings: Settings, after: int, what: str = "") -> None:
    """Remove everything, or what is of a kind; die before file system or bucket are asked for their n-th removal or renaming."""
    left = [after]
    plan = find_prunable(settings, keep=0, older_than=39)
    plan = Plan(tuple(item for item in plan.items if what in ("", item.what)))

    def count(event: str, arguments: Any) -> None:
        deletes = event == "http.client.send" and arguments[1].startswith(b"DELETE ")
        if deletes or event in ("os.remove", "os.rename", "os.rmdir"):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    remove(plan, lambda item: None)


def kill_while_removing(settings: Settings, after: int, what: str = "") -> None:
    process = FORKS.Process(target=remove_and_die, args=(settings, after, what))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


QUICK = (0, 3, 40)


@pytest.mark.parametrize(
    "after",
    [pytest.param(number, marks=() if number in QUICK else pytest.mark.slow) for number in (*range(12), 20, 40, 60)],
)
def test_killed_anywhere_nothing_half_is_left_that_anybody_takes_for_whole(settings, after):
    leave(settings)
    grow_old(settings, 40)
    kill_while_removing(settings, after)
    keys = {item.key for item in open_storage(settings.storage).list("models")}
    for manifest in (key for key in keys if key.endswith(MANIFEST)):
        assert manifest.replace(MANIFEST, "model.safetensors") in keys, "half a model that looks whole"
    for version in ("v0.1.0", "v0.2.0"):
        folder = unpacked(settings, version)
        assert not folder.exists() or pull_dataset(settings, find_dataset(settings, CATEGORY, version)) == folder
    assert verify_versions(settings, full=True).ok
    removed(find_prunable(settings, keep=0, older_than=39))
    assert models(settings) == {BEST, LAST}
    assert find_prunable(settings, keep=0, older_than=39).items == ()
    assert verify_versions(settings, full=True).ok


def test_a_model_of_which_something_is_left_is_none_to_anybody_and_goes_with_the_next(settings):
    kill_while_removing(settings, 1, "models")
    storage = open_storage(settings.storage)
    keys = [item.key.split("/") for item in storage.list("models")]
    (half,) = {LOSER, OTHER, NOBODYS} - {sha256 for _, sha256, name in keys if name == MANIFEST}
    assert [name for _, sha256, name in keys if sha256 == half] == ["model.safetensors"]
    for look in (lambda uri: models_digest([uri]), lambda *uri: fetch_bundle(settings, *uri)):
        with pytest.raises(SightlineError, match=MANIFEST):
            look(storage.uri(f"models/{half}"))
    removed(find_prunable(settings, keep=0, older_than=39))
    assert models(settings) == {BEST, LAST}


@pytest.mark.parametrize("after", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_of_results_a_report_goes_before_its_pictures_and_what_is_left_goes_with_the_next(settings, after):
    storage, prefix = open_storage(settings.storage), f"results/{CATEGORY}/{VERSION}/lost"
    for name in ("images/a.jpg", "images/b.jpg", "report.html"):
        storage.write_bytes(f"{prefix}/test/{name}", b"drawn")
    for item in [one for one in find_prunable(settings, older_than=39).items if one.what == "results"]:
        if not item.name.endswith("lost"):
            item.remove()
    kill_while_removing(settings, after, "results")
    left = {item.key.removeprefix(f"{prefix}/test/") for item in storage.list(f"{prefix}/test")}
    assert left == {"images/a.jpg", "images/b.jpg"}
    removed(find_prunable(settings, keep=0, older_than=39))
    assert list(storage.list(prefix)) == []


def remove_together(settings: Settings, barrier: Barrier, answers: Connection) -> None:
    plan = find_prunable(settings, keep=0, older_than=39)
    barrier.wait(60)
    gone, failed = remove(plan, lambda item: None)
    answers.send(([(item.what, item.name) for item in plan.items], [(item.what, item.name) for item in gone], failed))


def test_of_several_removals_at_once_each_counts_what_it_removed_itself(settings):
    leave(settings)
    grow_old(settings, 40)
    answers, theirs = FORKS.Pipe(duplex=False)
    barrier = FORKS.Barrier(3)
    processes = [FORKS.Process(target=remove_together, args=(settings, barrier, theirs)) for _ in range(3)]
    for process in processes:
        process.start()
    plans, counted, failed = zip(*[answers.recv() for _ in processes], strict=True)
    for process in processes:
        process.join(60)
    assert {what for what, _ in plans[0]} >= {"models", "results", "uploaded files", "half files", "abandoned folders"}
    assert not any(failed)
    assert sorted(one for part in counted for one in part) == sorted(plans[0])


def test_what_names_a_model_that_an_earlier_removal_took_goes_with_the_next(settings):
    plan = find_prunable(settings, older_than=39)
    removed(Plan(tuple(item for item in plan.items if item.what == "models")))  # and then it is killed
    removed(find_prunable(settings, keep=0, older_than=39))
    assert [item.key for item in open_storage(settings.storage).list("results") if "/lost/" in item.key] == []


def test_what_names_a_model_that_is_left_alone_stays(settings):
    plan = find_prunable(settings, older_than=39)
    run_step(settings, "train")
    gone = remove(plan, lambda item: None)[0]
    assert {item.what for item in gone} >= {"results"} and LOSER in models(settings)
    kept = {item.key.rpartition("/lost/")[2] for item in open_storage(settings.storage).list("results")}
    assert kept >= {"train/best.json", "train/last.json"} and "train/report.html" not in kept
