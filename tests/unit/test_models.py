"""Model bundles as steps store and fetch them."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from sightline.models.bundle import MANIFEST, WEIGHTS, BundleError, read_bundle, write_bundle
from sightline.models.store import fetch_bundle, find_bundle, given_model, store_bundle, write_bundle_facts
from sightline.services.storage.access import open_storage
from sightline.services.storage.base import NoSuchObjectError, StorageError
from sightline.services.storage.folder import FolderStorage
from sightline.settings import Settings, read_settings
from sightline.steps.snapshot.outside import models_digest


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SIGHTLINE_STORAGE", (tmp_path / "storage").as_uri())
    monkeypatch.setenv("SIGHTLINE_DATABASE_URL", "sqlite://")
    monkeypatch.setenv("SIGHTLINE_DATASET_REPO", str(tmp_path / "dataset.git"))
    monkeypatch.setenv("SIGHTLINE_VOLUME", str(tmp_path / "volume"))
    read_settings.cache_clear()
    yield read_settings()
    read_settings.cache_clear()


def write(folder: Path, value: float) -> str:
    """A bundle whose only weight is `value`. Returns its digest."""
    return write_bundle(folder, {"weight": torch.tensor([value])}, "max_epochs = 3\n", ["cup"], None, None, {})


def test_a_bundle_given_by_uri_can_be_used_again_and_again(settings, tmp_path):
    digest = write(tmp_path / "given", 1.0)
    uri = (tmp_path / "given").as_uri()
    first, second = fetch_bundle(settings, uri), fetch_bundle(settings, uri)
    assert first[0] == second[0] == settings.volume / "models" / digest
    assert second[1].sha256 == digest


def test_what_lies_behind_a_uri_now_is_what_is_used(settings, tmp_path):
    write(tmp_path / "given", 1.0)
    fetch_bundle(settings, str(tmp_path / "given"))
    digest = write(tmp_path / "given", 2.0)
    assert fetch_bundle(settings, str(tmp_path / "given"))[1].sha256 == digest


def test_a_bundle_of_a_known_digest_is_fetched_once(settings, tmp_path):
    digest = write(tmp_path / "given", 1.0)
    folder, _ = fetch_bundle(settings, str(tmp_path / "given"), digest)
    assert fetch_bundle(settings, "file:///nowhere", digest)[0] == folder


def test_a_bundle_of_another_digest_is_refused_and_not_kept(settings, tmp_path):
    write(tmp_path / "given", 1.0)
    with pytest.raises(BundleError):
        fetch_bundle(settings, str(tmp_path / "given"), "0" * 64)
    assert list((settings.volume / "models").iterdir()) == []


def test_a_uri_without_a_bundle_says_so(settings, tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        fetch_bundle(settings, str(tmp_path / "nowhere"))


def test_a_step_that_was_given_a_uri_knows_the_bundle_by_its_digest(settings, tmp_path):
    digest = write(tmp_path / "given", 1.0)
    given = given_model(settings, str(tmp_path / "given"), "desk")
    assert given is not None
    assert (given.sha256, given.category) == (digest, "desk")


# --- in storage, by digest -------------------------------------------------------------------------------------------

RECORD = "results/desk/v0.1.0/run-1/train/best"


def test_a_bundle_lies_in_storage_once_by_its_digest(settings, tmp_path, monkeypatch):
    digest = write(tmp_path / "best", 1.0)
    storage = open_storage(settings.storage)
    uri = store_bundle(storage, tmp_path / "best", digest)
    assert uri == f"{storage.root}/models/{digest}"
    assert fetch_bundle(settings, uri, digest)[1].sha256 == digest
    uploaded: list[str] = []
    monkeypatch.setattr(FolderStorage, "upload_files", lambda _, files, create_only=False: uploaded.extend(files))
    monkeypatch.setattr(FolderStorage, "upload_file", lambda _, local, key: uploaded.append(key))
    write(tmp_path / "again", 1.0)
    assert store_bundle(storage, tmp_path / "again", digest) == uri, "the same bytes, the same reference"
    assert uploaded == []


@pytest.mark.parametrize("spoil", ["cut", "flip", "delete", "no manifest", "only the manifest"])
def test_what_an_interrupted_upload_left_is_put_right(settings, tmp_path, spoil):
    digest = write(tmp_path / "best", 1.0)
    storage = open_storage(settings.storage)
    uri = store_bundle(storage, tmp_path / "best", digest)
    stored = tmp_path / "storage" / "models" / digest
    weights = stored / WEIGHTS
    data = weights.read_bytes()
    if spoil == "cut":
        weights.write_bytes(data[:-3])
    elif spoil == "flip":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif spoil == "delete":
        weights.unlink()
    else:
        for path in stored.iterdir():
            if (path.name == MANIFEST) == (spoil == "no manifest"):
                path.unlink()
    # Prune removes the manifest first: without it a model is gone, whatever else lies there.
    with pytest.raises(NoSuchObjectError if spoil == "no manifest" else BundleError):
        fetch_bundle(settings, uri, digest)
    store_bundle(storage, tmp_path / "best", digest)
    assert fetch_bundle(settings, uri, digest)[1].sha256 == digest


def test_the_manifest_is_stored_last(settings, tmp_path, monkeypatch):
    """Whoever finds the manifest finds the rest."""
    digest = write(tmp_path / "best", 1.0)
    order: list[str] = []
    whole, one = FolderStorage.upload_files, FolderStorage.upload_file

    def files(self, files, create_only=False):
        order.extend(Path(key).name for key in files)
        whole(self, files, create_only)

    def single(self, local, key):
        order.append(Path(key).name)
        return one(self, local, key)

    monkeypatch.setattr(FolderStorage, "upload_files", files)
    monkeypatch.setattr(FolderStorage, "upload_file", single)
    store_bundle(open_storage(settings.storage), tmp_path / "best", digest)
    assert order[-1] == MANIFEST and order.count(MANIFEST) == 1


def test_several_runs_store_the_same_model_at_once(settings, tmp_path):
    digests = {write(tmp_path / str(number), 1.0) for number in range(8)}
    (digest,) = digests
    with ThreadPoolExecutor(8) as pool:
        uris = set(
            pool.map(lambda n: store_bundle(open_storage(settings.storage), tmp_path / str(n), digest), range(8))
        )
    assert len(uris) == 1
    assert read_bundle(tmp_path / "storage" / "models" / digest, digest)


@pytest.mark.parametrize("ending", ["", "/", ".json"])
def test_a_run_s_record_of_a_bundle_names_it(settings, tmp_path, ending):
    digest = write(tmp_path / "best", 1.0)
    storage = open_storage(settings.storage)
    uri = store_bundle(storage, tmp_path / "best", digest)
    write_bundle_facts(storage, RECORD, digest, {"run": "run-1", "code": "train-12ab"})
    named = f"{storage.root}/{RECORD}{ending}"
    assert find_bundle(named) == uri
    assert fetch_bundle(settings, named)[1].sha256 == digest
    assert models_digest([named])
    document = json.loads((tmp_path / "storage" / f"{RECORD}.json").read_text())
    assert (document["run"], document["code"]) == ("run-1", "train-12ab")


def test_a_record_of_a_storage_that_was_moved_names_the_bundle_that_moved_along(settings, tmp_path):
    digest = write(tmp_path / "best", 1.0)
    storage = open_storage(settings.storage)
    store_bundle(storage, tmp_path / "best", digest)
    write_bundle_facts(storage, RECORD, digest, {})
    shutil.move(tmp_path / "storage", tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    assert find_bundle((moved / RECORD).as_uri()) == (moved / "models" / digest).as_uri()
    assert find_bundle(str(moved / RECORD)) == (moved / "models" / digest).as_uri()


def test_a_bundle_among_a_run_s_results_is_its_own(settings, tmp_path):
    """As earlier Sightlines left them."""
    digest = write(tmp_path / "storage" / RECORD, 1.0)
    uri = (tmp_path / "storage" / RECORD).as_uri()
    assert find_bundle(uri) == uri
    assert fetch_bundle(settings, uri)[1].sha256 == digest
