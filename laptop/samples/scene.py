"""One photograph: plates placed before a camera, drawn into what is behind them, and where their parts ended up."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from laptop.samples.backdrops import Spot, paint_backdrop
from laptop.samples.camera import Matrix, light_scene, project, set_camera, take_photograph, to_pixel_centres
from laptop.samples.canvas import Picture, Points, convex_coverage, linear, rounded_box, shade, stamp, turned, window
from laptop.samples.plates import Kind, Part, PlateDesign, design_plate, draw_plate, plate_parts

MARGIN = 0.02  # of the image's width, free between a plate and the image's edge
WIDTHS: dict[Kind, tuple[float, float]] = {"l": (0.47, 0.74), "r": (0.36, 0.58)}  # of the image's width
WIDTHS_OF_TWO: dict[Kind, tuple[float, float]] = {"l": (0.38, 0.55), "r": (0.35, 0.44)}
TWO_PLATES = 0.3  # share of the images
TRIES = 40
CORNERS = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])  # of a plate, in its own coordinates
REACH = 1.6  # the backdrop covers this many images of the plane, so that a tilted camera sees no end


@dataclass(frozen=True, slots=True)
class HungPlate:
    """A plate on the plane: centre and size in the plane's pixels, angle in radians."""

    design: PlateDesign
    centre: tuple[float, float]
    size: tuple[float, float]
    angle: float

    def on_plane(self, outline: Points) -> Points:
        """Plate coordinates (0..1) -> the plane's pixels."""
        return turned((outline - 0.5) * self.size + self.centre, self.angle, self.centre)


def photograph_plates(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], list[tuple[str, list[Part]]]]:
    """Make up a scene and photograph it at a size of (width, height): sRGB, (height, width, 3).

    With it come the plates' texts, each with its parts as outlined in the image (pixels, labelme's coordinates).
    """
    camera = set_camera(rng, size)
    hung = _hang_plates(rng, camera, size)
    picture = _see_backdrop(rng, camera, hung, size)
    light = (float(rng.uniform(-0.8, 0.8)), 0.8)
    for plate in hung:
        _draw_behind(rng, picture, camera, plate)
        draw_board(rng, picture, camera, plate, light)
    light_scene(rng, picture)
    return take_photograph(rng, picture), [(plate.design.text, _seen_parts(camera, plate)) for plate in hung]


def _hang_plates(rng: np.random.Generator, camera: Matrix, size: tuple[int, int]) -> list[HungPlate]:
    """One or two plates that lie wholly in the image and apart from each other."""
    wanted = 2 if rng.random() < TWO_PLATES else 1
    widths = WIDTHS_OF_TWO if wanted == 2 else WIDTHS
    hung: list[tuple[HungPlate, NDArray[np.float64]]] = []
    while len(hung) < wanted:
        kind: Kind = "l" if rng.random() < 0.5 else "r"
        found = _find_spot(rng, camera, size, design_plate(rng, kind), widths[kind], [box for _, box in hung])
        if found is None:
            break  # the first plate left no room: one is enough
        hung.append(found)
    return [plate for plate, _ in hung]


def _find_spot(
    rng: np.random.Generator,
    camera: Matrix,
    size: tuple[int, int],
    design: PlateDesign,
    widths: tuple[float, float],
    taken: list[NDArray[np.float64]],
) -> tuple[HungPlate, NDArray[np.float64]] | None:
    """A random place, and its (left, top, right, bottom) in the image; the first plate shrinks until one is found."""
    edge = MARGIN * size[0]
    shrink = 1.0
    for attempt in range(10_000):
        if taken and attempt == TRIES:
            return None
        width = rng.uniform(*widths) * size[0] * shrink
        centre = (rng.uniform(-0.3, 0.3) * size[0], rng.uniform(-0.3, 0.3) * size[1])
        plate = HungPlate(design, centre, (width, width / design.aspect), float(np.radians(rng.normal(0, 1.5))))
        corners = project(camera, plate.on_plane(CORNERS))
        box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
        share = (box[2] - box[0]) / size[0]
        inside = box[:2].min() > edge and box[2] < size[0] - edge and box[3] < size[1] - edge
        apart = all((box[:2] > other[2:] + edge).any() or (box[2:] < other[:2] - edge).any() for other in taken)
        if inside and apart and widths[0] * 0.9 * shrink < share < 0.72:
            return plate, box
        shrink *= 1.0 if attempt < TRIES or taken else 0.98
    raise AssertionError("a plate shrinks until it fits")


