"""What `submit` and `schedule` look at before anything is sent: on the cluster each of these costs a minute or two."""

import argparse
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from components.cluster import VOLUME
from components.parameters import ANNOTATION_VERSION, CATEGORY, DATASET_VERSION, PARAMETERS, TEST_IMAGES
from laptop.compiling import require_named_images
from laptop.kubeflow.asked import SENT_ANYWAY, asked_of, require_keys, require_names
from laptop.kubeflow.package import Package
from laptop.kubeflow.published import find_published
from sightline.errors import SightlineError, nearest
from sightline.versions import Kind

QUANTITY = re.compile(r"\+?(\d+(\.\d*)?|\.\d+)(m|k|[KMGTPE]i?|[eE][+-]?\d+)?")
"""How Kubernetes writes an amount."""
EXAMPLES = {"cpu": "2 or 500m", "memory": "8Gi or 512Mi", "gpus": "0 or 1"}
SIZES = {each.name: kind for each in PARAMETERS for kind in each.pod.values() if kind in EXAMPLES}
"""Parameter -> what it is the size of."""
MOST_BYTES = 10_000
"""Of a run's parameters together, as JSON: what older servers take."""
MADE_BY: Mapping[Kind, str] = {"annotation": "`publish` makes one.", "dataset": "A run with record makes one."}


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
    if CATEGORY.name not in arguments:
        return  # somebody else's pipeline
    _require_reachable(str(arguments.get(TEST_IMAGES.name) or ""))
    asked = asked_of(arguments)
    require_keys(asked, package.steps)
    version, task = _require_published(options.workspace, package.steps, arguments)
    require_names(asked, package.steps, task, f"{asked.category} {version}".strip())


def _require_size(arguments: Mapping[str, Any]) -> None:
    if (whole := _bytes(dict(arguments))) > MOST_BYTES:
        largest = max(arguments, key=lambda name: _bytes(arguments[name]))
        raise SightlineError(
            f"The run's parameters have {whole} bytes, and servers take {MOST_BYTES}. Shorten {largest} "
            f"({_bytes(arguments[largest])} bytes): what is long belongs in a config or a recipe in shared_volume/custom, "
            "which `sync` puts on the volume."
        )


def _bytes(value: Any) -> int:
    return len(json.dumps(value).encode())


def _require_reachable(images: str) -> None:
    """A pod sees no folder of the laptop's."""
    if not images or images.startswith("gs://"):
        return
    from sightline.services.storage.folder import local_path

    try:
        if not local_path(images).is_relative_to(VOLUME):
            raise SightlineError(
                f"--images {images} is a folder of this machine, which no pod sees. Name a gs:// prefix, or a folder below "
                f"{VOLUME}, where a pod has the volume."
            )
    except SightlineError as error:
        raise SightlineError(f"{error} {SENT_ANYWAY}") from None


def _require_published(workspace: Path, steps: Collection[str], arguments: Mapping[str, Any]) -> tuple[str, str]:
    """Whether there is something to train on, where the installation's SQL or Git can be reached.

    Returns:
        its version and task; empty where they cannot be told.
    """
    kind: Kind
    if "record" in steps:
        kind, wanted = "annotation", ANNOTATION_VERSION
    elif {"train", "evaluate"} & set(steps) or ("test" in steps and not arguments.get(TEST_IMAGES.name)):
        kind, wanted = "dataset", DATASET_VERSION
    else:
        return "", ""  # these steps read no version
    published = find_published(workspace, kind)
    if not published:
        return "", ""
    category, version = str(arguments.get(CATEGORY.name)), str(arguments.get(wanted.name) or "")
    tasks = published.get(category)
    if not tasks:
        raise SightlineError(
            f"There is no {kind} version of the category {category}.{nearest(category, published)} "
            f"{MADE_BY[kind]} {SENT_ANYWAY}"
        )
    newest = list(tasks)[-1]
    if version and version not in tasks:
        raise SightlineError(
            f"There is no {kind} version {version} of {category}; the newest is {newest}. {SENT_ANYWAY}"
        )
    chosen = version or newest
    return chosen, tasks[chosen]


def wrong_quantity(arguments: Mapping[str, Any]) -> str:
    """What is wrong with the first size of a pod that Kubernetes would not read; empty when all are well."""
    for name, kind in SIZES.items():
        value = arguments.get(name)
        if not isinstance(value, str):
            continue
        if not (value.isdecimal() if kind == "gpus" else QUANTITY.fullmatch(value)):
            return f"{name}={value} is no amount that Kubernetes reads. Write it like {EXAMPLES[kind]}."
    return ""
