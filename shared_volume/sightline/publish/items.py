"""What of a labelme folder can be published: its images with their annotations, looked at file by file, and what was found."""

import os
import unicodedata
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.annotations.findings import Code, Finding, Outcome, Policy
from sightline.annotations.labelme import read_embedded_image
from sightline.annotations.read import Annotated, read_annotations
from sightline.images.files import ImageError
from sightline.images.limits import MAX_PIXELS
from sightline.images.similarity import perceptual_hash
from sightline.processes.progress import track
from sightline.services.versioning.shards import hash_image


@dataclass(frozen=True, slots=True)
class Item:
    """An annotated image to copy: where its bytes are, and what it looks like."""

    annotated: Annotated
    image: Path
    sha256: str
    perceptual_hash: str


def check_folder(
    folder: Path, scratch: Path, policy: Policy, known: Mapping[str, str]
) -> tuple[list[Item], list[Finding]]:
    """What can be published of a labelme folder, and everything found.

    Images that are in a JSON only are written to `scratch`. `known` gives the perceptual hash by the sha256 of images that
    were published before.
    """
    read: list[tuple[Annotated, Path]] = []
    findings: list[Finding] = []
    names: dict[str, str] = {}
    documents = read_annotations(folder, MAX_PIXELS, policy, write_embedded=True)
    for number, found in enumerate(track(documents, "reading annotations")):
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
            read.append((found, image))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looking = pool.map(lambda pair: _look(pair[0], pair[1], known, policy), read)
        looked = list(track(looking, "looking at the photographs", len(read)))
    findings += [one for one in looked if isinstance(one, Finding)]
    items, copies = _tell_copies([one for one in looked if isinstance(one, Item)], policy)
    findings += copies
    return items, [*findings, *(found for item in items for found in item.annotated.findings)]


def _look(annotated: Annotated, image: Path, known: Mapping[str, str], policy: Policy) -> Item | Finding:
    """The image with its perceptual hash; a finding on one that is damaged somewhere between its header and its end."""
    try:
        sha256 = hash_image(image).sha256
        return Item(annotated, image, sha256, known.get(sha256) or perceptual_hash(image))
    except ImageError as error:
        message = f"{annotated.image}: {str(error).removeprefix(f'{image}: ')}"
        return policy.finding(Code.TRUNCATED_IMAGE, annotated.file, None, message)


def _tell_copies(items: Iterable[Item], policy: Policy) -> tuple[list[Item], list[Finding]]:
    """The items, and a finding on each image whose bytes an earlier one has; without those that the policy drops."""
    kept, findings = [], []
    first: dict[str, Item] = {}
    for item in items:
        if (other := first.setdefault(item.sha256, item)) is not item:
            unlike = "" if _annotated_as(item) == _annotated_as(other) else ", annotated otherwise"
            message = f"{item.annotated.image} is a copy of {other.annotated.image}{unlike}. Keep one of the two."
            findings.append(policy.finding(Code.COPIED, item.annotated.file, None, message))
            if findings[-1].outcome is not Outcome.FIX:
                continue
        kept.append(item)
    return kept, findings


def _annotated_as(item: Item) -> tuple[list[str], list[tuple[str, Any]]]:
    document = item.annotated.document
    ticked = sorted(name for name, on in document.flags.items() if on)
    return ticked, sorted((shape.label, shape.points.tolist()) for shape in document.shapes)


def _find_clash(annotated: Annotated, names: dict[str, str], policy: Policy) -> Finding | None:
    """Names that some systems cannot tell apart: of two files in a checkout there, one would be lost."""
    own = (annotated.stored_file, annotated.stored_image)
    for name in own:
        if (other := names.get(_fold(name))) is not None:
            message = f"some systems cannot tell {name} from {other}. Rename one of them."
            if other == name:
                message = (
                    f"another photograph's annotation would be called {name} too. Rename one of the two photographs."
                )
            return policy.finding(Code.NAMES_CLASH, annotated.file, None, message)
    names.update((_fold(name), name) for name in own)
    return None


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
