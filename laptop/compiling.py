"""Write the pipeline as YAML."""

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError

INSTALLATION = {
    "registry": "registry of the images, like europe-docker.pkg.dev/project/repo (default: the one that `make images` used)",
    "tag": "the images' tag (default: the one that `make images` used)",
    "digests": "file with the images' digests, which pin their exact bytes (default: what `make push` wrote)",
    "claim": "PersistentVolumeClaim of the shared volume (default: sightline-volume)",
    "config_map": "ConfigMap with the settings (default: sightline-config)",
    "database_secret": "Secret whose key url is the database's URL (default: sightline-database)",
    "git_secret": "Secret for the dataset repository, if it needs one (default: sightline-git)",
    "storage_secret": "Secret with a service account's key.json, if storage needs one (default: sightline-gcs)",
    "pull_secret": "Secret for a private registry",
    "shared_memory": "size of /dev/shm while models run, part of their memory (default: 1Gi)",
}
"""What belongs to an installation on a cluster: option and SIGHTLINE_<NAME> -> help."""
UNNAMED = re.compile(rb"(?<![\w./:-])sightline/sightline-(data|train):latest(?![\w.@-])")
"""Images that nobody named: no node finds them, and a run stays pending without a word."""
REGISTRY = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
HOW_TO_NAME = (
    "Make them with `make images REGISTRY=europe-docker.pkg.dev/project/repo TAG=v1` and `make push` with the same, which is "
    "remembered here, or say --registry europe-docker.pkg.dev/project/repo --tag v1."
)


def add_installation_options(parser: argparse.ArgumentParser, names: Collection[str] = tuple(INSTALLATION)) -> None:
    """The options that name an installation's images, claim, ConfigMap and Secrets, or some of them."""
    for name in names:
        metavar = {"digests": "FILE", "shared_memory": "SIZE"}.get(name, "NAME")
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=INSTALLATION[name])


def apply_installation(options: argparse.Namespace) -> None:
    """Hand the options to the components, which read them when they are imported and when a pipeline is compiled."""
    for name in INSTALLATION:
        value = getattr(options, name, None)
        if value is not None:
            os.environ[f"SIGHTLINE_{name.upper()}"] = value
    if digests := os.environ.get("SIGHTLINE_DIGESTS"):
        _require_digests(Path(digests))
    from components.images import images

    found = images()
    if not REGISTRY.fullmatch(found.registry):
        raise SightlineError(
            f"{found.registry!r} is not a registry's name. Write it like europe-docker.pkg.dev/project/repo: lower-case letters, no "
            "https:// before it and no / at its end."
        )
    if not TAG.fullmatch(found.tag):
        raise SightlineError(
            f"{found.tag!r} is not a tag. Write it like v1: letters, digits, dots and dashes, 128 at most."
        )


def compiled(steps: Collection[str]) -> bytes:
    """The YAML of the pipeline of these steps (as `pipeline_of`); the same bytes for the same steps and installation."""
    from kfp import compiler

    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        compiler.Compiler().compile(pipeline_of(steps), file.name)
        return Path(file.name).read_bytes()


def pipeline_of(steps: Collection[str]) -> Any:
    """The pipeline of some of STEPS, snapshot always; what an omitted step would have given is a parameter of it."""
    require_work(steps)
    from components.wiring import make_pipeline

    return make_pipeline(steps)


def require_work(steps: Collection[str]) -> None:
    """Raise a SightlineError for a choice of steps that leaves nothing to do."""
    if not set(steps) - {"snapshot"}:
        raise SightlineError("--steps names nothing but snapshot. Add record, train, evaluate or test.")


def require_named_images(pipeline: bytes) -> None:
    """Raise a SightlineError for a compiled pipeline whose images nobody named; it says what to type."""
    if UNNAMED.search(pipeline):
        raise SightlineError(f"Nothing says which images the cluster should run. {HOW_TO_NAME}")


def compile_pipeline(output: Path, steps: Collection[str]) -> int:
    """Write the YAML for the Kubeflow UI, whole or not at all."""
    content = compiled(steps)
    from sightline.services.storage.base import replacing

    try:
        with replacing(output) as part:
            part.write_bytes(content)
    except OSError as error:
        raise SightlineError(f"{output} cannot be written ({error.strerror}). Choose another file with -o.") from None
    if UNNAMED.search(content):
        print(f"warning: nothing says where the images are. {HOW_TO_NAME}", file=sys.stderr)
    print(f"{output}: upload it in the Kubeflow UI, or start a run of it with: python pipeline.py submit --category …")
    return 0


def _require_digests(path: Path) -> None:
    try:
        known = json.loads(path.read_text())
        whole = all(str(known[target]).startswith("sha256:") for target in ("data", "train"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise SightlineError(
            f"{path} does not hold the images' digests ({{'data': 'sha256:…', 'train': 'sha256:…'}}). "
            "`make push` writes such a file; without --digests the tag names the images."
        )
