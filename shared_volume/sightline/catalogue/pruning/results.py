"""What may go from the storage: results of runs, and models, that nothing refers to or that are older than asked.

Never a model that a real run selected, nor the other one of its training, which evaluate compares it with whenever it runs again.
"""

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from sightline.catalogue.pruning.plan import NEWEST_SECONDS, SHA256_NAME, Look, Prunable, last_signs, moment, shown_days
from sightline.models.bundle import MANIFEST
from sightline.models.store import FOLDER
from sightline.services.database.uses import ModelUse, model_uses
from sightline.services.storage.base import PARALLEL_SMALL, Storage, StoredObject
from sightline.services.storage.folder import local_path
from sightline.versions import is_smoke, is_version

SELECTED: Final = "evaluate/selected.json"
TRAINED: Final = ("train/best.json", "train/last.json")
REPORT_ENDING: Final = ".html"
USERS: Final = ("train", "trial", "evaluate", "test")  # steps that store models, or are given any


@dataclass(frozen=True, slots=True)
class Named:
    """A model that a reference names."""

    sha256: str
    here: bool  # in this storage, by its digest


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run's results for one dataset version."""

    prefix: str  # `results/<category>/<dataset version>/<run>`
    run: str
    files: tuple[StoredObject, ...]
    references: Mapping[str, Named]  # by key


def find_in_storage(look: Look, storage: Storage) -> Iterator[Prunable]:
    """All of it."""
    runs = _read_runs(storage)
    last = last_signs(look.signs())
    if runs and not any(one.run in last for one in runs):
        look.notes.append(
            f"results and models stay: the database knows none of the {len(runs)} runs whose results {storage.root} holds, so "
            "it is likely not theirs. Check SIGHTLINE_DATABASE_URL"
        )
        return
    stored = _stored_models(storage)
    models = list(_models(look, storage, runs, last, stored))
    yield from models
    yield from _results(look, storage, runs, last, stored.keys() - {item.name for item in models})


def _read_runs(storage: Storage) -> list[StoredRun]:
    files = defaultdict(list)
    for item in storage.list("results"):
        parts = item.key.split("/")
        if len(parts) > 4 and is_version(parts[2]):
            files["/".join(parts[:4])].append(item)
    keys = {
        item.key for prefix, found in files.items() for item in found if _is_reference(item.key.removeprefix(prefix))
    }
    with ThreadPoolExecutor(PARALLEL_SMALL) as pool:
        named = dict(zip(sorted(keys), pool.map(partial(_named_by, storage), sorted(keys)), strict=True))
    return [
        StoredRun(
            prefix,
            prefix.rpartition("/")[2],
            tuple(found),
            {item.key: one for item in found if (one := named.get(item.key))},
        )
        for prefix, found in files.items()
    ]


def _is_reference(name: str) -> bool:
    return name.removeprefix("/") in (SELECTED, *TRAINED)


def _named_by(storage: Storage, key: str) -> Named | None:
    try:
        document = json.loads(storage.read_bytes(key))
        sha256, uri = str(document["sha256"]), str(document["uri"])
        return Named(sha256, here=uri.endswith(f"/{FOLDER}/{sha256}"))
    except (ValueError, KeyError, TypeError):
        return None


def _stored_models(storage: Storage) -> dict[str, list[StoredObject]]:
    stored = defaultdict(list)
    for item in storage.list(FOLDER):
        if SHA256_NAME.fullmatch(name := item.key.split("/")[1]):
            stored[name].append(item)
    return stored


def _models(
    look: Look,
    storage: Storage,
    runs: Sequence[StoredRun],
    last: Mapping[str, datetime],
    stored: Mapping[str, Sequence[StoredObject]],
) -> Iterator[Prunable]:
    recorded = model_uses(look.database)
    uses = [*recorded, *_uses_by_results(runs)]
    tried = {one.run for one in runs if is_smoke(one.prefix.split("/")[1])}  # what these select says nothing
    kept = _never_removed([use for use in uses if use.run not in tried]) | set(look.named)
    users = defaultdict(set)
    for use in uses:
        users[use.sha256].add(use.run)
    for sha256, files in stored.items():
        why = None
        if sha256 not in users:
            if _newest(files) < moment(look.now - NEWEST_SECONDS):
                why = "no run made, scored or selected it"
        elif look.older_than is not None and all(_is_old(look, last, runs, run) for run in users[sha256]):
            why = f"no real run selected it, and no run of the last {shown_days(look.older_than)} made or scored it"
        if why and sha256 not in kept:
            remove = partial(_remove_model, look, storage, sha256, files, _of(sha256, recorded))
            yield Prunable("models", sha256, sum(item.size for item in files), why, remove)


