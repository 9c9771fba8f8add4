"""Pictures of every kind come out upright, RGB and 8-bit; broken ones say in one phrase what is wrong."""

import io
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mobilenets.errors import BadImagesError
from mobilenets.images import MAX_PIXELS, open_image, read_size

WIDTH, HEIGHT = 48, 32


def gradient() -> NDArray[np.uint8]:
    """A picture whose corners differ, smooth enough for JPEG: red grows to the right, green downwards."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [columns * 255 // (WIDTH - 1), rows * 255 // (HEIGHT - 1), np.full_like(rows, 60)]
    return np.stack(planes, 2).astype(np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return io.BytesIO(file.getvalue())


def pixels(file: io.BytesIO) -> NDArray[np.int64]:
    image = open_image(file)
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


def reason(file: io.BytesIO | Path) -> str:
    with pytest.raises(BadImagesError) as caught:
        open_image(file)
    assert "\n" not in str(caught.value)
    (bad,) = caught.value.bad
    return bad.reason


def rgb_png(width: int, height: int, *, depth: int = 8, lines: bytes = b"") -> io.BytesIO:
    """A PNG with whatever header is asked for, and these lines of pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(lines), b"IEND"]
    written = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(written))


@pytest.mark.parametrize(("kind", "options", "tolerance"), [
    ("PNG", {}, 0), ("BMP", {}, 0), ("TIFF", {}, 0), ("PPM", {}, 0), ("JPEG2000", {}, 0),
    ("WEBP", {"lossless": True}, 0), ("JPEG", {"quality": 95, "subsampling": 0}, 6), ("AVIF", {"quality": 95}, 10),
])  # fmt: skip
def test_rgb_of_every_format(kind: str, options: dict[str, object], tolerance: int) -> None:
    found = pixels(encode(Image.fromarray(gradient()), kind, **options))
    assert np.abs(found - gradient()).max() <= tolerance


def test_grey_and_one_bit() -> None:
    grey = gradient()[:, :, 0]
    assert (pixels(encode(Image.fromarray(grey))) == grey[:, :, None]).all()
    black_and_white = Image.fromarray(np.where(grey > 127, 255, 0).astype(np.uint8)).convert("1")
    assert (pixels(encode(black_and_white)) == np.where(grey > 127, 255, 0)[:, :, None]).all()


def test_transparency_shows_white() -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, : WIDTH // 2] = 0
    alpha[:, WIDTH // 2 : 3 * WIDTH // 4] = 128
    expected = np.rint(gradient() * (alpha / 255.0)[:, :, None] + 255.0 * (1 - alpha / 255.0)[:, :, None])
    rgba = Image.fromarray(np.dstack([gradient(), alpha]))
    assert np.abs(pixels(encode(rgba)) - expected).max() <= 1
    grey_alpha = Image.merge("LA", (rgba.getchannel("R"), rgba.getchannel("A")))
    assert np.abs(pixels(encode(grey_alpha)) - expected[:, :, :1]).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_a_transparent_entry(kind: str) -> None:
    palette = Image.new("P", (4, 2), 1)
    palette.putpalette([255, 0, 0, 0, 128, 0, 0, 0, 255])
    palette.putpixel((0, 0), 0)
    found = pixels(encode(palette, kind, transparency=0))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[1, 1].tolist() == [0, 128, 0]


def test_palette_with_graded_transparency() -> None:
    palette = Image.new("P", (3, 1))
    palette.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    palette.putdata([0, 1, 2])
    found = pixels(encode(palette, transparency=bytes([0, 255, 51])))
    assert found[0].tolist() == [[255, 255, 255], [0, 200, 0], [204, 204, 244]]


def test_rgb_with_a_transparent_colour() -> None:
    picture = Image.new("RGB", (2, 1), (10, 20, 30))
    picture.putpixel((1, 0), (1, 2, 3))
    assert pixels(encode(picture, transparency=(1, 2, 3)))[0].tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    options = {"quality": 95} if kind == "JPEG" else {}
    assert np.abs(pixels(encode(inks, kind, **options)) - [255, 0, 0]).max() <= 3


def test_ycck_jpeg() -> None:
    """Adobe's other four-colour JPEG: the inks C, M, Y travel as luma and chroma, the black beside them."""
    inks = (200, 40, 90, 30)
    luma, blue, red = Image.new("RGB", (1, 1), inks[:3]).convert("YCbCr").getpixel((0, 0))
    # Pillow stores CMYK turned round, which is right for the black and undone here for the other three.
    stored = Image.new("CMYK", (16, 16), (255 - luma, 255 - blue, 255 - red, inks[3]))
    data = bytearray(encode(stored, "JPEG", quality=98, subsampling=0).getvalue())
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    expected = np.asarray(Image.new("CMYK", (16, 16), inks).convert("RGB")).astype(np.int64)
    assert np.abs(pixels(io.BytesIO(bytes(data))) - expected).max() <= 4


def deep_grey() -> NDArray[np.uint16]:
    return np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str, order: str) -> None:
    deep = deep_grey()
    mode = "I;16" if order == "<" else "I;16B"
    image = Image.frombytes(mode, (WIDTH, HEIGHT), deep.astype(f"{order}u2").tobytes())
    expected = np.rint(deep / 257.0)
    assert expected.min() == 0
    assert expected.max() == 255
    assert (pixels(encode(image, kind)) == expected[:, :, None]).all()


