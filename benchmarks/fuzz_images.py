"""Every image format against thousands of damaged files: `python benchmarks/fuzz_images.py [FORMAT ...]`.

As `fuzz.py`, whose options it takes and whose clock, memory and mutations it uses. Each mutant is read in every way
that training, doctor and prediction read images: header, whole, at a reduced scale, and by another rule for 16 bits.
"""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import fuzz
import fuzz_readers
from fuzz_mutations import Mutation, edit_head_words, edit_numbers, edit_words
from mobilenets.data.decoding import decode_scaled, is_whole
from mobilenets.errors import BadImagesError
from mobilenets.image_folders import reads_heic
from mobilenets.image_formats import DeepPixels
from mobilenets.images import check_image, greatest_value, inspect_image, open_image, open_scaled, read_size

SIDE = 24
RULES = (DeepPixels(), DeepPixels(12, 1.0))


def picture(number: int = 0, side: int = SIDE) -> Image.Image:
    """A picture of smooth colours and some noise, so that every decoder has something to do."""
    rows, columns = np.mgrid[0:side, 0:side]
    planes = np.stack([columns * 10, rows * 10, np.full_like(rows, 60 * number)], 2)
    noise = np.random.default_rng(number).integers(0, 40, planes.shape)
    return Image.fromarray(((planes + noise) % 256).astype(np.uint8))


def deep(dtype: str) -> Image.Image:
    """12 bits of grey in more."""
    return Image.fromarray(np.linspace(0, 4095, SIDE * SIDE).reshape(SIDE, SIDE).astype(dtype))


