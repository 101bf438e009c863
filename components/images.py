"""Names of the container images, fixed when the pipeline is compiled."""

import json
import os
from pathlib import Path

DEFAULT_REGISTRY = "sightline"
DEFAULT_TAG = "latest"


def image(target: str) -> str:
    """The image of one target of docker/Dockerfile.

    SIGHTLINE_REGISTRY and SIGHTLINE_TAG name it; where SIGHTLINE_DIGESTS names a file as `make push` writes it
    (`{"data": "sha256:…", "train": "sha256:…"}`), its digest pins the very bytes.
    """
    registry = os.environ.get("SIGHTLINE_REGISTRY", DEFAULT_REGISTRY)
    tag = os.environ.get("SIGHTLINE_TAG", DEFAULT_TAG)
    name = f"{registry}/sightline-{target}:{tag}"
    digests = os.environ.get("SIGHTLINE_DIGESTS")
    return f"{name}@{json.loads(Path(digests).read_text())[target]}" if digests else name
