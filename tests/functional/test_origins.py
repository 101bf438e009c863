"""The training that another goes on from: found by its run, kept on the volume, and what is said where that cannot be."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.catalogue.pruning.find import find_prunable, remove
from sightline.errors import SightlineError
from sightline.services.database.connection import Database, connect
from sightline.services.database.runs import start_step
from sightline.services.database.scores import ModelKind, write_evaluation, write_model
from sightline.services.database.versions import claim_version
from sightline.services.runs.origins import (
    bring_checkpoint,
    find_origin,
    require_more,
    require_same_task,
    take_checkpoint,
)
from sightline.services.runs.running_step import write_run_facts
from sightline.services.runs.trainings import introduce, note_models
from sightline.services.runs.work_folders import finish, work_folder
from sightline.settings import Settings
from tests.installed import Installed
from tests.workspace import REPOSITORY

BEST, LAST = "b" * 64, "a" * 64
HOLD = """
import sys
from pathlib import Path
from sightline.services.runs.work_folders import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def settings(installed: Installed) -> Settings:
    return installed.settings


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = connect(settings.database_url.get_secret_value())
    database.migrate()
    yield database
    database.close()


def make(settings: Settings, run: str, key: str = "1", epochs: int = 2, finished: bool = True) -> Path:
    """A work folder in which a run has trained so many epochs."""
    folder = work_folder(settings.volume, key)
    (folder / "checkpoints").mkdir(parents=True)
    introduce(folder, run, {"category": "desk", "task": "detection", "classes": ["cup"], "code": "train-1"})
    for epoch in range(1, epochs + 1):
        write_checkpoint(folder / "checkpoints" / f"iter_{epoch * 10:08d}.pth", age=epochs - epoch + 1)
    lines = [{"kind": "train", "epoch": epoch, "iter": epoch * 10} for epoch in range(1, epochs + 1)]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("best.pth", "lock"):
        (folder / name).write_text(name)
    if finished:
        note_models(folder, {"best": BEST, "last": LAST})
        finish(folder)
    return folder


def write_checkpoint(path: Path, age: float = 0) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", path.name * 1000)
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))


def record(database: Database, run: str, asked: dict[str, Any] | None = None) -> None:
    facts = {"category": "desk", "code": "train-1", "code_digest": "", "parameters": asked or {}}
    start_step(database, run, "train", **facts)


def write(database: Database, run: str, kind: ModelKind, sha256: str) -> int:
    return write_model(database, f"file:///storage/models/{sha256}", sha256, kind, run_id=run).id


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- which run -------------------------------------------------------------------------------------------------------


def test_a_run_is_known_by_the_beginning_of_its_id(settings: Settings) -> None:
    folder = make(settings, "20261128-101010-ab12")
    make(settings, "20261128-101010-cd34", "2")
    assert find_origin(settings, "20261128-101010-ab", "desk").folder == folder
    assert find_origin(settings, "20261128-101010-cd34", "desk").run == "20261128-101010-cd34"
    with pytest.raises(SightlineError, match="begins several runs: 20261128-101010-ab12, 20261128-101010-cd34"):
        find_origin(settings, "20261128", "desk")
    with pytest.raises(SightlineError, match=r"begins no run's id\. Did you mean '20261128-101010-ab12'"):
        find_origin(settings, "20261128-101010-xb12", "desk")


def test_latest_is_the_training_of_the_category_at_which_somebody_was_last(settings: Settings) -> None:
    make(settings, "older")
    newer = make(settings, "newer", "2")
    introduce(newer, "again", {})
    os.utime(newer / "lock", (2e9, 2e9))
    found = find_origin(settings, "latest", "desk")
    assert (found.folder, found.run, found.epochs) == (newer, "again", 2)
    failed = make(settings, "failed", "3", epochs=0, finished=False)
    os.utime(failed / "lock", (3e9, 3e9))
    assert find_origin(settings, "latest", "desk").run == "again"
    with pytest.raises(SightlineError, match="No training of plates is on the volume"):
        find_origin(settings, "latest", "plates")


def test_a_run_that_reused_a_training_is_known_by_the_models_that_it_scored(
    settings: Settings, database: Database
) -> None:
    folder = make(settings, "first")
    for run in ("first", "second"):
        record(database, run)
    models = [write(database, "first", "best", BEST), write(database, "first", "last", LAST)]
    version = claim_version(database, "desk", "dataset", "v0.1.0", "me").id
    for model in models:
        write_evaluation(database, "second", model, version, "test", selected=model == models[0], overall={})
    found = find_origin(settings, "second", "desk")
    assert (found.folder, found.run) == (folder, "second")


def test_a_run_that_reused_even_the_scores_is_known_by_what_it_asked_for(
    settings: Settings, database: Database
) -> None:
    folder = make(settings, "first")
    make(settings, "longer", "2")
    for run, asked in (("first", {"epochs": 2}), ("longer", {"epochs": 3})):
        record(database, run, asked)
    for run, code in (("third", "train-1"), ("fourth", "train-2")):
        write_run_facts(settings.model_copy(update={"run": run}), "digest", {"epochs": 2}, ["record-1", code])
    assert find_origin(settings, "third", "desk").folder == folder
    with pytest.raises(SightlineError, match="The run fourth has no checkpoint"):
        find_origin(settings, "fourth", "desk")