def test_16_bit_tiff_with_white_as_zero() -> None:
    deep = deep_grey()
    data = encode(Image.fromarray(deep), "TIFF").getvalue()
    black_is_zero, white_is_zero = (struct.pack("<HHIHH", 262, 3, 1, value, 0) for value in (1, 0))
    assert data.count(black_is_zero) == 1
    found = pixels(io.BytesIO(data.replace(black_is_zero, white_is_zero)))
    assert np.abs(found - (255 - deep / 257.0)[:, :, None]).max() <= 0.51


def test_16_bit_pgm_and_16_bit_rgb_png() -> None:
    deep = deep_grey()
    pgm = b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + deep.astype(">u2").tobytes()
    assert (pixels(io.BytesIO(pgm)) == np.rint(deep / 257.0)[:, :, None]).all()
    lines = b"\0" + struct.pack(">3H", 65535, 32768, 257)
    assert pixels(rgb_png(1, 1, depth=16, lines=lines))[0, 0].tolist() == [255, 128, 1]


def test_12_bit_tiff() -> None:
    """Two pixels in three bytes, which Pillow reads but does not write."""
    deep = np.linspace(0, 4095, 8 * 4).reshape(4, 8).astype(int)
    packed = b"".join(int(a << 12 | b).to_bytes(3, "big") for a, b in deep.reshape(-1, 2).tolist())
    tags = [(256, 8), (257, 4), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 4), (279, len(packed))]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    file = io.BytesIO(b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory)
    assert (pixels(file) == np.rint(deep * 255 / 4095)[:, :, None]).all()


