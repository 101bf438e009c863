"""A container engine, the images in it, and the services that runs of them need."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kube import cluster, kube
from tests.services import bucket, gcs_emulator, mariadb_server, mariadb_url
from tests.workspace import REPOSITORY

__all__ = ["bucket", "cluster", "gcs_emulator", "kube", "mariadb_server", "mariadb_url"]
"""Fixtures, which pytest finds by being here."""

REGISTRY = "sightline"
TAG = f"test-{os.urandom(4).hex()}"
KEPT_TAG = "test-cache"
"""Keeps the layers for the next session, which builds under a tag of its own."""
TARGETS = ("data", "train")
SOURCE = "https://git.example.com/team/sightline"
BUILD_SECONDS = 3600
"""Without a wheel at hand the ops of mmcv are compiled."""


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """DOCKER_HOST of the container engine that SIGHTLINE_TEST_DOCKER_HOST names, set for the session.

    Whatever engine the person at this machine uses is left alone.
    """
    host = os.environ.get("SIGHTLINE_TEST_DOCKER_HOST", "")
    if not host:
        pytest.skip("no container engine for tests: set SIGHTLINE_TEST_DOCKER_HOST (docs/development.md)")
    if shutil.which("docker") is None:
        pytest.skip("the program docker is not installed (Debian: apt install docker.io)")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DOCKER_BUILDKIT", "0")
        environment.setenv("DOCKER_HOST", host)
        environment.delenv("DOCKER_CONTEXT", raising=False)
        answer = _run("docker", "info")
        assert answer.returncode == 0, f"SIGHTLINE_TEST_DOCKER_HOST={host} does not answer: {answer.stderr}"
        yield host


@pytest.fixture(scope="session")
def images(engine: str) -> Iterator[dict[str, str]]:
    """Target -> reference of the image that `make images` builds of this checkout."""
    with tempfile.TemporaryDirectory(prefix="sightline-context-") as folder, _lock().open("w") as lock:
        # Two sessions beside each other: the second finds the layers of the first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        context = Path(folder)
        copy_context(context)
        add_wheels(context)
        revision = _run("git", "-C", str(REPOSITORY), "rev-parse", "HEAD").stdout.strip()
        done = make_images(context, REGISTRY, TAG, REVISION=revision, SOURCE=SOURCE)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    built = {target: f"{REGISTRY}/sightline-{target}:{TAG}" for target in TARGETS}
    for target, image in built.items():
        _run("docker", "tag", image, f"{REGISTRY}/sightline-{target}:{KEPT_TAG}")
    yield built
    _run("docker", "image", "rm", "--force", *built.values())


def _lock() -> Path:
    return Path(tempfile.gettempdir(), f"sightline-test-images-{os.geteuid()}.lock")


def make_images(
    context: Path, registry: str, tag: str, goal: str = "images", **variables: str
) -> subprocess.CompletedProcess[str]:
    """`make images` in a copy of the checkout."""
    given = [f"{name}={value}" for name, value in {"REGISTRY": registry, "TAG": tag, **variables}.items()]
    return _run("make", "-C", str(context), goal, *given)


def copy_context(folder: Path) -> None:
    """Copy what is in this checkout's repository, or would be after `git add`: a build must not need anything else."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = _run("git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed.returncode:
        pytest.skip("not a Git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)


def add_wheels(context: Path) -> None:
    """Put the wheels of torch and mmcv that this machine has where a build looks; else torch is downloaded and mmcv compiled."""
    listed = _run("python3", "-m", "pip", "config", "list").stdout
    links = [line.partition("=")[2].strip("'") for line in listed.splitlines() if ".find-links=" in line]
    links += [os.environ.get(name, "") for name in ("PIP_FIND_LINKS", "SIGHTLINE_TEST_WHEELS")]
    folders = {Path(place) for link in links for place in link.split() if place.startswith("/")}
    for name in ("torch-*.whl", "onedl_mmcv-*.whl"):
        for wheel in (wheel for folder in folders for wheel in folder.glob(name)):
            shutil.copy(wheel, context / "docker" / "wheelhouse")


def inspected(image: str) -> dict:
    """What the engine knows of an image."""
    done = _run("docker", "image", "inspect", image)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[0]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS)
