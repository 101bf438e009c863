"""The files of a folder that somebody gave us, and the only way that a reader gets at one of them.

A source names its images itself. Names are looked up among the files that were listed, never opened as paths, so
nothing outside the folder can be read, whatever a name says.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from sightline.annotations.findings import Code
from sightline.annotations.folder_files import is_plain, lies_within
from sightline.annotations.labelme import plain_path
from sightline.errors import SightlineError, counted
from sightline.formats.reading import Ledger, Unusable, decode
from sightline.images.limits import IMAGE_SUFFIXES

LARGEST_FILE: Final = 4 * 1024**3  # bytes; an annotation file above is not read into memory
SPLIT_FOLDERS: Final = frozenset({"train", "val", "valid", "validation", "test"})
"""What folders of splits are called, in small letters."""
_SAYS_NOTHING: Final = SPLIT_FOLDERS | {"images", "jpegimages"}
PAINTED: Final = frozenset({"SegmentationClass", "SegmentationObject"})  # Pascal VOC's folders of such pictures
FOREIGN_SUFFIXES: Final = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".tga", ".psd", ".svg"),
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".exr", ".hdr", ".dcm"),
)
"""Of pictures that are not read."""
_LOOKED_AT: Final = IMAGE_SUFFIXES | {".json", ".txt", ".xml", ".yaml", ".yml"}
_SYSTEMS: Final = {  # folders that programs and systems keep for themselves, in small letters
    *(".git", ".svn", ".hg", ".dvc", ".sightline", ".ipynb_checkpoints", ".venv", ".cache", ".idea", ".vscode"),
    *("__macosx", ".appledouble", ".trashes", ".spotlight-v100", ".fseventsd", ".temporaryitems"),
    *("@eadir", "#recycle", ".@__thumb", ".thumbnails", ".recycle", "$recycle.bin", "system volume information"),
}
_TRASH: Final = ".trash"  # with the user's number behind it on removable media
_MOST_ENDINGS: Final = 5  # in a message
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a folder, links that lead out of it left aside. What follows `by_stem` is not in `files`."""

    root: Path
    files: tuple[str, ...]  # relative to the root, with forward slashes, sorted; without hidden ones
    images: tuple[str, ...]  # by their names, without pictures that only paint what is on another
    by_name: Mapping[str, Sequence[str]]  # file name (Unicode's composed form) -> images of that name
    by_stem: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the same by `stem_key`
    unusable: tuple[str, ...] = ()  # names with control characters or bytes that are not text, shown in ASCII
    hidden: Mapping[str, int] = field(default_factory=dict)  # folders with a dot before their name -> images in them
    linked: Mapping[str, int] = field(
        default_factory=dict
    )  # folders that are links, which are not followed -> images in them
    links: tuple[str, ...] = ()  # images that are links out of the folder or to nothing, and folders that are links

    @property
    def pictures(self) -> list[str]:
        """All images, those too that in some formats paint what is on another."""
        return self.with_suffix(*IMAGE_SUFFIXES)

    @property
    def foreign(self) -> list[str]:
        """Pictures of kinds that we do not read."""
        return self.with_suffix(*FOREIGN_SUFFIXES)

    def with_suffix(self, *suffixes: str) -> list[str]:
        """The files that end so, in small letters or capitals."""
        return [file for file in self.files if suffix_of(file) in suffixes]

    def read(self, file: str) -> bytes:
        """A listed file's content; Unusable when it cannot be read."""
        path = self.root / file
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise Unusable(Code.UNREADABLE_SOURCE, f"the file is larger than {LARGEST_FILE:,} bytes.")
            return path.read_bytes()
        except OSError as error:
            raise Unusable(Code.UNREADABLE_SOURCE, f"the file cannot be read ({error.strerror}).") from None

    def read_text(self, file: str, ledger: Ledger) -> str:
        """A listed file's text, in whatever encoding, which is noted; Unusable when it cannot be read, or is none."""
        return decode(self.read(file), self.root / file, file, ledger)


def describe(listing: Listing) -> str:
    """What lies in a folder, in words: how many images, and how many files of each other ending."""
    endings = Counter(suffix_of(file) or "without an ending" for file in listing.files)
    others = [(ending, count) for ending, count in endings.most_common() if ending not in IMAGE_SUFFIXES]
    told = [counted(len(listing.pictures), "image")]
    told += [f"{count} {ending}" for ending, count in others[:_MOST_ENDINGS]]
    return ", ".join(told)


