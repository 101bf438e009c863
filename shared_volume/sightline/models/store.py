"""Model bundles in storage, by their digest: the same model lies there once, however many runs made or selected it. Steps
read them from the volume, where each is fetched once and verified before use.

A run's results hold a small reference to each of its bundles, like `train/best.json`: where it lies, and which run and code
made it, which the bundle itself does not say.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sightline.models.bundle import MANIFEST, Bundle, BundleError, read_bundle
from sightline.processes.folders import private_folder, take_shared
from sightline.references import ModelReference, task_of
from sightline.services.storage.access import fetch, open_storage
from sightline.services.storage.base import NoSuchObjectError, Storage, StoredObject
from sightline.services.storage.folder import local_path
from sightline.settings import Settings

log = logging.getLogger(__name__)

FOLDER: Final = "models"
RECORD_ENDING: Final = ".json"
TRAIN_AGAIN: Final = (
    "Start a run that trains it again: switch the cache off in Kubeflow's form, or change the training, for instance with "
    "python pipeline.py submit … --set seed=1"
)
RESULTS: Final = "/results/"  # between a storage's root and a run's results in a URI


def store_bundle(storage: Storage, folder: Path, sha256: str) -> str:
    """Put a bundle under `models/<sha256>/`, as far as it is not there, its manifest last. Returns its URI.

    Several may store the same bundle at once, and what an interrupted or damaged upload left is put right. The sha256 is
    its manifest's.

    Raises:
        BundleError: the folder holds another bundle, or the storage has not kept what was uploaded.
        StorageError: the storage failed; says how.
    """
    if hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest() != sha256:
        raise BundleError(f"The bundle in {folder} is not {sha256[:12]}. Train the model again.")
    prefix = f"{FOLDER}/{sha256}"
    files = {f"{prefix}/{path.name}": path for path in sorted(folder.iterdir())}
    manifest = f"{prefix}/{MANIFEST}"
    there, lacking = _compare(storage, prefix, files)
    if lacking:
        parts = {key: files[key] for key in lacking if key != manifest}
        # Others may store the same at the same time: what is there is theirs and right, but for what is known to be wrong.
        storage.upload_files({key: path for key, path in parts.items() if key not in there}, create_only=True)
        storage.upload_files({key: path for key, path in parts.items() if key in there})
        if manifest in lacking:
            storage.upload_file(files[manifest], manifest)
        if lost := _compare(storage, prefix, files)[1]:
            raise BundleError(
                f"{storage.uri(lost[0])} is not what was uploaded a moment ago. Find out who else writes there, and run again."
            )
        log.info("stored the model %s", sha256[:12])
    return storage.uri(prefix)


def write_bundle_facts(storage: Storage, key: str, sha256: str, facts: Mapping[str, Any]) -> None:
    """Leave a reference to a stored bundle among a run's results, with what else there is to say of it, as JSON.

    The key is like `results/desk/v0.1.0/<run>/train/best`.
    """
    bundle = f"{FOLDER}/{sha256}"
    document = {"uri": storage.uri(bundle), "sha256": sha256, **facts, "bundle": bundle}
    storage.write_bytes(f"{key}{RECORD_ENDING}", (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def find_bundle(uri: str) -> str:
    """The URI of the bundle that a URI names: its own, or that of a reference (`…/train/best` or `…/train/best.json`).

    Of a storage that was moved as a whole, the bundle that moved along is found.

    Raises:
        StorageError: the storage cannot be read.
    """
    whole = (uri if uri.startswith("gs://") else local_path(uri).as_uri()).rstrip("/")
    parent, _, name = whole.rpartition("/")
    if parent.count("/") < 3 or not name:
        return uri  # a bucket, or a folder in the root: no room for a reference
    storage = open_storage(parent)
    if not name.endswith(RECORD_ENDING):
        if storage.exists(f"{name}/{MANIFEST}"):
            return uri
        name += RECORD_ENDING
    try:
        document = json.loads(storage.read_bytes(name))
        named, bundle = str(document["uri"]), str(document["bundle"])
    except (NoSuchObjectError, ValueError, KeyError, TypeError):
        return uri
    root, between, _ = parent.rpartition(RESULTS)
    moved = f"{root}/{bundle}"
    return moved if between and open_storage(moved).exists(MANIFEST) else named


def fetch_bundle(settings: Settings, uri: str, sha256: str = "") -> tuple[Path, Bundle]:
    """The folder on the volume of a model bundle, and its verified description.

    The URI is gs://, file:// or a plain path, of a bundle or of a run's reference to one; without the manifest's sha256 only
    the bundle's own digests are checked. A SightlineError when there is no such bundle, or a file does not match its digest; of
    one that a step handed on, by its sha256, it says how to make it again.
    """
    models = settings.volume / "models"
    if sha256 and take_shared(models / sha256):
        return models / sha256, read_bundle(models / sha256, sha256)
    # Without a digest nobody knows whether what lies behind the URI is still the same: it is fetched, and then has one.
    with private_folder(models, ".fetching-") as private:
        arrived = _fetch(uri, private / "bundle", handed_on=bool(sha256))
        digest = read_bundle(arrived, sha256 or None).sha256
        if not take_shared(models / digest):
            with contextlib.suppress(OSError):  # another step fetched the same bundle meanwhile
                arrived.rename(models / digest)
    return models / digest, read_bundle(models / digest, digest)


def _fetch(uri: str, target: Path, handed_on: bool) -> Path:
    found = find_bundle(uri)
    try:
        if handed_on and not open_storage(found).exists(MANIFEST):  # gone, or about to go
            raise NoSuchObjectError(f"There is no {MANIFEST} at {found}.")
        return fetch(found, target)
    except NoSuchObjectError as error:
        if not handed_on:
            raise
        raise NoSuchObjectError(
            f"The model {found}, which an earlier step hands on, is gone. That step's result came from the cache, and `prune`, or "
            f"somebody else, has removed the model since. {TRAIN_AGAIN}"
        ) from error


def given_model(settings: Settings, uri: str, category: str) -> ModelReference | None:
    """The model known by its bundle's URI alone, None for an empty one; for `category` where its bundle does not say."""
    if not uri:
        return None
    bundle = fetch_bundle(settings, uri)[1]
    facts = bundle.facts
    return ModelReference(
        uri=uri,
        sha256=bundle.sha256,
        category=str(facts.get("category", category)),
        dataset_version=str(facts.get("dataset_version", "")),
        config=str(facts.get("config", "")),
        task=task_of(facts),
    )


def _compare(storage: Storage, prefix: str, files: Mapping[str, Path]) -> tuple[set[str], list[str]]:
    """The keys that are there, and those of `files` that are not there with their content, sorted."""
    there = {item.key: item for item in storage.list(prefix)}
    return set(there), sorted(key for key, path in files.items() if not _is_right(storage, there.get(key), path))


def _is_right(storage: Storage, stored: StoredObject | None, path: Path) -> bool:
    if stored is None or stored.size != path.stat().st_size:
        return False
    content = path.read_bytes()
    if stored.md5 is None:
        return storage.read_bytes(stored.key) == content
    return stored.md5 == hashlib.md5(content, usedforsecurity=False).hexdigest()
