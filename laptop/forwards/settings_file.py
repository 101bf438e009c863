"""The settings of a connected laptop as shell text: in a file with the passwords, on the screen without."""

import contextlib
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sightline.errors import SightlineError

FIRST_LINE = "# Written by `pipeline.py connect`, with passwords. It leads to the cluster while that runs."
HIDDEN = "***"
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
    with contextlib.suppress(ValueError):
        parts = urlsplit(text)
        login, at, host = parts.netloc.rpartition("@")
        user, colon, _ = login.partition(":")
        if at and colon:
            return parts._replace(netloc=f"{user}:{HIDDEN}@{host}").geturl()
    return text


def require_ours(file: Path) -> None:
    """Make sure that a file may be replaced.

    Raises:
        SightlineError: it holds something else, or is no file.
    """
    try:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise SightlineError(f"{file} is no ordinary file. Name another with --write.")
        if file.exists() and not file.read_text(errors="replace").startswith(FIRST_LINE):
            raise SightlineError(
                f"{file} was not written by connect, and stays as it is. Name another file with --write."
            )
    except OSError as error:
        raise SightlineError(f"{file} cannot be read: {error.strerror}. Name another file with --write.") from None


def write_settings(file: Path, settings: Mapping[str, str]) -> None:
    """Write the file, readable by its owner alone. A reader finds the old one or the new one.

    Raises:
        SightlineError: it holds something else, or cannot be written.
    """
    require_ours(file)
    new = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w") as opened:
            opened.write(f"{FIRST_LINE}\n{as_exports(settings, hide=False)}\n")
        new.replace(file)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise SightlineError(f"{file} cannot be written: {error.strerror}. Name another file with --write.") from None