def list_folder(root: Path) -> Listing:
    """List a folder and those below; SightlineError when there is no such folder."""
    if not root.is_dir():
        raise SightlineError(f"{root}: there is no such folder. Give the folder that holds the annotations and images.")
    files: list[str] = []
    unusable: list[str] = []
    hidden: dict[str, int] = {}
    links: list[str] = []
    linked: dict[str, int] = {}
    for directory, below, names in os.walk(root, onerror=_refuse):
        parent = Path(directory)
        for name in below:
            if count := _count_hidden(parent / name):
                hidden[_shown(parent / name, root)] = count
        below[:] = [name for name in below if not name.startswith(".") and name.lower() not in _SYSTEMS]
        for name in below:
            if (parent / name).is_symlink():
                links.append(_shown(parent / name, root))
                if count := _count_images(parent / name):
                    linked[links[-1]] = count
        within = "" if parent == root else parent.relative_to(root).as_posix()
        for name in names:
            path, file = os.path.join(directory, name), under(within, name)  # noqa: PTH118 - hundreds of thousands
            if name.startswith("."):
                continue
            if os.path.islink(path) and not _is_linked_inside(Path(path), root):  # noqa: PTH114
                links += [_shown(Path(path), root)] if suffix_of(file) in IMAGE_SUFFIXES else []
            elif os.path.isfile(path) and is_plain(file):  # noqa: PTH113
                files.append(file)
            elif suffix_of(file) in _LOOKED_AT and os.path.isfile(path):  # noqa: PTH113
                unusable.append(_shown(Path(path), root))
    files.sort()
    painted = {file for file in files if PAINTED.intersection(file.split("/")[:-1])}
    images = [file for file in files if suffix_of(file) in IMAGE_SUFFIXES and file not in painted]
    by_name: dict[str, list[str]] = {}
    by_stem: dict[str, list[str]] = {}
    for image in images:
        by_name.setdefault(composed(image.rpartition("/")[2]), []).append(image)
        by_stem.setdefault(stem_key(image), []).append(image)
    found = tuple(files), tuple(images), by_name, by_stem
    return Listing(root, *found, tuple(sorted(unusable)), hidden, linked, tuple(sorted(links)))


def _is_linked_inside(link: Path, root: Path) -> bool:
    return lies_within(link, root) and link.exists()


def _refuse(error: OSError) -> None:
    raise SightlineError(f"{error.filename}: the folder cannot be read ({error.strerror}). Check its permissions.")


def _count_hidden(folder: Path) -> int:
    """How many images lie in a folder that is left aside, though somebody may have made it, not a system."""
    name = folder.name.lower()
    if not name.startswith(".") or name in _SYSTEMS or name.startswith(_TRASH):
        return 0
    return _count_images(folder)


def _count_images(folder: Path) -> int:
    return sum(suffix_of(name) in IMAGE_SUFFIXES for _, _, names in os.walk(folder) for name in names)


def _shown(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    return name if is_plain(name) else ascii(name)[1:-1]


def safe_name(name: str) -> str:
    """An image's name with forward slashes and without detours, composed; Unusable when it leads out of the folder."""
    plain = None if _ADDRESS.match(name) else plain_path(name)
    if plain is None:
        mend = "Put the image into the folder and correct the name."
        raise Unusable(Code.IMAGE_OUTSIDE, f"the image's name {name!r} leads out of the folder. {mend}")
    return composed(plain)


def composed(text: str) -> str:
    """One form for letters with marks: macOS writes file names taken apart, most tools write names composed."""
    return unicodedata.normalize("NFC", text)


def stem_key(image: str) -> str:
    """An image's name without folders and ending, the same in capitals and small letters."""
    return composed(PurePosixPath(image).stem).casefold()


def short_name(image: str) -> str:
    """An image's path without the folders that say nothing about it: `a.jpg` of `images/train/a.jpg`."""
    *folders, name = image.split("/")
    return "/".join([*[folder for folder in folders if folder.lower() not in _SAYS_NOTHING], name])


def suffix_of(file: str) -> str:
    """`.json` of `a/b.JSON`."""
    stem, _, ending = file.rpartition("/")[2].rpartition(".")
    return f".{ending}".lower() if stem and ending else ""


def parent_of(file: str) -> str:
    """The folder that a listed file lies in; "" is the root."""
    return file.rpartition("/")[0]


def under(folder: str, name: str) -> str:
    """A folder below `folder`, where "" is the root."""
    return f"{folder}/{name}" if folder else name
