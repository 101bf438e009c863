"""The helper code of this checkout: what its files hold, and which commit they come from."""

import getpass
import hashlib
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import SightlineError
from sightline.services.runs.closure import digest_contents
from sightline.services.runs.freeze import PACKAGE, check_syntax
from sightline.services.runs.live_files import list_files


class ChangedWhileSentError(SightlineError):
    """Somebody saved a file while it travelled."""


@dataclass(frozen=True, slots=True)
class LocalCode:
    """Helper code in a folder, as it was read: path -> SHA-256 of the content, and path -> size in bytes."""

    folder: Path
    files: Mapping[str, str]
    sizes: Mapping[str, int]


def read_code(folder: Path) -> LocalCode:
    """Read the helper code in a folder.

    Raises:
        BrokenCodeError: a file has a syntax error.
        SightlineError: there is no helper code, or a file cannot be read.
    """
    if not (folder / PACKAGE / "__init__.py").is_file():
        raise SightlineError(
            f"{folder} holds no helper code (no {PACKAGE}/__init__.py). Name the folder with --source."
        )
    files, sizes = {}, {}
    for path in sorted(list_files(folder)):
        try:
            files[path.as_posix()], sizes[path.as_posix()] = _read(folder, path)
        except OSError as error:
            raise SightlineError(f"{folder / path} cannot be read: {error.strerror}. Nothing was sent.") from None
    return LocalCode(folder, files, sizes)


def digest_of(files: Mapping[str, str]) -> str:
    """What the snapshot step would call the code_digest of files: path -> SHA-256 of the content."""
    return digest_contents({Path(path): sha256 for path, sha256 in files.items()})


def origin_of(folder: Path) -> dict[str, str | bool]:
    """Who syncs, and the commit that the folder comes from ("" outside Git; dirty: with changes since)."""
    commit = _git(folder, ("rev-parse", "HEAD"))
    return {
        "who": f"{getpass.getuser()}@{socket.gethostname()}",
        "commit": commit,
        "dirty": bool(commit and _git(folder, ("status", "--porcelain", "--", "."))),
    }


def _read(folder: Path, path: Path) -> tuple[str, int]:
    if path.suffix == ".py":
        content = (folder / path).read_bytes()
        check_syntax(content, folder / path, "Correct it; nothing was sent.")
        return hashlib.sha256(content).hexdigest(), len(content)
    with (folder / path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest(), handle.tell()


def _git(folder: Path, command: Iterable[str]) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no Git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
