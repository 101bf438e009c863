"""Pixels of more than 8 bits, brought to the 8 bits that a model and a screen take."""

from typing import Any, Final

import numpy as np

_MODES: Final = ("I", "F")  # pillow's, of one channel: whole numbers of 12 to 32 bits, and floats
_WHITE: Final = 255


def is_deep(image: Any) -> bool:
    """Whether a pillow image has one channel of more than 8 bits; its pixels need not be loaded."""
    return image.mode in _MODES or image.mode.startswith("I;")


def is_wide(image: Any) -> bool:
    """Whether a pillow image has several channels of 16 bits, of which pillow reads the upper 8."""
    return len(image.getbands()) > 1 and any(";16" in str(tile[3]) for tile in image.tile)


def scale_to_bytes(values: np.ndarray) -> np.ndarray:
    """(height, width) numbers as uint8: the darkest becomes 0, the lightest 255, as labelme shows such an image.

    What is no number (NaN, infinity) does not count, and becomes the darkest or lightest. An image of a single value has
    no such range: 16 bits keep their upper 8, all else is black.
    """
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size or finite.min() == finite.max():
        return (values >> 8 if values.dtype == np.uint16 else np.zeros(values.shape)).astype(np.uint8)
    low, high = finite.min(), finite.max()
    numbers = np.nan_to_num(numbers, nan=low, posinf=high, neginf=low)
    return np.round((numbers / 2 - low / 2) / (high / 2 - low / 2) * _WHITE).astype(np.uint8)