def test_a_checkpoint_that_was_removed_is_told_with_what_to_do_instead(settings: Settings, database: Database) -> None:
    record(database, "gone")
    with pytest.raises(SightlineError, match=r"The run gone has no checkpoint.*Train from the start\."):
        find_origin(settings, "gone", "desk")
    write(database, "gone", "last", LAST)
    write(database, "gone", "best", BEST)
    with pytest.raises(SightlineError, match=rf"`prune` has removed it.*--pretrained file:///storage/models/{BEST}$"):
        find_origin(settings, "gone", "desk")


def test_as_many_epochs_as_there_are_and_another_task_are_refused(settings: Settings) -> None:
    make(settings, "done")
    make(settings, "killed", "2", finished=False)
    done, killed = (find_origin(settings, run, "desk") for run in ("done", "killed"))
    require_more(done, 3)
    require_more(done, None)
    require_more(killed, 2)  # of whose second epoch something may be left
    with pytest.raises(SightlineError, match="has trained 2 epochs, and 2 are asked for.*--epochs 4"):
        require_more(done, 2)
    with pytest.raises(SightlineError, match="has trained for detection, and this run is for classification"):
        require_same_task(done, "classification")


# --- kept on the volume ----------------------------------------------------------------------------------------------


def test_what_is_kept_is_the_newest_whole_checkpoint_and_outlives_the_work_folder(settings: Settings) -> None:
    folder = make(settings, "run-1", finished=False)
    write_checkpoint(folder / "checkpoints" / "light.pth")
    light = (folder / "checkpoints" / "light.pth").read_bytes()
    before = files(folder)
    first = bring_checkpoint(find_origin(settings, "run-1", "desk"), settings)
    assert files(folder) == before
    (folder / "checkpoints" / "light.pth").unlink()  # training replaces it, and never writes into it
    (folder / "checkpoints" / "light.pth").write_bytes(b"PK, and then the machine crashed")
    second = bring_checkpoint(find_origin(settings, "run-1", "desk"), settings)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    kept = [files(take_checkpoint(reference, settings)) for reference in (first, second)]
    assert kept[0].keys() == {"checkpoint.pth", "best.pth", "history.jsonl", "manifest.json"}
    assert [each["checkpoint.pth"] for each in kept] == [light, before["iter_00000020.pth"]]
    assert first.sha256 != second.sha256 and (first.parent, second.parent) == ("", "")


def test_the_same_is_kept_once_whichever_run_names_it(settings: Settings) -> None:
    folder = make(settings, "run-1")
    one = bring_checkpoint(find_origin(settings, "run-1", "desk"), settings)
    introduce(folder, "run-2", {"category": "other"})
    two = bring_checkpoint(find_origin(settings, "run-2", "desk"), settings)
    assert (one.sha256, one.parent) == (two.sha256, LAST)
    assert [path.name for path in (settings.volume / "resumed").iterdir()] == [one.sha256]


def test_while_another_process_trains_nothing_is_taken(settings: Settings) -> None:
    folder = make(settings, "busy", finished=False)
    library = {"PYTHONPATH": str(REPOSITORY / "shared_volume")}
    command = [sys.executable, "-c", HOLD, str(folder)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | library)
    assert other.stdout and other.stdout.readline() == b"held\n"
    with pytest.raises(SightlineError, match="The training of the run busy is at work just now"):
        bring_checkpoint(find_origin(settings, "busy", "desk"), settings)
    other.communicate()
    assert bring_checkpoint(find_origin(settings, "busy", "desk"), settings).run == "busy"


def test_a_training_without_a_whole_checkpoint_is_told(settings: Settings) -> None:
    make(settings, "early", epochs=0, finished=False)
    with pytest.raises(SightlineError, match="The run early has no whole checkpoint"):
        bring_checkpoint(find_origin(settings, "early", "desk"), settings)


def test_what_changed_or_is_gone_is_not_gone_on_from(settings: Settings) -> None:
    make(settings, "run-1")
    reference = bring_checkpoint(find_origin(settings, "run-1", "desk"), settings)
    folder = take_checkpoint(reference, settings)
    with (folder / "history.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(SightlineError, match=r"history\.jsonl is not as it was when this run began"):
        take_checkpoint(reference, settings)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(SightlineError, match="Start the run again"):
        take_checkpoint(reference, settings)


def test_prune_leaves_what_a_run_may_yet_go_on_from(settings: Settings) -> None:
    kept = []
    for key in ("1", "2"):
        make(settings, f"run-{key}", key)
        (work_folder(settings.volume, key) / "history.jsonl").write_text(f'{{"epoch": {key}, "iter": 1}}\n')
        reference = bring_checkpoint(find_origin(settings, f"run-{key}", "desk"), settings)
        os.utime(settings.volume / reference.folder, (1e9, 1e9))
        kept.append(reference)
    write_run_facts(settings, "digest", {}, fetched=[kept[0].folder])
    plan = find_prunable(settings, keep=0)
    assert [item.name for item in plan.items if item.what == "checkpoints to go on from"] == [kept[1].sha256]
    remove(plan, lambda _: None)
    assert [path.name for path in (settings.volume / "resumed").iterdir()] == [kept[0].sha256]
