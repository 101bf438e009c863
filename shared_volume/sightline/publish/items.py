"""What of a labelme folder can be published: its images with their annotations, looked at file by file, and what was found."""

import hashlib
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from sightline.annotations.check import covers_area
from sightline.annotations.findings import Code, Finding, Outcome, Policy
from sightline.annotations.labelme import Document, read_embedded_image
from sightline.annotations.read import Annotated, read_annotations
from sightline.images.files import ImageError
from sightline.images.limits import MAX_PIXELS
from sightline.processes.batches import in_batches
from sightline.processes.progress import track
from sightline.processes.threads import available_cores
from sightline.publish.hashing import Hashers
from sightline.services.versioning.shards import hash_image

T = TypeVar("T")
R = TypeVar("R")
BATCH: Final = 32  # photographs that a thread looks at before it asks for more


@dataclass(frozen=True, slots=True)
class Item:
    """An annotated image to copy: where its bytes are, what it looks like, and what is drawn on it.

    Of hundreds of thousands no outline is kept: the document has its shapes only where they are to be written again.
    """

    annotated: Annotated
    image: str  # the file's path
    sha256: str
    perceptual_hash: str
    labels: Mapping[str, int]  # of shapes that cover an area -> how many
    types: Sequence[str]  # of all shapes, each once
    drawn: bytes  # equal for equal annotations


def check_folder(
    folder: Path, scratch: Path, policy: Policy, known: Mapping[str, str]
) -> tuple[list[Item], list[Finding]]:
    """What can be published of a labelme folder, and everything found.

    Images that are in a JSON only are written to `scratch`. `known` gives the perceptual hash by the sha256 of images that
    were published before.
    """
    findings: list[Finding] = []
    readable = _read(folder, scratch, policy, findings)
    slim = _Slimmer()

    with Hashers() as hashers:
        look_at = partial(_look_at, known=known, policy=policy, slim=slim, hashers=hashers)
        looked = list(track(_in_threads(look_at, readable), "looking at the photographs"))
    findings += [one for one in looked if isinstance(one, Finding)]
    items, copies = _tell_copies([one for one in looked if isinstance(one, Item)], policy)
    findings += copies
    return items, [*findings, *(found for item in items for found in item.annotated.findings)]


def _read(folder: Path, scratch: Path, policy: Policy, findings: list[Finding]) -> Iterator[tuple[Annotated, Path]]:
    """Every annotated image with its file; what cannot be used goes to `findings`."""
    names: dict[str, str] = {}
    for number, found in enumerate(read_annotations(folder, MAX_PIXELS, policy, write_embedded=True)):
        if isinstance(found, Finding):
            findings.append(found)
            continue
        image = folder / found.image
        if not found.has_image:
            image = scratch / f"embedded-{number}"
            image.write_bytes(read_embedded_image(folder / found.file))
        if clash := _find_clash(found, names, policy):
            findings.append(clash)
        else:
            yield found, image


