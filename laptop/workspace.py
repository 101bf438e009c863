"""A laptop's installation in one folder: storage, database, dataset repository and volume, where nothing else is set."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LIBRARY = REPOSITORY / "shared_volume"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of one laptop installation."""

    folder: Path

    @property
    def volume(self) -> Path:
        """What the persistent volume is on a cluster."""
        return Path(os.environ["SIGHTLINE_VOLUME"])


def open_workspace(folder: Path) -> Workspace:
    """Point every setting that the environment leaves open into the folder, and make the library importable."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in {
        "SIGHTLINE_STORAGE": (folder / "storage").as_uri(),
        "SIGHTLINE_DATABASE_URL": f"sqlite:///{folder / 'sightline.db'}",
        "SIGHTLINE_DATASET_REPO": str(folder / "dataset.git"),
        "SIGHTLINE_VOLUME": str(folder / "volume"),
    }.items():
        os.environ.setdefault(name, value)
    workspace = Workspace(folder)
    _link_code(workspace.volume)
    use_library()
    return workspace


def use_library() -> None:
    """Make `import sightline` find the live copy in this checkout."""
    if str(LIBRARY) not in sys.path:
        sys.path.insert(0, str(LIBRARY))


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
