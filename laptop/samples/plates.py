"""A licence plate seen straight on: what is written where, and its surface."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from laptop.samples.canvas import (
    Colour,
    Field,
    Picture,
    Points,
    between,
    box_distance,
    ellipse,
    fractal_noise,
    from_centre,
    linear,
    rounded_box,
    shade,
    smoothstep,
    soften,
    stamp,
    turned,
    value_noise,
)

Kind = Literal["l", "r"]  # one row, or two
LETTERS = "abcde"
GLYPH_SIZE = 160  # pixels of the font that outlines are traced from
BOLD_STROKES = (3, 5, 7)  # pixels at GLYPH_SIZE: the built-in font is too thin for a plate


@dataclass(frozen=True, slots=True)
class Part:
    """A labelled part of a plate. Outline in plate coordinates: 0..1 across and down."""

    label: str
    outline: Points


@dataclass(frozen=True, slots=True)
class Colours:
    """Of a plate's sheet, its writing and (some have one) the band at its left; sRGB 0..255."""

    sheet: tuple[int, int, int]
    ink: tuple[int, int, int]
    band: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class PlateDesign:
    """What a plate looks like before anything happened to it."""

    kind: Kind
    text: str  # two digits and a letter, a space, four digits
    colours: Colours
    aspect: float  # width / height
    corner: float  # radius / height
    frame: float  # width of the line around the writing / height; 0 for none
    stroke: int  # weight of the writing, one of BOLD_STROKES
    slim: float  # how narrow the writing is; 1 is the font's own width


COLOURS = (
    Colours((232, 233, 228), (22, 22, 26)),
    Colours((236, 236, 230), (20, 24, 60), (24, 60, 150)),
    Colours((240, 240, 236), (26, 26, 26), (20, 70, 160)),
    Colours((238, 190, 26), (24, 22, 20)),
    Colours((226, 170, 20), (30, 24, 20), (24, 54, 140)),
    Colours((22, 104, 62), (236, 236, 226)),
    Colours((30, 120, 84), (240, 240, 232)),
    Colours((24, 62, 148), (238, 240, 244)),
    Colours((126, 184, 222), (20, 24, 34)),
    Colours((26, 26, 30), (220, 222, 224)),
    Colours((172, 28, 30), (240, 236, 230)),
    Colours((214, 96, 24), (28, 22, 20)),
)


def design_plate(rng: np.random.Generator, kind: Kind) -> PlateDesign:
    """Draw a plate's text and looks at random."""
    digits = "".join(str(digit) for digit in rng.integers(0, 10, 6))
    letter = LETTERS[rng.integers(len(LETTERS))]
    return PlateDesign(
        kind=kind,
        text=f"{digits[:2]}{letter} {digits[2:]}",
        colours=COLOURS[rng.integers(len(COLOURS))],
        aspect=rng.uniform(3.7, 4.7) if kind == "l" else rng.uniform(1.65, 2.1),
        corner=rng.uniform(0.05, 0.12) if kind == "l" else rng.uniform(0.04, 0.09),
        frame=float(rng.choice([0.0, 0.018, 0.026])) * (1.0 if kind == "l" else 0.7),
        stroke=int(rng.choice(BOLD_STROKES)),
        slim=rng.uniform(0.78, 0.98),
    )


@dataclass(frozen=True, slots=True)
class Box:
    """A character's place in plate coordinates (0..1 across and down): its ink's upper left corner, and its size."""

    character: str
    corner: NDArray[np.float64]
    size: NDArray[np.float64]


