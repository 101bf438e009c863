"""Git, run as a program: every exit code counts, nothing hangs for ever, and no message holds a password."""

import contextlib
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from sightline.errors import SightlineError, clause
from sightline.processes.deadline import deadline_seconds
from sightline.processes.folders import only_one, private_folder

log = logging.getLogger(__name__)

BRANCH: Final = "main"
COMMAND_DEADLINES: Final = 10  # a whole command may take so many times what silence may
STALE_SECONDS: Final = 2.0  # Git holds a lock for milliseconds
LOCK_FILE: Final = "sightline-push"

# Another push was faster, or is under way: the same may succeed in a moment.
_OVERTAKEN = re.compile(
    r"fetch first|non-fast-forward|cannot lock ref|failed to update ref|failed to lock|unable to create .*\.lock"
    r"|incorrect old value|reference already exists|unable to lock|could not lock",
    re.IGNORECASE,
)
_LOCK_IN_THE_WAY = re.compile(r"unable to create '([^']+\.lock)'", re.IGNORECASE)
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_DAMAGED = re.compile(
    r"object file .* is empty|is corrupt|bad object|bad tree|unable to read (tree|[0-9a-f]{40})|invalid sha1 pointer|missing (blob|tree|commit)"
    r"|inflate: data stream|remote did not send all necessary objects|broken link|unable to unpack|loose object|nonexistent ref",
    re.IGNORECASE,
)
_NO_REPOSITORY = re.compile(r"not (appear to be )?a git repository|repository '.*' does not exist", re.IGNORECASE)
# Where they come from another program that runs us, they name that program's repository.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")

Author = tuple[str, str]  # name and address for commits


class GitError(SightlineError):
    """Git ended with an error; `overtaken` when another push was in the way."""

    def __init__(self, message: str, overtaken: bool = False) -> None:
        super().__init__(message)
        self.overtaken = overtaken


