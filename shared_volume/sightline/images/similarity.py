"""Which images look alike: a hash of an image's coarse structure, and groups of hashes that differ in few bits.

The hash is the sign pattern of an image's 63 lowest frequencies against their median (a DCT hash, "pHash"): it hardly
changes when an image is scaled, recompressed or filmed a moment later. All arithmetic is on whole numbers, so that the same
pixels give the same hash on every machine.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from sightline.images.files import ImageHeader, read_grey, read_reduced
from sightline.images.limits import MAX_PIXELS

HASH_BITS: Final = 63
_GRID: Final = 32  # the picture is averaged to so many cells each way
_FREQUENCIES: Final = 8  # so many are kept each way, the constant one not among the bits
_READ_SIDE: Final = 256  # pixels: decoding stops at this resolution where the format allows
_LEVELS: Final = 256  # steps of a grey level that a cell's mean is kept in
_COSINE_SCALE: Final = 2**14


def perceptual_hash(path: Path, max_pixels: int = MAX_PIXELS, header: ImageHeader | None = None) -> str:
    """What an image looks like, upright, as 16 hex digits; images that look alike differ in few of the 63 bits.

    A picture without any structure (one colour all over) resembles only its equal, since it has nothing to compare. Errors
    as in `read_image`. `header` is what `read_header` has said of the file.
    """
    cells = _average(read_grey(path, _READ_SIDE, max_pixels, header))
    if int(cells.max()) - int(cells.min()) < _LEVELS:
        pixels = read_reduced(path, _READ_SIDE, max_pixels)
        drawn = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).digest()
        return f"{int.from_bytes(drawn[:8], 'big') >> 1:016x}"
    low = (_COSINES @ cells @ _COSINES.T).ravel()[1:]
    bits = low > np.sort(low)[HASH_BITS // 2]
    return np.packbits(np.concatenate(([False], bits))).tobytes().hex()


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
    """(height, width) uint8 as the mean of each of the 32 x 32 cells, in 1/256 levels, int64.

    Border pixels count by their part in a cell. Of a picture that is one long line the length is summed first, so that
    little is left of it.
    """
    is_line = pixels.shape[1] > 8 * pixels.shape[0]
    sums = _sum_strips(_sum_strips(pixels.T if is_line else pixels).T)
    return ((sums if is_line else sums.T) * _LEVELS) // pixels.size


def _sum_strips(values: np.ndarray) -> np.ndarray:
    """Rows summed into 32 equal strips, in 32nds, so that the parts of a row between two strips are whole numbers."""
    strips = _strips(len(values))
    fits = values.dtype == np.uint8 and strips.whole.shape[1] * 255 <= np.iinfo(np.uint16).max
    # No matrix product: numpy's would begin threads, which on a busy machine take ten times as long.
    rows = values[strips.whole]
    sums = rows.sum(axis=1, dtype=np.uint16 if fits else np.promote_types(values.dtype, np.uint32)).astype(np.int64)
    if len(strips.longer):
        sums[strips.longer] += values[strips.last]
    sums *= _GRID
    border = values[strips.border] * strips.part
    return sums - border[:-1] + border[1:]


@dataclass(frozen=True, slots=True)
class _Strips:
    """Which rows of a picture make its 32 strips."""

    whole: np.ndarray  # (32, least): the rows that lie wholly in a strip, so many as lie in every one
    longer: np.ndarray  # the strips that have one row more
    last: np.ndarray  # that row of each of these
    border: np.ndarray  # (33,): the row at each border
    part: np.ndarray  # (33, 1): how much of it lies above, in 32nds


@lru_cache(maxsize=64)
def _strips(height: int) -> _Strips:
    """Most photographs of a dataset have the same few sizes, and this costs as much as the sums."""
    first, part = np.divmod(np.arange(_GRID + 1) * height, _GRID)
    least = height // _GRID
    longer = np.flatnonzero(np.diff(first) > least)
    whole = first[:-1, None] + np.arange(least)
    return _Strips(whole, longer, first[longer] + least, np.minimum(first, height - 1), part[:, None])


def _cosines() -> np.ndarray:
    """(8, 32): the lowest rows of the orthonormal DCT-II, scaled to whole numbers."""
    frequency, cell = np.arange(_FREQUENCIES)[:, None], np.arange(_GRID)
    norm = np.sqrt(np.where(frequency == 0, 1, 2) / _GRID)
    return np.round(_COSINE_SCALE * norm * np.cos(math.pi * frequency * (2 * cell + 1) / (2 * _GRID))).astype(np.int64)


_COSINES: Final = _cosines()
