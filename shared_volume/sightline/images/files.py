"""Image files: upright size from the header alone, orientation, whole or cut off, and the pixels themselves.

Annotators draw on the image as labelme shows it: turned by its EXIF orientation. So "size" and "pixels" here always
mean those of the upright image; the files keep their bytes.
"""

import os
import re
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from PIL import Image

from sightline.errors import SightlineError
from sightline.images.deep import is_deep, is_wide, scale_to_bytes
from sightline.images.limits import MAX_PIXELS

try:
    import cv2
except ImportError:  # the data image has no OpenCV
    cv2 = None  # type: ignore[assignment]

# What pillow may read, the frequent first: its other formats are rare as photographs, and some start programs.
_FORMATS: Final = ("JPEG", "PNG", "BMP", "DIB", "GIF", "JPEG2000", "PPM", "TIFF", "WEBP")
_UPRIGHT: Final = 1
_ORIENTATION_TAG: Final = 0x0112
_JPEG_END: Final = b"\xff\xd9"
_LATE_EXIF_BYTES: Final = 2**17  # twice what a JPEG can hold, and cameras write
_LUMINANCE: Final = (0.299, 0.587, 0.114, 0.0005 - 0.5)  # rounds down, where pillow adds a half and floats miss a whole
_PNG_END: Final = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"


class ImageError(SightlineError):
    """An image file that cannot be used; the subclass says why."""


class MissingImageError(ImageError):
    """There is no such file."""


class UnreadableImageError(ImageError):
    """The file is no image, or its header is damaged."""


class TruncatedImageError(ImageError):
    """The header is fine, the pixels after it are incomplete or damaged."""


class ImageTooLargeError(ImageError):
    """The header announces more pixels than the limit."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image's header says; width and height are the upright image's, in pixels."""

    width: int
    height: int
    orientation: int  # by EXIF, 1 (upright as stored) to 8
    format: str  # pillow's name: JPEG, PNG, TIFF, …
    deep: bool = False  # more than 8 bits in one channel, which are scaled to 8
    wide: bool = False  # 16 bits in several channels, of which the upper 8 are read


def read_header(path: Path, max_pixels: int = MAX_PIXELS, whole: bool = False) -> ImageHeader:
    """Size, orientation and format of an image, from its header; the pixels are not read.

    With `whole` the file is looked at to its end as well, as by `check_whole`.
    MissingImageError when it is not there, UnreadableImageError when it is no image or its header is damaged,
    ImageTooLargeError at more than `max_pixels` pixels.
    """
    try:
        # Not blocking: a pipe without a writer would hang.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise MissingImageError(f"{path}: there is no such image. Put it there, or remove what refers to it.") from None
    except OSError as error:
        raise UnreadableImageError(
            f"{path}: the image cannot be opened ({error.strerror}). Check its permissions."
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnreadableImageError(f"{path}: not a plain file. Move it out of the folder.")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            header = _parse_header(path, file, max_pixels)
            if header.width * header.height > max_pixels:
                raise _too_large(path, f"{header.width} x {header.height} pixels", max_pixels)
            if whole:
                _require_end(path, file, header)
    finally:
        os.close(descriptor)
    return header


def check_whole(path: Path, header: ImageHeader) -> None:
    """Make sure that the file is complete, without decoding it where its last bytes tell; TruncatedImageError if not."""
    try:
        with path.open("rb") as file:
            _require_end(path, file, header)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> TruncatedImageError:
    return TruncatedImageError(f"{path}: the image cannot be read ({error.strerror}). Copy it again.")


def _require_end(path: Path, file: BinaryIO, header: ImageHeader) -> None:
    try:
        file.seek(0)
        announced = int.from_bytes(file.read(8)[4:], "little") + 8
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_PNG_END)))
        tail = file.read()
    except OSError as error:
        raise _unreadable(path, error) from None
    whole = {"WEBP": announced <= size, "PNG": tail == _PNG_END, "JPEG": tail.endswith(_JPEG_END)}
    if not whole.get(header.format):
        # Bytes may follow the end (phones append videos and depth maps), and other formats have no end mark.
        _decode_with_pillow(path, header)


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The upright image's pixels, (height, width, 3) uint8, blue green red; grey becomes three equal channels.

    Errors as in `read_header`, before anything is decoded, and as in `check_whole`.
    """
    header = read_header(path, max_pixels)
    pixels = None
    if cv2 is not None and header.format == "JPEG":
        # Three times as fast as pillow, the same pixels. OpenCV 4 paints over what is missing: look before.
        check_whole(path, header)
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        # OpenCV must leave the turning to us, so that results are the same without it.
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        pixels = _decode_with_pillow(path, header)[:, :, ::-1]
    if header.format != "TIFF":  # pillow has turned that already
        pixels = turn_upright(pixels, header.orientation)
    return np.ascontiguousarray(pixels)


def read_reduced(path: Path, side: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The upright image's pixels, (height, width, 3) uint8, red green blue, at a lower resolution where that is quicker.

    Neither side becomes shorter than `side` pixels; a smaller image stays as it is. Errors as in `read_image`.
    """
    header = read_header(path, max_pixels)
    pixels = _decode_with_pillow(path, header, side)
    return pixels if header.format == "TIFF" else turn_upright(pixels, header.orientation)


