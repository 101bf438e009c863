"""What a plate hangs on or lies on, seen straight on: painted at random, in linear RGB.

A painter takes the random generator, the picture's (height, width) and where the plates will be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import ImageColor

from laptop.samples.canvas import (
    Field,
    Picture,
    between,
    box_distance,
    coverage,
    ellipse,
    fractal_noise,
    linear,
    rounded_box,
    shade,
    smoothstep,
    soften,
    stamp,
    turned,
    value_noise,
)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a plate will be, in the backdrop's pixels (plain floats: numpy's would make every picture float64)."""

    centre: tuple[float, float]
    size: tuple[float, float]


Painter = Callable[[np.random.Generator, tuple[int, int], Sequence[Spot]], Picture]

PAINTS = ["#c6c8cc", "#e1e2e2", "#1e1f22", "#5c6066", "#8e161a", "#1a2c5c", "#3c5478", "#3a4a3e", "#a4947a", "#70281e"]


def paint_bodywork(rng: np.random.Generator, shape: tuple[int, int], spots: Sequence[Spot]) -> Picture:
    """The rear or front of a car: reflections on curved paint, seams, a recess, a bumper, perhaps lamps."""
    height, width = shape
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    bow = rng.uniform(-0.05, 0.12) * height
    rows = np.arange(height, dtype=np.float32)[:, None] + bow * x**2
    picture = _paint_coat(rng, rows, shape)
    top = min(spot.centre[1] - spot.size[1] / 2 for spot in spots)
    bottom = max(spot.centre[1] + spot.size[1] / 2 for spot in spots)
    if rng.random() < 0.6:
        _sink_recess(rng, picture, spots[0])
    for row in [top - rng.uniform(0.1, 0.3) * height, bottom + rng.uniform(0.06, 0.16) * height]:
        _cut_seam(picture, rows - row, rng.uniform(0.6, 0.9))
    if rng.random() < 0.7:  # unpainted grained plastic
        below = rows - (bottom + rng.uniform(0.08, 0.2) * height)
        grain = fractal_noise(rng, shape, 3.0, 2)
        plastic = (0.018 + 0.03 * grain + 0.05 * np.exp(-np.abs(below - 0.04 * height) / (0.03 * height)))[..., None]
        picture += (plastic - picture) * smoothstep(-1.5, 1.5, below)[..., None]
    if rng.random() < 0.5:  # the road, in the car's shadow at first
        below = rows - (bottom + rng.uniform(0.22, 0.36) * height)
        road = soften(paint_asphalt(rng, shape, ()), 0.003 * width)
        lit = 0.05 + 1.6 * smoothstep(0.02 * height, 0.2 * height, below)
        picture += (road * lit[..., None] - picture) * smoothstep(-1.5, 1.5, below)[..., None]
    for side in (-1, 1):
        if rng.random() < 0.45:
            _fit_lamp(rng, picture, side, top - rng.uniform(0.0, 0.25) * height)
    if rng.random() < 0.5:  # what is far behind the car
        above = 1 - smoothstep(-2, 2, rows - (top - rng.uniform(0.3, 0.5) * height))
        far = (paint_foliage if rng.random() < 0.5 else paint_street)(rng, shape, ())
        picture += (far - picture) * above[..., None]
    return picture