def _in_threads(work: Callable[[Sequence[T]], list[R]], items: Iterator[T]) -> Iterator[R]:
    """The results in the items' order. Only a few batches wait at a time, however many items there are."""
    threads = available_cores()
    waiting: deque[Future[list[R]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for batch in in_batches(items, BATCH):
            waiting.append(pool.submit(work, batch))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        for one in waiting:
            yield from one.result()


class _Slimmer:
    """Keeps of a document what is asked for later, and equal parts of many once."""

    def __init__(self) -> None:
        self._once: dict[Hashable, Any] = {}

    def keep(self, annotated: Annotated) -> tuple[Annotated, Mapping[str, int], Sequence[str]]:
        """The document without its shapes, labels of shapes that cover an area, and types."""
        document, shapes = annotated.document, annotated.document.shapes
        labels = Counter(shape.label for shape in shapes if not shape.damage and covers_area(shape))
        return (
            replace(
                annotated,
                header=self._share(annotated.header, annotated.header),
                document=replace(
                    document,
                    shapes=shapes if annotated.resized else (),
                    flags=self._share(tuple(document.flags.items()), document.flags),
                ),
            ),
            self._share(frozenset(labels.items()), dict(sorted(labels.items()))),
            self._share(types := tuple(sorted({shape.shape_type for shape in shapes})), types),
        )

    def _share(self, key: Hashable, value: T) -> T:
        try:
            return self._once.setdefault((type(value), key), value)
        except TypeError:  # flags of another tool's, which are no plain values
            return value


def _look_at(
    batch: Sequence[tuple[Annotated, Path]],
    known: Mapping[str, str],
    policy: Policy,
    slim: _Slimmer,
    hashers: Hashers,
) -> list[Item | Finding]:
    """The images with their perceptual hashes; a finding on one that is damaged somewhere between its header and its end."""
    digests = [hash_image(image).sha256 for _, image in batch]
    pairs = zip(batch, digests, strict=True)
    new = [(str(image), annotated.header) for (annotated, image), sha256 in pairs if not known.get(sha256)]
    hashed = dict(zip((path for path, _ in new), hashers.hash(new), strict=True))
    looked: list[Item | Finding] = []
    for (annotated, image), sha256 in zip(batch, digests, strict=True):
        looks = hashed[str(image)] if str(image) in hashed else known[sha256]
        if isinstance(looks, ImageError):
            message = f"{annotated.image}: {str(looks).removeprefix(f'{image}: ')}"
            looked.append(policy.finding(Code.TRUNCATED_IMAGE, annotated.file, None, message))
        else:
            kept, labels, types = slim.keep(annotated)
            looked.append(Item(kept, str(image), sha256, looks, labels, types, _drawn(annotated.document)))
    return looked


def _tell_copies(items: Iterable[Item], policy: Policy) -> tuple[list[Item], list[Finding]]:
    """The items, and a finding on each image whose bytes an earlier one has; without those that the policy drops."""
    kept, findings = [], []
    first: dict[str, Item] = {}
    for item in items:
        if (other := first.setdefault(item.sha256, item)) is not item:
            unlike = "" if item.drawn == other.drawn else ", annotated otherwise"
            message = f"{item.annotated.image} is a copy of {other.annotated.image}{unlike}. Keep one of the two."
            findings.append(policy.finding(Code.COPIED, item.annotated.file, None, message))
            if findings[-1].outcome is not Outcome.FIX:
                continue
        kept.append(item)
    return kept, findings


def _drawn(document: Document) -> bytes:
    """A digest of the ticked flags, and of the shapes' labels and points."""
    digest = hashlib.blake2b(repr(sorted(name for name, on in document.flags.items() if on)).encode(), digest_size=16)
    for label, points in sorted((shape.label, shape.points.tobytes()) for shape in document.shapes):
        digest.update(repr(label).encode() + len(points).to_bytes(8, "big") + points)
    return digest.digest()


def _find_clash(annotated: Annotated, names: dict[str, str], policy: Policy) -> Finding | None:
    """Names that some systems cannot tell apart: of two files in a checkout there, one would be lost."""
    own = (annotated.stored_file, annotated.stored_image)
    for name in own:
        if (other := names.get(_fold(name))) is not None:
            message = (
                f"some systems cannot tell {name} from {other}: they differ {_how(name, other)}. Rename one of them."
            )
            if other == name:
                message = (
                    f"another photograph's annotation would be called {name} too. Rename one of the two photographs."
                )
            return policy.finding(Code.NAMES_CLASH, annotated.file, None, message)
    names.update((_fold(name), name) for name in own)
    return None


def _how(one: str, other: str) -> str:
    """In what two names differ that fold to the same."""
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return "only in how accents are written (Unicode normalization: NFC or NFD)"
    if one.casefold() == other.casefold():
        return "only in case"
    return "in case, and in how accents are written (Unicode normalization: NFC or NFD)"


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
