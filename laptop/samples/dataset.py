"""A folder of drawn photographs, each with its labelme JSON: plates placed before a camera, drawn into what is behind."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from laptop.samples.backdrops import Spot, paint_backdrop
from laptop.samples.camera import Matrix, light_scene, project, set_camera, take_photograph, to_pixel_centres
from laptop.samples.canvas import Picture, Points, convex_coverage, linear, rounded_box, shade, stamp, turned, window
from laptop.samples.plates import LETTERS, Kind, PlateDesign, design_plate, draw_plate, plate_parts
from sightline.annotations.labelme import Document, Shape, write_document
from sightline.errors import SightlineError, nearest

LabelSet = Literal["board", "numbers", "all"]
BOARDS = ("l_board", "r_board")
NUMBERS = ("l_s_n", "r_s_n", "l_m_n", "r_m_n")
CHARACTERS = tuple("0123456789" + LETTERS)
LABELS: dict[LabelSet, tuple[str, ...]] = {  # 2 labels, 6 or 21
    "board": BOARDS,
    "numbers": BOARDS + NUMBERS,
    "all": BOARDS + NUMBERS + CHARACTERS,
}
SMALLEST_SIDE = 64  # pixels

MARGIN = 0.02  # of the image's width, free between a plate and the image's edge
WIDTHS: dict[Kind, tuple[float, float]] = {"l": (0.47, 0.74), "r": (0.36, 0.58)}  # of the image's width
WIDTHS_OF_TWO: dict[Kind, tuple[float, float]] = {"l": (0.38, 0.55), "r": (0.35, 0.44)}
TWO_PLATES = 0.3  # share of the images
TRIES = 40
CORNERS = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])  # of a plate, in its own coordinates
REACH = 1.6  # the backdrop covers this many images of the plane, so that a tilted camera sees no end


def make_plates(
    folder: Path, images: int, seed: int, labels: LabelSet = "numbers", size: tuple[int, int] = (640, 480)
) -> None:
    """Draw licence-plate photographs: plate_0000.jpg with plate_0000.json, and so on.

    The same arguments give the same bytes. An image depends on the seed, its number and the size (width, height) only:
    asking for more images, or for other labels, changes no photograph. The folder must not exist or be empty; all of it
    is made, or nothing.
    """
    folder = folder.resolve()
    _check(folder, images, seed, labels, size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        # Not `staging` itself: mkdtemp's folders are closed to everyone else.
        made = staging / folder.name
        made.mkdir()
        console = Console(stderr=True)
        hidden = not console.is_terminal
        for index in track(range(images), "Photographs", console=console, transient=True, disable=hidden):
            _write_image(made, index, seed, labels, size)
        made.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check(folder: Path, images: int, seed: int, labels: str, size: tuple[int, int]) -> None:
    if folder.exists() and not folder.is_dir():
        raise SightlineError(f"{folder} is a file. Name a folder that does not exist yet.")
    if folder.is_dir() and any(folder.iterdir()):
        raise SightlineError(
            f"{folder} is not empty, and sample data never overwrites. Name another folder or empty it."
        )
    if images < 1:
        raise SightlineError(f"{images} images were asked for. Ask for 1 or more.")
    if seed < 0:
        raise SightlineError(f"The seed is {seed}. Give 0 or more.")
    if labels not in LABELS:
        raise SightlineError(f"There is no label set {labels!r}.{nearest(labels, tuple(LABELS))}")
    if min(size) < SMALLEST_SIDE:
        raise SightlineError(
            f"Images of {size[0]}x{size[1]} pixels are too small. Give at least {SMALLEST_SIDE} each way."
        )


def _write_image(folder: Path, index: int, seed: int, labels: LabelSet, size: tuple[int, int]) -> None:
    """Make up a scene and photograph it at a size of (width, height)."""
    rng = np.random.default_rng([seed, index])
    camera = set_camera(rng, size)
    hung = _hang_plates(rng, camera, size)
    picture = _see_backdrop(rng, camera, hung, size)
    light = (float(rng.uniform(-0.8, 0.8)), 0.8)
    for plate in hung:
        _draw_behind(rng, picture, camera, plate)
        draw_board(rng, picture, camera, plate, light)
    light_scene(rng, picture)
    pixels = take_photograph(rng, picture)
    quality = int(rng.integers(62, 94))
    name = f"plate_{index:04d}"
    _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    (folder / f"{name}.jpg").write_bytes(encoded.tobytes())
    shapes = [
        Shape(
            part.label,
            np.round(project(camera, plate.on_plane(part.outline)), 3),
            # Shapes of one label and one group are one thing in parts: two equal digits of a plate must not be that.
            group_id=None if part.label in CHARACTERS else group,
            description=plate.design.text if part.label in BOARDS else "",
        )
        for group, plate in enumerate(hung)
        for part in plate_parts(plate.design)
        if part.label in LABELS[labels]
    ]
    document = Document(f"{name}.jpg", image_height=size[1], image_width=size[0], shapes=tuple(shapes))
    write_document(folder / f"{name}.json", document)


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