def _see_backdrop(rng: np.random.Generator, camera: Matrix, hung: list[HungPlate], size: tuple[int, int]) -> Picture:
    """The backdrop as the camera sees it: painted straight on at the image's size, covering REACH of it."""
    width, height = size
    to_texture = np.array([[1 / REACH, 0, width / 2], [0, 1 / REACH, height / 2], [0, 0, 1]])
    spots = [
        Spot(
            (plate.centre[0] / REACH + width / 2, plate.centre[1] / REACH + height / 2),
            (plate.size[0] / REACH, plate.size[1] / REACH),
        )
        for plate in hung
    ]
    texture = paint_backdrop(rng, (height, width), spots)
    view = to_pixel_centres(camera @ np.linalg.inv(to_texture))
    return cv2.warpPerspective(texture, view, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _draw_behind(rng: np.random.Generator, picture: Picture, camera: Matrix, plate: HungPlate) -> None:
    """The plate's shadow and, behind some plates, a plastic holder."""
    width, height = plate.size
    unit = min(plate.size)
    outline = rounded_box((0, 0), (width, height), plate.design.corner * height)

    def seen(local: Points) -> Points:
        return project(camera, turned(local + plate.centre, plate.angle, plate.centre))

    if rng.random() < 0.4:
        lip = rng.uniform(0.03, 0.08) * unit
        holder = rounded_box((0, 0.35 * lip), (width + 2 * lip, height + 2.7 * lip), 0.12 * unit)
        tone = linear(*([rng.uniform(18, 60)] * 3))
        shade(picture, seen(holder + [0.02 * unit, 0.07 * unit]), 0.6, 0.06 * unit)
        stamp(picture, seen(holder), tone)
        stamp(picture, seen(holder * [1, 0.985] - [0, 0.01 * unit]), tone * np.float32(1.5), blur=0.012 * unit)
        stamp(picture, seen(outline * 1.012), tone * np.float32(0.3), blur=0.012 * unit)
    else:
        gap = rng.uniform(0.02, 0.09) * unit
        shade(picture, seen(outline + [rng.uniform(-0.6, 0.6) * gap, gap]), rng.uniform(0.5, 0.8), 0.7 * gap)
    shade(picture, seen(outline + [0, 0.012 * unit]), 0.5, 0.02 * unit)


def draw_board(
    rng: np.random.Generator, picture: Picture, camera: Matrix, plate: HungPlate, light: tuple[float, float]
) -> None:
    """Draw the plate itself into the picture, in place, cut along its outline."""
    outline = project(camera, plate.on_plane(plate_parts(plate.design)[0].outline))
    area = window(picture.shape[:2], outline, 2)
    assert area is not None, "plates are placed inside the image"
    # A fifth more pixels than the camera sees keeps the writing crisp without aliasing.
    flat = draw_plate(rng, plate.design, round(1.2 * np.ptp(outline[:, 0])), light)
    offset = np.array([area[1].start, area[0].start])
    target = project(camera, plate.on_plane(CORNERS)) - offset
    source = CORNERS * [flat.shape[1], flat.shape[0]]
    view = to_pixel_centres(cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32)))
    part = picture[area]
    board = cv2.warpPerspective(
        flat, view, (part.shape[1], part.shape[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    part += (board - part) * convex_coverage(part.shape[:2], outline - offset)[..., None]


def _seen_parts(camera: Matrix, plate: HungPlate) -> list[Part]:
    return [Part(part.label, project(camera, plate.on_plane(part.outline))) for part in plate_parts(plate.design)]
