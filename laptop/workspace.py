"""A laptop's installation in one folder: storage, database, dataset repository and volume, where nothing else is set."""

import os
from pathlib import Path

from laptop import LIBRARY
from sightline.errors import SightlineError

CONNECTED = "SIGHTLINE_CONNECTED"  # set by `connect` where the storage lies on the cluster's volume: the namespace


def look_into_workspace(folder: Path, reads_storage: bool = True) -> Path:
    """Point every setting that the environment leaves open into the folder, for a command that only looks: nothing is made.

    Returns the folder's absolute path. A SightlineError where the command `reads_storage` that laptops cannot reach.
    """
    if reads_storage and (namespace := os.environ.get(CONNECTED)):
        # What the command stored here would be named by the cluster's database and tags, and found by no pod.
        raise SightlineError(
            f"This terminal has the settings of the cluster's namespace {namespace}, whose storage is on its volume, which "
            f"laptops cannot reach. Run it in the helper's pod (kubectl -n {namespace} exec -it deployment/sightline-helper -- python "
            "/opt/sightline/pipeline.py …), or in a terminal without these settings."
        )
    return point_into(folder)


def open_workspace(folder: Path) -> Path:
    """Make the folder, and point every setting that the environment leaves open into it. Returns its absolute path."""
    folder = look_into_workspace(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file stands there or above, or nobody may write there
        raise SightlineError(
            f"The workspace {folder} cannot be made ({error.strerror}). Name another folder with --workspace."
        ) from None
    try:
        _link_code(local_volume())
    except OSError as error:
        raise SightlineError(
            f"The volume {local_volume()} cannot be written ({error.strerror}). Make your user its owner, or set SIGHTLINE_VOLUME to another "
            "folder."
        ) from None
    return folder


def point_into(folder: Path) -> Path:
    """Point every setting that the environment leaves open into the folder, and make nothing. Returns its absolute path."""
    folder = folder.resolve()
    for name, value in {
        "SIGHTLINE_STORAGE": (folder / "storage").as_uri(),
        "SIGHTLINE_DATABASE_URL": f"sqlite:///{folder / 'sightline.db'}",
        "SIGHTLINE_DATASET_REPO": str(folder / "dataset.git"),
        "SIGHTLINE_VOLUME": str(own_volume(folder)),
    }.items():
        os.environ.setdefault(name, value)
    return folder


def own_volume(folder: Path) -> Path:
    """Where a workspace has the volume, if the environment names none."""
    return folder.resolve() / "volume"


def local_volume() -> Path:
    """What the persistent volume is on a cluster."""
    return Path(os.environ["SIGHTLINE_VOLUME"])


def _link_code(volume: Path) -> None:
    """On a laptop the live copy is the checkout itself.

    What `sync` put there (a relative link) and a real folder belong to an installation that others use, and stay.
    """
    volume.mkdir(parents=True, exist_ok=True)
    code = volume / "code"
    if code.is_symlink() and code.readlink().is_absolute() and code.resolve() != LIBRARY:
        code.unlink()
    if not code.exists():
        code.symlink_to(LIBRARY, target_is_directory=True)
