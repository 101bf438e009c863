"""Which images look alike."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from sightline.images.files import ImageTooLargeError, MissingImageError, TruncatedImageError, read_reduced
from sightline.images.similarity import find_similar, group_similar, perceptual_hash

hashes = st.integers(0, 2**63 - 1).map(lambda value: f"{value:016x}")


def bits_between(one, other):
    return (int(one, 16) ^ int(other, 16)).bit_count()


def groups_by_hand(values, distance):
    """Connected components, the slow and obvious way."""
    group = list(range(len(values)))
    for first in range(len(values)):
        for second in range(first):
            if bits_between(values[first], values[second]) <= distance and group[first] != group[second]:
                old, new = group[first], group[second]
                group = [new if one == old else one for one in group]
    members = {}
    for position, one in enumerate(group):
        members.setdefault(one, []).append(position)
    return sorted(members.values())


def hash_by_hand(path):
    """The same hash from the textbook's formulas, in floats and without any of the library's tables."""
    image = Image.open(path)
    image.draft("YCbCr", None)  # as the JPEG has them
    grey = np.asarray(image)[..., 0]
    height, width = grey.shape
    assert height % 32 == width % 32 == 0
    cells = grey.reshape(32, height // 32, 32, width // 32).mean((1, 3))
    waves = np.array([[math.cos(math.pi * k * (2 * n + 1) / 64) for n in range(32)] for k in range(8)])
    waves[0] /= math.sqrt(2)
    low = (waves @ cells @ waves.T).ravel()[1:]
    return f"{int(''.join(str(int(bit)) for bit in low > np.median(low)), 2):016x}"


@pytest.fixture(scope="module")
def photographs(data_dir):
    return sorted((data_dir / "desk").rglob("*.jpg"))


@pytest.fixture(scope="module")
def looks(photographs):
    return [perceptual_hash(path) for path in photographs]


def scene(seed=0, size=(640, 352)):
    """Large soft blobs, as photographs have them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def saved(image, path, **options):
    image.save(path, **options)
    return path


def test_the_video_frames_form_the_known_groups(looks):
    assert len(looks) == 92
    alike, chained = group_similar(looks, 6), group_similar(looks, 12)
    assert (len(alike), max(map(len, alike))) == (58, 8)
    assert (len(chained), max(map(len, chained))) == (14, 57)
    assert sorted(alike) == groups_by_hand(looks, 6)
    assert sorted(chained) == groups_by_hand(looks, 12)


def test_the_hash_is_the_textbooks_dct_of_a_photograph(photographs, looks):
    differing = [bits_between(hash_by_hand(path), own) for path, own in zip(photographs, looks, strict=True)]
    assert max(differing) <= 2  # frequencies within rounding of the median
    assert np.mean(differing) < 0.1


def test_a_hash_has_63_bits_in_16_hex_digits(tmp_path):
    found = perceptual_hash(saved(scene(), tmp_path / "a.png"))
    assert len(found) == 16
    assert int(found, 16) < 2**63
    assert int(found, 16).bit_count() == 31  # those above the median of 63


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda image: image.resize((320, 176)), 2),
        (lambda image: image.resize((1600, 880)), 2),
        (lambda image: ImageEnhance.Brightness(image).enhance(0.8), 2),
        (lambda image: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 4, 0, 1, 2)), 6),
    ],
    ids=["smaller", "larger", "darker", "moved by a few pixels"],
)
def test_a_changed_copy_differs_in_few_bits(tmp_path, change, most):
    original = perceptual_hash(saved(scene(), tmp_path / "a.png"))
    assert bits_between(original, perceptual_hash(saved(change(scene()), tmp_path / "b.png"))) <= most


