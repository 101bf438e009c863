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
    times the memory of its pixels.
    """
    height, width, _ = pixels.shape
    bands = [_sum_cells(_grey(pixels[top : top + _BAND]).T).T for top in range(0, height, _BAND)]
    return (_sum_cells(np.concatenate(bands)) * _LEVELS) // (height * width)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(height, width, 3) red green blue as (height, width) grey levels, rounded down, int64."""
    red, green, blue = (pixels[:, :, channel].astype(np.uint32) for channel in range(3))
    return ((_RED * red + _GREEN * green + _BLUE * blue) // 1000).astype(np.int64)


def _sum_cells(rows: np.ndarray) -> np.ndarray:
    """(n, m) summed into (32, m) equal strips, in 32nds, so that the parts of a row between two strips are whole numbers."""
    whole, part = np.divmod(np.arange(_GRID + 1) * len(rows), _GRID)
    above = np.zeros((len(rows) + 1, rows.shape[1]), dtype=np.int64)
    np.cumsum(rows, axis=0, out=above[1:])
    cut = rows[np.minimum(whole, len(rows) - 1)] * part[:, None]
    return np.diff(above[whole] * _GRID + cut, axis=0)


def _cosines() -> np.ndarray:
    """(8, 32): the lowest rows of the orthonormal DCT-II, scaled to whole numbers."""
    frequency, cell = np.arange(_FREQUENCIES)[:, None], np.arange(_GRID)
    norm = np.sqrt(np.where(frequency == 0, 1, 2) / _GRID)
    return np.round(_COSINE_SCALE * norm * np.cos(math.pi * frequency * (2 * cell + 1) / (2 * _GRID))).astype(np.int64)


_COSINES: Final = _cosines()
