import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from sightline.images import files as images
from sightline.images.files import (
    ImageError,
    ImageTooLargeError,
    MissingImageError,
    TruncatedImageError,
    UnreadableImageError,
    check_whole,
    read_header,
    read_image,
)


def size_of(path, **limit):
    header = read_header(path, **limit)
    return header.width, header.height


FORMATS = ["JPEG", "PNG", "TIFF", "WEBP"]
WIDTH, HEIGHT = 40, 24


@pytest.fixture(params=["with OpenCV", "without OpenCV"])
def decoder(request, monkeypatch):
    if request.param == "without OpenCV":
        monkeypatch.setattr(images, "cv2", None)
    elif images.cv2 is None:
        pytest.skip("OpenCV is not installed")


def photograph(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def save(path, image, file_format, turned=None):
    exif = Image.Exif()
    if turned is not None:
        exif[0x0112] = turned
    image.save(path, file_format, exif=exif)
    return path


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("turned", range(1, 9))
def test_an_image_is_read_as_labelme_shows_it(tmp_path, file_format, turned, decoder):
    path = save(tmp_path / "image", photograph(), file_format, turned)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))[:, :, ::-1]
    assert np.array_equal(read_image(path), shown)
    assert size_of(path) == (shown.shape[1], shown.shape[0])
    assert read_header(path).orientation == turned


@pytest.mark.parametrize("turned", [None, 0, 9])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, turned):
    path = save(tmp_path / "image.jpg", photograph(), "JPEG", turned)
    assert read_header(path) == images.ImageHeader(WIDTH, HEIGHT, 1, "JPEG")


def png_with_exif_after_the_pixels(turned: int) -> bytes:
    buffer = io.BytesIO()
    photograph().save(buffer, "PNG")
    exif = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, turned, 0, 0)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    return buffer.getvalue()[:-12] + chunk + buffer.getvalue()[-12:]


def test_exif_after_a_pngs_pixels_counts(tmp_path, decoder):
    path = tmp_path / "image.png"
    path.write_bytes(png_with_exif_after_the_pixels(6))
    assert read_header(path) == images.ImageHeader(HEIGHT, WIDTH, 6, "PNG")
    assert read_image(path).shape == (WIDTH, HEIGHT, 3)


def test_a_large_exif_block_before_the_size_is_stepped_over(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "x" * 50_000
    path = tmp_path / "image.jpg"
    photograph().save(path, exif=exif)
    assert size_of(path) == (HEIGHT, WIDTH)


@pytest.mark.parametrize(("with_exif", "counts"), [(True, 6), (False, 1)])
def test_an_orientation_in_xmp_counts_only_beside_exif_as_in_labelme(tmp_path, with_exif, counts, decoder):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    exif = Image.Exif()
    exif[0x010E] = "a description, no orientation"
    path = tmp_path / "image.jpg"
    photograph().save(path, xmp=xmp, **({"exif": exif} if with_exif else {}))
    assert read_header(path).orientation == counts
    assert read_image(path).shape == ((WIDTH, HEIGHT, 3) if counts == 6 else (HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("kind", ["Raw profile type exif", "Comment"])
def test_exif_in_a_pngs_text_counts_too(tmp_path, kind, decoder):
    exif = Image.Exif()
    exif[0x0112] = 8
    data = exif.tobytes()
    text = PngInfo()
    text.add_text(kind, f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    path = tmp_path / "image.png"
    photograph().save(path, pnginfo=text)
    assert read_header(path).orientation == (8 if kind != "Comment" else 1)
    assert size_of(path) == ((HEIGHT, WIDTH) if kind != "Comment" else (WIDTH, HEIGHT))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path, file_format, kept, decoder):
    path = save(tmp_path / "image", photograph(200, 100), file_format)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises((TruncatedImageError, UnreadableImageError), match="image"):
        read_image(path)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_truncation_is_seen_without_decoding_everything(tmp_path, file_format, monkeypatch):
    path = save(tmp_path / "image", photograph(), file_format)
    monkeypatch.setattr(images, "_decode_with_pillow", lambda *_: pytest.fail("decoded"))
    check_whole(path, read_header(path))


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path, decoder):
    path = save(tmp_path / "image.jpg", photograph(), "JPEG")
    path.write_bytes(path.read_bytes() + b"a phone's depth map")
    assert read_image(path).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("L", [100, 100, 100]), ("1", [255, 255, 255]), ("RGBA", [0, 0, 100]), ("I;16", [100, 100, 100])],
)
def test_other_kinds_of_pixels_become_three_channels(tmp_path, mode, expected, decoder):
    fill = {"L": 100, "1": 1, "RGBA": (100, 0, 0, 7), "I;16": 100 << 8 | 77}[mode]
    path = tmp_path / "image.png"
    Image.new(mode, (5, 4), fill).save(path)
    assert read_image(path).shape == (4, 5, 3)
    assert read_image(path)[2, 2].tolist() == expected


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("side", "said"), [(60_000, "its 3,600,000,000 pixels"), (13_000, "13000 x 13000 pixels")])
def test_a_far_too_large_image_is_refused_before_decoding(tmp_path, side, said):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(side, side))
    for read in (read_header, read_image):
        with pytest.raises(ImageTooLargeError, match=said):
            read(path)


