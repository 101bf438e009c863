"""The weights that a reference names, taken from the volume where snapshot has put them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.models.bundle import WEIGHTS, Bundle
from sightline.models.store import fetch_bundle
from sightline.models.weights.base import WeightsError
from sightline.models.weights.fetching import find_kept
from sightline.references import WeightsReference
from sightline.settings import Settings


@dataclass(frozen=True, slots=True)
class Taken:
    """A file of weights, and what is known of it beside what it says itself."""

    path: Path
    bundle: Bundle | None = None  # of a model that Sightline trained

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The bundle's classes, by label."""
        return self.bundle.classes if self.bundle else None

    @property
    def trained_on(self) -> dict[str, Any]:
        """What the bundle says of its own training."""
        names = ("category", "dataset_version", "config", "epoch")
        return {name: self.bundle.facts[name] for name in names if name in self.bundle.facts} if self.bundle else {}


def take(reference: WeightsReference, settings: Settings) -> Taken:
    """The file of weights that a reference names, compared with its digest. Nothing but our own storage is asked for it.

    Raises:
        WeightsError: it is no longer on the volume.
        BundleError, StorageError: a model that is gone or damaged.
    """
    if reference.bundle:
        folder, bundle = fetch_bundle(settings, reference.model_uri, reference.bundle)
        return Taken(folder / WEIGHTS, bundle)
    if path := find_kept(settings, reference.sha256):
        return Taken(path)
    raise WeightsError(
        f"The weights {reference.file_name} ({reference.sha256[:12]}), which snapshot has fetched from {reference.origin}, are no "
        "longer on the volume. Start the run anew: then they are fetched again."
    )