@cache
def glyph(character: str, stroke: int) -> tuple[NDArray[np.uint8], Points]:
    """A character's ink, cropped to it, and the ink's outer outline in 0..1 of that crop. Letters are capitals."""
    font = ImageFont.load_default(GLYPH_SIZE)
    sheet = Image.new("L", (2 * GLYPH_SIZE, 2 * GLYPH_SIZE))
    corner = (GLYPH_SIZE // 2, GLYPH_SIZE // 4)
    ImageDraw.Draw(sheet).text(corner, character.upper(), fill=255, font=font, stroke_width=stroke)
    ink = np.asarray(sheet.crop(sheet.getbbox()))
    # A margin and a doubling bring the traced pixel centres within a quarter pixel of the ink's edge.
    traced = cv2.resize(np.pad(ink, 2), None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    contours, _ = cv2.findContours((traced > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outer = cv2.approxPolyDP(max(contours, key=cv2.contourArea), 1.5, True)[:, 0].astype(np.float64)
    low, high = outer.min(axis=0), outer.max(axis=0)
    return ink, (outer - low) / (high - low)


def lay_row(
    text: str, design: PlateDesign, left: float, right: float, top: float, bottom: float, gap: float = 0.12
) -> list[Box]:
    """Characters of a row, centred between `left` and `right`, `gap` times their height apart; a space is half of one."""
    height = bottom - top
    tall = height / design.aspect  # the row's height in units of the plate's width
    inks = [None if character == " " else glyph(character, design.stroke)[0] for character in text]
    widths = [(0.5 if ink is None else ink.shape[1] / ink.shape[0]) * tall * design.slim for ink in inks]
    # A narrow 1 keeps a place nearly as wide as the others', as on real plates.
    least = 0.8 * float(np.median(widths))
    slots = [width if character == " " else max(width, least) for character, width in zip(text, widths, strict=True)]
    total = sum(slots) + gap * tall * (len(text) - 1)
    squeeze = min(1.0, (right - left) / total)
    x = (left + right - total * squeeze) / 2
    boxes = []
    for character, width, slot in zip(text, widths, slots, strict=True):
        inset = (slot - width) / 2 * squeeze
        if character != " ":
            boxes.append(Box(character, np.array([x + inset, top]), np.array([width * squeeze, height])))
        x += (slot + gap * tall) * squeeze
    return boxes


def lay_characters(design: PlateDesign) -> list[Box]:
    """Where each of the seven characters stands: the first three are the small number, the others the large one."""
    first, second = design.text.split(" ")
    band = 0.09 if design.colours.band and design.kind == "l" else 0.0
    if design.kind == "l":
        return lay_row(design.text, design, 0.045 + band, 0.955, 0.2, 0.8)
    return lay_row(first, design, 0.2, 0.8, 0.11, 0.38, gap=0.2) + lay_row(second, design, 0.06, 0.94, 0.46, 0.89)


def number_area(boxes: list[Box], design: PlateDesign, label: str) -> Part:
    """The rectangle around a number, a little wider than its ink."""
    pad = np.array([0.03 / design.aspect, 0.03])
    left, top = np.min([box.corner for box in boxes], axis=0) - pad
    right, bottom = np.max([box.corner + box.size for box in boxes], axis=0) + pad
    return Part(label, np.array([[left, top], [right, top], [right, bottom], [left, bottom]]))


def plate_parts(design: PlateDesign) -> list[Part]:
    """Everything that can be labelled on a plate: the board, its two number areas, its seven characters."""
    boxes = lay_characters(design)
    outline = rounded_box((design.aspect / 2, 0.5), (design.aspect, 1.0), design.corner) / [design.aspect, 1.0]
    return [
        Part(f"{design.kind}_board", outline),
        number_area(boxes[:3], design, f"{design.kind}_s_n"),
        number_area(boxes[3:], design, f"{design.kind}_m_n"),
        *(Part(box.character, glyph(box.character, design.stroke)[1] * box.size + box.corner) for box in boxes),
    ]


def draw_writing(design: PlateDesign, shape: tuple[int, int]) -> Field:
    """The ink of the characters, 0..1, each put with subpixel care where `lay_characters` says."""
    pixels = np.array(shape[::-1])
    ink = np.zeros(shape, np.float32)
    for box in lay_characters(design):
        source: Field = glyph(box.character, design.stroke)[0]
        scale = box.size * pixels / source.shape[::-1]
        # Shrinking by a transform alone would alias: blur the source to the target's pixel first.
        source = cv2.GaussianBlur(np.pad(source, 4), (0, 0), max(0.3, 0.45 / float(scale.min())))
        offset = box.corner * pixels - 4 * scale + 0.5 * scale - 0.5
        transform = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]])
        placed = cv2.warpAffine(source, transform, shape[::-1], flags=cv2.INTER_LINEAR)
        np.maximum(ink, placed.astype(np.float32) / 255, out=ink)
    return ink


def draw_frame(design: PlateDesign, shape: tuple[int, int]) -> Field:
    """The line that runs around the writing, 0..1."""
    if not design.frame:
        return np.zeros(shape, np.float32)
    height, width = shape
    inset, line = 0.045 * height, max(design.frame * height, 1.0)
    corner = max(design.corner * height - inset, 0.02 * height)
    distance = _distance(shape, inset + line / 2, corner)
    return np.clip(line / 2 + 0.5 - np.abs(distance), 0, 1).astype(np.float32)


def _distance(shape: tuple[int, int], inset: float, corner: float) -> Field:
    height, width = shape
    return box_distance(shape, (width / 2, height / 2), (width - 2 * inset, height - 2 * inset), corner)


def draw_plate(rng: np.random.Generator, design: PlateDesign, width: int, light: tuple[float, float]) -> Picture:
    """The plate straight on, `width` pixels wide, worn, dirty and lit from (right, down). The caller rounds its corners."""
    shape = (max(round(width / design.aspect), 8), width)
    writing, frame = draw_writing(design, shape), draw_frame(design, shape)
    relief = np.maximum(writing, frame)
    wear = fractal_noise(rng, shape, shape[0] / 6)
    ink = relief * (1 - rng.uniform(0, 0.5) * smoothstep(0.62, 0.8, wear))
    sheet = linear(*design.colours.sheet) * (1 + 0.14 * (fractal_noise(rng, shape, shape[0] / 2) - 0.5))[..., None]
    if design.colours.band and design.kind == "l":
        _draw_band(sheet, linear(*design.colours.band), relief=frame)
    picture = sheet + (linear(*design.colours.ink) - sheet) * (ink * rng.uniform(0.9, 0.99))[..., None]
    picture = _emboss(picture, relief, design, light, depth=rng.uniform(0.5, 1.1))
    _draw_bolts(rng, picture, design, light)
    _soil(rng, picture, amount=float(rng.choice([0.15, 0.4, 0.9], p=[0.5, 0.35, 0.15])))
    _shine(rng, picture)
    return picture


def _draw_band(sheet: Picture, colour: Colour, relief: Field) -> None:
    """The coloured strip at the left with a ring of dots and a bar, in place."""
    height, width = sheet.shape[:2]
    right = round(0.085 * width)
    sheet[:, :right] = colour
    mask = np.zeros((height, width), np.uint8)
    centre, ring = (right * 0.52, height * 0.34), right * 0.26
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        dot = (round((centre[0] + ring * np.cos(angle)) * 16), round((centre[1] + ring * np.sin(angle)) * 16))
        cv2.circle(mask, dot, max(round(0.035 * right * 16), 10), 255, -1, cv2.LINE_AA, 4)
    corners = (round(0.3 * right), round(0.66 * height)), (round(0.72 * right), round(0.76 * height))
    cv2.rectangle(mask, *corners, 220, -1)
    sheet += (linear(226, 214, 150) - sheet) * (mask.astype(np.float32) / 255 * (1 - relief))[..., None]


def _emboss(picture: Picture, relief: Field, design: PlateDesign, light: tuple[float, float], depth: float) -> Picture:
    """Light the raised writing and the plate's rounded rim from one side."""
    height = picture.shape[0]
    raised = soften(relief, max(0.014 * height, 0.7))
    rim = np.clip(-_distance(relief.shape, 0.0, design.corner * height) / max(0.035 * height, 1.5), 0, 1)
    surface = raised * 0.8 + np.sqrt(rim).astype(np.float32)
    slope = -light[0] * cv2.Sobel(surface, cv2.CV_32F, 1, 0) - light[1] * cv2.Sobel(surface, cv2.CV_32F, 0, 1)
    # Where the surface faces the light it is brighter; black ink shows it as a sheen of its own.
    lit = np.clip(-slope * depth * 0.35, -0.55, 0.8)[..., None]
    return picture * (1 + lit) + np.maximum(lit, 0) * np.float32(0.05)


def _draw_bolts(rng: np.random.Generator, picture: Picture, design: PlateDesign, light: tuple[float, float]) -> None:
    """Two or four screws, in place, where the writing leaves room."""
    height, width = picture.shape[:2]
    columns = (0.5 - rng.uniform(0.28, 0.4), 0.5 + rng.uniform(0.28, 0.4))
    rows = rng.choice([0, 1, 2], p=[0.25, 0.5, 0.25])
    radius = height * (0.04 if design.kind == "l" else 0.026) * rng.uniform(0.85, 1.15)
    dull = rng.random() < 0.8
    metal = linear(*(rng.uniform(0.7, 1.0) * np.array([190, 190, 186]))) if dull else linear(230, 230, 226)
    lit = np.array(light) * radius
    for row in (0.105, 0.9)[:rows] if rows else ():
        for column in columns:
            centre = (column * width, row * height)
            shade(picture, ellipse(tuple(centre - 0.35 * lit), (1.3 * radius, 1.3 * radius)), 0.5, radius / 3)
            stamp(picture, ellipse(centre, (radius, radius)), metal * np.float32(0.75))
            gleam = ellipse(tuple(centre + 0.3 * lit), (radius / 2, radius / 2))
            stamp(picture, gleam, metal * np.float32(1.3), 0.7, radius / 3)
            slot = rounded_box(centre, (1.6 * radius, 0.3 * radius), 0.1 * radius)
            stamp(picture, turned(slot, rng.uniform(0, np.pi), centre), metal * np.float32(0.25), 0.8)


def _soil(rng: np.random.Generator, picture: Picture, amount: float) -> None:
    """Dust towards the lower edge, splashes and scratches, in place."""
    height, width = shape = picture.shape[:2]
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    film = smoothstep(0.42, 0.95, fractal_noise(rng, shape, height / 2, 5) * 0.75 + 0.4 * down**2)
    dust = between(rng, (96, 82, 62), (150, 132, 108))
    picture += (dust - picture) * (film * amount * 0.55)[..., None]
    specks = smoothstep(0.80, 0.86, value_noise(rng, shape, (height / 26, height / 26)))
    where = smoothstep(0.5, 0.75, fractal_noise(rng, shape, height))
    picture += (dust * 0.35 - picture) * (specks * where * amount * 0.8)[..., None]
    scratches = np.zeros(shape, np.uint8)
    for _ in range(rng.integers(0, 7)):
        start = rng.uniform([0, 0], [width, height])
        end = start + rng.normal(0, 0.25 * height, 2)
        cv2.line(scratches, tuple(int(v) for v in start * 8), tuple(int(v) for v in end * 8), 120, 1, cv2.LINE_AA, 3)
    picture += (picture.mean() - picture) * (scratches.astype(np.float32) / 255 * 0.6)[..., None]


def _shine(rng: np.random.Generator, picture: Picture) -> None:
    """The sky in the sheet and, on some plates, a glint, in place."""
    height, width = picture.shape[:2]
    y, x = from_centre((height, width))
    tilt = rng.uniform(-0.6, 0.6)
    sky = smoothstep(-0.2, 1.2, -(y + tilt * x))
    picture *= (1 + rng.uniform(-0.14, 0.14) * x + rng.uniform(-0.1, 0.1) * y)[..., None]
    picture += linear(200, 220, 245) * (sky * rng.uniform(0.0, 0.09))[..., None]
    if rng.random() < 0.35:
        centre, reach = rng.uniform(-0.9, 0.9, 2).tolist(), rng.uniform(0.12, 0.35)
        # Units of the plate's height, so that a glint is round on a long plate too.
        across = ((x - centre[0]) * width / height) * rng.uniform(0.4, 1.0)
        lobe = np.exp(-(across**2 + (y - centre[1]) ** 2) / (2 * reach**2))
        picture += (lobe * rng.uniform(0.15, 0.7))[..., None]
