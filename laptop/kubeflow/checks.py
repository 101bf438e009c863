"""What `submit` and `schedule` look at before anything is sent: on the cluster each of these costs a minute or two."""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.parameters import ANNOTATION_VERSION, CATEGORY, CONFIG, PARAMETERS
from laptop.compiling import require_named_images
from laptop.kubeflow.package import Package
from laptop.kubeflow.sql import open_records
from sightline.errors import SightlineError, nearest

QUANTITY = re.compile(r"\+?(\d+(\.\d*)?|\.\d+)(m|k|[KMGTPE]i?|[eE][+-]?\d+)?")
"""How Kubernetes writes an amount."""
EXAMPLES = {"cpu": "2 or 500m", "memory": "8Gi or 512Mi", "gpus": "0 or 1"}
SIZES = {each.name: kind for each in PARAMETERS for kind in each.pod.values() if kind in EXAMPLES}
"""Parameter -> what it is the size of."""
MOST_BYTES = 10_000
"""Of a run's parameters together, as JSON: what older servers take."""
SENT_ANYWAY = "--no-check sends it all the same."


def require_sound(options: argparse.Namespace, package: Package, arguments: Mapping[str, Any]) -> None:
    """Look at a run before it is sent. What cannot be known from here is passed over.

    Raises:
        SightlineError: it would fail; says what is wrong.
    """
    if options.no_check:
        return
    require_named_images(package.text)
    if wrong := wrong_quantity(arguments):
        raise SightlineError(wrong)
    _require_size(arguments)
    _require_config(str(CONFIG.value_in(arguments) or ""))
    _require_annotations(options.workspace, package, arguments)


def _require_size(arguments: Mapping[str, Any]) -> None:
    sizes = {name: len(json.dumps(value).encode()) for name, value in arguments.items()}
    whole = len(json.dumps(dict(arguments)).encode())
    if whole > MOST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise SightlineError(
            f"The run's parameters have {whole} bytes, and servers take {MOST_BYTES}. Shorten {largest} ({sizes[largest]} "
            "bytes): what is long belongs into a config or a recipe in shared_volume/custom, which `sync` puts on the volume."
        )


def _require_config(config: str) -> None:
    """A config may lie on the volume alone, so that only what looks misspelt is refused."""
    from sightline.services.runs.homes import config_file, config_names

    code = Path(sys.modules["sightline"].__path__[0]).parent
    if not config or (code / config_file(code, config)).is_file():
        return
    hint = nearest(config.removesuffix(".py"), config_names(code))
    if "Did you mean" in hint:
        raise SightlineError(f"There is no config {config} in this checkout.{hint} {SENT_ANYWAY}")
    print(
        f"warning: there is no config {config} in this checkout; the run ends at once unless it lies on the volume.{hint}",
        file=sys.stderr,
    )


def _require_annotations(workspace: Path, package: Package, arguments: Mapping[str, Any]) -> None:
    """Whether there is something to train on, where the cluster's SQL can be reached; a laptop's own knows nothing of it."""
    if not os.environ.get("SIGHTLINE_DATABASE_URL") or "record" not in package.steps:
        return
    records = open_records(workspace)
    if records.database is None:
        return
    from sightline.services.database.versions import list_versions

    category, version = str(arguments.get(CATEGORY.name)), str(arguments.get(ANNOTATION_VERSION.name) or "")
    rows = list_versions(records.database, kind="annotation")
    known = sorted({row.category for row in rows})
    if known and category not in known:
        raise SightlineError(
            f"There are no annotations of the category {category}.{nearest(category, known)} `publish` makes a version of "
            f"them. {SENT_ANYWAY}"
        )
    versions = [row.version for row in rows if row.category == category]
    if version and versions and version not in versions:
        raise SightlineError(
            f"There is no annotation version {version} of {category}; the newest is {versions[-1]}. {SENT_ANYWAY}"
        )


def wrong_quantity(arguments: Mapping[str, Any]) -> str:
    """What is wrong with the first size of a pod that Kubernetes would not read; empty when all are well."""
    for name, kind in SIZES.items():
        value = arguments.get(name)
        if not isinstance(value, str):
            continue
        read = value.isdecimal() if kind == "gpus" else QUANTITY.fullmatch(value)
        if not read:
            return f"{name}={value} is no amount that Kubernetes reads. Write it like {EXAMPLES[kind]}."
    return ""
