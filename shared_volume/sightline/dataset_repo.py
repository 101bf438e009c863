"""The dataset repository: Git for names and history, DVC for the bytes. The one door to both.

Layout: `annotations/<category>.dvc` and `datasets/<category>.dvc`, each naming a DVC remote of its own. A version is a tag.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from sightline.errors import SightlineError
from sightline.settings import Settings
from sightline.storage import open_storage
from sightline.storage.folder import local_path

log = logging.getLogger(__name__)

BRANCH = "main"
REMOTES = ("annotations", "datasets")
PUSH_ATTEMPTS = 5


class GitError(SightlineError):
    """Git ended with an error."""


class NoSuchTagError(SightlineError):
    """The dataset repository has no such tag."""


@dataclass(frozen=True, slots=True)
class DatasetRepo:
    """A dataset repository.

    Attributes:
        url: Git URL or path of a bare repository.
        storage: storage root (gs://… or file:///…) whose `dvc/<remote>` holds the bytes.
        volume: where the DVC cache and private working copies lie.
        author: name and address for commits.
    """

    url: str
    storage: str
    volume: Path
    author: tuple[str, str]

    @classmethod
    def of(cls, settings: Settings) -> "DatasetRepo":
        """The repository that the settings name; a local path that does not exist yet is created.

        Raises:
            SightlineError: a path that DVC cannot write down.
        """
        _require_ascii(SIGHTLINE_STORAGE=settings.storage, SIGHTLINE_VOLUME=str(settings.volume.resolve()))
        repo = cls(
            settings.dataset_repo, settings.storage, settings.volume, (settings.git_user_name, settings.git_user_email)
        )
        if not urlsplit(repo.url).scheme and ":" not in repo.url:
            _create_bare(Path(repo.url))
        return repo

    def tags(self) -> dict[str, str]:
        """Every tag and the commit it names."""
        tags = {}
        for line in self._git(None, "ls-remote", "--tags", self.url).splitlines():
            commit, _, reference = line.partition("\t")
            tags[reference.removeprefix("refs/tags/").removesuffix("^{}")] = commit
        return tags

    def require_storage(self) -> None:
        """Make sure that the storage answers: DVC would try for half a minute and then give no reason.

        Raises:
            StorageError: out of reach, refused, or no such bucket.
        """
        open_storage(self.storage).exists("dvc")

    @contextlib.contextmanager
    def working_copy(self, tag: str | None = None) -> Iterator["WorkingCopy"]:
        """A private clone, of the newest commit or at a tag, that is removed afterwards.

        Raises:
            NoSuchTagError: the repository has no such tag.
        """
        if tag is not None and tag not in (known := self.tags()):
            raise NoSuchTagError(
                f"The dataset repository {_without_password(self.url)} has no tag {tag!r}. "
                f"Its tags: {', '.join(sorted(known)) or 'none yet'}. Publish it first: python pipeline.py publish."
            )
        work = self.volume / "work"
        work.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="repo-", dir=work))
        try:
            self._git(None, "clone", "--quiet", self.url, str(folder))
            if tag is not None:
                self._git(folder, "checkout", "--quiet", tag)
            elif not self._git(folder, "branch", "--remotes").strip():
                self._git(folder, "checkout", "--quiet", "-b", BRANCH)
            copy = WorkingCopy(self, folder)
            copy.configure_dvc()
            yield copy
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _git(self, folder: Path | None, *arguments: str) -> str:
        name, address = self.author
        environment = os.environ | {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": address,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": address,
        }
        command = ["git", *(["-C", str(folder)] if folder else []), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = _without_password(done.stderr.strip() or f"exit code {done.returncode}")
            raise GitError(
                f"git {arguments[0]} failed for the dataset repository {_without_password(self.url)}: {reason} "
                "Check SIGHTLINE_DATASET_REPO and the access to it."
            )
        return done.stdout


@dataclass(frozen=True, slots=True)
class WorkingCopy:
    """A private clone of the dataset repository, with a DVC cache that all of the volume's working copies share."""

    repo: DatasetRepo
    folder: Path

    def configure_dvc(self) -> None:
        """Point DVC at the storage and the shared cache. The committed part says where the bytes lie, no secret."""
        # DVC keeps its locks in /var/tmp otherwise, which a container with a read-only root file system lacks.
        os.environ.setdefault("DVC_SITE_CACHE_DIR", str(self.repo.volume / "dvc-site"))
        os.environ.setdefault("DVC_NO_ANALYTICS", "1")
        from dvc.repo import Repo

        # Above ERROR, DVC draws no bars of its own either.
        logging.getLogger("dvc").setLevel(logging.CRITICAL)
        if not (self.folder / ".dvc").is_dir():
            Repo.init(str(self.folder)).close()
            # Else DVC keeps a list in each folder, over which two categories that are new at the same time conflict.
            (self.folder / ".gitignore").write_text("".join(f"/{remote}/?*\n!/{remote}/?*.dvc\n" for remote in REMOTES))
        with self.dvc() as dvc:
            with dvc.config.edit("repo") as config:
                config["core"]["analytics"] = False
                for remote in REMOTES:
                    config["remote"][remote] = {"url": remote_url(self.repo.storage, remote)}
            with dvc.config.edit("local") as config:
                config["cache"]["dir"] = str((self.repo.volume / "dvc-cache").resolve())
                # Links cost no copy, and DVC makes linked files read-only: nobody edits the cache by accident.
                config["cache"]["type"] = ["reflink", "hardlink", "copy"]
                if self.repo.storage.startswith("gs://") and os.environ.get("STORAGE_EMULATOR_HOST"):
                    for remote in REMOTES:
                        config["remote"][remote] = {"allow_anonymous_login": True}

    @contextlib.contextmanager
    def dvc(self) -> Iterator[Any]:
        """DVC's own repository object."""
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        dvc = Repo(str(self.folder))
        try:
            yield dvc
        except (DvcException, OSError) as error:
            raise SightlineError(
                f"DVC failed on {self.repo.storage}: {_reasons(error)}. Check SIGHTLINE_STORAGE and the access to it; "
                "running the same command again continues."
            ) from error
        finally:
            dvc.close()

    def place(self, kind: str, category: str) -> Path:
        """The folder of a category's annotations or dataset."""
        return self.folder / kind / category

    def add(self, path: Path) -> str:
        """`dvc add` a folder, naming the remote that holds it. Returns DVC's digest of the folder."""
        pointer = _pointer(path)
        with self.dvc() as dvc:
            dvc.add([str(path)])
        document = yaml.safe_load(pointer.read_text())
        document["outs"][0]["remote"] = path.parent.name
        pointer.write_text(yaml.safe_dump(document, sort_keys=False))
        return document["outs"][0]["md5"]

    def digest(self, path: Path) -> str | None:
        """DVC's digest of the folder as committed here, or None when there is none."""
        pointer = _pointer(path)
        return yaml.safe_load(pointer.read_text())["outs"][0]["md5"] if pointer.is_file() else None

    def push(self, path: Path) -> None:
        """Upload a folder's bytes to its remote."""
        with self.dvc() as dvc:
            dvc.push(targets=[str(_pointer(path))], remote=path.parent.name)

    def pull(self, path: Path) -> Path:
        """Bring a folder's bytes from its remote."""
        self.repo.require_storage()
        with self.dvc() as dvc:
            dvc.pull(targets=[str(_pointer(path))], remote=path.parent.name)
        return path

    def objects(self, path: Path) -> dict[str, int]:
        """What a pull of this folder needs from its remote: object name under `dvc/<remote>/` -> size in bytes."""
        cache = self.repo.volume / "dvc-cache"
        listing = cache / _object_name(self.digest(path) or "")
        digests = {entry["md5"] for entry in json.loads(listing.read_bytes())}
        names = [_object_name(digest) for digest in digests]
        return {name: (cache / name).stat().st_size for name in [*names, str(listing.relative_to(cache))]}

    def commit_and_tag(self, message: str, tag: str) -> str:
        """Commit everything, tag it, and push both at once. Returns the commit.

        A push that another publisher overtook is replayed on the newest commit: categories are separate files.
        """
        git = self.repo._git
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "-m", message)
        for attempt in range(1, PUSH_ATTEMPTS + 1):
            git(self.folder, "tag", "--force", "-a", tag, "-m", message)
            try:
                git(self.folder, "push", "--quiet", "--atomic", "origin", f"HEAD:{BRANCH}", f"refs/tags/{tag}")
                break
            except GitError:
                if attempt == PUSH_ATTEMPTS or tag in self.repo.tags():
                    raise
                git(self.folder, "pull", "--quiet", "--rebase", "origin", BRANCH)
        return git(self.folder, "rev-parse", "HEAD").strip()


def remote_url(storage: str, remote: str) -> str:
    """DVC's URL of a remote under a storage root."""
    root = storage if storage.startswith("gs://") else str(local_path(storage))
    return f"{root.rstrip('/')}/dvc/{remote}"


def _require_ascii(**paths: str) -> None:
    for name, path in paths.items():
        if not unquote(path).isascii():
            raise SightlineError(
                f"{name} is {unquote(path)}: DVC writes its paths down in ASCII only. Use a folder whose path has no "
                "accents or other special letters (on a laptop: --workspace DIR)."
            )


def _create_bare(path: Path) -> None:
    if (path / "HEAD").is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch", BRANCH, str(path)], check=True)


def _pointer(path: Path) -> Path:
    """DVC's small file that stands for a folder in Git."""
    return path.with_name(f"{path.name}.dvc")


def _object_name(digest: str) -> str:
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def _reasons(error: BaseException) -> str:
    reasons = []
    cause: BaseException | None = error
    while cause is not None:
        if str(cause) and str(cause) not in reasons:
            reasons.append(str(cause))
        cause = cause.__cause__
    return _without_password("; ".join(reasons) or type(error).__name__)


def _without_password(text: str) -> str:
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1…@", text)
