"""Names of the container images, fixed when the pipeline is compiled."""

import contextlib
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
    """What SIGHTLINE_REGISTRY, SIGHTLINE_TAG and SIGHTLINE_DIGESTS (a file as `make push` writes it) say at the moment.

    A variable that is not set is as it was when images were last made here; their digests hold for those alone.
    """
    made = Images(DEFAULT_REGISTRY, DEFAULT_TAG)
    # A file that cannot be read as one of ours says nothing.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        told = json.loads(REMEMBERED.read_text())
        known = told.get("digests") or {}
        texts = [told["registry"], told["tag"], *(known[target] for target in ("data", "train") if known)]
        if all(isinstance(text, str) and text for text in texts):
            made = Images(told["registry"], told["tag"], known)
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
