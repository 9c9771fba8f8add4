"""Pictures that hold 8, 10, 12 or 14 bits in 16 are scaled by one rule, whatever format they come in."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mobilenets.image_formats import AS_STORED, DeepPixels, DeepValue, find_rule
from mobilenets.images import greatest_value, inspect_image, open_image

SIDE = 16


def ramp(top: int, samples: int = 1) -> NDArray[np.uint16]:
    """Values from 0 to `top`: `[16, 16, samples]`."""
    return np.linspace(0, top, SIDE * SIDE * samples).reshape(SIDE, SIDE, samples).round().astype(np.uint16)


def encode(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file


def png(values: NDArray[np.uint16], bits: int | None = None) -> io.BytesIO:
    """A PNG of 16 bits a sample with these values, and the chunk that says how many bits mean something."""
    samples = values.shape[2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", SIDE, SIDE, 16, kind, 0, 0, 0)]
    chunks += [b"sBIT" + bytes([bits] * samples)] if bits else []
    chunks += [b"IDAT" + zlib.compress(lines), b"IEND"]
    written = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(written))


def tiff(values: NDArray[np.uint16], order: str = "<") -> io.BytesIO:
    """A TIFF of 16-bit RGB, which Pillow reads but does not write."""
    pixels = values.astype(f"{order}u2").tobytes()
    tags = [(256, SIDE), (257, SIDE), (258, 0), (259, 1), (262, 2), (273, 8), (277, 3), (278, SIDE), (279, len(pixels))]
    bits_at = 8 + len(pixels) + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 3, 3, bits_at) if tag == 258 else
        struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        for tag, value in tags
    )  # fmt: skip
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(pixels))
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + struct.pack(f"{order}3H", 16, 16, 16)
    return io.BytesIO(start + pixels + directory)


def ppm(values: NDArray[np.uint16]) -> io.BytesIO:
    kind = b"P6" if values.shape[2] == 3 else b"P5"
    return io.BytesIO(kind + b" %d %d 65535\n" % (SIDE, SIDE) + values.astype(">u2").tobytes())


def pixels(file: io.BytesIO, rule: DeepPixels) -> NDArray[np.int64]:
    return np.asarray(open_image(file, deep=rule)).astype(np.int64)


MAKERS = {
    "grey png": (png, 1), "colour png": (png, 3),
    "grey tiff": (lambda v: encode(Image.fromarray(v[:, :, 0]), "TIFF"), 1),
    "lzw tiff": (lambda v: encode(Image.fromarray(v[:, :, 0]), "TIFF", compression="tiff_lzw"), 1),
    "colour tiff": (tiff, 3), "big-endian tiff": (lambda v: tiff(v, ">"), 3), "pgm": (ppm, 1), "ppm": (ppm, 3),
    "32-bit tiff": (lambda v: encode(Image.fromarray(v[:, :, 0].astype(np.int32)), "TIFF"), 1),
    "jpeg 2000": (lambda v: encode(Image.fromarray(v[:, :, 0]), "JPEG2000"), 1),
}  # fmt: skip


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("kind", MAKERS)
def test_values_of_fewer_bits_become_the_full_range(kind: str, bits: int) -> None:
    make, samples = MAKERS[kind]
    values = ramp(2**bits - 1, samples)
    value = greatest_value(make(values))
    assert value == DeepValue(2**bits - 1, is_float=False)
    rule = find_rule([value])
    assert rule == DeepPixels(bits)
    expected = np.rint(values * (255 / (2**bits - 1)))
    found = pixels(make(values), rule)
    assert np.abs(found - expected).max() <= 1
    assert (found.min(), found.max()) == (0, 255)
    # What was the fault: by the full range they are near black.
    assert pixels(make(values), AS_STORED).mean() <= 128 * 2 ** (bits - 16) + 1


@pytest.mark.parametrize("kind", MAKERS)
def test_the_full_range_is_read_as_before(kind: str) -> None:
    make, samples = MAKERS[kind]
    values = ramp(65535, samples)
    rule = find_rule([value for value in [greatest_value(make(values))] if value])
    assert rule == AS_STORED
    assert np.abs(pixels(make(values), rule) - values / 257.0).max() <= 1


def test_grey_and_colours_with_alpha_keep_it() -> None:
    grey = np.concatenate([ramp(4095), np.full((SIDE, SIDE, 1), 65535, np.uint16)], axis=2)
    assert np.abs(pixels(png(grey), DeepPixels(12)) - np.rint(grey[:, :, :1] * (255 / 4095))).max() <= 1
    clear = np.concatenate([ramp(4095, 3), np.zeros((SIDE, SIDE, 1), np.uint16)], axis=2)
    assert (pixels(png(clear), DeepPixels(12)) == 255).all()
    assert greatest_value(png(clear)) == DeepValue(4095, is_float=False)


def test_what_lies_above_is_white_and_one_rule_keeps_pictures_comparable() -> None:
    dark, bright = ramp(400), ramp(4000)
    rule = find_rule([value for value in map(greatest_value, (png(dark), png(bright))) if value])
    assert rule.bits == 12
    assert pixels(png(dark), rule).max() == round(400 * 255 / 4095)
    assert pixels(png(ramp(60_000)), rule).max() == 255


@pytest.mark.parametrize("file", [
    encode(Image.fromarray(ramp(700)[:, :, 0]), "TIFF", description='<Pixels SignificantBits="12"/>'),
    io.BytesIO(b"P5 16 16 4095\n" + ramp(700).astype(">u2").tobytes()),
])  # fmt: skip
def test_what_a_file_says_goes_first(file: io.BytesIO) -> None:
    assert greatest_value(file) is None
    for rule in (AS_STORED, DeepPixels(10), DeepPixels(14)):
        assert abs(int(pixels(file, rule).max()) - 700 * 255 / 4095) <= 1


def test_significant_bits_of_a_png_keep_a_dark_set_from_being_taken_for_less() -> None:
    value = greatest_value(png(ramp(700), bits=12))
    assert value == DeepValue(700, is_float=False, significant_bits=12)
    assert find_rule([value]).bits == 12
    # Written as the format wants it, scaled up to all 16 bits, they are those of the full range.
    scaled = greatest_value(png(ramp(65520), bits=12))
    assert scaled is not None
    assert find_rule([scaled]) == AS_STORED


@pytest.mark.parametrize(("greatest", "rule"), [
    ([0.5, 1.0], DeepPixels(16, 1.0)), ([0.5, 200.0], DeepPixels(16, 255.0)), ([3900.0, 10.0], DeepPixels(16, 4095.0)),
    ([65535.0], DeepPixels(16, 65535.0)), ([1e6], AS_STORED), ([], AS_STORED),
])  # fmt: skip
def test_floats_are_scaled_by_the_same_rule_too(greatest: list[float], rule: DeepPixels) -> None:
    assert find_rule([DeepValue(top, is_float=True) for top in greatest]) == rule


def test_a_dark_picture_of_floats_stays_dark() -> None:
    values = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    assert pixels(encode(Image.fromarray(values), "TIFF"), DeepPixels(16, 255.0)).max() == 1
    assert pixels(encode(Image.fromarray(values), "TIFF"), AS_STORED).max() == 255


def test_pictures_of_8_bits_are_not_looked_at_and_not_changed() -> None:
    rgb = Image.fromarray((ramp(255, 3)).astype(np.uint8))
    for kind in ("PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG"):
        file = encode(rgb, kind)
        assert greatest_value(file) is None
        assert (pixels(file, DeepPixels(12)) == pixels(file, AS_STORED)).all()


def test_values_below_zero_are_of_their_own_range() -> None:
    file = encode(Image.fromarray(np.array([[-100, 0, 100]], np.int32)), "TIFF")
    assert greatest_value(file) is None
    assert pixels(file, DeepPixels(12))[0, :, 0].tolist() == [0, 128, 255]


def test_the_header_says_what_was_found() -> None:
    assert inspect_image(png(ramp(4095, 3)))[0].deep == DeepValue(4095, is_float=False)
    assert inspect_image(encode(Image.new("RGB", (4, 4)), "PNG"))[0].deep is None


def test_the_largest_floats_are_scaled_without_a_warning() -> None:
    file = encode(Image.fromarray(np.array([[-3e38, 0, 3e38]], np.float32)), "TIFF")
    assert pixels(file, AS_STORED)[0, :, 0].tolist() == [0, 128, 255]
    far = encode(Image.fromarray(np.array([[0, 1, 3e38]], np.float32)), "TIFF")
    assert pixels(far, DeepPixels(16, 1.0))[0, :, 0].tolist() == [0, 255, 255]
