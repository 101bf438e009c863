"""Image files: upright size from the header alone, orientation, whole or cut off, and the pixels themselves.

Annotators draw on the image as labelme shows it: turned by its EXIF orientation. So "size" and "pixels" here always
mean those of the upright image; the files keep their bytes. JPEG and PNG headers are read by the few lines below
(pillow takes several times as long, which shows over 10,000 files); every other format, and whatever these lines do
not understand, goes to pillow.
"""

import os
import re
import stat
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np

from sightline.errors import SightlineError
from sightline.images.limits import MAX_PIXELS

try:
    import cv2 as _cv2
except ImportError:  # the data image has no OpenCV
    _cv2 = None  # type: ignore[assignment]
cv2: ModuleType | None = _cv2

IMAGE_SUFFIXES: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

# What pillow may read: its other formats are rare as photographs, and some start programs.
_FORMATS: Final = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_UPRIGHT: Final = 1
_ORIENTATION_TAG: Final = 0x0112
_HEAD_BYTES: Final = 1024  # reaches the size of a JPEG without EXIF in one read
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_JPEG_SCAN: Final = 0xDA
_JPEG_APP1: Final = 0xE1
_JPEG_END: Final = b"\xff\xd9"
_MOST_SEGMENTS: Final = 100_000  # of a JPEG or chunks of a PNG before the pixels; photographs have a few dozen
_MOST_EXIF_BYTES: Final = 2**20
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_TAIL_BYTES: Final = 16384  # pixel chunks are mostly 8 KiB, sometimes more
_PNG_OLD_EXIF: Final = b"Raw profile type"
_ASK_PILLOW: Final = -1
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


