"""Which images look alike: a hash of an image's coarse structure, and groups of hashes that differ in few bits.

The hash is the sign pattern of an image's 63 lowest frequencies against their median (a DCT hash, "pHash"): it hardly
changes when an image is scaled, recompressed or filmed a moment later. All arithmetic is on integers, so that the same
pixels give the same hash on every machine.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from sightline.images.files import read_reduced
from sightline.images.limits import MAX_PIXELS

HASH_BITS: Final = 63
_GRID: Final = 32  # the picture is averaged to so many cells each way
_FREQUENCIES: Final = 8  # so many are kept each way, the constant one not among the bits
_READ_SIDE: Final = 256  # pixels: decoding stops at this resolution where the format allows
_BAND: Final = 256  # rows
_LEVELS: Final = 256  # steps of a grey level that a cell's mean is kept in
_COSINE_SCALE: Final = 2**14
_RED, _GREEN, _BLUE = 299, 587, 114  # thousandths of the luminance


def perceptual_hash(path: Path, max_pixels: int = MAX_PIXELS) -> str:
    """What an image looks like, upright, as 16 hex digits; images that look alike differ in few of the 63 bits.

    A picture without any structure (one colour all over) resembles only its equal, since it has nothing to compare. Errors
    as in `read_image`.
    """
    pixels = read_reduced(path, _READ_SIDE, max_pixels)
    cells = _average(pixels)
    if int(cells.max()) - int(cells.min()) < _LEVELS:
        drawn = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).digest()
        return f"{int.from_bytes(drawn[:8], 'big') >> 1:016x}"
    low = (_COSINES @ cells @ _COSINES.T).ravel()[1:]
    bits = low > np.sort(low)[HASH_BITS // 2]
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def group_similar(hashes: Sequence[str], distance: int) -> list[list[int]]:
    """Groups of hashes (as from `perceptual_hash`) that hang together by steps of at most `distance` differing bits.

    They are given as positions, sorted in each group, and the groups by their first. Every position is in one group.
    """
    values, positions = np.unique(parse_hashes(hashes), return_inverse=True)
    group_of = np.empty(len(values), dtype=np.int64)
    alone = np.arange(len(values))  # values that no group has reached yet
    groups = 0
    while len(alone):
        reached, alone = [int(alone[0])], alone[1:]
        while reached:
            one = reached.pop()
            group_of[one] = groups
            near = np.bitwise_count(values[alone] ^ values[one]) <= distance
            reached.extend(alone[near].tolist())
            alone = alone[~near]
        groups += 1
    members: dict[int, list[int]] = {}
    for position, group in enumerate(group_of[positions].tolist()):
        members.setdefault(group, []).append(position)
    return list(members.values())


def find_similar(hashes: Sequence[str], others: Sequence[str], distance: int) -> Iterator[list[int]]:
    """For each hash in turn, the positions of those in `others` that differ from it in at most `distance` bits."""
    known = parse_hashes(others)
    for one in parse_hashes(hashes):
        yield np.flatnonzero(np.bitwise_count(known ^ one) <= distance).tolist()


def parse_hashes(hashes: Sequence[str]) -> np.ndarray:
    """Hex digits as uint64, in the same order."""
    return np.array([int(one, 16) for one in hashes], dtype=np.uint64)


def _average(pixels: np.ndarray) -> np.ndarray:
    """(height, width, 3) as the mean grey of each of the 32 x 32 cells, in 1/256 levels, int64.

    Border pixels count by their part in a cell. The picture is taken band by band: whole, its greys would take several
    times the memory of its pixels. Floating-point products do it, of whole numbers that each type holds exactly, so that
    they are the same in whatever order a machine adds them.
    """
    height, width, _ = pixels.shape
    down, across = _parts(height).astype(np.float32), _parts(width).astype(np.float64)
    bands = range(0, height, _BAND)
    # At most 255 * _BAND * 32, below float32's 2 ** 24.
    rows = sum((down[:, top : top + _BAND] @ _grey(pixels[top : top + _BAND])).astype(np.float64) for top in bands)
    return ((rows @ across.T).astype(np.int64) * _LEVELS) // (height * width)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(height, width, 3) red green blue as (height, width) grey levels, rounded down, float32."""
    thousandths = pixels.astype(np.float32) @ np.array([_RED, _GREEN, _BLUE], dtype=np.float32)
    # Half a thousandth keeps whole levels clear of what float32 rounds.
    return np.floor((thousandths + np.float32(0.5)) * np.float32(0.001))


def _parts(length: int) -> np.ndarray:
    """(32, length): how many 32nds of each pixel of a side lie in each of its 32 strips."""
    ends = np.arange(length) * _GRID
    strips = np.arange(_GRID)[:, None] * length
    overlap = np.minimum(ends + _GRID, strips + length) - np.maximum(ends, strips)
    return np.maximum(overlap, 0)


def _cosines() -> np.ndarray:
    """(8, 32): the lowest rows of the orthonormal DCT-II, scaled to whole numbers."""
    frequency, cell = np.arange(_FREQUENCIES)[:, None], np.arange(_GRID)
    norm = np.sqrt(np.where(frequency == 0, 1, 2) / _GRID)
    return np.round(_COSINE_SCALE * norm * np.cos(math.pi * frequency * (2 * cell + 1) / (2 * _GRID))).astype(np.int64)


_COSINES: Final = _cosines()
