"""What every reader gives: pictures with labelme shapes, and what was found wrong on the way."""

import base64
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring, iterparse
from PIL import Image

from sightline.annotations.encoding import NotTextError, as_utf8, decode_text, older_encoding, told_encoding
from sightline.annotations.findings import Code, Finding, Outcome, Policy
from sightline.annotations.labelme import LARGEST_COORDINATE, LARGEST_GROUP, Shape
from sightline.annotations.regions import parse_runs
from sightline.errors import clause
from sightline.images.files import ImageError, ImageHeader, read_header
from sightline.images.limits import MAX_PIXELS

_DECLARATION: Final = re.compile(r"^\s*<\?xml[^>]*\?>")
_DECLARED: Final = re.compile(rb"""<\?xml[^>]*encoding\s*=\s*["']([\w.-]+)["']""")
_LETTERS: Final = re.compile(r"\w*[^\W\x00-\x7f]\w*")  # words with letters beyond ASCII
_HEAD: Final = 200  # bytes that hold an XML declaration
_FIXED_HERE: Final = frozenset(
    {
        *(Code.TURNED_SHAPES, Code.BOX_USED, Code.ALL_CROWD, Code.OTHER_ENCODING),
        *(Code.FOUND_ELSEWHERE, Code.NAMED_OTHERWISE, Code.NOTHING_LEFT, Code.WRONG_SIZE),
    }
)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image and what a source says about it."""

    file: str  # the image, relative to the given folder
    name: str  # what the source calls it, with forward slashes
    width: int | None  # as the source writes it down, in pixels, as the height; None where it does not
    height: int | None
    shapes: tuple[Shape, ...] = ()  # in the source's order
    flags: Mapping[str, bool] = field(default_factory=dict)  # of the whole image
    split: str = ""  # as the source's annotation file says by its name
    source: str = ""  # the annotation file, where another may annotate the image as well
    lost: int = 0  # annotations that could not be taken over; without any other, the image is no background


class Unusable(Exception):  # noqa: N818  # control flow within this package; it ends as a finding
    """Something in a source that cannot be used."""

    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Ledger:
    """Collects findings, each with the outcome that the policy gives it."""

    policy: Policy
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def silent(cls) -> "Ledger":
        """One that nobody reads."""
        return cls(Policy())

    def add(self, code: Code, file: str, index: int | None, message: str) -> None:
        """Note one finding; `index` is that of the annotation within the file."""
        # What can be corrected in labelme's files cannot always be here.
        self.findings.append(self.policy.finding(code, file, index, message, fixable=code in _FIXED_HERE))

    def wants_fixed(self, code: Code, file: str, index: int | None, message: str) -> bool:
        """Note something that can be corrected; whether the policy wants it corrected."""
        self.add(code, file, index, message)
        return self.findings[-1].outcome is Outcome.FIX

    @contextmanager
    def noting(self, file: str, index: int | None, where: str = "") -> Iterator[None]:
        """Turn what is unusable within the block into a finding, and go on after it."""
        try:
            yield
        except Unusable as unusable:
            self.add(unusable.code, file, index, f"{where}: {unusable}" if where else str(unusable))


def to_points(values: Any) -> np.ndarray:
    """(N, 2) of a flat list x, y, x, y, …; Unusable unless they are pairs of plausible numbers."""
    if not isinstance(values, list | tuple):
        raise Unusable(Code.BROKEN_ANNOTATION, "its coordinates are not a list. Export it again.")
    numbers = [to_number(value) for value in values]
    if len(numbers) % 2:
        raise Unusable(Code.BROKEN_ANNOTATION, f"{len(numbers)} coordinates are not pairs of x and y. Draw it again.")
    return np.array(numbers, dtype=np.float64).reshape(-1, 2)


def to_number(value: Any) -> float:
    """A coordinate in pixels, from a number or its text; Unusable unless it is a plausible one."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise Unusable(Code.BROKEN_ANNOTATION, f"{shown(value)} is not a number. Export it again.") from None
    if not math.isfinite(number) or abs(number) > LARGEST_COORDINATE:
        raise Unusable(Code.NON_FINITE, f"the coordinate {shown(value)} is not within ±{LARGEST_COORDINATE:.0e}.")
    return number


def to_whole(value: Any) -> int:
    """A whole number, from a number or its text; Unusable unless it is a plausible one."""
    number = to_number(value) if not isinstance(value, int) or isinstance(value, bool) else value
    if abs(number) > LARGEST_GROUP or number != int(number):
        raise Unusable(Code.BROKEN_ANNOTATION, f"{shown(value)} is not a plausible whole number. Export it again.")
    return int(number)


def to_size(width: Any, height: Any) -> tuple[int | None, int | None]:
    """An image's size as a source writes it down; (None, None) where it writes none, or no plausible one."""
    try:
        sides = to_whole(width), to_whole(height)
    except Unusable:
        return None, None
    return sides if all(0 < side <= MAX_PIXELS for side in sides) else (None, None)


