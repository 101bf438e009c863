"""Trainings that others go on from: found by the run that they were of, and their newest checkpoint kept on the volume."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sightline.errors import SightlineError, did_you_mean
from sightline.processes.folders import lock_if_free, private_folder, take_shared
from sightline.references import CheckpointReference
from sightline.services.database.connection import connect
from sightline.services.database.models import ModelRow
from sightline.services.database.runs import list_runs
from sightline.services.database.scores import list_models
from sightline.services.runs.trainings import (
    BEST,
    CHECKPOINT,
    FACTS,
    HISTORY,
    LATEST,
    MANIFEST,
    MODELS,
    read_json,
    runs_in,
    too_few,
    write_json,
)
from sightline.services.runs.work_folders import LOCK, WorkFolder, find_work_folders, newest_whole
from sightline.services.storage.folder import digest_file
from sightline.settings import Settings

FOLDER: Final = "resumed"
RUN_FACTS: Final = "runs"  # the folder of what snapshot leaves of each run
MOST: Final = 5  # names in a message


@dataclass(frozen=True, slots=True)
class Found:
    """A training in its work folder, by a run that it was of."""

    run: str
    folder: Path
    epochs: int  # that are whole
    facts: dict[str, Any] = field(repr=False)  # as its work folder says them


def find_origin(settings: Settings, words: str, category: str) -> Found:
    """The training of the run whose id begins so; for `latest` that of the category at which somebody was last at work.

    A run that reused another's training, as the cache allows, is known by the models that it scored, or else by what it asked for.

    Raises:
        SightlineError: no such run, several, or nothing to go on from: then what to begin from instead.
    """
    folders = find_work_folders(settings.volume)
    noted = {run: folder for folder in reversed(folders) for run in runs_in(folder.path)}
    if words == LATEST:
        return _latest(folders, category)
    with contextlib.closing(connect(settings.database_url.get_secret_value())) as database:
        database.migrate()
        rows = {row.id: row for row in list_runs(database)}
        started = [path.stem for path in (settings.volume / RUN_FACTS).glob("*.json")]
        run = _whole_id(words, [*noted, *rows, *started])
        if run in noted:
            return _look(noted[run].path, run)
        models = list_models(database, run)
    asked_alike = {other: row.parameters for other, row in rows.items() if other in noted}
    reused = _by_models(models, folders) or _by_request(settings.volume, run, asked_alike, noted)
    return _look(_only(reused, run, models, settings).path, run)


def _latest(folders: Sequence[WorkFolder], category: str) -> Found:
    for folder in folders:
        runs = runs_in(folder.path)
        of_category = read_json(folder.path / FACTS).get("category") == category
        if (
            runs and of_category and newest_whole(folder.path) is not None
        ):  # not an attempt that failed before its first
            return _look(folder.path, runs[-1])
    raise SightlineError(
        f"No training of {category} is on the volume that came to a checkpoint, so there is none to go on from."
    )


def _whole_id(words: str, known: Sequence[str]) -> str:
    if words in known:
        return words
    found = sorted({run for run in known if run.startswith(words)})
    if len(found) == 1:
        return found[0]
    if found:
        raise SightlineError(f"{words} begins several runs: {', '.join(found[:MOST])}. Give more of it.")
    raise SightlineError(
        f"{words} begins no run's id.{did_you_mean(words, known)} `python pipeline.py runs` lists runs, and {LATEST} is the category's latest."
    )


def _by_models(models: Sequence[ModelRow], folders: Sequence[WorkFolder]) -> list[WorkFolder]:
    """The work folders that models came of."""
    digests = {model.sha256 for model in models}
    return [folder for folder in folders if digests & set(read_json(folder.path / MODELS).values())]


def _by_request(
    volume: Path, run: str, others: Mapping[str, Mapping[str, Any]], noted: Mapping[str, WorkFolder]
) -> list[WorkFolder]:
    """The work folders of others that asked for the same, of the same code."""
    facts = read_json(volume / RUN_FACTS / f"{run}.json")
    alike = {noted[other].path: noted[other] for other, asked in others.items() if asked == facts.get("parameters")}
    codes = facts.get("releases", ())
    return [folder for path, folder in alike.items() if read_json(path / FACTS).get("code") in codes]


def _only(found: Sequence[WorkFolder], run: str, models: Sequence[ModelRow], settings: Settings) -> WorkFolder:
    if len(found) == 1:
        return found[0]
    if found:
        others = sorted({each for folder in found for each in runs_in(folder.path)})
        raise SightlineError(
            f"The run {run} trained nothing itself, and scored models of several trainings. Name the run that trained the one you mean: "
            f"{', '.join(others[:MOST])}."
        )
    raise SightlineError(
        f"The run {run} has no checkpoint on the volume: it never came to one, or `prune` has removed it (the newest "
        f"{settings.keep_folders} work folders stay), or an older release of Sightline wrote it. {_instead(models)}"
    )


def _instead(models: Sequence[ModelRow]) -> str:
    best = next((model for model in models if model.kind in ("best", "selected")), None)
    if best is None:
        return "Train from the start."
    return f"Begin from its best model instead, with a new optimizer and schedule: --pretrained {best.uri}"


def _look(folder: Path, run: str) -> Found:
    return Found(run, folder, _whole_epochs(folder), read_json(folder / FACTS))


def _whole_epochs(folder: Path) -> int:
    lines = (folder / HISTORY).read_text().splitlines() if (folder / HISTORY).is_file() else []
    epochs = [0]
    for line in lines:
        with contextlib.suppress(ValueError):  # one that a kill cut off
            epochs.append(json.loads(line)["epoch"])
    return max(epochs) if (folder / MODELS).is_file() else max(max(epochs) - 1, 0)


def require_more(found: Found, planned: int | None) -> None:
    """Refuse to go on with no more epochs than a training has; None where nothing tells how many are planned."""
    if planned is not None and planned <= found.epochs:
        raise too_few(found.run, found.epochs, planned)


def require_same_task(found: Found, task: str) -> None:
    """Refuse to go on with a training of another task."""
    theirs = found.facts.get("task", task)
    if theirs != task:
        raise SightlineError(
            f"The run {found.run} has trained for {theirs}, and this run is for {task}. Name a run of the same task."
        )


def bring_checkpoint(found: Found, settings: Settings) -> CheckpointReference:
    """Keep a training's newest whole checkpoint on the volume, with its history and best weights, under the digest of it all.

    The files are linked, where the file system can, as nobody ever writes into one.

    Raises:
        SightlineError: another process is at work there, or there is no checkpoint yet.
    """
    home = settings.volume / FOLDER
    with lock_if_free(found.folder / LOCK) as free, private_folder(home, ".linking-") as private:
        if not free:
            raise SightlineError(
                f"The training of the run {found.run} is at work just now. Wait for its end (`python pipeline.py runs`), or stop it; "
                "then it can be gone on from."
            )
        checkpoint = newest_whole(found.folder)
        if checkpoint is None:
            raise SightlineError(
                f"The run {found.run} has no whole checkpoint: it ended before the first one. Name one that came to a checkpoint "
                f"({LATEST} is the newest of these), or train from the start."
            )
        arrived = private / "training"
        arrived.mkdir()
        files = dict(_bring(found.folder, checkpoint, arrived))
        write_json(arrived / MANIFEST, {**found.facts, "files": files})
        sha256 = digest_file(arrived / MANIFEST, hashlib.sha256)[1]
        if not take_shared(home / sha256):
            arrived.rename(home / sha256)
    parent = read_json(found.folder / MODELS).get("last", "")
    return CheckpointReference(sha256, found.run, files[CHECKPOINT], parent)


def _bring(folder: Path, checkpoint: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Bring a training's files to `target`. Yields their names and digests."""
    for source, name in ((checkpoint, CHECKPOINT), (folder / BEST, BEST), (folder / HISTORY, HISTORY)):
        if not source.is_file():
            continue
        try:
            if name == HISTORY:  # the only one that is written to where it lies
                raise OSError
            os.link(source, target / name)
        except OSError:
            shutil.copyfile(source, target / name)
        yield name, digest_file(target / name, hashlib.sha256)[1]


def take_checkpoint(reference: CheckpointReference, settings: Settings) -> Path:
    """The folder of what a reference names, as snapshot left it on the volume; a SightlineError where it is gone or changed."""
    folder = settings.volume / reference.folder
    if not take_shared(folder):
        raise SightlineError(
            f"What the run {reference.run} left to go on from is no longer at {folder}: somebody removed it after this run began. "
            "Start the run again."
        )
    files = {MANIFEST: reference.sha256, **read_json(folder / MANIFEST).get("files", {})}
    for name, sha256 in files.items():
        if not (folder / name).is_file() or digest_file(folder / name, hashlib.sha256)[1] != sha256:
            raise SightlineError(
                f"{folder / name} is not as it was when this run began. Remove {folder}, and start the run again."
            )
    return folder