def run_git(url: str, author: Author, folder: Path | None, *arguments: str, seconds: float | None = None) -> str:
    """What a Git command prints; a GitError, which names the repository at `url`, where it fails or takes too long.

    It runs in a folder, where it needs a repository, and may take so many seconds, else ten times the SIGHTLINE_TIMEOUT.
    """
    limit = seconds or COMMAND_DEADLINES * deadline_seconds()
    try:
        done = subprocess.run(
            ["git", *(["-C", str(folder)] if folder else []), *arguments],
            env=_environment(url, author),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        raise GitError(
            f"git {arguments[0]} for the dataset repository {without_password(url)} had not ended after {limit:g} s. "
            f"Check SIGHTLINE_DATASET_REPO, the access to it, and SIGHTLINE_TIMEOUT (now {deadline_seconds():g} s)."
        ) from None
    except FileNotFoundError:
        raise GitError("The program git is not installed, or not on the PATH. Install it.") from None
    if done.returncode != 0:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        raise GitError(_told(url, arguments[0], reason), overtaken=bool(_OVERTAKEN.search(reason)))
    return done.stdout


def remote_tags(url: str, author: Author, seconds: float | None = None) -> dict[str, str]:
    """Every tag of a repository and the commit it names; arguments and errors are `run_git`'s."""
    tags = {}
    for line in run_git(url, author, None, "ls-remote", "--tags", url, seconds=seconds).splitlines():
        commit, _, reference = line.partition("\t")
        tags[reference.removeprefix("refs/tags/").removesuffix("^{}")] = commit
    return tags


def local_repository(url: str) -> Path | None:
    """The folder of a repository on this machine, or None for one elsewhere."""
    if url.startswith("file://"):
        return Path(unquote(urlsplit(url).path))
    return Path(url) if not urlsplit(url).scheme and ":" not in url else None


def create_bare(path: Path) -> None:
    """Create an empty repository where there is none. Of several processes one does it."""
    if (path / "HEAD").is_file():
        return
    with private_folder(path.parent, f".{path.name}-") as private:
        made = private / "made"
        run_git(str(path), ("", ""), None, "init", "--quiet", "--bare", "--initial-branch", BRANCH, str(made))
        try:
            made.rename(path)
        except OSError as error:
            if not (path / "HEAD").is_file():
                raise GitError(
                    f"The dataset repository {path} cannot be created: {error.strerror}. Empty that folder, or set "
                    "SIGHTLINE_DATASET_REPO to another place."
                ) from None


@contextlib.contextmanager
def pushing(url: str) -> Iterator[None]:
    """One push at a time into a repository on this machine, cleared first of what a killed push left there."""
    bare = local_repository(url)
    if bare is None or not (bare / "HEAD").is_file():
        yield
        return
    with only_one(bare / LOCK_FILE, COMMAND_DEADLINES * deadline_seconds()) as alone:
        if alone:
            _clear(bare)
        yield


def without_password(text: str) -> str:
    """The text with the user and password of every URL in it left out."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1…@", text)


def _clear(bare: Path) -> None:
    """Remove locks and half-received objects that nobody changed for a while: a push that was killed left them."""
    waiting = [*bare.glob("*.lock"), *bare.glob("refs/**/*.lock"), *bare.glob("objects/tmp_objdir-*")]
    for path in waiting:
        with contextlib.suppress(FileNotFoundError):  # it was alive
            while (age := time.time() - max(each.stat().st_mtime for each in (path, *path.rglob("*")))) < STALE_SECONDS:
                time.sleep(max(0.0, min(STALE_SECONDS, STALE_SECONDS - age)))
            log.warning("removing %s, which a killed push left", path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _told(url: str, command: str, reason: str) -> str:
    """What Git said, what that means where it is known, and what to do."""
    shown, said = without_password(url), clause(without_password(reason))
    here = local_repository(url)
    if _FULL.search(reason):
        return (
            f"The disk is full: git {command} for the dataset repository {shown} could not write ({said}). Free some space there; "
            "python pipeline.py prune shows what may go."
        )
    if _DAMAGED.search(reason) or (_NO_REPOSITORY.search(reason) and here is not None and here.exists()):
        return (
            f"The dataset repository {shown} is damaged, or is none (git {command}: {said}). Put a copy of it there again, or of any clone "
            "of it with all tags (git clone --mirror); or correct SIGHTLINE_DATASET_REPO."
        )
    return f"git {command} failed for the dataset repository {shown}: {said}. {_advice(reason)}"


def _advice(reason: str) -> str:
    if stale := _LOCK_IN_THE_WAY.search(reason):
        return f"If no git is running there, a killed one left the file {stale[1]}: remove it and run again."
    return "Check SIGHTLINE_DATASET_REPO and the access to it."


def _environment(url: str, author: Author) -> dict[str, str]:
    silence = max(1, round(deadline_seconds()))
    environment = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}  # its messages are read above
    for role in ("AUTHOR", "COMMITTER"):
        environment[f"GIT_{role}_NAME"], environment[f"GIT_{role}_EMAIL"] = author
    environment.setdefault("GIT_HTTP_LOW_SPEED_LIMIT", "1")
    environment.setdefault("GIT_HTTP_LOW_SPEED_TIME", str(silence))
    by_ssh = urlsplit(url).scheme in ("ssh", "git+ssh") or local_repository(url) is None and "://" not in url
    if by_ssh and not {"GIT_SSH", "GIT_SSH_COMMAND"} & environment.keys() and not _configured_ssh():
        environment["GIT_SSH_COMMAND"] = (
            f"ssh -o ConnectTimeout={silence} -o ServerAliveInterval={max(1, silence // 3)} -o ServerAliveCountMax=3"
        )
    return environment


def _configured_ssh() -> bool:
    return subprocess.run(["git", "config", "--get", "core.sshCommand"], capture_output=True).returncode == 0
