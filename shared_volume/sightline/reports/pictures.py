"""Masks, boxes, labels and scores on images, and thumbnails that keep a page within its size."""

import base64
import io
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter, ImageFont
from pycocotools import mask as run_length

from sightline.errors import SightlineError
from sightline.images.files import read_image
from sightline.reports import page
from sightline.reports.page import Picture, colour

PAGE_BUDGET = 4_200_000  # bytes of thumbnails on a page; with tables and charts it stays under 5 MB
LARGEST_SIDE, SMALLEST_SIDE = 480, 160  # pixels of a thumbnail
BYTES_PER_PIXEL = 0.2  # of a thumbnail as a data URI, a cautious guess from photographs
QUALITY, SMALL_QUALITY = 72, 60  # of JPEG; the second where thumbnails are small because there are many
FILL, OUTLINE = 0.36, 0.9  # opacity of a mask and of its rim
SMALLEST_TEXT = 11  # pixels
NARROWED = 0.65  # of its size is text that would not fit, before it is cut
MARGIN = 3  # pixels on either side of a label's text
# Lines and text as shares of the longest side. A page shows thumbnails at about half their size.
LINE, TEXT = 400, 48
THUMBNAIL_LINE, THUMBNAIL_TEXT = 190, 25
CUT = "..."
MISSING_GLYPH = "\uffff"

Size = tuple[int, int]  # width and height in pixels

_font = lru_cache(maxsize=64)(ImageFont.load_default)


@dataclass(frozen=True, slots=True)
class Shape:
    """One object to draw, in pixels of the upright image."""

    class_index: int  # from 0; gives the colour
    name: str
    box: tuple[float, float, float, float]  # x, y, width, height
    segmentation: Any = None  # COCO polygons, a run-length encoding, or None
    score: float | None = None  # 0..1, or None for the truth


def open_picture(path: Path) -> Image.Image:
    """The upright image in RGB; a SightlineError names a file that cannot be read."""
    return Image.fromarray(np.ascontiguousarray(read_image(path)[:, :, ::-1]))


def draw_shapes(picture: Image.Image, shapes: Sequence[Shape], longest_side: int | None = None) -> Image.Image:
    """A copy of the picture (RGB) with its objects, given in its own pixels; later ones on top.

    It is shrunk to the longest side first, or enlarged as often as it fits, and leaves out labels that would lie on others.
    Without one a picture keeps its size, but for a small one that is narrower than a label: that is enlarged.
    """
    scale = _scale(picture.size, shapes, longest_side)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    resampling = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    drawn = picture.copy() if scale == 1 else picture.resize(size, resampling, reducing_gap=2.0)
    line = max(1 if longest_side else 2, round(max(size) / (THUMBNAIL_LINE if longest_side else LINE)))
    for shape in shapes:
        _fill(drawn, shape, picture.size, line)
    draw = ImageDraw.Draw(drawn)
    for shape in shapes:
        x, y, width, height = (value * scale for value in shape.box)
        corners = (x, y, x + max(width, 1), y + max(height, 1))
        draw.rectangle(corners, outline=colour(shape.class_index), width=line)
    _write_labels(draw, shapes, scale, size, thumbnail=longest_side is not None)
    return drawn


