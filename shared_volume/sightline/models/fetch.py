"""Model bundles as steps read them: fetched once to the volume, verified before use."""

import contextlib
import logging
from pathlib import Path

from sightline.models.bundle import Bundle, read_bundle
from sightline.models.store import find_bundle
from sightline.processes.folders import private_folder
from sightline.references import ModelReference, task_of
from sightline.services.storage.access import fetch
from sightline.settings import Settings

log = logging.getLogger(__name__)


def fetch_bundle(settings: Settings, uri: str, sha256: str = "") -> tuple[Path, Bundle]:
    """The folder of a model bundle and its verified description.

    Args:
        place: where the volume is.
        uri: gs://, file:// or a plain path, of a bundle or of a run's record of one.
        sha256: the manifest's digest; empty when unknown (then only the bundle's own digests are checked).

    Raises:
        SightlineError: there is no such bundle, or a file does not match its digest.
    """
    models = settings.volume / "models"
    if sha256 and (models / sha256).is_dir():
        return models / sha256, read_bundle(models / sha256, sha256)
    # Without a digest nobody knows whether what lies behind the URI is still the same: it is fetched, and then has one.
    with private_folder(models, ".fetching-") as private:
        arrived = fetch(find_bundle(uri), private / "bundle")
        digest = read_bundle(arrived, sha256 or None).sha256
        with contextlib.suppress(OSError):  # another step fetched the same bundle meanwhile
            arrived.rename(models / digest)
    return models / digest, read_bundle(models / digest, digest)


def given_model(settings: Settings, uri: str, category: str) -> ModelReference | None:
    """The model that is known by its bundle's URI alone; None for an empty one.

    Args:
        place: where the volume is.
        uri: gs://, file:// or a plain path.
        category: what the model is for, when its bundle does not say.
    """
    if not uri:
        return None
    _, bundle = fetch_bundle(settings, uri)
    facts = bundle.facts
    return ModelReference(
        uri=uri,
        sha256=bundle.sha256,
        category=str(facts.get("category", category)),
        dataset_version=str(facts.get("dataset_version", "")),
        config=str(facts.get("config", "")),
        task=task_of(facts),
    )
