"""What Git says of every version: tags, commits, dates and DVC's pointers, read from one bare clone."""

import contextlib
import io
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import yaml

from sightline.processes.folders import private_folder
from sightline.services.versioning.git import GitError, local_repository, pushing, run_git
from sightline.services.versioning.publication import FOLDERS
from sightline.services.versioning.repository import DatasetRepo
from sightline.versions import BadNameError, Kind, Tag, parse_tag

DVC_FILES: Final = (".dvc", "dvc.lock")
_DIGEST: Final = re.compile(rb"\bmd5: *['\"]?([0-9a-f]{32}(?:\.dir)?)")


@dataclass(frozen=True, slots=True)
class Pointer:
    """DVC's small file that stands for a version's folder in Git."""

    digest: str  # of the folder's listing, as DVC writes it (`….dir`)
    size: int | None  # of all files together in bytes, or None when it is not written down


@dataclass(frozen=True, slots=True)
class Tagged:
    """A version's tag."""

    tag: Tag
    commit: str  # where it points
    target: str  # the object that the reference itself holds: the commit, or an annotated tag
    date: datetime
    pointer: Pointer | None  # at that commit, or None when there is none


@dataclass(frozen=True, slots=True)
class GitTags:
    """A private bare clone of the dataset repository, and the tags in it by name."""

    repo: DatasetRepo
    folder: Path
    tagged: Mapping[str, Tagged]

    def pointer_at(self, commit: str, kind: Kind, category: str) -> Pointer | None:
        """The pointer of a category at a commit, or None when the repository lacks either."""
        return _read_pointers(self.folder, [_pointer_path(commit, kind, category)])[0]

    def referenced(self) -> set[str]:
        """The digests that DVC's files name at any commit, on whatever branch or tag, whoever made it."""
        listed = _git(self.repo, self.folder, "rev-list", "--objects", "--all").splitlines()
        objects = [name for name, _, path in (line.partition(" ") for line in listed) if path.endswith(DVC_FILES)]
        texts = _read_objects(self.folder, objects)
        return {digest.decode() for text in texts for digest in _DIGEST.findall(text or b"")}

    def push_tag(self, tag: str, commit: str, message: str) -> None:
        """Make the remote's tag name a commit; GitError when somebody else changed the tag since this clone was made."""
        seen = self.tagged[tag].target if tag in self.tagged else ""
        name = f"refs/tags/{tag}"
        _git(self.repo, self.folder, "tag", "--force", "-a", tag, "-m", message, commit)
        with pushing(self.repo.url):
            lease = f"--force-with-lease={name}:{seen}"
            _git(self.repo, self.folder, "push", "--quiet", lease, "origin", f"{name}:{name}")


@contextlib.contextmanager
def open_git_tags(repo: DatasetRepo, tidies: bool = True) -> Iterator[GitTags]:
    """Clone the repository's history, no files, and read every version's tag; the clone is removed afterwards.

    Before that what dead processes left beside it is removed, if it `tidies`. Who does not only looks, maybe on a full disk: for that
    a repository on this machine is read where it lies.
    """
    here = None if tidies else local_repository(repo.url)
    if here and here.exists():
        yield GitTags(repo, here, _read_tags(repo, here))
        return
    elsewhere = tempfile.TemporaryDirectory(prefix="history-") if repo.is_to_be_made else None
    with elsewhere or private_folder(repo.volume / "work", "history-", tidies) as private:
        folder = Path(private) / "bare.git"
        source = ("init", "--quiet", "--bare") if repo.is_to_be_made else ("clone", "--quiet", "--bare", repo.url)
        _git(repo, None, *source, str(folder))
        yield GitTags(repo, folder, _read_tags(repo, folder))


def _git(repo: DatasetRepo, folder: Path | None, *arguments: str) -> str:
    return run_git(repo.url, repo.author, folder, *arguments)


def _read_tags(repo: DatasetRepo, folder: Path) -> dict[str, Tagged]:
    """Tags of versions by name; others are none of our business."""
    form = "%(refname:strip=2)%09%(objectname)%09%(*objectname)%09%(creatordate:unix)"
    found = []
    for line in _git(repo, folder, "for-each-ref", f"--format={form}", "refs/tags").splitlines():
        name, target, peeled, seconds = line.split("\t")
        with contextlib.suppress(BadNameError, ValueError):
            found.append((parse_tag(name), target, peeled or target, datetime.fromtimestamp(int(seconds), UTC)))
    pointers = _read_pointers(folder, [_pointer_path(commit, tag.kind, tag.category) for tag, _, commit, _ in found])
    return {
        str(tag): Tagged(tag, commit, target, date, pointer)
        for (tag, target, commit, date), pointer in zip(found, pointers, strict=True)
    }


def _pointer_path(commit: str, kind: Kind, category: str) -> str:
    return f"{commit}:{FOLDERS[kind]}/{category}.dvc"


def _read_pointers(folder: Path, paths: Sequence[str]) -> list[Pointer | None]:
    """The pointers at `commit:path`."""
    return [None if text is None else _parse_pointer(text) for text in _read_objects(folder, paths)]


def _read_objects(folder: Path, names: Sequence[str]) -> list[bytes | None]:
    """Git's objects of these names, by one process for all of them; None for one that is not there."""
    done = subprocess.run(
        ["git", "-C", str(folder), "cat-file", "--batch"],
        input="".join(f"{name}\n" for name in names).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise GitError(f"git cat-file failed in {folder}: {done.stderr.decode(errors='replace').strip()} Try again.")
    found: list[bytes | None] = []
    answers = io.BytesIO(done.stdout)
    for head in answers:
        size = head.split()[-1]
        found.append(answers.read(int(size) + 1) if size.isdigit() else None)  # else "… missing" or "… ambiguous"
    return found


def _parse_pointer(text: bytes) -> Pointer | None:
    try:
        out = yaml.safe_load(text)["outs"][0]
        size = out.get("size")
        return Pointer(str(out["md5"]), size if isinstance(size, int) else None)
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError):
        return None
