import base64
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle_of

from sightline.annotations.regions import (
    MaskError,
    circle_outline,
    clip_polygon,
    encode_region,
    find_tangled,
    mask_region,
    merge_regions,
    polygon_area,
    polygon_box,
    polygon_region,
    rectangle_outline,
    same_region,
    untangle_polygon,
)
from sightline.annotations.truth import TruthError, read_truth, write_truth

SQUARE = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])


@pytest.mark.parametrize(
    ("points", "area", "box"),
    [
        pytest.param(SQUARE, 100, (0, 0, 10, 10), id="square"),
        pytest.param(SQUARE[::-1], 100, (0, 0, 10, 10), id="the other way round"),
        pytest.param(SQUARE[:3], 50, (0, 0, 10, 10), id="triangle"),
        pytest.param(SQUARE + [0.25, 1e7], 100, (0.25, 1e7, 10, 10), id="far from the origin"),
        pytest.param(np.array([[0.0, 0], [5, 5], [9, 9]]), 0, (0, 0, 9, 9), id="a line"),
        pytest.param(np.array([[0.0, 0], [4, 0], [4, 4], [2, 1], [0, 4]]), 10, (0, 0, 4, 4), id="not convex"),
        pytest.param(SQUARE[:2], 0, (0, 0, 10, 0), id="two points"),
    ],
)
def test_areas_and_boxes_come_from_the_vertices(points, area, box):
    assert polygon_area(points) == area
    assert polygon_box(points) == box


@pytest.mark.parametrize("corners", [[(1, 2), (5, 8)], [(5, 8), (1, 2)], [(1, 8), (5, 2)], [(5, 2), (1, 8)]])
def test_a_rectangles_corners_come_in_any_order(corners):
    outline = rectangle_outline(np.array(corners, dtype=float))
    assert outline.tolist() == [[1, 2], [5, 2], [5, 8], [1, 8]]


def test_a_rectangle_of_four_points_keeps_them():
    turned = np.array([[5.0, 0], [10, 5], [5, 10], [0, 5]])
    assert polygon_area(rectangle_outline(turned)) == 50


@pytest.mark.parametrize("radius", [0.5, 3, 40, 900])
def test_a_circles_polygon_has_its_box_and_its_area(radius):
    outline = circle_outline(np.array([[100.0, 50], [100 + radius * 0.6, 50 - radius * 0.8]]))
    assert polygon_box(outline) == pytest.approx((100 - radius, 50 - radius, 2 * radius, 2 * radius), abs=2e-3)
    distance = np.hypot(*(outline + np.roll(outline, -1, 0) - [200, 100]).T) / 2
    assert distance.min() > radius - 0.052
    assert polygon_area(outline) == pytest.approx(math.pi * radius**2, rel=0.03)


WIDTH, HEIGHT = 100, 60


@pytest.mark.parametrize(
    ("points", "boxes"),
    [
        pytest.param([[10, 10], [20, 10], [20, 20]], [(10, 10, 10, 10)], id="inside"),
        pytest.param([[0, 0], [100, 0], [100, 60], [0, 60]], [(0, 0, 100, 60)], id="the whole image"),
        pytest.param([[-10, 10], [20, 10], [20, 20], [-10, 20]], [(0, 10, 20, 10)], id="over the left border"),
        pytest.param([[90, 50], [120, 50], [120, 80], [90, 80]], [(90, 50, 10, 10)], id="over a corner"),
        pytest.param([[-50, -50], [200, -50], [200, 200], [-50, 200]], [(0, 0, 100, 60)], id="around the image"),
        pytest.param([[-30, 10], [-10, 10], [-10, 20]], [], id="outside"),
        pytest.param([[-30, 10], [0, 10], [0, 20]], [], id="touching from outside"),
        pytest.param([[-30, 10], [0, 15], [-30, 20]], [], id="touching in a point"),
        pytest.param([[150, 30], [50, 90], [150, 150]], [], id="its box overlaps, it does not"),
        pytest.param(
            [[-10, 5], [30, 5], [30, 10], [-5, 10], [-5, 20], [30, 20], [30, 30], [-10, 30]],
            [(0, 5, 30, 5), (0, 20, 30, 10)],
            id="a bracket falls into two",
        ),
        pytest.param(
            [[-9, -9], [50, -9], [50, 5], [40, 5], [40, -5], [-5, -5], [-5, 40], [5, 40], [5, 50], [-9, 50]],
            [(0, 40, 5, 10), (40, 0, 10, 5)],
            id="a hook around a corner covers nothing of the corner",
        ),
    ],
)
def test_polygons_are_clipped_to_the_image(points, boxes):
    clipped = clip_polygon(np.array(points, dtype=float), WIDTH, HEIGHT)
    assert sorted(polygon_box(piece) for piece in clipped) == boxes