def deep_png(colour_type: int, samples: int, *, interlaced: bool = False) -> bytes:
    """A PNG of 16 bits a sample, 12 of them used, with an sBIT chunk; Pillow writes grey only."""
    values = np.linspace(0, 4095, SIDE * SIDE * samples).reshape(SIDE, SIDE * samples).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    if interlaced:  # Adam7: any lines of the right sizes will do
        sizes = [(3, 3), (3, 3), (6, 3), (6, 6), (12, 6), (12, 12), (24, 12)]
        lines = b"".join((b"\0" + bytes(2 * samples * width)) * height for width, height in sizes)
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, colour_type, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, content)
        for name, content in (
            (b"IHDR", header),
            (b"sBIT", bytes([12] * samples)),
            (b"IDAT", zlib.compress(lines)),
            (b"IEND", b""),
        )
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A file's content."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def animation(kind: str, **options: Any) -> bytes:
    """Four frames."""
    frames = [picture(number) for number in range(4)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def exif() -> Image.Exif:
    """Orientation and a description."""
    found = Image.Exif()
    found[274], found[270] = 6, "a picture"
    return found


def _jpeg() -> list[bytes]:
    rgb = picture(0, 64)
    return [
        encode(rgb, "JPEG", exif=exif()),
        encode(rgb, "JPEG", progressive=True),
        encode(rgb.convert("L"), "JPEG"),
        encode(rgb.convert("CMYK"), "JPEG"),
    ]


def _png() -> list[bytes]:
    rgb = picture()
    plain = [rgb, rgb.convert("P"), rgb.convert("L"), rgb.convert("1"), rgb.convert("RGBA"), deep("u2")]
    return [
        *(encode(image, "PNG") for image in plain),
        encode(rgb, "PNG", exif=exif(), transparency=(1, 2, 3)),
        *(deep_png(kind, samples) for kind, samples in ((2, 3), (6, 4), (4, 2))),
        deep_png(2, 3, interlaced=True),
    ]


def _tiff() -> list[bytes]:
    rgb = picture()
    compressions = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return [
        *(encode(rgb, "TIFF", compression=compression) for compression in compressions),
        *(encode(rgb.convert("1"), "TIFF", compression=name) for name in ("group3", "group4", "tiff_ccitt")),
        *(encode(deep(dtype), "TIFF") for dtype in ("u2", "i4", "f4")),
        encode(deep("u2"), "TIFF", compression="tiff_lzw", description='<OME><Pixels SignificantBits="12"/></OME>'),
        animation("TIFF"),
        animation("TIFF", compression="tiff_lzw"),
    ]


def _ppm() -> list[bytes]:
    rgb = picture()
    size = b"%d %d" % (SIDE, SIDE)
    wide = np.linspace(0, 4095, SIDE * SIDE * 3).astype(">u2").tobytes()
    text = b" ".join(str(value).encode() for value in np.asarray(rgb).ravel().tolist())
    return [
        *(encode(rgb.convert(mode), "PPM") for mode in ("RGB", "L", "1")),
        encode(deep("f4"), "PPM"),
        b"P6 " + size + b" 65535\n" + wide,
        b"P5 " + size + b" 4095\n" + wide[: 2 * SIDE * SIDE],
        b"P3 " + size + b" 255\n" + text,
    ]


def _lossy(kind: str) -> list[bytes]:
    rgb = picture()
    return [encode(rgb, kind, exif=exif().tobytes()), encode(rgb.convert("RGBA"), kind), animation(kind)]


def _jp2() -> list[bytes]:
    rgb = picture()
    return [
        encode(rgb, "JPEG2000"),
        encode(rgb, "JPEG2000", irreversible=True, tile_size=(16, 16)),
        encode(rgb, "JPEG2000", no_jp2=True),
        encode(deep("u2"), "JPEG2000"),
    ]


def _gif() -> list[bytes]:
    rgb = picture()
    return [encode(rgb, "GIF"), encode(rgb.convert("L"), "GIF", interlace=False), animation("GIF")]


def _heic() -> list[bytes]:
    from pillow_heif import from_pillow

    found = []
    for count in (1, 3):
        file, heif = io.BytesIO(), from_pillow(picture(0, 64))
        for number in range(1, count):
            heif.add_from_pillow(picture(number, 64))
        heif.save(file)
        found.append(file.getvalue())
    return found


SOUND: dict[str, Callable[[], list[bytes]]] = {
    "jpg": _jpeg,
    "png": lambda: [*_png(), animation("PNG")],
    "gif": _gif,
    "bmp": lambda: [
        *(encode(picture().convert(mode), "BMP") for mode in ("RGB", "P", "1")),
        encode(picture().convert("RGBA"), "BMP"),
    ],
    "webp": lambda: [*_lossy("WEBP"), encode(picture(), "WEBP", lossless=True)],
    "tif": _tiff,
    "ppm": _ppm,
    "jp2": _jp2,
    "avif": lambda: _lossy("AVIF"),
    **({"heic": _heic} if reads_heic() else {}),
}
"""Sound files of each format, by their extension."""


def edit_png(random_: random.Random, content: bytes) -> bytes:
    """Change a byte of a chunk and make its checksum right again."""
    places, place = [], 8
    while place + 12 <= len(content):
        size = struct.unpack_from(">I", content, place)[0]
        if size:
            places.append((place, size))
        place += 12 + size
    if not places:
        return content
    place, size = random_.choice(places)
    body = bytearray(content[place + 4 : place + 8 + size])
    body[random_.randrange(4, len(body))] = random_.choice((0, 1, 2, 127, 128, 255, random_.randrange(256)))
    return content[:place] + _chunk(bytes(body[:4]), bytes(body[4:])) + content[place + 12 + size :]


def cut(random_: random.Random, content: bytes) -> bytes:
    """End too early."""
    return content[: random_.randrange(len(content) + 1)]


OWN: dict[str, tuple[Mutation, ...]] = {"png": (edit_png,), "ppm": (edit_numbers,)}


def seeds(suffix: str, folder: Path) -> Sequence[Path]:
    """Write the sound files of a format."""
    found = []
    for number, content in enumerate(SOUND[suffix]()):
        path = folder / f"sound{number}.{suffix}"
        path.write_bytes(content)
        found.append(path)
    return found


def read(path: Path) -> None:
    """Read an image in every way; those that refuse it must all say so, in one line, and none may warn.

    Raises:
        BadImagesError: some way refuses it.
    """
    content = path.read_bytes()
    refusal: BadImagesError | None = None
    ways: list[Callable[[], object]] = [
        lambda: read_size(path),
        lambda: check_image(io.BytesIO(content), name=path.name),
        lambda: greatest_value(path),
        lambda: is_whole(content),
        lambda: decode_scaled(content, lambda width, height: 2),
        lambda: open_scaled(io.BytesIO(content), lambda width, height: 4, name=path.name),
        *(partial(open_image, path, deep=rule) for rule in RULES),
        *(partial(inspect_image, path, deep=rule) for rule in RULES),
    ]
    for way in ways:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                way()
        except BadImagesError as error:
            if "\n" in str(error):
                raise ValueError("a message of several lines") from error
            refusal = error
    if refusal is not None:
        raise refusal


READERS = tuple(
    fuzz.Reader(
        f"image {suffix}", partial(seeds, suffix), read, (cut, edit_words, edit_head_words, *2 * OWN.get(suffix, ()))
    )
    for suffix in SOUND
)


if __name__ == "__main__":
    fuzz_readers.READERS = READERS
    fuzz.RESULTS = fuzz.RESULTS.with_name("fuzz_images.json")
    fuzz.main()