class Thumbnails:
    """Turns pictures into data URIs until the page's budget (bytes) is spent; the more are expected, the smaller each."""

    def __init__(self, expected: int, budget: int = PAGE_BUDGET) -> None:
        self.left = budget
        pixels = budget / max(expected, 1) / BYTES_PER_PIXEL
        self.side = int(min(LARGEST_SIDE, max(SMALLEST_SIDE, (pixels * 4 / 3) ** 0.5)))
        self.quality = QUALITY if self.side > SMALLEST_SIDE * 1.5 else SMALL_QUALITY

    def add(self, picture: Image.Image, shapes: Sequence[Shape]) -> str | None:
        """The drawn picture as a JPEG data URI, or None where the budget has no room left for it."""
        buffer = io.BytesIO()
        draw_shapes(picture, shapes, self.side).save(buffer, "JPEG", quality=self.quality, optimize=True)
        uri = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        if len(uri) > self.left:
            return None
        self.left -= len(uri)
        return uri

    def card(self, path: Path, note: str, name: str, **drawn: Callable[[Size], Sequence[Shape]]) -> Picture | None:
        """A gallery's card with the picture once for each of the `drawn`: what it shows -> shapes on a picture of a size.

        None where the picture cannot be read or the budget has no room left: a report shows what it can.
        """
        try:
            picture = open_picture(path)
        except (SightlineError, OSError):
            return None
        uris = [self.add(picture, shapes_of(picture.size)) for shapes_of in drawn.values()]
        images = tuple((uri, shows) for uri, shows in zip(uris, drawn, strict=True) if uri)
        return Picture(name, note, images) if len(images) == len(drawn) else None


