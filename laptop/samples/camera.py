"""From light to a photograph: where the camera stands, the light on the scene, lens, sensor."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from laptop.samples.canvas import Field, Picture, Points, fractal_noise, from_centre, smoothstep, soften

Matrix = NDArray[Any]  # (3, 3)

BRIGHTEST = 4.0  # light that the sensor still tells apart; 1.0 is white paper


def project(camera: Matrix, points: Points) -> Points:
    """Plane points (n, 2) -> image points (n, 2)."""
    image = np.column_stack([points, np.ones(len(points))]) @ camera.T
    return image[:, :2] / image[:, 2:]


def set_camera(rng: np.random.Generator, size: tuple[int, int]) -> Matrix:
    """A camera for images of (width, height), at arm's length: mostly from the side and above, never quite level.

    It maps the plane of the plates (pixels, origin where it looks) to the image (pixels, labelme's coordinates).
    """
    yaw, pitch = np.radians(np.clip(rng.normal(0, 21), -42, 42)), np.radians(np.clip(rng.normal(6, 12), -22, 30))
    roll = np.radians(np.clip(rng.normal(0, 3.5), -9, 9))
    focal = size[0] * rng.uniform(0.85, 1.4)
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = (
        np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    )
    lens = np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]])
    # At a distance of one focal length a pixel of the plane is a pixel of the image where the camera looks.
    return lens @ np.column_stack([turn[:, 0], turn[:, 1], [0, 0, focal]])


def to_pixel_centres(matrix: Matrix) -> Matrix:
    """The same map for cv2, whose (0, 0) is the first pixel's centre on both sides."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    return np.linalg.inv(half) @ matrix @ half


def light_scene(rng: np.random.Generator, picture: Picture) -> None:
    """One light over everything, in place: a gradient, on some pictures the shadow of branches, a post or the photographer."""
    shape = picture.shape[:2]
    y, x = from_centre(shape)
    field = 1 + rng.uniform(-0.3, 0.3) * x + rng.uniform(-0.25, 0.2) * y
    kind = rng.choice(["open", "branches", "edge", "person"], p=[0.5, 0.2, 0.2, 0.1])
    depth = rng.uniform(0.35, 0.65)
    if kind == "branches":
        leaves = fractal_noise(rng, shape, shape[0] * rng.uniform(0.15, 0.35), 4)
        field *= 1 - depth * smoothstep(0.45, 0.58, leaves)
    elif kind == "edge":
        angle, soft = rng.uniform(0, 2 * np.pi), rng.uniform(0.01, 0.1)
        side = np.cos(angle) * x + np.sin(angle) * y + rng.uniform(-0.5, 0.5)
        field *= 1 - depth * smoothstep(-soft, soft, side)
    elif kind == "person":
        field *= 1 - depth * _own_shadow(rng, x, y)
    field = np.clip(field, 0.1, None)
    # Shadows are a little blue: the sky still lights them.
    picture *= cv2.merge((field * (0.95 + 0.05 * field), field, field * (1.07 - 0.07 * field)))


def _own_shadow(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """The photographer's head and shoulders, soft, reaching in from below; 0..1 over x and y of -1..1."""
    centre, top, reach = rng.uniform(-0.7, 0.7), rng.uniform(-0.3, 0.5), rng.uniform(0.16, 0.26)
    lean = x - centre - rng.uniform(-0.3, 0.3) * (y - top)
    head = np.hypot(lean / reach, (y - top) / (1.7 * reach))
    shoulders = np.hypot(lean / (2.6 * reach), np.minimum(y - top - 3.4 * reach, 0) / (1.9 * reach))
    return 1 - smoothstep(0.75, 1.15, np.minimum(head, shoulders))


def take_photograph(rng: np.random.Generator, picture: Picture) -> NDArray[np.uint8]:
    """Lens and sensor: focus, motion, flare, vignette, exposure, white balance, noise; sRGB, (height, width, 3)."""
    height, width = picture.shape[:2]
    picture = soften(picture, width / 640 * float(rng.choice([0.45, 0.7, 1.1, 1.7], p=[0.35, 0.35, 0.2, 0.1])))
    if rng.random() < 0.2:
        picture = _smear(picture, rng.uniform(0.004, 0.012) * width, rng.uniform(0, np.pi))
    bright = cv2.resize(picture, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    bloom = soften(np.maximum(bright - 0.75, 0), width / 240)
    picture = picture + 0.35 * cv2.resize(bloom, (width, height))
    warmth, green = rng.normal(0, 0.07), rng.normal(0, 0.015)
    # Meters expose for the middle of the tones, not always well.
    exposure = (rng.uniform(0.2, 0.36) / max(float(bright[::2, ::2].mean()), 0.02)) ** 0.75
    y, x = from_centre((height, width))
    vignette: Field = (1 + np.float32(rng.uniform(0.08, 0.3)) * (x**2 + y**2) * 0.5) ** -2
    gain = vignette * np.float32(exposure)
    picture *= cv2.merge([gain * np.float32(balance) for balance in (1 + warmth, 1 + green, 1 - warmth)])
    display = _develop(picture, haze=rng.uniform(0.0, 0.012), contrast=rng.uniform(0.1, 0.55))
    display += _noise(rng, display, rng.choice([0.007, 0.013, 0.024], p=[0.4, 0.4, 0.2]))
    return (np.clip(display, 0, 1) * 255 + 0.5).astype(np.uint8)


def _smear(picture: Picture, length: float, angle: float) -> Picture:
    """The camera moved while the shutter was open."""
    reach = max(int(np.ceil(length / 2)), 1)
    step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = [tuple(int(v) for v in np.round((reach + sign * step) * 16)) for sign in (-1, 1)]
    stroke = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    cv2.line(stroke, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
    return cv2.filter2D(picture, -1, stroke.astype(np.float32) / stroke.sum(), borderType=cv2.BORDER_REFLECT_101)


def _develop(light: Picture, haze: float, contrast: float) -> Picture:
    """Light -> brightness on a screen, 0..1: bright light rolls off instead of clipping, darks get darker.

    `haze` is light that the lens adds everywhere, `contrast` the share of an S-shaped tone curve.
    """
    level = np.linspace(0, BRIGHTEST, 1 << 16, dtype=np.float32) + np.float32(haze)
    shown = np.minimum(np.sqrt(level * (1 + 0.16 * level) / (1 + 0.42 * level)), 1)
    shown += contrast * (shown * shown * (3 - 2 * shown) - shown)
    scale = np.float32(((1 << 16) - 1) / BRIGHTEST)
    return shown.astype(np.float32)[(np.clip(light, 0, BRIGHTEST) * scale).astype(np.uint16)]


def _noise(rng: np.random.Generator, display: Picture, amount: float) -> Picture:
    """Grain in brightness, coarser blotches in colour, less of both where it is bright."""
    shape = display.shape[:2]
    grain: Field = rng.standard_normal(shape, dtype=np.float32)
    grain = np.float32(0.7) * grain + np.float32(0.6) * soften(grain, 0.7)
    blotches: Field = rng.standard_normal((shape[0] // 3 + 1, shape[1] // 3 + 1, 3), dtype=np.float32) * np.float32(0.6)
    blotches = cv2.resize(blotches, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    blotches = blotches + cv2.merge((grain, grain, grain))
    return blotches * (np.float32(1.15 * amount) - np.float32(0.6 * amount) * display)