def mask_shape(pixels: np.ndarray, left: int, top: int, label: str, **more: Any) -> Shape:
    """A labelme mask of what is set of `pixels`, (height, width) bool, the first at (left, top); Unusable without any."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        raise Unusable(Code.BAD_MASK, f"the mask {label!r} is empty. Draw it again.")
    cut = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    png = io.BytesIO()
    Image.fromarray(cut.astype(np.uint8)).save(png, "PNG")
    points = np.array([[left + columns[0], top + rows[0]], [left + columns[-1], top + rows[-1]]], dtype=np.float64)
    return Shape(label, points, "mask", mask=base64.b64encode(png.getvalue()).decode("ascii"), **more)


def mask_pixels(mask: str) -> np.ndarray:
    """(height, width) bool of a mask that `mask_shape` made."""
    with Image.open(io.BytesIO(base64.b64decode(mask))) as image:
        return np.asarray(image) != 0


def alternate(counts: Any, size: int) -> np.ndarray:
    """(size,) bool of run lengths as `parse_runs` takes them, off first; Unusable unless they add up to `size`."""
    try:
        runs = parse_runs(counts, size)
    except ValueError as error:
        raise Unusable(
            Code.BAD_MASK, f"the run lengths cannot be used: {clause(error)}. Export the mask again."
        ) from None
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def decode(data: bytes, near: Path, file: str, ledger: Ledger) -> str:
    """A text in whatever encoding; another than Unicode's is noted, since it is a guess. Unusable when it is no text."""
    try:
        text, encoding = decode_text(data, near)
    except NotTextError:
        message = "its encoding is not known, or it is no text. Save it as UTF-8."
        raise Unusable(Code.UNREADABLE_SOURCE, message) from None
    if encoding and not ledger.wants_fixed(
        Code.OTHER_ENCODING, file, None, told_encoding(encoding, _LETTERS.findall(text))
    ):
        raise Unusable(Code.UNREADABLE_SOURCE, "it is not UTF-8. Save it as UTF-8.")
    return text


def parse_xml(data: bytes, near: Path, tag: str, tool: str, file: str, ledger: Ledger) -> Element:
    """The root element, called `tag`, of a tool's XML; Unusable when it is none, cut off, or another tool's.

    Nor are document types and entities taken, which annotations never need.
    """
    try:
        root = _parse_in_any_encoding(data, near, file, ledger)
    except DefusedXmlException as error:
        message = f"the XML declares a document type or entities ({type(error).__name__}). Remove them."
        raise Unusable(Code.UNREADABLE_SOURCE, message) from None
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        message = f"not XML, or cut off ({error}). Export it again, or remove it."
        raise Unusable(Code.UNREADABLE_SOURCE, message) from None
    if root.tag != tag:
        raise Unusable(Code.NOT_IMPORTED, f"XML, but not {tool}'s (<{root.tag[:40]}>): not read.")
    return root


def _parse_in_any_encoding(data: bytes, near: Path, file: str, ledger: Ledger) -> Element:
    """The root of XML; in an encoding that the parser does not have, or that is not the declared one, Python reads it."""
    declared = _DECLARED.search(data[:_HEAD])
    failed: Exception | None = None
    if declared or data.isascii() or not older_encoding(data, near):
        try:
            return fromstring(data, forbid_dtd=True)
        except (ParseError, ValueError, LookupError) as error:
            failed = error
    try:
        text = data.decode(declared[1].decode("ascii")) if declared else decode(data, near, file, ledger)
    except (UnicodeDecodeError, LookupError):
        text = decode(data, near, file, ledger)
    if failed and not declared and text.encode() == data:
        raise failed
    return fromstring(_DECLARATION.sub("", text.lstrip("\ufeff"), count=1), forbid_dtd=True)


def root_tag(path: Path) -> str:
    """The name of an XML file's first element, "" when it is not XML."""
    try:
        with path.open("rb") as stream:
            head = stream.read(65536)
    except OSError:
        return ""
    for form in (head, _ascii_of(head)):
        try:
            for _, element in iterparse(io.BytesIO(form), events=("start",), forbid_dtd=True):
                return str(element.tag)
        except (DefusedXmlException, ParseError, ValueError, LookupError):
            continue
    return ""


def _ascii_of(head: bytes) -> bytes:
    """The beginning of XML with question marks for what an unknown encoding would make of it; tags are ASCII."""
    text = as_utf8(head).decode("ascii", errors="replace").replace("\ufffd", "?")
    return _DECLARATION.sub("", text, count=1).encode("ascii")


def known_header(path: Path) -> ImageHeader | None:
    """An image's header; None of what cannot be read, since publishing's normal way says what is wrong with it."""
    try:
        return read_header(path)
    except ImageError:
        return None


def split_attributes(attributes: Iterable[tuple[str, Any]]) -> tuple[dict[str, bool], str]:
    """A source's attributes as labelme's flags (what is true or false) and description (the rest, one a line)."""
    flags, lines = {}, []
    for name, value in attributes:
        if isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false")):
            flags[name] = str(value).lower() == "true"
        elif value is not None and value != "":
            lines.append(f"{name}: {value}")
    return flags, "\n".join(lines)


def shown(value: Any) -> str:
    """The beginning of what a source says, for a message."""
    text = repr(value)
    return text if len(text) < 40 else f"{text[:40]}…"