@pytest.mark.slow
def test_another_scene_differs_in_many_bits(tmp_path):
    found = [perceptual_hash(saved(scene(seed), tmp_path / f"{seed}.png")) for seed in range(20)]
    assert min(bits_between(one, other) for one in found for other in found if one is not other) > 12


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "options"), [(".jpg", {"quality": 60}), (".webp", {}), (".tif", {}), (".bmp", {})])
def test_a_copy_in_another_format_looks_the_same(tmp_path, suffix, options):
    large = scene(size=(2560, 1408))  # a JPEG of this size is decoded at a quarter
    original = perceptual_hash(saved(large, tmp_path / "a.png"))
    assert bits_between(original, perceptual_hash(saved(large, tmp_path / f"a{suffix}", **options))) <= 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_every_kind_of_pixel_is_read(tmp_path, mode):
    grey = scene().convert("L")
    deep = Image.fromarray((np.asarray(grey).astype(np.uint16) << 8) | 0x55)
    image = deep if mode == "I;16" else grey.convert(mode)
    suffix = ".tif" if mode == "CMYK" else ".png"
    original = perceptual_hash(saved(grey, tmp_path / "a.png"))
    assert bits_between(original, perceptual_hash(saved(image, tmp_path / f"b{suffix}"))) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize(
    ("turned", "stored"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_an_image_counts_as_it_is_shown(tmp_path, suffix, turned, stored):
    exif = Image.Exif()
    exif[0x0112] = turned
    upright = perceptual_hash(saved(scene(), tmp_path / "a.png"))
    turned_file = saved(scene().transpose(stored), tmp_path / f"b{suffix}", exif=exif)
    assert bits_between(upright, perceptual_hash(turned_file)) <= 2


def test_one_colour_all_over_resembles_only_its_equal(tmp_path):
    def plain(name, colour, size=(40, 30)):
        return perceptual_hash(saved(Image.new("RGB", size, colour), tmp_path / name))

    first = plain("a.png", (10, 20, 30))
    assert plain("b.png", (10, 20, 30)) == first
    assert bits_between(plain("c.png", (11, 20, 30)), first) > 12
    assert bits_between(plain("d.png", (10, 20, 30), (30, 40)), first) > 12


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (7, 3), (33, 31), (2000, 9)])
def test_any_size_has_a_hash(tmp_path, size):
    image = scene(size=(40, 40)).resize(size)
    assert len(perceptual_hash(saved(image, tmp_path / "a.png"))) == 16


def test_what_cannot_be_read_is_refused(tmp_path):
    whole = saved(scene(), tmp_path / "a.jpg")
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(TruncatedImageError):
        perceptual_hash(tmp_path / "cut.jpg")
    with pytest.raises(MissingImageError):
        perceptual_hash(tmp_path / "none.jpg")
    with pytest.raises(ImageTooLargeError):
        perceptual_hash(whole, max_pixels=1000)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_large_image_is_read_no_larger_than_needed(tmp_path, suffix):
    path = saved(scene(size=(4000, 2200)), tmp_path / f"a{suffix}")
    height, width, _ = read_reduced(path, 256).shape
    assert 256 <= min(width, height) < 512
    assert width / height == pytest.approx(4000 / 2200, rel=0.01)


@given(st.lists(hashes, max_size=12), st.integers(0, 40))
def test_groups_are_what_hangs_together(values, distance):
    found = group_similar(values, distance)
    assert sorted(found) == groups_by_hand(values, distance)
    assert found == sorted(found)


def test_equal_hashes_are_one_group_even_at_distance_zero():
    assert group_similar(["0" * 16, "1" * 16, "0" * 16], 0) == [[0, 2], [1]]
    assert group_similar([], 6) == []


@given(st.lists(hashes, max_size=8), st.lists(hashes, max_size=8), st.integers(0, 40))
def test_similar_ones_are_found_among_others(values, others, distance):
    expected = [[n for n, other in enumerate(others) if bits_between(one, other) <= distance] for one in values]
    assert list(find_similar(values, others, distance)) == expected


def test_ten_thousand_hashes_are_grouped():
    draw = random.Random(1)
    values = []
    for _ in range(5000):
        value = draw.getrandbits(63)
        values += [f"{value:016x}", f"{value ^ 0b111 << draw.randrange(60):016x}"]
    groups = group_similar(values, 6)
    assert len(groups) == 5000
    assert all(second == first + 1 for first, second in groups)