def _uses_by_results(runs: Iterable[StoredRun]) -> Iterator[ModelUse]:
    for one in runs:
        for key, named in one.references.items():
            yield ModelUse(named.sha256, one.run, key.endswith(SELECTED), key.endswith(TRAINED))


def _never_removed(uses: Collection[ModelUse]) -> set[str]:
    """Models that were selected, and the others of the same trainings."""
    selected = {use.sha256 for use in uses if use.selected}
    trained = defaultdict(set)
    for use in uses:
        if use.trained and use.run:
            trained[use.run].add(use.sha256)
    return selected.union(*(models for models in trained.values() if models & selected))


def _is_old(look: Look, last: Mapping[str, datetime], runs: Sequence[StoredRun], run: str | None) -> bool:
    """Whether nobody heard of a run for as long as was asked; of one that SQL does not know, when nothing of it is newer."""
    limit = moment(look.now) - timedelta(days=look.older_than or 0)
    if known := last.get(run or ""):
        return known < limit
    return all(_newest(one.files) < limit for one in runs if one.run == run)


def _newest(files: Iterable[StoredObject]) -> datetime:
    """When the newest of some objects was written; of what cannot tell, now."""
    return max((item.changed_at or moment(2**32) for item in files), default=moment(0))


def _of(sha256: str, uses: Iterable[ModelUse]) -> set[ModelUse]:
    return {use for use in uses if use.sha256 == sha256}


def _remove_model(
    look: Look, storage: Storage, sha256: str, files: Sequence[StoredObject], before: set[ModelUse]
) -> bool:
    # A training that is at work may be about to store the very same model.
    if look.busy_with(*USERS) or _of(sha256, model_uses(look.database)) != before:
        return False
    # Without its manifest it is no model to anybody, and whoever stores it again puts back what is missing.
    keys = sorted((item.key for item in files), key=lambda key: not key.endswith(f"/{MANIFEST}"))
    is_ours = [storage.delete(key) for key in keys][0]  # of several that remove it at once, one comes first
    _remove_empty_folders(storage, f"{FOLDER}/{sha256}")
    return is_ours


def _results(
    look: Look, storage: Storage, runs: Sequence[StoredRun], last: Mapping[str, datetime], staying: Collection[str]
) -> Iterator[Prunable]:
    for one in runs:
        why = None
        if one.run not in last:
            if _newest(one.files) < moment(look.now - NEWEST_SECONDS):
                why = "the database knows no such run"
        elif look.older_than is not None and _is_old(look, last, runs, one.run):
            why = f"the run ended more than {shown_days(look.older_than)} ago; its scores stay in the database"
        # A reference is a few lines by which people and schedules name a model: it lasts as long as its model.
        files = [item for item in one.files if not _names_one_of(staying, one.references.get(item.key))]
        if why and files:
            remove = partial(_remove_results, look, storage, one, files, last.get(one.run))
            yield Prunable("results", one.prefix, sum(item.size for item in files), why, remove)


def _names_one_of(models: Collection[str], named: Named | None) -> bool:
    """Whether a file names one of these models, or one that lies elsewhere."""
    return named is not None and (not named.here or named.sha256 in models)


def _remove_results(
    look: Look, storage: Storage, one: StoredRun, files: Sequence[StoredObject], before: datetime | None
) -> bool:
    if last_signs(look.signs()).get(one.run) != before:
        return False  # it was started again
    # A report goes before the pictures that it leads to.
    are_ours = []
    for key in sorted((item.key for item in files), key=lambda key: (not key.endswith(REPORT_ENDING), key)):
        named = one.references.get(key)
        if named is None or not storage.exists(f"{FOLDER}/{named.sha256}/{MANIFEST}"):  # somebody took it up again
            are_ours.append(storage.delete(key))
    _remove_empty_folders(storage, one.prefix)
    return bool(are_ours) and are_ours[0]  # of several that remove them at once, one comes first


def _remove_empty_folders(storage: Storage, prefix: str) -> None:
    """In a storage of files folders stay when the last file goes."""
    if storage.root.startswith("gs://"):
        return
    for parent, _, _ in os.walk(local_path(storage.root) / prefix, topdown=False):
        with contextlib.suppress(OSError):
            Path(parent).rmdir()
