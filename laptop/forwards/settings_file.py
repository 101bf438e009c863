"""The settings of a connected laptop as shell text: in a file with the passwords, on the screen without."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from sightline.errors import SightlineError
from sightline.services.storage.base import replacing

FIRST_LINE = "# Written by `pipeline.py connect`, with passwords. It leads to the cluster while that runs."
LOGIN = re.compile(r"^([\w+.-]+://[^/?#:]*):[^/?#]*@")
OWNER_ONLY = 0o600


def as_exports(settings: Mapping[str, str], hide: bool) -> str:
    """Lines for a shell.

    Args:
        settings: by their names.
        hide: whether passwords in URLs are left out.
    """
    shown = {name: without_password(value) if hide else value for name, value in settings.items()}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(shown.items()))


def without_password(text: str) -> str:
    """A URL without the password in it; any other text as it is."""
    return LOGIN.sub(r"\1:***@", text)


def require_ours(file: Path) -> None:
    """Make sure that a file may be replaced.

    Raises:
        SightlineError: it holds something else, or is no file.
    """
    try:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise SightlineError(f"{file} is not an ordinary file. Choose another with --write.")
        if file.exists() and not file.read_text(errors="replace").startswith(FIRST_LINE):
            raise SightlineError(
                f"{file} was not written by connect, and stays as it is. Choose another file with --write."
            )
    except OSError as error:
        raise SightlineError(f"{file} cannot be read: {error.strerror}. Choose another file with --write.") from None


def write_settings(file: Path, settings: Mapping[str, str]) -> None:
    """Write the file, readable by its owner alone. A reader finds the old one or the new one.

    Raises:
        SightlineError: it holds something else, or cannot be written.
    """
    require_ours(file)
    try:
        with replacing(file) as part:
            part.touch(OWNER_ONLY, exist_ok=False)
            part.write_text(f"{FIRST_LINE}\n{as_exports(settings, hide=False)}\n")
    except OSError as error:
        raise SightlineError(f"{file} cannot be written: {error.strerror}. Choose another file with --write.") from None