@pytest.mark.parametrize(("values", "expected"), [
    (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
    (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
    (np.array([[0.0, 32767.5, 65535.0]], np.float32), [0, 128, 255]),
    (np.array([[-10.0, 0.0, 10.0]], np.float32), [0, 128, 255]),
    (np.array([[np.nan, 1.0, np.inf]], np.float32), [0, 255, 255]),
    (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
    (np.array([[0, 100_000, 200_000]], np.int32), [0, 128, 255]),
    (np.array([[-3, -3, -3]], np.int32), [0, 0, 0]),
])  # fmt: skip
def test_float_and_integer_tiff(values: NDArray[np.float32], expected: list[int]) -> None:
    assert pixels(encode(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == expected


def test_float_tiff_without_a_finite_value() -> None:
    assert reason(encode(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF")).startswith("damaged: no pixel")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    found = pixels(encode(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (found == [255, 0, 0]).all()


# EXIF 2.3, tag 274, values 2 to 8: which transposition the upright picture has gone through when it was stored.
UNDO = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_90 TRANSVERSE ROTATE_270"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    undo = dict(enumerate((Image.Transpose[name] for name in UNDO.split()), start=2))
    upright = Image.fromarray(gradient())
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[274] = orientation
    lossy = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    file = encode(stored, kind, exif=exif, **lossy)
    assert sorted(read_size(file)) == [HEIGHT, WIDTH]
    found = pixels(file)
    assert found.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(found - gradient()).max() <= 6


def test_a_broken_exif_block_does_not_spoil_the_picture() -> None:
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\x7f"):
        file = encode(Image.fromarray(gradient()), "JPEG", quality=95, subsampling=0, exif=exif)
        assert np.abs(pixels(file) - gradient()).max() <= 6


def test_no_bytes_text_and_missing_files(tmp_path: Path) -> None:
    for name, content, expected in (("a.jpg", b"", "empty file (0 bytes)"), ("b.jpg", b"hello\n" * 9, "not an image")):
        path = tmp_path / name
        path.write_bytes(content)
        assert reason(path).startswith(expected)
    assert reason(tmp_path / "none.jpg") == "no such file or directory"
    assert reason(tmp_path) == "it is a folder"
    with pytest.raises(BadImagesError, match=r"b\.jpg: not an image"):
        read_size(tmp_path / "b.jpg")


def test_names_in_messages() -> None:
    with pytest.raises(BadImagesError, match=r"1 image can't be read: cat\.jpg: empty file"):
        open_image(io.BytesIO(b""), name="cat.jpg")


def test_postscript_is_not_run() -> None:
    assert reason(encode(Image.new("RGB", (4, 4)), "EPS")).startswith("not an image")


@pytest.mark.parametrize(("fault", "expected"), [
    (ValueError("conversion from L to RGB not supported"), "its L colours can't be turned into RGB: conversion from"),
    (ImportError("no LittleCMS"), "its L colours can't be turned into RGB: no LittleCMS"),
    (MemoryError(), "too large: it needs more memory than there is"),
])  # fmt: skip
def test_colours_that_cannot_be_converted(monkeypatch: pytest.MonkeyPatch, fault: Exception, expected: str) -> None:
    file = encode(Image.new("L", (4, 4)))

    def refuse(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(Image.Image, "convert", refuse)
    assert reason(file).startswith(expected)


def test_a_format_this_pillow_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(Image.new("RGB", (4, 4)), "WEBP")
    Image.init()
    monkeypatch.delitem(Image.OPEN, "WEBP")
    assert "WEBP" not in reason(content)


def test_a_fault_while_a_format_looks_at_the_first_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()

    def stumble(prefix: bytes) -> bool:
        raise IndexError("too short")

    monkeypatch.setitem(Image.OPEN, "JPEG", (Image.OPEN["JPEG"][0], stumble))
    assert reason(io.BytesIO(b"x")).startswith("damaged or truncated")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "PPM"])
def test_truncated(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(Image.fromarray(noise), kind).getvalue()
    cut = io.BytesIO(data[: len(data) * 2 // 3])
    expected = "truncated: the file ends before the picture does" if kind != "TIFF" else ("truncated", "damaged")
    assert reason(cut).startswith(expected)


def test_bombs_are_refused_by_their_header() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        bomb = "decompression bomb: 60000x60000 pixels, more than 80 million allowed"
        bomb += " (by --max-pixels, in Python max_pixels)"
        assert reason(rgb_png(60_000, 60_000)) == bomb
        # Between one and two times Pillow's own limit it would only warn.
        assert reason(rgb_png(10_000, 10_000)).startswith("decompression bomb: 10000x10000")
    assert not shown
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS > MAX_PIXELS
    with pytest.raises(BadImagesError, match="bomb"):
        read_size(rgb_png(60_000, 60_000))


def test_a_known_signature_with_a_broken_header() -> None:
    assert reason(io.BytesIO(b"\xff\xd8\xff\xff")).startswith("damaged or truncated: starts like JPEG")
    assert reason(rgb_png(0, 5)).startswith("damaged")


MODES = "JPEG:CMYK PNG:RGBA GIF:P TIFF:RGB BMP:L WEBP:RGB JPEG2000:RGB PPM:L AVIF:RGB"
SMALL = [
    encode(Image.fromarray(gradient()).convert(mode), kind).getvalue()
    for kind, mode in (entry.split(":") for entry in MODES.split())
]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SMALL), st.data())
def test_damage_anywhere_gives_a_picture_or_one_clear_error(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(0, 8), "bytes changed")):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged)), "length") :]
    try:
        mode, message = open_image(io.BytesIO(bytes(damaged))).mode, ""
    except BadImagesError as error:
        mode, message = "none", error.bad[0].reason
    assert mode == "RGB" or message
    assert "\n" not in message


def test_threads_neither_warn_nor_leave_warnings_switched_off() -> None:
    odd = encode(Image.fromarray(gradient()), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff").getvalue()
    start = threading.Barrier(4)

    def work(_: int) -> None:
        start.wait()
        for _ in range(50):
            open_image(io.BytesIO(odd))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", UserWarning, stacklevel=1)
