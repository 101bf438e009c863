"""What a training begins from: trained weights, named by a user or by the config, fetched to the volume before anything runs."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.errors import did_you_mean
from sightline.models.config_files import read_values
from sightline.models.weights.base import shown
from sightline.models.weights.configured import load_from, refuse_inits
from sightline.models.weights.fetching import fetch
from sightline.models.weights.places import WeightsPlace, parse
from sightline.references import WeightsReference
from sightline.services.storage.base import NoSuchObjectError
from sightline.services.storage.folder import local_path
from sightline.settings import Settings

log = logging.getLogger(__name__)


def find_weights(code: Path, config: str, overrides: Mapping[str, Any], pretrained: str) -> WeightsPlace | None:
    """Where a training's first weights lie: those that are asked for, else the config's own; None for random ones.

    `code` is the helper code that has the config, `overrides` what a run sets of it.

    Raises:
        WeightsError: words that name no weights, or no fetchable ones.
        ConfigError: modules of the config would fetch weights by themselves.
    """
    values = read_values(code, config, overrides)
    own = load_from(values)
    if own and pretrained:
        log.info("--pretrained holds, not the config's own load_from (%s)", shown(own))
    if named := pretrained or own:
        return parse(named, config)
    refuse_inits(config, values)
    return None


def require_there(where: WeightsPlace) -> None:
    """Make sure that weights of this machine are there; a NoSuchObjectError names what is called nearly so."""
    if not where.uri.startswith("file://"):
        return
    path = local_path(where.uri)
    if not path.exists():
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        # The file of a run's reference may be named without its ending.
        if not path.with_name(f"{path.name}.json").is_file():
            raise NoSuchObjectError(f"There are no weights at {where.text}.{did_you_mean(path.name, beside)}")


def bring_weights(where: WeightsPlace | None, settings: Settings) -> WeightsReference | None:
    """The reference to weights that are on the volume afterwards; None for none. Errors as in `fetch`."""
    if where is None:
        return None
    found = fetch(where, settings)
    log.info("begins from %s (%s)", found.origin, found.sha256[:12])
    return WeightsReference(found.sha256, found.origin, found.path.name, found.bundle, found.model_uri)
