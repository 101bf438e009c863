"""The grammar of versions, categories and tags: `v1.2.3`, `desk`, `desk_ann_v1.2.3`, `desk_train_v1.2.3`."""

import contextlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

from sightline.errors import SightlineError, nearest

Kind = Literal["annotation", "dataset"]

KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST_CATEGORY = 100  # characters; the database's column
SMOKE = "--smoke"  # ends the names of categories under which smoke tests publish
LARGEST_NUMBER = 999_999_999  # of a version's three, so that it fits every integer column and tool

_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
_TAG_WORDS: dict[Kind, str] = {"annotation": "ann", "dataset": "train"}
_KINDS_BY_WORD: dict[str, Kind] = {word: kind for kind, word in _TAG_WORDS.items()}
_NUMBER = r"(0|[1-9][0-9]*)"
_VERSION = re.compile(rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}")
_CATEGORY = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TAG = re.compile(r"(?P<category>.+)_(?P<word>ann|train)_(?P<version>v[0-9.]+)")


class BadNameError(SightlineError):
    """A version, category or tag that the grammar does not allow."""


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A semantic version; orders by its numbers, prints as `v1.2.3`."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True, slots=True)
class Tag:
    """What a tag of the dataset repository names; prints as the tag."""

    category: str
    kind: Kind
    version: str

    def __str__(self) -> str:
        return f"{self.category}_{_TAG_WORDS[self.kind]}_{self.version}"


def parse_version(text: str) -> Version:
    """The version that `text` writes; a BadNameError, if it is not of the form `v1.2.3`, names what was probably meant."""
    match = _VERSION.fullmatch(text)
    numbers = [int(number) for number in match.groups()] if match else []
    if not numbers or max(numbers) > LARGEST_NUMBER:
        raise BadNameError(
            f"{text!r} is not a version.{_meant(text)} Write it as v1.2.3: three numbers, no leading zeros."
        )
    return Version(*numbers)


def next_version(version: str) -> str:
    """The version after this one: `v1.2.3` gives `v1.2.4`; errors as in `parse_version`."""
    now = parse_version(version)
    return str(Version(now.major, now.minor, now.patch + 1))


def newest_version(versions: Iterable[str]) -> str | None:
    """The highest of these versions by number (v0.10.0 is above v0.9.0), or None when there are none."""
    return max(versions, key=parse_version, default=None)


def _in_plain_letters(text: str) -> str:
    """German letters as Germans write them without, other accents left out."""
    composed = unicodedata.normalize("NFC", text).translate(_GERMAN)
    return "".join(letter for letter in unicodedata.normalize("NFKD", composed) if not unicodedata.combining(letter))


def check_category(category: str) -> str:
    """The category, unchanged; a BadNameError if it is not small letters, digits, `_` and `-`, or longer than 100."""
    if not _CATEGORY.fullmatch(category) or len(category) > LONGEST_CATEGORY:
        close = re.sub(r"[^a-z0-9_-]+", "-", _in_plain_letters(category.lower())).strip("-_")[:LONGEST_CATEGORY]
        hint = f" Did you mean {close!r}?" if close else ""
        raise BadNameError(
            f"{category!r} is not a category name.{hint} Use small letters, digits, '_' and '-', starting with a letter "
            f"or a digit, {LONGEST_CATEGORY} characters at most."
        )
    return category


def smoke_category(category: str) -> str:
    """The category under which a smoke test of this one publishes, so that nothing of it is ever taken for the real one's."""
    return f"{category}{SMOKE}"


def is_version(text: str) -> bool:
    """Whether `parse_version` takes a text."""
    with contextlib.suppress(BadNameError):
        return bool(parse_version(text))
    return False


def is_smoke(category: str) -> bool:
    """Whether a category is that of smoke tests."""
    return category.endswith(SMOKE)


def annotated_category(category: str) -> str:
    """The category whose annotation versions a category's dataset versions are made of."""
    return category.removesuffix(SMOKE)


def check_own_category(category: str) -> str:
    """The category, unchanged.

    Raises:
        BadNameError: as `check_category`, or its ending is kept for smoke tests.
    """
    if is_smoke(check_category(category)):
        raise BadNameError(
            f"{category!r} ends with {SMOKE!r}, which is kept for what `--smoke` makes. Choose another category name."
        )
    return category


def check_kind(kind: str) -> Kind:
    """The kind of version, unchanged; a BadNameError if it is neither 'annotation' nor 'dataset'."""
    if kind not in KINDS:
        raise BadNameError(f"{kind!r} is not a kind of version.{nearest(kind, KINDS)}")
    return cast(Kind, kind)


def version_tags(names: Iterable[str]) -> dict[str, Tag]:
    """Those names that are tags of versions; others are none of our business."""
    found = {}
    for name in names:
        with contextlib.suppress(BadNameError):
            found[name] = parse_tag(name)
    return found


def make_tag(category: str, kind: Kind, version: str) -> str:
    """The tag of a version: `desk`, 'annotation', `v1.2.3` gives `desk_ann_v1.2.3`. Parts are checked as above."""
    return str(Tag(check_category(category), check_kind(kind), str(parse_version(version))))


def parse_tag(tag: str) -> Tag:
    """What a tag names; a BadNameError if it is not of the form `<category>_ann_v1.2.3` or `<category>_train_v1.2.3`."""
    match = _TAG.fullmatch(tag)
    if not match:
        raise BadNameError(f"{tag!r} is not a tag of a version. Tags read desk_ann_v1.2.3 or desk_train_v1.2.3.")
    version = str(parse_version(match["version"]))
    return Tag(check_category(match["category"]), _KINDS_BY_WORD[match["word"]], version)


def _meant(text: str) -> str:
    """A hint for `1.2.3`, `V1.2`, `v01.2.3`, …, or nothing."""
    numbers = re.findall(r"[0-9]+", text)
    if not re.fullmatch(r"\s*[vV]?[0-9]+(\.[0-9]+){0,2}\s*", text) or max(map(int, numbers)) > LARGEST_NUMBER:
        return ""
    return f" Did you mean '{Version(*[int(number) for number in [*numbers, '0', '0'][:3]])}'?"
