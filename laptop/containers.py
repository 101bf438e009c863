"""`local --runner docker`: the steps in their real images, as on a cluster: non-root, no capabilities, read-only root.

The volume is mounted where the claim would be. Everything else that the settings name as a folder or file of this
machine is mounted at its own path, so that a setting means the same inside.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from components.cluster import OPTIONAL_SETTINGS, USER, VOLUME
from laptop.kfp_tasks import replaced
from laptop.workspace import local_volume
from sightline.errors import SightlineError
from sightline.processes.folders import only_one
from sightline.services.versioning.git import local_repository

WORKSPACE_LABEL = "sightline.workspace"
RUN_LABEL = "sightline.run"
PASSED_ON = ("OMP_NUM_THREADS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Settings of the libraries that a step uses, beside those of a ConfigMap; all of ours, SIGHTLINE_…, go along as well."""
KEPT_OUTSIDE = ("SIGHTLINE_PARENT", "SIGHTLINE_VOLUME", "SIGHTLINE_REGISTRY", "SIGHTLINE_TAG", "SIGHTLINE_DIGESTS")
"""Of this process (a container sees no process of ours), or about the images."""


@contextlib.contextmanager
def containers(workspace: Path, run: str, images: Sequence[str], locations: Sequence[str]) -> Iterator[Any]:
    """A DockerRunner whose containers end with this process, or are removed by the workspace's next run.

    The workspace is mounted with what the settings name, and to be read the paths and URIs of this machine among
    `locations`, the pipeline's parameters. `images` are those that have to be there.
    """
    from docker.types import DeviceRequest
    from kfp import local
    from kfp.local import docker_task_handler

    lock = _lock_file(workspace, run)
    with contextlib.closing(_engine()) as engine, contextlib.ExitStack() as opened:
        _require_images(engine, images)
        # Held for as long as this process lives; the system lets go of it however that ends.
        opened.enter_context(only_one(lock, seconds=0))
        opened.callback(lock.unlink, missing_ok=True)
        _remove_orphans(engine, workspace)
        user, group = _share_with_images(workspace)
        nvidia = "nvidia" in engine.info().get("Runtimes", {})
        gpus = {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]} if nvidia else {}
        runner = local.DockerRunner(
            mounts=_mounts(workspace, locations),
            environment=_environment(),
            user=f"{user}:{group}",
            labels={WORKSPACE_LABEL: str(workspace), RUN_LABEL: run},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            tmpfs={"/tmp": "rw,exec,mode=1777,size=8g"},
            shm_size="2g",
            # A database or an emulator on this machine listens on its loopback address.
            network_mode="host",
            **gpus,
        )
        with replaced(docker_task_handler, "run_docker_container", _run_container):
            yield runner


def _engine() -> Any:
    from docker.client import DockerClient
    from docker.errors import DockerException

    try:
        engine = DockerClient.from_env()
        engine.ping()
    except DockerException as error:
        raise SightlineError(
            f"No container engine answers at {os.environ.get('DOCKER_HOST') or 'its usual socket'} "
            f"({str(error).splitlines()[0]}). Start Docker, set DOCKER_HOST, or leave out --runner docker."
        ) from None
    return engine


def _require_images(engine: Any, images: Sequence[str]) -> None:
    from docker.errors import ImageNotFound

    for image in images:
        try:
            engine.images.get(image)
        except ImageNotFound:
            raise SightlineError(
                f"The image {image} is not on this machine. Build it with `make images` (REGISTRY and TAG as for --registry "
                f"and --tag), or fetch it: docker pull {image}"
            ) from None


def _lock_file(workspace: Path, run: str) -> Path:
    return workspace / "logs" / f"{run}.running"


def _remove_orphans(engine: Any, workspace: Path) -> None:
    """Remove the containers of runs of this workspace whose process is gone, a killed one's for example."""
    from docker.errors import DockerException

    for container in engine.containers.list(all=True, filters={"label": f"{WORKSPACE_LABEL}={workspace}"}):
        lock = _lock_file(workspace, container.labels.get(RUN_LABEL, ""))
        with only_one(lock, seconds=0) as abandoned:
            if abandoned:
                # Another run may be removing it at the same time.
                with contextlib.suppress(DockerException):
                    container.remove(force=True)
                lock.unlink(missing_ok=True)


