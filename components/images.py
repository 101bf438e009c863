"""Names of the container images, fixed when the pipeline is compiled."""

import os

DEFAULT_REGISTRY = "sightline"
DEFAULT_TAG = "latest"


def image(target: str) -> str:
    """The image of one target of docker/Dockerfile, from SIGHTLINE_REGISTRY and SIGHTLINE_TAG."""
    registry = os.environ.get("SIGHTLINE_REGISTRY", DEFAULT_REGISTRY)
    tag = os.environ.get("SIGHTLINE_TAG", DEFAULT_TAG)
    return f"{registry}/sightline-{target}:{tag}"