def _scale(size: Size, shapes: Sequence[Shape], longest_side: int | None) -> float:
    """How many times as large a picture is drawn; a whole number where it is enlarged."""
    largest = max(size)
    if longest_side:
        return longest_side / largest if largest > longest_side else longest_side // largest
    most = max(1, LARGEST_SIDE // largest)
    return next((times for times in range(1, most) if _fit(shapes, size, times)), most)


def _fit(shapes: Sequence[Shape], size: Size, times: int) -> bool:
    """Whether the picture so many times enlarged is as wide as each label."""
    font = _font(_text_size(times * max(size), TEXT))
    return all(_width(_label(shape, font), font) <= times * size[0] for shape in shapes)


def _fill(drawn: Image.Image, shape: Shape, original: Size, line: int) -> None:
    """Lay the object's mask over the picture, with its outline."""
    found = _silhouette(shape.segmentation, drawn.size, original)
    if found is None:
        return
    silhouette, corner = found
    inner = silhouette.filter(ImageFilter.MinFilter(2 * line + 1))
    outline = ImageChops.subtract(silhouette, inner).point([round(value * OUTLINE) for value in range(256)])
    opacity = ImageChops.lighter(inner.point([round(value * FILL) for value in range(256)]), outline)
    drawn.paste(colour(shape.class_index), corner, opacity)


def _silhouette(segmentation: Any, size: Size, original: Size) -> tuple[Image.Image, tuple[int, int]] | None:
    """The mask at the drawn size, cut to where it is (with a rim for its outline), and its corner in the picture."""
    scale_x, scale_y = size[0] / original[0], size[1] / original[1]
    if isinstance(segmentation, Mapping):
        encoded = segmentation
        if isinstance(segmentation["counts"], list):
            encoded = run_length.frPyObjects(segmentation, *segmentation["size"])
        x, y, width, height = (int(value) for value in run_length.toBbox(encoded))
        if not width or not height:
            return None
        part = Image.fromarray(run_length.decode(encoded)[y : y + height, x : x + width] * np.uint8(255))
        part = part.resize((max(1, round(width * scale_x)), max(1, round(height * scale_y))), Image.Resampling.BILINEAR)
        canvas = Image.new("L", (part.width + 4, part.height + 4))
        canvas.paste(part.point(lambda value: 255 if value > 127 else 0), (2, 2))
        return canvas, (round(x * scale_x) - 2, round(y * scale_y) - 2)
    rings = [ring for ring in segmentation or () if len(ring) >= 6]
    polygons = [np.asarray(ring, dtype=float).reshape(-1, 2) * (scale_x, scale_y) for ring in rings]
    if not polygons:
        return None
    points = np.concatenate(polygons)
    left, top = (int(value) - 2 for value in points.min(axis=0))
    right, bottom = (int(value) + 3 for value in points.max(axis=0))
    canvas = Image.new("L", (right - left, bottom - top))
    pen = ImageDraw.Draw(canvas)
    for ring in polygons:
        pen.polygon([(x - left, y - top) for x, y in ring], fill=255)
    return canvas, (left, top)


def _write_labels(
    draw: ImageDraw.ImageDraw, shapes: Sequence[Shape], scale: float, size: Size, thumbnail: bool
) -> None:
    """Class and score at each box: above it, below it or in it, wherever no other label lies."""
    largest = _text_size(max(size), THUMBNAIL_TEXT if thumbnail else TEXT)
    taken: list[tuple[float, float, float, float]] = []
    for shape in reversed(shapes):
        text, font = _fitting_label(shape, size[0], largest)
        _, rise, length, drop = draw.textbbox((0, 0), text, font=font)
        width, height = length + 2 * MARGIN, drop - rise + 5
        x, y, box_width, box_height = (value * scale for value in shape.box)
        left = max(0.0, min(x, size[0] - width))
        tops = (y - height, y + box_height, y, y + box_height - height)
        label_boxes = [(left, top, left + width, top + height) for top in tops if 0 <= top <= size[1] - height]
        free = [label_box for label_box in label_boxes if not any(_overlap(label_box, other) for other in taken)]
        if not free and thumbnail:
            continue
        label_box = (free or label_boxes or [(left, 0.0, left + width, float(height))])[0]
        taken.append(label_box)
        red, green, blue = ImageColor.getrgb(colour(shape.class_index))[:3]
        ink = (16, 16, 16) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
        draw.rectangle(label_box, fill=(red, green, blue))
        draw.text((label_box[0] + MARGIN, label_box[1] + 2 - rise), text, font=font, fill=ink)


def _text_size(side: int, share: int) -> int:
    return max(SMALLEST_TEXT, round(side / share))


def _label(shape: Shape, font: Any, length: int | None = None) -> str:
    """Class and score; of the class only so many characters where a length is given."""
    name = f"{_number(shape.name, shape.class_index, font)}{drawable(shape.name, font)}".rstrip()
    name = name if length is None else name[:length] + CUT
    return name if shape.score is None else f"{name} {shape.score:.2f}"


def legend(classes: Sequence[str]) -> Markup:
    """The classes' colours; where the font lacks letters of a name, the number that stands for it on the pictures."""
    font = _font(SMALLEST_TEXT)
    return page.legend([f"{_number(name, index, font)}{name}" for index, name in enumerate(classes)])


def _number(name: str, class_index: int, font: Any) -> str:
    """The number of a class that has no name, or a letter that the font cannot draw."""
    letters = [character for character in name if character.isalnum()]
    return "" if letters and all(_drawable_form(letter, font) for letter in letters) else f"#{class_index + 1} "


def _width(text: str, font: Any) -> float:
    return float(font.getbbox(text)[2]) + 2 * MARGIN


def _fitting_label(shape: Shape, width: int, largest: int) -> tuple[str, Any]:
    """The label and its font: smaller where it is wider than the picture, and cut where that is not enough."""
    smallest = max(SMALLEST_TEXT, round(largest * NARROWED))
    for size in range(largest, smallest - 1, -1):
        font = _font(size)
        text = _label(shape, font)
        if _width(text, font) <= width:
            return text, font
    cut = (_label(shape, font, length) for length in range(len(text) - 1, 0, -1))
    bare = text[:1] if shape.score is None else f"{shape.score:.2f}"
    return next((shorter for shorter in cut if _width(shorter, font) <= width), bare), font


def drawable(name: str, font: Any) -> str:
    """What of the name the font can draw, on one line (é as e, ß as ss); empty where that is not one letter or digit."""
    shown = "".join(_drawable_form(character, font) for character in " ".join(name.split())).strip()
    return shown if any(character.isalnum() for character in shown) else ""


def _drawable_form(character: str, font: Any) -> str:
    forms = (character, unicodedata.normalize("NFKD", character), character.casefold())
    return next(filter(None, ("".join(part for part in form if _has_glyph(part, font)) for form in forms)), "")


@lru_cache(maxsize=4096)
def _has_glyph(character: str, font: Any) -> bool:
    drawn = character.isprintable() and bytes(font.getmask(character)) != bytes(font.getmask(MISSING_GLYPH))
    return character == " " or drawn


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