def read_grey(path: Path, side: int, max_pixels: int = MAX_PIXELS, header: ImageHeader | None = None) -> np.ndarray:
    """The luminance of the pixels that `read_reduced` gives, (height, width) uint8, rounded down; in a third of the time.

    Of a coloured JPEG it is the one that is stored, which a level or two of rounding may part from its pixels'. `header` is
    what `read_header` has said of the file.
    """
    header = header or read_header(path, max_pixels)
    pixels = _decode_with_pillow(path, header, side, grey=True)
    return pixels if header.format == "TIFF" else turn_upright(pixels, header.orientation)


def turn_upright(pixels: np.ndarray, turned: int) -> np.ndarray:
    """Undo the EXIF orientation of pixels, (height, width) or (height, width, channels)."""
    if turned >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turned in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turned in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _too_large(path: Path, size: str, max_pixels: int) -> ImageTooLargeError:
    return ImageTooLargeError(
        f"{path}: {size} are more than the limit of {max_pixels:,}. Scale the image down (and its annotation with it), "
        f"or raise max_pixels (to at most {MAX_PIXELS:,})."
    )


def _parse_header(path: Path, file: BinaryIO, max_pixels: int) -> ImageHeader:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow warns below its own limit; ours decides
            with Image.open(file, formats=_FORMATS) as image:
                width, height = image.size
                name = image.format or "unknown"
                deep, wide = is_deep(image), is_wide(image)
                turned = _read_orientation(image, file) if width * height <= max_pixels else _UPRIGHT
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        raise _too_large(path, f"its {int(pixels[0]):,} pixels" if pixels else "its pixels", max_pixels) from None
    except MemoryError:
        raise
    except Exception as error:  # pillow's plug-ins raise whatever a damaged header makes them
        raise UnreadableImageError(
            f"{path}: not an image that pillow can read ({type(error).__name__}). Export it again, or remove it."
        ) from None
    if not 1 <= turned <= 8:
        turned = _UPRIGHT
    if turned >= 5 and name != "TIFF":  # a quarter turn; a TIFF's size is upright already
        width, height = height, width
    # A phone's multi-picture file is a JPEG whose first picture counts.
    return ImageHeader(width, height, turned, "JPEG" if name == "MPO" else name, deep, wide)


def _read_orientation(image: Any, file: BinaryIO) -> int:
    """EXIF as labelme takes it: XMP counts only beside EXIF; GIF and BMP have none."""
    if image.format == "PNG" and "exif" not in image.info and _has_late_exif(file):
        image.load()  # pillow reads what follows the pixels with them
    if image.format == "TIFF" or "exif" in image.info or "Raw profile type exif" in image.info:
        return int(image.getexif().get(_ORIENTATION_TAG, _UPRIGHT))
    return _UPRIGHT


def _has_late_exif(file: BinaryIO) -> bool:
    """Whether a PNG seems to have EXIF after its pixels, as some writers put it."""
    position = file.tell()
    file.seek(max(0, os.fstat(file.fileno()).st_size - _LATE_EXIF_BYTES))
    tail = file.read()
    file.seek(position)
    return b"eXIf" in tail or b"Raw profile type exif" in tail


def _decode_with_pillow(path: Path, header: ImageHeader, side: int | None = None, grey: bool = False) -> np.ndarray:
    """(height, width, 3) uint8 red green blue, as stored (TIFF: upright); with `side` at a lower resolution.

    With `grey` (height, width): 299, 587 and 114 thousandths of the three, rounded down; a JPEG's own.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                if side is not None:
                    # A JPEG at a half, a quarter or an eighth costs little, and half of that without its colours.
                    image.draft("L" if grey else None, (side, side))
                image.load()
                shown = Image.fromarray(scale_to_bytes(np.asarray(image))) if is_deep(image) else image
                enough = ("RGB", "L") if grey else ("RGB",)
                colours = shown if shown.mode in enough else shown.convert("RGB")
                factor = min(image.size) // side if side is not None else 1
                reduced = colours.reduce(factor) if factor > 1 else colours
                return np.asarray(reduced.convert("L", _LUMINANCE) if grey and reduced.mode == "RGB" else reduced)
    except MemoryError:
        raise
    except Exception as error:  # pillow's plug-ins raise whatever damaged pixels make them
        raise TruncatedImageError(
            f"{path}: the {header.format} file is cut off or damaged ({error}). Copy it again from its source."
        ) from None