class _TooManyError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image's header says.

    Attributes:
        width: of the upright image, in pixels.
        height: of the upright image, in pixels.
        orientation: EXIF orientation, 1 (upright as stored) to 8.
        format: pillow's name of the format: JPEG, PNG, TIFF, …
    """

    width: int
    height: int
    orientation: int
    format: str


def read_header(path: Path, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Size, orientation and format of an image, from its header; the pixels are not read.

    Raises:
        MissingImageError: no such file.
        UnreadableImageError: not an image, or its header is damaged.
        ImageTooLargeError: more than `max_pixels` pixels.
    """
    try:
        # Not blocking: a pipe without a writer would hang.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise MissingImageError(f"{path}: there is no such image. Put it there, or remove what refers to it.") from None
    except OSError as error:
        raise UnreadableImageError(
            f"{path}: the image cannot be opened ({error.strerror}). Check its rights."
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnreadableImageError(f"{path}: not a plain file. Move it out of the folder.")
        head = _pread(descriptor, _HEAD_BYTES, 0)
        header = None
        if head[:2] == b"\xff\xd8":
            header = _read_jpeg_header(descriptor, head)
        elif head[:8] == _PNG_SIGNATURE:
            header = _read_png_header(descriptor, head)
    except _TooManyError:
        raise UnreadableImageError(f"{path}: its header has no end. Export the image again, or remove it.") from None
    except OSError as error:  # a failing disk
        raise UnreadableImageError(f"{path}: the image cannot be read ({error.strerror}).") from None
    finally:
        os.close(descriptor)
    if header is None:
        header = _read_header_with_pillow(path, max_pixels)
    if header.width * header.height > max_pixels:
        raise _too_large(path, f"{header.width} x {header.height} pixels", max_pixels)
    return header


def image_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of the upright image in pixels, from the header alone; errors as in `read_header`."""
    header = read_header(path, max_pixels)
    return header.width, header.height


def orientation(path: Path) -> int:
    """The EXIF orientation, 1 (upright as stored) to 8; errors as in `read_header`."""
    return read_header(path).orientation


def check_whole(path: Path, header: ImageHeader) -> None:
    """Make sure that the file goes on to its end, without decoding it where its last bytes tell.

    Args:
        path: the image.
        header: its header, already read.

    Raises:
        TruncatedImageError: the file is cut off or damaged.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            tail = _pread(file.fileno(), len(_PNG_END), max(0, size - len(_PNG_END)))
            announced = int.from_bytes(_pread(file.fileno(), 4, 4), "little") + 8
    except OSError as error:
        raise TruncatedImageError(f"{path}: the image cannot be read ({error.strerror}). Copy it again.") from None
    if header.format == "WEBP":
        whole = announced <= size
    else:
        whole = tail == _PNG_END if header.format == "PNG" else header.format == "JPEG" and tail[-2:] == _JPEG_END
    if not whole:
        # Bytes may follow the end (phones append videos and depth maps), and other formats have no end mark.
        _decode_with_pillow(path, header)


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The upright image's pixels, (height, width, 3) uint8, blue green red; grey becomes three equal channels.

    Raises:
        MissingImageError: no such file.
        UnreadableImageError: not an image, or its header is damaged.
        ImageTooLargeError: more than `max_pixels` pixels; nothing was decoded.
        TruncatedImageError: the file is cut off or damaged.
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
        pixels = _turn_upright(pixels, header.orientation)
    return np.ascontiguousarray(pixels)


def read_reduced(path: Path, side: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The upright image's pixels at a lower resolution, where that is quicker; errors as in `read_image`.

    Args:
        path: the image.
        side: neither side becomes shorter than so many pixels; a smaller image stays as it is.
        max_pixels: refuses larger ones.

    Returns:
        (height, width, 3) uint8, red green blue.
    """
    header = read_header(path, max_pixels)
    pixels = _decode_with_pillow(path, header, side)
    return pixels if header.format == "TIFF" else _turn_upright(pixels, header.orientation)


def _pread(descriptor: int, count: int, offset: int) -> bytes:
    """`count` bytes at `offset`, fewer at the end of the file."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)  # Windows
    return os.read(descriptor, count)


def _read_jpeg_header(descriptor: int, data: bytes) -> ImageHeader | None:
    """Walk the segments up to the frame's; None when that is not understood."""
    start, position = 0, 2
    turned: int | None = None
    other_metadata = False
    for _ in range(_MOST_SEGMENTS):
        at = position - start
        if at + 10 > len(data):
            data, start, at = _pread(descriptor, _HEAD_BYTES, position), position, 0
            if len(data) < 10:
                return None
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            if not width or not height or (turned == 0 and other_metadata):
                return None
            return _upright_header(width, height, turned or _UPRIGHT, "JPEG")
        if marker == _JPEG_SCAN or marker == _JPEG_END[1]:
            return None
        length = data[at + 2] << 8 | data[at + 3]
        if marker == _JPEG_APP1:
            if data[at + 4 : at + 10] != b"Exif\0\0":
                other_metadata = True
            elif turned is None:
                turned = _exif_orientation(_pread(descriptor, max(0, length - 8), position + 10))
        position += 2 + length
    raise _TooManyError


def _read_png_header(descriptor: int, data: bytes) -> ImageHeader | None:
    """Size and EXIF; None when that is not understood."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    if not width or not height:
        return None
    turned, position = _walk_png(descriptor, 33, stop=b"IDAT")
    if turned is None:
        # EXIF may also follow the pixels. The last pixel chunk, found from the file's end, spares a walk over hundreds.
        tail_at = max(position, os.fstat(descriptor).st_size - _PNG_TAIL_BYTES)
        last = _pread(descriptor, _PNG_TAIL_BYTES, tail_at).rfind(b"IDAT")
        turned, _ = _walk_png(descriptor, tail_at + last - 4 if last >= 4 else position, stop=b"IEND")
    if turned == _ASK_PILLOW:
        return None
    return _upright_header(width, height, turned or _UPRIGHT, "PNG")


def _walk_png(descriptor: int, position: int, stop: bytes) -> tuple[int | None, int]:
    """Go from chunk to chunk: the orientation on the way (None: no EXIF) and where the walk ended."""
    for _ in range(_MOST_SEGMENTS):
        data = _pread(descriptor, 32, position)
        kind = data[4:8]
        if len(kind) < 4 or kind == stop:
            return None, position
        length = int.from_bytes(data[:4], "big")
        if kind == b"eXIf":
            return _exif_orientation(_pread(descriptor, min(length, _MOST_EXIF_BYTES), position + 8)), position
        if kind in (b"tEXt", b"zTXt", b"iTXt") and data[8:24] == _PNG_OLD_EXIF:
            return _ASK_PILLOW, position
        position += 12 + length
    raise _TooManyError


def _exif_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block (a small TIFF file), 0 when it has none."""
    if exif[:6] == b"Exif\0\0":
        exif = exif[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 0
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == _ORIENTATION_TAG:
                return int(struct.unpack_from(order + ("I" if kind == 4 else "H"), exif, entry + 8)[0])
    except struct.error:
        pass
    return 0


def _upright_header(width: int, height: int, turned: int, name: str) -> ImageHeader:
    """The header of an image stored as `width` x `height` and shown by `turned`."""
    if not 1 <= turned <= 8:
        turned = _UPRIGHT
    if turned >= 5:  # a quarter turn
        width, height = height, width
    return ImageHeader(width, height, turned, name)


def _turn_upright(pixels: np.ndarray, turned: int) -> np.ndarray:
    """Undo the EXIF orientation of (height, width, channels) pixels."""
    if turned >= 5:
        pixels = pixels.transpose(1, 0, 2)
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


def _read_header_with_pillow(path: Path, max_pixels: int) -> ImageHeader:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow warns below its own limit; ours decides
            with Image.open(path, formats=_FORMATS) as image:
                width, height = image.size
                name = image.format or "unknown"
                turned = _pillow_orientation(image)
    except Image.DecompressionBombError:
        raise _too_large(path, "its pixels", max_pixels) from None
    except MemoryError:
        raise
    except Exception as error:  # pillow's plug-ins raise whatever a damaged header makes them
        raise UnreadableImageError(
            f"{path}: not an image that pillow can read ({type(error).__name__}). Export it again, or remove it."
        ) from None
    if name == "TIFF":  # its size is upright already
        return ImageHeader(width, height, turned if 1 <= turned <= 8 else _UPRIGHT, name)
    # A phone's multi-picture file is a JPEG whose first picture counts.
    return _upright_header(width, height, turned, "JPEG" if name == "MPO" else name)


def _pillow_orientation(image) -> int:  # type: ignore[no-untyped-def]  # pillow is imported where it is used
    """EXIF as labelme takes it: XMP counts only beside EXIF; GIF and BMP have none."""
    if image.format == "TIFF" or "exif" in image.info or "Raw profile type exif" in image.info:
        return int(image.getexif().get(_ORIENTATION_TAG, _UPRIGHT))
    return _UPRIGHT


def _decode_with_pillow(path: Path, header: ImageHeader, side: int | None = None) -> np.ndarray:
    """(height, width, 3) uint8 red green blue, as stored (TIFF: upright); with `side` at a lower resolution.

    Raises:
        TruncatedImageError: the file is cut off or damaged.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                if side is not None:
                    image.draft(None, (side, side))  # a JPEG at a half, a quarter or an eighth costs little
                image.load()
                if re.match("I;16", image.mode):  # 16 bits a pixel: keep the upper 8
                    high = (np.asarray(image) >> 8).astype(np.uint8)
                    return np.repeat(high[:, :, None], 3, axis=2)
                colours = image.convert("RGB")
                factor = min(image.size) // side if side is not None else 1
                return np.asarray(colours.reduce(factor) if factor > 1 else colours)
    except MemoryError:
        raise
    except Exception as error:  # pillow's plug-ins raise whatever damaged pixels make them
        raise TruncatedImageError(
            f"{path}: the {header.format} file is cut off or damaged ({error}). Copy it again from its source."
        ) from None