def _paint_coat(rng: np.random.Generator, rows: Field, shape: tuple[int, int]) -> Picture:
    height, width = shape
    colour = linear(*ImageColor.getrgb(PAINTS[rng.integers(len(PAINTS))]))
    # Knots of a vertical profile: a curved panel mirrors sky, horizon and ground as soft bands.
    knots = rng.uniform(0.25, 1.35, 9).astype(np.float32)
    profile = cv2.resize(knots[:, None], (1, 2 * height), interpolation=cv2.INTER_CUBIC)[:, 0]
    position = np.clip(rows + height / 2, 0, 2 * height - 1)
    shading: Field = cv2.remap(profile[:, None], np.zeros_like(position), position, cv2.INTER_LINEAR)
    shading *= 0.85 + 0.3 * value_noise(rng, shape, (height * 0.6, width * 0.4))
    flakes = 1 + np.float32(rng.uniform(0.0, 0.05)) * rng.standard_normal(shape, dtype=np.float32)
    # What stands behind the photographer shows in the paint, squeezed by the panel's curve.
    around = paint_street(rng, (height // 3, width // 3), ())[:: rng.choice([-1, 1])]
    squeeze = np.clip((rows - rng.uniform(-0.1, 0.2) * height) / (rng.uniform(0.5, 0.9) * height), 0, 1)
    y = (squeeze * (height // 3 - 1)).astype(np.float32)
    x = np.broadcast_to(np.linspace(0, width // 3 - 1, width, dtype=np.float32), shape)
    mirrored = cv2.remap(around, np.ascontiguousarray(x), y, cv2.INTER_LINEAR)
    gloss = np.float32(rng.uniform(0.06, 0.22)) * shading
    return colour * (shading * flakes)[..., None] + mirrored * gloss[..., None]


def _sink_recess(rng: np.random.Generator, picture: Picture, spot: Spot) -> None:
    """The hollow that a plate is screwed into: dark under its upper edge, bright on its lower lip."""
    grow = rng.uniform(0.1, 0.3) * spot.size[1]
    size = (spot.size[0] + 2.4 * grow, spot.size[1] + 2 * grow)
    distance = box_distance(picture.shape[:2], spot.centre, size, 0.35 * grow)
    soft = max(0.06 * spot.size[1], 1.5)
    inside = 1 - smoothstep(-soft, soft, distance)
    y = (np.arange(picture.shape[0], dtype=np.float32)[:, None] - spot.centre[1]) / (size[1] / 2)
    ceiling = 1 - smoothstep(-1.1, 0.2, y)
    picture *= (1 - inside * (0.18 + 0.6 * ceiling))[..., None]
    x = (np.arange(picture.shape[1], dtype=np.float32)[None, :] - spot.centre[0]) / (size[0] / 2)
    lip = np.exp(-((distance / soft) ** 2)) * smoothstep(0.8, 1.0, y) * np.clip(1 - x**4, 0, 1)
    picture *= (1 + np.float32(rng.uniform(0.1, 0.7)) * lip)[..., None]


def _cut_seam(picture: Picture, offset: Field, depth: float) -> None:
    """A gap between two panels along offset = 0 (pixels), with the light that its lower edge catches."""
    gap = max(picture.shape[0] / 300, 1.0)
    picture *= (1 - depth * np.exp(-((offset / gap) ** 2)))[..., None]
    picture += np.float32(0.12) * np.exp(-(((offset - 2.2 * gap) / gap) ** 2))[..., None]
    picture *= (1 - 0.25 * np.exp(-np.clip(offset, 0, None) / (9 * gap)) * (offset > 0))[..., None]


def _fit_lamp(rng: np.random.Generator, picture: Picture, side: int, row: float) -> None:
    """A tail or head lamp at the left (-1) or right (1) edge of the picture."""
    height, width = picture.shape[:2]
    size = (rng.uniform(0.18, 0.34) * width, rng.uniform(0.16, 0.3) * height)
    centre = (width / 2 + side * rng.uniform(0.42, 0.54) * width, row)
    outline = turned(rounded_box(centre, size, 0.4 * min(size)), side * rng.uniform(-0.15, 0.25), centre)
    shade(picture, outline + [0, 0.01 * height], 0.5, 0.012 * height)
    glass = linear(150, 14, 16) if rng.random() < 0.65 else linear(150, 156, 162)
    stamp(picture, outline, glass * np.float32(0.35), blur=0.8)
    inner = centre + (outline - centre) * 0.9
    stamp(picture, inner, glass * rng.uniform(0.6, 1.2), blur=0.02 * height)
    for step in np.linspace(-0.3, 0.3, 5):
        bar = rounded_box((centre[0], centre[1] + step * size[1]), (0.8 * size[0], 0.03 * size[1]), 2)
        stamp(picture, bar, glass * np.float32(0.25), opacity=0.5, blur=1.0)
    bulb = (centre[0] - side * 0.15 * size[0], centre[1] - 0.15 * size[1])
    stamp(picture, ellipse(bulb, (0.1 * size[0], 0.13 * size[1])), glass * 2 + 0.25, blur=0.014 * height)
    gleam = rounded_box((centre[0], centre[1] - 0.36 * size[1]), (0.6 * size[0], 0.06 * size[1]), 4)
    stamp(picture, gleam, linear(240, 244, 250), opacity=0.45, blur=0.008 * height)


def paint_street(rng: np.random.Generator, shape: tuple[int, int], spots: Sequence[Spot]) -> Picture:
    """A street far out of focus: sky, house fronts, road, spots of light."""
    height, width = small = max(shape[0] // 2, 8), max(shape[1] // 2, 8)
    horizon = rng.uniform(0.45, 0.65) * height
    y = np.arange(height, dtype=np.float32)[:, None]
    brightness = rng.uniform(0.35, 1.0)
    sky = between(rng, (150, 170, 190), (215, 222, 235)) * brightness
    road = between(rng, (80, 78, 76), (128, 124, 120)) * brightness
    below = smoothstep(horizon - 2, horizon + 2, y)
    picture = np.ones((*small, 1), np.float32) * (sky + (road - sky) * below[..., None])
    for _ in range(rng.integers(5, 10)):
        size = rng.uniform([0.08, 0.15], [0.3, 0.6]) * [width, height]
        centre = (rng.uniform(0, width), horizon - size[1] / 2 + 0.05 * height)
        front = between(rng, (60, 50, 45), (190, 175, 160)) * brightness
        stamp(picture, rounded_box(centre, tuple(size), 2), front)
        for row in np.arange(0.12, 0.9, 0.22):
            for column in (-0.28, 0.0, 0.28):
                pane = (centre[0] + column * size[0], centre[1] + (row - 0.5) * size[1])
                stamp(picture, rounded_box(pane, (0.14 * size[0], 0.1 * size[1]), 1), front * rng.uniform(0.2, 1.6))
    return _defocus(rng, picture, 0.018 * width, shape, lights=14)


def _defocus(rng: np.random.Generator, picture: Picture, blur: float, shape: tuple[int, int], lights: int) -> Picture:
    """Blur a small picture, scatter fewer than so many spots of light over it, and enlarge it to the shape."""
    picture = soften(picture, blur)
    height, width = picture.shape[:2]
    for _ in range(rng.integers(0, lights)):
        centre, radius = tuple(rng.uniform([0, 0], [width, height])), rng.uniform(0.012, 0.04) * width
        warm = between(rng, (200, 150, 90), (255, 250, 240)) * np.float32(1.3)
        stamp(picture, ellipse(centre, (radius, radius)), warm, opacity=rng.uniform(0.2, 0.7), blur=1.0)
    return cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def paint_foliage(rng: np.random.Generator, shape: tuple[int, int], spots: Sequence[Spot]) -> Picture:
    """Leaves out of focus, darker deep inside, with the sky through the gaps."""
    height, width = small = max(shape[0] // 2, 8), max(shape[1] // 2, 8)
    depth = fractal_noise(rng, small, height * 0.4, 3)
    picture = linear(34, 44, 22) * (0.5 + depth)[..., None]
    hue = rng.uniform([54, 84, 26], [110, 128, 60])
    for nearness in np.linspace(0.3, 1.0, 130):
        centre = rng.uniform([0, 0], [width, height])
        length = rng.uniform(0.03, 0.07) * width * (0.6 + nearness)
        lit = 0.25 + 1.2 * depth[int(centre[1]), int(centre[0])] * rng.uniform(0.4, 1.3)
        leaf = ellipse(tuple(centre), (length / 2, length * rng.uniform(0.12, 0.25)), rng.uniform(0, np.pi), steps=12)
        stamp(picture, leaf, linear(*hue.tolist()) * np.float32(lit * nearness * 1.6))
    return _defocus(rng, picture, rng.uniform(0.008, 0.02) * width, shape, lights=12)


def paint_mounted(rng: np.random.Generator, shape: tuple[int, int], spots: Sequence[Spot]) -> Picture:
    """A board or sheet on a post, foliage or a street far behind it."""
    painter = paint_foliage if rng.random() < 0.55 else paint_street
    picture = soften(painter(rng, shape, ()), 0.006 * shape[1])
    corners = np.array([[spot.centre[0] + sx * spot.size[0] / 2, spot.centre[1] + sy * spot.size[1] / 2]
                        for spot in spots for sx in (-1, 1) for sy in (-1, 1)])  # fmt: skip
    low, high = corners.min(axis=0), corners.max(axis=0)
    grow = rng.uniform(0.05, 0.14) * shape[0]
    centre, size = tuple((low + high) / 2), tuple(high - low + 2 * grow)
    if rng.random() < 0.5:
        material = paint_wood(rng, shape, ())
    else:  # a brushed sheet
        colour = linear(*(np.array([1.0, 1.0, 0.98]) * rng.uniform(90, 190)).tolist())
        streaks = value_noise(rng, shape, (1.5, shape[1] / 3)) - 0.5
        cloud = fractal_noise(rng, shape, shape[0] / 3) - 0.5
        material = colour * (1 + 0.12 * streaks + 0.7 * cloud)[..., None]
    post = rounded_box((centre[0], shape[0]), (0.09 * shape[1], 2 * shape[0] - 2 * centre[1]), 2)
    for outline in (post, rounded_box(centre, size, 0.012 * shape[1])):
        shade(picture, outline + [0.006 * shape[1], 0.01 * shape[1]], 0.5, 0.012 * shape[1])
        mask = coverage(shape, outline)
        edge = mask - soften(mask, 2.5)
        picture += (material * (1 + 0.8 * edge)[..., None] - picture) * mask[..., None]
    return picture


def paint_wall(rng: np.random.Generator, shape: tuple[int, int], spots: Sequence[Spot]) -> Picture:
    """Plaster or concrete with stains, or bricks."""
    return _brick_wall(rng, shape) if rng.random() < 0.5 else _plaster_wall(rng, shape)


def _plaster_wall(rng: np.random.Generator, shape: tuple[int, int]) -> Picture:
    height = shape[0]
    colour = between(rng, (120, 112, 100), (216, 208, 196))
    surface = fractal_noise(rng, shape, height / 5, 6)
    grain = fractal_noise(rng, shape, 5.0, 3)
    bump = cv2.Sobel(grain + 2 * surface, cv2.CV_32F, 0, 1)
    runs = smoothstep(0.6, 0.9, value_noise(rng, shape, (height * 0.7, height / 24)))
    down = np.linspace(1, 0.2, height, dtype=np.float32)[:, None]
    tone = (0.72 + 0.5 * surface) * (1 + 0.35 * bump) * (1 - 0.25 * runs * down)
    picture = colour * np.clip(tone, 0.05, None)[..., None]
    for _ in range(rng.integers(0, 3)):
        _crack(rng, picture)
    return picture


def _crack(rng: np.random.Generator, picture: Picture) -> None:
    height, width = picture.shape[:2]
    steps = rng.normal([0, height / 28], [width / 45, height / 60], (40, 2))
    path = np.cumsum(steps, axis=0) + rng.uniform([0, -0.2 * height], [width, 0.3 * height])
    mask = np.zeros((height, width), np.uint8)
    cv2.polylines(mask, [np.round(path * 8).astype(np.int32)], False, 255, 1, cv2.LINE_AA, 3)
    picture *= (1 - 0.7 * soften(mask.astype(np.float32) / 255, 0.6))[..., None]


def _brick_wall(rng: np.random.Generator, shape: tuple[int, int]) -> Picture:
    height, width = shape
    course = rng.uniform(0.09, 0.15) * height
    y = np.arange(height, dtype=np.float32)[:, None] / course + rng.uniform(0, 1)
    x = np.arange(width, dtype=np.float32)[None, :] / (course * 2.9) + 0.5 * (np.floor(y) % 2)
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    wobble = 0.03 * (fractal_noise(rng, shape, course / 3, 3) - 0.5)
    joint = np.minimum(np.minimum(y - row, 1 - (y - row)), np.minimum(x - column, 1 - (x - column)) * 2.9) + wobble
    brick = smoothstep(0.045, 0.085, joint)
    tints = rng.uniform(0.6, 1.25, (32, 32)).astype(np.float32)[row % 32, column % 32]
    clay = between(rng, (130, 64, 46), (176, 110, 84))
    mortar = between(rng, (140, 134, 124), (184, 178, 168))
    grain = 0.75 + 0.5 * fractal_noise(rng, shape, 6.0, 3)
    picture = mortar + (clay * tints[..., None] - mortar) * brick[..., None]
    relief = cv2.Sobel(soften(brick, 0.8), cv2.CV_32F, 0, 1) * 0.22
    return picture * np.clip(grain * (1 + relief), 0.05, None)[..., None]


def paint_asphalt(rng: np.random.Generator, shape: tuple[int, int], spots: Sequence[Spot]) -> Picture:
    """Road surface from above: stones in tar, patches, cracks, perhaps a worn painted line."""
    height, width = shape
    stones = soften(rng.random(shape, dtype=np.float32), 0.8)
    stones = smoothstep(0.35, 0.75, stones) + 0.5 * value_noise(rng, shape, (4, 4))
    patches = fractal_noise(rng, shape, height / 3, 5)
    grey = rng.uniform(0.03, 0.13)
    tint = np.array([1.02, 1.0, rng.uniform(0.9, 1.02)], np.float32)
    picture = (grey * tint) * ((0.55 + 0.65 * stones) * (0.6 + 0.8 * patches))[..., None]
    if rng.random() < 0.4:
        centre = (rng.uniform(0, width), rng.uniform(0, height))
        line = turned(rounded_box(centre, (3.0 * width, 0.16 * height), 1), rng.uniform(-0.5, 0.5), centre)
        mask = np.zeros_like(picture[..., :1])
        stamp(mask, line, np.ones(1, np.float32), blur=1.0)
        worn = mask[..., 0] * smoothstep(0.3, 0.5, patches * 0.5 + stones * 0.35)
        colour = linear(226, 224, 214) if rng.random() < 0.6 else linear(214, 164, 40)
        picture += (colour * (0.5 + 0.3 * stones)[..., None] - picture) * (0.8 * worn)[..., None]
    for _ in range(rng.integers(0, 4)):
        _crack(rng, picture)
    return picture.astype(np.float32)


def paint_wood(rng: np.random.Generator, shape: tuple[int, int], spots: Sequence[Spot]) -> Picture:
    """Planks, weathered or brown, with nails."""
    height, width = shape
    plank = rng.uniform(0.16, 0.3) * height
    y = np.arange(height, dtype=np.float32)[:, None] / plank + rng.uniform(0, 1)
    index = np.floor(y).astype(int)
    fibre = value_noise(rng, shape, (2.0, width / 5)) * 0.5 + value_noise(rng, shape, (5.0, width / 3)) * 0.5
    wave = fractal_noise(rng, shape, height / 6, 2, stretch=5)
    rings = 0.5 + 0.5 * np.sin(wave * 46 + y * 9)
    tint = rng.uniform(0.7, 1.2, 64).astype(np.float32)[index % 64]
    colour = between(rng, (92, 66, 44), (176, 150, 120))
    tone = (0.6 + 0.5 * fibre + 0.18 * rings) * tint
    gap = np.minimum(y - index, 1 - (y - index)) * plank
    tone = tone * (1 - 0.85 * np.exp(-((gap / max(height / 200, 1.0)) ** 2)))
    picture = (colour * tone[..., None]).astype(np.float32)
    for row in range(int(index.min()), int(index.max()) + 1):
        at = ((rng.uniform(0.05, 0.95)) * width, (row + 0.5 - float(y[0, 0])) * plank)
        stamp(picture, ellipse(at, (height / 120, height / 120)), linear(52, 46, 44), blur=0.7)
    return picture


SCENES: dict[Painter, float] = {  # how often each is chosen
    paint_bodywork: 0.48,
    paint_mounted: 0.16,
    paint_wall: 0.14,
    paint_asphalt: 0.12,
    paint_wood: 0.10,
}


def paint_backdrop(rng: np.random.Generator, shape: tuple[int, int], spots: Sequence[Spot]) -> Picture:
    """One backdrop at random."""
    paint = list(SCENES)[rng.choice(len(SCENES), p=list(SCENES.values()))]
    return np.ascontiguousarray(paint(rng, shape, spots), np.float32)
