"""A dataset version's files: a COCO file per split, and images in tar shards: small files travel far slower."""

import hashlib
import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sightline.errors import SightlineError
from sightline.services.storage.folder import digest_file

SPLITS: Final = ("train", "val", "test")  # each has its `<split>.json`
SPLITS_FILE: Final = "splits.csv"  # of an annotation version: which image its source had in which split
IMAGES: Final = "images"  # the folder that the shards unpack to
SHARD_PATTERN: Final = "images-*.tar"
SHARD_BYTES: Final = 256 * 1024**2
SHARD_IMAGES: Final = 2000


class PackError(SightlineError):
    """A shard that cannot be written or unpacked."""


@dataclass(frozen=True, slots=True)
class PackedImage:
    """An image file's size in bytes and the hex sha256 of its content."""

    size: int
    sha256: str


def hash_image(path: Path) -> PackedImage:
    """Size and sha256 of a file."""
    return PackedImage(*digest_file(path, hashlib.sha256))


def pack_images(images: Mapping[str, str | Path], target: Path) -> list[Path]:
    """Write images (name, with forward slashes -> file) into `target/images-00000.tar`, …; returns those in order.

    The same images give the same bytes everywhere. A PackError names an image that cannot be read.
    """
    batches: list[list[tuple[str, str | Path]]] = []
    size = 0
    try:
        for name, path in sorted(images.items()):
            length = Path(path).stat().st_size
            if not batches or len(batches[-1]) >= SHARD_IMAGES or size + length > SHARD_BYTES:
                batches.append([])
                size = 0
            batches[-1].append((name, path))
            size += length
        shards = [target / f"images-{number:05d}.tar" for number in range(len(batches))]
        for shard, batch in zip(shards, batches, strict=True):
            with tarfile.open(shard, "w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
                for name, path in batch:
                    # A fresh entry has no time, owner or group of its own, unlike one made from the file.
                    entry = tarfile.TarInfo(f"{IMAGES}/{name}")
                    entry.size, entry.mode = Path(path).stat().st_size, 0o644
                    with Path(path).open("rb") as file:
                        archive.addfile(entry, file)
                    archive.members.clear()  # type: ignore[attr-defined]  # for reading only; they would fill memory
    except OSError as error:
        raise PackError(
            f"{error.filename or target}: cannot be packed ({error.strerror or error}). Try again."
        ) from None
    return shards


def unpack(source: Path, target: Path) -> None:
    """Unpack a dataset folder's shards to `target/images/`, and copy its JSON files beside them; `target` may be `source` itself.

    A PackError for no shard, a damaged one, or one with an entry that would land elsewhere.
    """
    shards = sorted(source.glob(SHARD_PATTERN))
    if not shards:
        raise PackError(f"{source}: there is no {SHARD_PATTERN}. Pull the dataset again.")
    target.mkdir(parents=True, exist_ok=True)
    for shard in shards:
        try:
            with tarfile.open(shard, "r:", encoding="utf-8") as archive:
                _unpack_shard(shard, archive, target)
        except (tarfile.TarError, EOFError) as error:
            raise PackError(f"{shard}: damaged ({error}). Pull the dataset again.") from None
        except OSError as error:
            raise PackError(
                f"{shard}: cannot be unpacked to {target} ({error.strerror or error}). Make room there, or check its owner."
            ) from None
    if source.resolve() != target.resolve():
        for path in sorted(source.glob("*.json")):
            shutil.copyfile(path, target / path.name)


def _unpack_shard(shard: Path, archive: tarfile.TarFile, target: Path) -> None:
    made: set[str] = set()
    with shard.open("rb", buffering=0) as content:
        for entry in archive:
            parts = entry.name.split("/")
            is_inside = parts[0] == IMAGES and len(parts) > 1 and not {"", ".."} & set(parts) and "\\" not in entry.name
            if not entry.isreg() or not is_inside:
                raise PackError(
                    f"{shard}: entry {entry.name!r} is not an image under {IMAGES}/. Do not use this dataset."
                )
            folder = entry.name.rpartition("/")[0]
            if folder not in made:
                (target / folder).mkdir(parents=True, exist_ok=True)
                if not (target / folder).resolve().is_relative_to(target.resolve()):
                    raise PackError(f"{target / folder}: is a link that leads elsewhere. Remove it and unpack again.")
                made.add(folder)
            content.seek(entry.offset_data)
            data = content.read(entry.size)
            if len(data) != entry.size:
                raise PackError(f"{shard}: cut off within {entry.name}. Pull the dataset again.")
            _write(f"{target}/{entry.name}", data)


def _write(path: str, data: bytes) -> None:
    """Write a file that is new; one that is there, or a link, is replaced and never followed.

    Thousands of small files: a plain path and no question before the write save half of the time.
    """
    try:
        file = open(path, "xb", buffering=0)  # noqa: PTH123, SIM115
    except FileExistsError:
        os.unlink(path)  # noqa: PTH108
        file = open(path, "xb", buffering=0)  # noqa: PTH123, SIM115
    with file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