def star(seed: int) -> np.ndarray:
    """A polygon that does not cross itself, partly outside of the image more often than not."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(5, 30)
    # Less than half a turn between neighbours, or the outline could cross itself.
    angles = (np.arange(corners) + rng.uniform(0, 0.9, corners)) * 2 * np.pi / corners
    radii = rng.uniform(2, 80, corners)
    centre = rng.uniform(-20, 120, 2)
    return centre + np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])


def painted_area(outlines: list[np.ndarray], width: int, height: int) -> float:
    """Area within the image, by painting at 8 times the size."""
    from PIL import ImageDraw

    scale, total = 8, 0
    for outline in outlines:
        canvas = Image.new("1", (width * scale, height * scale))
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in (outline * scale).tolist()], fill=1)
        total += np.asarray(canvas).sum() / scale**2
    return total


@given(st.integers(0, 10**6))
def test_clipping_keeps_exactly_what_lies_in_the_image(seed):
    points = star(seed)
    clipped = clip_polygon(points, WIDTH, HEIGHT)
    for piece in clipped:
        assert piece.min() >= 0
        assert (piece.max(axis=0) <= (WIDTH, HEIGHT)).all()
    area = sum(polygon_area(piece) for piece in clipped)
    perimeter = np.hypot(*(points - np.roll(points, 1, 0)).T).sum()
    assert area == pytest.approx(painted_area([points], WIDTH, HEIGHT), abs=perimeter / 8 + 1)


@given(st.integers(0, 10**6))
def test_clipping_is_the_same_after_mirroring(seed):
    points = star(seed)
    mirrored = np.column_stack([WIDTH - points[:, 0], points[:, 1]])
    area = sum(polygon_area(piece) for piece in clip_polygon(points, WIDTH, HEIGHT))
    assert sum(polygon_area(piece) for piece in clip_polygon(mirrored, WIDTH, HEIGHT)) == pytest.approx(area, abs=1e-3)


def test_a_hole_drawn_by_a_seam_stays_one_when_its_polygon_is_clipped():
    around = [[-20, -20], [80, -20], [80, 50], [-20, 50], [-20, -20]]
    hole = [[10, 10], [10, 40], [50, 40], [50, 10], [10, 10]]
    clipped = clip_polygon(np.array([*around, *hole], dtype=float), WIDTH, HEIGHT)
    assert sum(polygon_area(piece) for piece in clipped) == 80 * 50 - 40 * 30


@pytest.mark.parametrize(
    ("points", "boxes", "area"),
    [
        pytest.param([[0, 0], [10, 10], [10, 0], [0, 10]], [(0, 0, 5, 10), (5, 0, 5, 10)], 50, id="a bow tie"),
        pytest.param(
            [[0, 0], [10, 0], [10, 10], [5, 10], [5, 8], [7, 8], [7, 11], [0, 11]], [(0, 0, 10, 11)], 107, id="a loop"
        ),
        pytest.param(
            [[-1, 0], [40, 0], [40, 40], [0, 40], [0, -1]],
            [(0, 0, 40, 40)],
            1600,
            id="a slip of the hand at the end",
        ),
        pytest.param(
            [[0, 0], [30, 0], [30, 30], [0, 30], [0, 10], [20, 10], [20, 20], [-9, 20], [-9, 0]],
            None,
            None,
            id="around a hole",
        ),
    ],
)
def test_a_polygon_that_crosses_itself_is_taken_apart(points, boxes, area):
    points = np.array(points, dtype=float)
    assert find_tangled([points, SQUARE]) == [True, False]
    parts = untangle_polygon(points)
    if boxes is not None:
        assert sorted(polygon_box(part) for part in parts) == boxes
    if area is not None:
        assert sum(polygon_area(part) for part in parts) == area
    assert not any(find_tangled(parts))
    for turned in (points[::-1], np.roll(points, 2, 0)):
        assert [part.tolist() for part in untangle_polygon(turned)] == [part.tolist() for part in parts]


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(
            [[0, 0], [10, 0], [10, 10], [0, 10], [0, 5], [3, 5], [3, 7], [6, 7], [6, 5], [3, 5], [0, 5]],
            id="cut open around a hole",
        ),
        pytest.param([[0, 0], [5, 0], [5, 5], [10, 5], [10, 10], [5, 10], [5, 5], [0, 5]], id="touching in a point"),
        pytest.param([[0, 0], [5, 0], [9, 0], [5, 0], [5, 5]], id="a spike"),
        pytest.param([[0, 0], [5, 5], [9, 9]], id="a line"),
    ],
)
def test_a_polygon_that_only_touches_itself_stays_as_it_is(points):
    points = np.array(points, dtype=float)
    assert find_tangled([points]) == [True]
    assert untangle_polygon(points) is None


def test_repeated_points_are_no_crossing():
    assert find_tangled([SQUARE[[0, 0, 1, 1, 2, 3, 0]], SQUARE[[0, 1, 1]]])[0] is False


def test_a_tangle_of_too_many_points_is_given_up():
    assert untangle_polygon(np.random.default_rng(0).uniform(0, 100, (5000, 2))) == []


@given(st.integers(0, 10**6), st.integers(4, 40))
def test_what_was_tangled_covers_the_same_ground_once(seed, count):
    points = np.random.default_rng(seed).integers(0, 60, (count, 2)).astype(float)
    parts = untangle_polygon(points)
    if not find_tangled([points])[0] or parts is None:
        return
    assert all(untangle_polygon(part) is None for part in parts)  # they may touch themselves, not cross
    boxes = [polygon_box(part) for part in parts]
    assert all(x >= 0 and y >= 0 and x + w <= 60 and y + h <= 60 for x, y, w, h in boxes)
    assert sum(polygon_area(part) for part in parts) <= 3600


OTHER = np.array([[0.0, 0], [10, 0], [10, 10], [0, 9.98]])


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(SQUARE + 0.009, True, id="a hundredth of a pixel off"),
        pytest.param(SQUARE + 0.02, False, id="further off"),
        pytest.param(np.roll(SQUARE, 1, 0), True, id="begun elsewhere"),
        pytest.param(SQUARE[::-1], True, id="the other way round"),
        pytest.param(np.roll(SQUARE[::-1], 3, 0), True, id="both"),
        pytest.param(OTHER, False, id="one vertex off"),
        pytest.param(SQUARE[[0, 2, 1, 3]], False, id="another order"),
        pytest.param(SQUARE[:3], False, id="a vertex fewer"),
    ],
)
def test_regions_are_the_same_within_a_hundredth_of_a_pixel(other, same):
    assert same_region(polygon_region([SQUARE]), polygon_region([other])) is same


def test_regions_in_parts_and_masks_are_compared_too():
    two = polygon_region([SQUARE, SQUARE + 20])
    assert same_region(two, polygon_region([SQUARE + 0.001, SQUARE + 20]))
    assert not same_region(two, polygon_region([SQUARE]))
    mask = mask_region(np.array([[1.0, 1], [2, 2]]), png(np.ones((2, 2))), 10, 10)
    assert same_region(mask, mask)
    assert not same_region(mask, mask_region(np.array([[1.0, 2], [2, 3]]), png(np.ones((2, 2))), 10, 10))
    assert not same_region(mask, two)


def png(pixels: np.ndarray, mode: str = "L") -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * 255).convert(mode).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("mode", ["L", "1", "RGB"])
def test_a_mask_becomes_a_run_length_encoding(mode):
    pixels = np.array([[1, 1, 0], [0, 1, 1]])
    region = mask_region(np.array([[10.0, 20], [12, 21]]), png(pixels, mode), WIDTH, HEIGHT)
    decoded = rle_of.decode(region.rle)
    assert decoded.shape == (HEIGHT, WIDTH)
    assert np.array_equal(decoded[20:22, 10:13], pixels)
    assert (decoded.sum(), region.area, region.box) == (4, 4, (10, 20, 3, 2))
    assert json.loads(json.dumps(region.segmentation())) == region.rle


@pytest.mark.parametrize(
    ("corner", "box"), [((-2, -1), (0, 0, 2, 3)), ((98, 57), (98, 57, 2, 3)), ((200, 5), (0, 0, 0, 0))]
)
def test_a_mask_is_cut_at_the_image(corner, box):
    points = np.array([corner, np.add(corner, 3)], dtype=float)
    assert mask_region(points, png(np.ones((4, 4))), WIDTH, HEIGHT).box == box


@pytest.mark.parametrize(
    ("text", "says"),
    [("???", "damaged"), (base64.b64encode(b"no png").decode(), "damaged"), (png(np.ones((9, 9))), "9 x 9")],
)
def test_a_damaged_mask_is_refused(text, says):
    with pytest.raises(MaskError, match=says):
        mask_region(np.array([[0.0, 0], [3, 3]]), text, WIDTH, HEIGHT)


def test_polygon_parts_unite_their_boxes_and_add_their_areas():
    merged = merge_regions([polygon_region([SQUARE]), polygon_region([SQUARE + [20, 30]])], WIDTH, HEIGHT)
    assert (merged.box, merged.area, len(merged.outlines)) == ((0, 0, 30, 40), 200, 2)


def test_a_mask_and_a_polygon_merge_into_one_encoding():
    mask = mask_region(np.array([[50.0, 40], [51, 41]]), png(np.ones((2, 2))), WIDTH, HEIGHT)
    merged = merge_regions([polygon_region([SQUARE]), mask], WIDTH, HEIGHT)
    assert (merged.box, merged.area) == ((0, 0, 52, 42), 104)
    assert rle_of.decode(merged.rle).sum() == 104


def test_what_lies_between_the_pixels_centres_is_encoded_as_the_nearest_pixel():
    small = polygon_region([np.array([[99.6, 59.6], [100, 59.6], [100, 60]])])
    region = encode_region(small, WIDTH, HEIGHT)
    assert (region.box, region.area) == ((99, 59, 1, 1), 1)


def test_coco_files_read_back_and_have_the_same_bytes(tmp_path):
    content = {"images": [], "annotations": [{"id": 1, "bbox": [0.1, 2.0, 3.0, 4.0]}], "categories": []}
    write_truth(tmp_path / "a.json", content)
    write_truth(tmp_path / "b.json", content)
    assert read_truth(tmp_path / "a.json") == content
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "cannot be read"), ('{"images": [', "cut off"), ("[]", "images"), ('{"images": []}', "ann")],
)
def test_a_file_that_is_not_coco_is_refused(tmp_path, text, says):
    path = tmp_path / "coco.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TruthError, match=says):
        read_truth(path)
