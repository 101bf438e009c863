"""Opens the annotation program on a folder. The program brings Qt and lives in a virtual environment of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sightline.errors import SightlineError
from sightline.services.versioning.repository import DatasetRepo
from sightline.settings import read_settings
from sightline.versions import parse_tag

ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv-annotate"
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")  # one of them is set where Qt can open a window


def annotate(folder: Path) -> int:
    """Open labelme on a folder of images with their JSON, and wait until it is closed. Returns its exit status."""
    if not folder.is_dir():
        raise SightlineError(f"There is no folder {folder} to annotate.")
    program = ENVIRONMENT / "bin" / "labelme"
    if not program.is_file():
        raise SightlineError(
            f"The annotation program labelme is not installed ({program} is missing). Type: make annotate-setup"
        )
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in SCREENS):
        raise SightlineError(
            f"labelme needs a screen, and none of {', '.join(SCREENS)} is set. "
            f"Run the command in a desktop session (or over ssh -X), or open {folder} with labelme elsewhere."
        )
    # PYTHONPATH may name this project's environment, whose OpenCV and Qt are not labelme's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([program, folder.resolve()], env=environment, check=False).returncode


def check_out(tag: str, folder: Path) -> Path:
    """Copy an annotation version's files to a folder where people edit them; publish that folder as the next version.

    A folder that is there already is opened as it is, with whatever was edited in it.
    """
    named = parse_tag(tag)
    if named.kind != "annotation":
        raise SightlineError(
            f"{tag} is a dataset version. Open the annotations it was made from: {named.category}_ann_…"
        )
    if folder.is_dir():
        return folder
    with DatasetRepo.of(read_settings()).working_copy(tag) as copy:
        source = copy.pull(copy.category_folder("annotations", named.category))
        # Files in the working copy are read-only links into the cache; these are the user's own.
        shutil.copytree(source, folder, copy_function=shutil.copyfile)
    return folder
