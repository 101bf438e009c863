"""The dataset repository: Git for names and history, DVC for the bytes. The one door to both.

Layout: `annotations/<category>.dvc` and `datasets/<category>.dvc`, each naming a DVC remote of its own. A version is a tag.
"""

import contextlib
import logging
import random
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

import yaml

from sightline.errors import SightlineError
from sightline.processes.folders import private_folder, remove_abandoned
from sightline.services.storage.access import open_storage
from sightline.services.storage.base import local_errors
from sightline.services.storage.folder import local_path
from sightline.services.versioning import git
from sightline.services.versioning.adding import Noted, move_into_cache, write_pointer
from sightline.services.versioning.objects import LostObjectError, Objects
from sightline.settings import Settings

log = logging.getLogger(__name__)

REMOTES = ("annotations", "datasets")
PUSH_SECONDS = 300.0  # how long a push that others overtake is tried again
LONGEST_PUSH_PAUSE_SECONDS = 2.0


class NoSuchTagError(SightlineError):
    """The dataset repository has no such tag."""


class TagExistsError(SightlineError):
    """Somebody else pushed the tag."""


def require_plain_paths(settings: Settings) -> None:
    """Raise a SightlineError where storage or volume lie on a path that DVC cannot write down."""
    paths = {"SIGHTLINE_STORAGE": settings.storage, "SIGHTLINE_VOLUME": str(settings.volume.resolve())}
    for name, path in paths.items():
        if not unquote(path).isascii():
            raise SightlineError(
                f"{name} is {unquote(path)}: DVC writes its paths down in ASCII only. Use a folder whose path has no "
                "accents or other special letters (on a laptop: --workspace DIR)."
            )


@dataclass(frozen=True, slots=True)
class DatasetRepo:
    """A dataset repository."""

    url: str  # Git URL or path of a bare repository
    storage: str  # storage root (gs://… or file:///…) whose `dvc/<remote>` holds the bytes
    volume: Path  # where the DVC cache and private working copies lie
    author: git.Author

    @classmethod
    def of(cls, settings: Settings) -> "DatasetRepo":
        """The repository that the settings name, which may be yet to be made."""
        require_plain_paths(settings)
        author = (settings.git_user_name, settings.git_user_email)
        return cls(settings.dataset_repo, settings.storage, settings.volume, author)

    @property
    def cache(self) -> Path:
        """The objects that all working copies on the volume share."""
        return self.volume.resolve() / "dvc-cache"

    @property
    def is_to_be_made(self) -> bool:
        """Whether it is a path of this machine where nothing is yet."""
        here = git.local_repository(self.url)
        return here is not None and not here.exists()

    def tags(self) -> dict[str, str]:
        """Every tag and the commit it names."""
        return {} if self.is_to_be_made else git.remote_tags(self.url, self.author)

    def require_storage(self) -> None:
        """Make sure that the storage answers, or say why not: DVC tries for half a minute and gives no reason."""
        open_storage(self.storage).exists("dvc")

    def objects(self, remote: str) -> Objects:
        """What a remote holds, object by object."""
        return Objects(open_storage(self.storage), remote, self.cache)

    @contextlib.contextmanager
    def working_copy(self, tag: str | None = None) -> Iterator["WorkingCopy"]:
        """A private clone, of the newest commit or at a tag (else a NoSuchTagError), that is removed afterwards.

        Without a tag, to publish: a repository of this machine that is not there yet is made.
        """
        if tag is not None and tag not in (known := self.tags()):
            raise NoSuchTagError(
                f"The dataset repository {git.without_password(self.url)} has no tag {tag!r}. "
                f"Its tags: {', '.join(sorted(known)) or 'none yet'}. Publish it first: python pipeline.py publish."
            )
        if tag is None and (here := git.local_repository(self.url)):
            git.create_bare(here)
        with private_folder(self.volume / "work", "repo-") as private:
            folder = private / "repo"
            self._git(None, "clone", "--quiet", self.url, str(folder))
            if tag is not None:
                self._git(folder, "checkout", "--quiet", tag)
            elif not self._git(folder, "branch", "--remotes").strip():
                self._git(folder, "checkout", "--quiet", "-b", git.BRANCH)
            yield WorkingCopy(self, folder)

    def remove_abandoned(self) -> int:
        """Remove the private folders that processes left that died. Returns their number."""
        work = self.volume / "work"
        return remove_abandoned(work) if work.is_dir() else 0

    def _git(self, folder: Path | None, *arguments: str) -> str:
        return git.run_git(self.url, self.author, folder, *arguments)


