"""Names of the container images, fixed when the pipeline is compiled."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_REGISTRY = "sightline"
DEFAULT_TAG = "latest"
REMEMBERED = Path(__file__).resolve().parents[1] / ".sightline-images.json"
"""What `make images` built last, and `make push` pushed: registry, tag, digests. Git ignores it."""


@dataclass(frozen=True, slots=True)
class Images:
    """Where the images lie: what variables name, else what was made last, else what nobody named."""

    registry: str
    tag: str
    digests: Mapping[str, str] = field(default_factory=dict)


def images() -> Images:
    """What SIGHTLINE_REGISTRY, SIGHTLINE_TAG and SIGHTLINE_DIGESTS (a file as `make push` writes it) say at this moment.

    A variable that is not set is as it was when images were last made here; their digests hold for those alone.
    """
    made = _remembered()
    registry = os.environ.get("SIGHTLINE_REGISTRY") or made.registry
    tag = os.environ.get("SIGHTLINE_TAG") or made.tag
    file = os.environ.get("SIGHTLINE_DIGESTS")
    digests = json.loads(Path(file).read_text()) if file else made.digests
    return Images(registry, tag, digests if file or (registry, tag) == (made.registry, made.tag) else {})


def image(target: str) -> str:
    """The image of one target of docker/Dockerfile."""
    found = images()
    name = f"{found.registry}/sightline-{target}:{found.tag}"
    return f"{name}@{found.digests[target]}" if found.digests else name


def _remembered() -> Images:
    try:
        made = json.loads(REMEMBERED.read_text())
        registry, tag, digests = made["registry"], made["tag"], made.get("digests") or {}
        texts = [registry, tag, *(digests[target] for target in ("data", "train") if digests)]
        if all(isinstance(text, str) and text for text in texts):
            return Images(registry, tag, digests)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return Images(DEFAULT_REGISTRY, DEFAULT_TAG)