def _share_with_images(workspace: Path) -> tuple[int, int]:
    """The user and group that the containers run as, with the right to write what is mounted.

    For root that is the images' own user, as on a cluster, who is given the workspace. Anybody else's containers run as
    that person: what they write is hers, to edit and to remove, and only root could give files away. A folder that is
    not the workspace's is not given away: where that user cannot write it, the run is refused.
    """
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    for path in (workspace, *workspace.rglob("*")):
        # A running process may remove its files meanwhile.
        with contextlib.suppress(FileNotFoundError):
            os.chown(path, USER, USER, follow_symlinks=False)
    for folder in _writable(workspace):
        if folder != workspace and folder.stat().st_uid != USER:
            raise SightlineError(
                f"The steps' containers run as user {USER} and cannot write {folder}, which a setting names. "
                f"If that folder is for nothing else: chown -R {USER}:{USER} {folder}"
            )
    repository = _repository()
    if repository and repository.is_relative_to(workspace) and repository.is_dir():
        # Git refuses a repository whose top folder belongs to another than who runs it; inside, it is told to trust all.
        os.chown(repository, 0, USER)
        repository.chmod(0o775)
    return USER, USER


def _mounts(workspace: Path, locations: Sequence[str]) -> list[Any]:
    writable = _writable(workspace)
    code = (local_volume() / "code").resolve()
    # The live copy, and what only has to be read.
    read = [code, *filter(None, map(_path_of, [*locations, os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")]))]
    read_only = {path for path in read if path.exists() and not any(map(path.is_relative_to, writable))}
    return [
        _bind(local_volume(), VOLUME),
        *(_bind(folder, str(folder)) for folder in writable),
        *(_bind(path, str(path), read_only=True) for path in sorted(read_only)),
    ]


def _bind(source: Path, target: str, read_only: bool = False) -> Any:
    from docker.types import Mount

    return Mount(target, str(source), type="bind", read_only=read_only)


def _writable(workspace: Path) -> list[Path]:
    """The workspace, and what the settings put elsewhere on this machine; a folder in another one of them is left out."""
    folders = {workspace, local_volume().resolve()}
    folders |= {path for path in (_path_of(os.environ["SIGHTLINE_STORAGE"]), _repository()) if path}
    database = urlsplit(os.environ["SIGHTLINE_DATABASE_URL"])
    if database.scheme.partition("+")[0] == "sqlite":
        # SQLite makes its journal beside the file.
        folders.add(Path(database.path.removeprefix("/")).resolve().parent)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return sorted(folder for folder in folders if not any(folder.is_relative_to(other) for other in folders - {folder}))


def _repository() -> Path | None:
    found = local_repository(os.environ["SIGHTLINE_DATASET_REPO"])
    return found.resolve() if found else None


def _path_of(location: str) -> Path | None:
    """Where a path or file:// URI is on this machine; None for one elsewhere, or none at all."""
    parts = urlsplit(location)
    if not location or parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else location).resolve()


def _environment() -> dict[str, str]:
    passed_on = {*PASSED_ON, *map(str.lower, PASSED_ON), *OPTIONAL_SETTINGS}
    ours = {name for name in os.environ if name.startswith("SIGHTLINE_")} - {*KEPT_OUTSIDE}
    return {name: os.environ[name] for name in (passed_on & os.environ.keys()) | ours} | {"SIGHTLINE_VOLUME": VOLUME}


def _run_container(client: Any, image: str, command: list[str], volumes: dict[str, Any], **settings: Any) -> int:
    """Run one container, its output to this process's; gone when this returns, whatever happened.

    In place of kfp's own: that lets the engine remove the container when it ends, takes one that was removed before it
    could be asked for having succeeded, and leaves it running on Ctrl-C.
    """
    from docker.errors import APIError

    try:
        container = client.containers.create(image=image, command=command, volumes=volumes, **settings)
        try:
            container.start()
            for piece in container.logs(stream=True, follow=True):
                print(piece.decode(errors="replace"), end="")
            return int(container.wait()["StatusCode"])
        finally:
            container.remove(force=True)
    except APIError as error:
        raise SightlineError(f"The container engine cannot run {image}: {error.explanation}") from None