@dataclass(frozen=True, slots=True)
class WorkingCopy:
    """A private clone of the dataset repository; its objects go into a cache that all of the volume's clones share."""

    repo: DatasetRepo
    folder: Path

    def _git(self, *arguments: str) -> str:
        return self.repo._git(self.folder, *arguments)

    def _configure_dvc(self) -> None:
        """Say for DVC, in the committed part of its configuration, where the bytes lie; no secret."""
        from dvc.config import Config, ConfigError

        folder = self.folder / ".dvc"
        if not folder.is_dir():
            folder.mkdir()
            (folder / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
            # Else DVC keeps a list in each folder, over which two categories that are new at the same time conflict.
            (self.folder / ".gitignore").write_text("".join(f"/{remote}/?*\n!/{remote}/?*.dvc\n" for remote in REMOTES))
        try:
            with Config(str(folder)).edit("repo") as config:
                config["core"]["analytics"] = False
                # DVC wants one, though each pointer names its own: without it a plain `dvc pull` ends at once.
                config["core"]["remote"] = REMOTES[0]
                for remote in REMOTES:
                    config["remote"][remote] = {"url": remote_url(self.repo.storage, remote)}
        except ConfigError as error:
            raise SightlineError(
                f"The dataset repository {git.without_password(self.repo.url)} has a .dvc/config that DVC cannot read "
                f"({error}). Correct it there, then run the same command again."
            ) from error

    def category_folder(self, kind: str, category: str) -> Path:
        """The folder of a category's annotations or dataset."""
        return self.folder / kind / category

    def add(self, path: Path, noted: Mapping[str, Noted] = MappingProxyType({})) -> str:
        """Move a folder's files into the cache, as objects, and write its pointer. Returns the folder's digest in DVC.

        Those that are `noted` need no digesting, and may lie in the cache already.
        """
        with local_errors():
            self._configure_dvc()
            added = move_into_cache(path, self.repo.cache, noted)
            write_pointer(_pointer(path), added, path.parent.name)
        return added.digest

    def digest(self, path: Path) -> str | None:
        """DVC's digest of the folder as committed here, or None when there is none."""
        return _digest_in(_pointer(path).read_text()) if _pointer(path).is_file() else None

    def push(self, path: Path) -> None:
        """Upload what a folder's remote lacks of its objects; raises like `Objects.upload`."""
        objects = self._objects(path)
        objects.upload(objects.needed(self.digest(path) or ""))

    def verify(self, path: Path) -> None:
        """Make sure that the remote holds every object of a folder. What has gone since `push` is uploaded once more.

        Raises like `Objects.upload`, and a LostObjectError when objects have gone again.
        """
        objects = self._objects(path)
        needed = objects.needed(self.digest(path) or "")
        if missing := objects.lacking(needed):
            log.warning("%d objects have gone from the remote since they were uploaded: once more", len(missing))
            self.push(path)
            missing = objects.lacking(needed)
        if missing:
            raise LostObjectError(
                f"{len(missing)} of {len(needed)} objects are missing or damaged at "
                f"{objects.storage.uri(f'dvc/{objects.remote}')} after two uploads, the first {missing[0]}. Find out who "
                "removes them. Nothing was published; run the same command again."
            )

    def pull(self, path: Path, wanted: Collection[str] | None = None) -> Path:
        """Bring a folder's files, or the `wanted` of them, from the cache or else from the remote; raises like `Objects.fetch`."""
        self._objects(path).fetch(self._committed(path), self.folder.parent / "pulled", path, wanted)
        return path

    def names(self, path: Path) -> list[str]:
        """The names of a folder's files as committed here, sorted; raises like `Objects.read`."""
        return sorted(self._objects(path).listing(self._committed(path)))

    def _committed(self, path: Path) -> str:
        """The folder's digest as committed here."""
        digest = self.digest(path)
        if digest is None:
            raise SightlineError(f"There is no {_pointer(path).name} in {self.repo.url} at this commit.")
        return digest

    def _objects(self, path: Path) -> Objects:
        return self.repo.objects(path.parent.name)

    def digest_at(self, tag: str, path: Path) -> tuple[str, str] | None:
        """The commit of a tag and DVC's digest of the folder there, or None when there is no such tag."""
        commit = self.repo.tags().get(tag)
        if commit is None:
            return None
        self._git("fetch", "--quiet", "--force", "origin", f"refs/tags/{tag}:refs/tags/{tag}")
        pointer = self._git("show", f"{tag}:{_pointer(path).relative_to(self.folder).as_posix()}")
        return commit, _digest_in(pointer)

    def commit_and_tag(self, message: str, tag: str) -> str:
        """Commit everything, tag it, and push both at once. Returns the commit.

        A push that another publisher overtook is replayed on the newest commit; where somebody else pushed the tag, that is a
        TagExistsError.
        """
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "-m", message)
        until, pause = time.monotonic() + PUSH_SECONDS, 0.1
        while True:
            commit = self._git("rev-parse", "HEAD").strip()
            self._git("tag", "--force", "-a", tag, "-m", message)
            try:
                with git.pushing(self.repo.url):
                    self._git("push", "--quiet", "--atomic", "origin", f"HEAD:{git.BRANCH}", f"refs/tags/{tag}")
                return commit
            except git.GitError as error:
                there = self.repo.tags().get(tag)
                if there == commit:  # the push arrived, only its answer did not
                    return commit
                if there is not None:
                    raise TagExistsError(
                        f"The tag {tag} was pushed by somebody else ({there[:12]}). Run the same command again."
                    ) from error
                if not error.overtaken or time.monotonic() > until:
                    raise
                log.info("another push to the dataset repository was faster; trying again")
            time.sleep(pause * random.uniform(0.2, 1.0))
            pause = min(2 * pause, LONGEST_PUSH_PAUSE_SECONDS)
            self._replay(commit, message)

    def _replay(self, commit: str, message: str) -> None:
        """Make the commit's changes again on top of the newest commit: of two pointers of a category, ours."""
        self._git("fetch", "--quiet", "origin")
        if not self._git("branch", "--remotes").strip():
            return  # nothing is there yet
        changes = ("--no-commit-id", "--name-only", "--diff-filter=AM", "--root", "-r", "-z")
        names = [name for name in self._git("diff-tree", *changes, commit).split("\0") if name]
        self._git("reset", "--quiet", "--hard", f"origin/{git.BRANCH}")
        if names:
            self._git("checkout", commit, "--", *names)
        self._git("commit", "--quiet", "--allow-empty", "-m", message)


def remote_url(storage: str, remote: str) -> str:
    """DVC's URL of a remote under a storage root."""
    root = storage if storage.startswith("gs://") else str(local_path(storage))
    return f"{root.rstrip('/')}/dvc/{remote}"


def _pointer(path: Path) -> Path:
    """DVC's small file that stands for a folder in Git."""
    return path.with_name(f"{path.name}.dvc")


def _digest_in(pointer: str) -> str:
    return yaml.safe_load(pointer)["outs"][0]["md5"]
