"""A container engine, the images in it, and the services that runs of them need."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kube import cluster, kube
from tests.services import bucket, find_tool, gcs_emulator, mariadb_server, mariadb_url
from tests.workspace import REPOSITORY

__all__ = ["bucket", "cluster", "gcs_emulator", "kube", "mariadb_server", "mariadb_url"]
"""Fixtures, which pytest finds by being here."""

KEPT = Path("/var/tmp/sightline-tests")
"""The engine's data and what images are built from: a second session finds most of it done."""
REGISTRY, TAG = "sightline", "test"
TARGETS = ("data", "train")
SOURCE = "https://git.example.com/team/sightline"
SHARED_WHEELS = REPOSITORY.parent / "shared" / "wheels"
BUILD_SECONDS = 3600
"""Without a wheel at hand the ops of mmcv are compiled."""


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """DOCKER_HOST of a container engine, set for the session: one that runs, or one of our own."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DOCKER_BUILDKIT", "0")
        if _answers():
            yield os.environ.get("DOCKER_HOST", "")
            return
        tool, base = find_tool("container-engine"), find_tool("base-image")
        if os.geteuid() != 0:
            pytest.skip("a container engine of our own needs root, and none runs")
        started = _run(str(tool), "up", str(KEPT / "engine"))
        if started.returncode:
            pytest.skip(f"no container engine starts here: {started.stderr.strip()[-200:]}")
        host = started.stdout.split("DOCKER_HOST=")[1].split()[0]
        environment.setenv("DOCKER_HOST", host)
        try:
            made = _run(str(base), str(KEPT / "base"))
            assert made.returncode == 0, made.stderr
            yield host
        finally:
            _run(str(tool), "down", str(KEPT / "engine"))


@pytest.fixture(scope="session")
def images(engine: str) -> dict[str, str]:
    """Target -> reference of the image that `make images` builds of this checkout."""
    KEPT.mkdir(parents=True, exist_ok=True)
    context = KEPT / "context"
    # Two sessions beside each other: the second finds the layers of the first.
    with (KEPT / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        copy_context(context)
        for wheel in known_wheels():
            shutil.copy(wheel, context / "docker" / "wheelhouse")
        revision = _run("git", "-C", str(REPOSITORY), "rev-parse", "HEAD").stdout.strip()
        done = make_images(context, REGISTRY, TAG, REVISION=revision, SOURCE=SOURCE)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        shutil.rmtree(context)
    return {target: f"{REGISTRY}/sightline-{target}:{TAG}" for target in TARGETS}


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


def known_wheels() -> list[Path]:
    """Wheels of torch and mmcv on this machine; without them torch is downloaded and mmcv compiled."""
    listed = (
        _run("python3", "-m", "pip", "config", "list").stdout
        + f"\n:env:.find-links='{os.environ.get('PIP_FIND_LINKS', '')}'"
    )
    links = [line.partition("=")[2].strip("'") for line in listed.splitlines() if ".find-links=" in line]
    folders = {Path(place) for link in links for place in link.split() if place.startswith("/")} | {SHARED_WHEELS}
    return sorted(
        wheel for folder in folders for name in ("torch-*.whl", "onedl_mmcv-*.whl") for wheel in folder.glob(name)
    )


def inspected(image: str) -> dict:
    """What the engine knows of an image."""
    done = _run("docker", "image", "inspect", image)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[0]


def _answers() -> bool:
    return shutil.which("docker") is not None and _run("docker", "info").returncode == 0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS)