def test_pillows_own_limit_gives_the_same_error(tmp_path):
    path = tmp_path / "large.gif"
    Image.new("L", (30, 30)).save(path)
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", 60_000, 60_000)
    path.write_bytes(data)
    with pytest.raises(ImageTooLargeError):
        size_of(path)


def test_the_limit_can_be_lowered(tmp_path):
    path = save(tmp_path / "image.png", photograph(), "PNG")
    with pytest.raises(ImageTooLargeError):
        size_of(path, max_pixels=WIDTH * HEIGHT - 1)


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"II*\0"])
def test_what_is_no_image_is_refused(tmp_path, data):
    path = tmp_path / "image.jpg"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=r"image\.jpg"):
        read_image(path)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(MissingImageError, match=r"gone\.jpg"):
        size_of(tmp_path / "gone.jpg")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(UnreadableImageError):
        size_of(tmp_path)


def test_a_pipe_instead_of_an_image_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "image.jpg")
    with pytest.raises(UnreadableImageError, match="plain file"):
        read_header(tmp_path / "image.jpg")


def test_a_drawing_that_would_start_a_program_is_no_image(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(UnreadableImageError):
        read_image(path)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xd8" + b"\xff" * 300_000, id="padding"),
        pytest.param(b"\xff\xd8" + b"\xff\xe2\x00\x02" * 200_000, id="empty segments"),
        pytest.param(b"\xff\xd8" + b"\xff\xe2\x00\x00" * 200_000, id="segments without a length"),
        pytest.param(bomb(4, 4)[:33] + b"\x00\x00\x00\x00aaaa\x00\x00\x00\x00" * 200_000, id="empty chunks"),
    ],
)
def test_a_header_without_end_is_given_up(tmp_path, data):
    path = tmp_path / "image"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError):
        read_header(path)


def sample(file_format: str) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph().save(buffer, file_format, **({} if file_format in ("BMP", "GIF") else {"exif": exif}))
    return buffer.getvalue()


SAMPLES = {name: sample(name) for name in ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")} | {
    "PNG with EXIF at its end": png_with_exif_after_the_pixels(6)
}


@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=4),
    st.one_of(st.none(), st.integers(0, 600)),
    st.booleans(),
)
def test_any_bytes_are_an_image_or_an_image_error(tmp_path_factory, name, edits, kept, decoded):
    data = bytearray(SAMPLES[name])
    for place, replacement in edits:
        data[place : place + len(replacement)] = replacement
    path = tmp_path_factory.getbasetemp() / "any image"
    path.write_bytes(data[:kept])
    try:
        header = read_header(path, 10**6)
        check_whole(path, header)
        assert min(header.width, header.height) > 0
        assert header.width * header.height <= 10**6
        assert 1 <= header.orientation <= 8
        if decoded:
            assert read_image(path, 10**6).ndim == 3
    except ImageError as error:
        assert "any image: " in str(error)
