"""A folder of photographs-to-be with one of each fault the doctor knows: `python seeded_folder.py OUT`.

The pictures are made: shapes of two kinds in colours of their own over a grain, large enough to be told apart.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96
TURNED = 6  # EXIF: turn right by 90 degrees to see it upright


def picture(seed: int, kind: str, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A shape of a kind, different for every seed."""
    random = np.random.default_rng((seed, sum(kind.encode())))
    width, height = size
    coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = random.uniform(0.1, 0.9) * width, random.uniform(0.1, 0.9) * height
        reach = random.uniform(0.08, 0.25) * min(size)
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        box = (x - reach, y - reach, x + reach, y + reach)
        if kind == "disc":
            draw.ellipse(box, fill=colour)
        else:
            draw.rectangle(box, fill=colour)
    return image


def jpeg(image: Image.Image, quality: int = 90, **options: object) -> bytes:
    """An image as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def write_sound(folder: Path, train: int = 24, test: int = 8) -> None:
    """Two classes in two splits, with nothing wrong."""
    for first, split, count in ((0, "train", train), (1000, "test", test)):
        for kind in ("disc", "square"):
            place = folder / split / kind
            place.mkdir(parents=True)
            for number in range(count):
                (place / f"{number:03d}.jpg").write_bytes(jpeg(picture(first + number, kind)))


def seed_faults(folder: Path) -> None:
    """Put one or two of each fault into a sound folder."""
    train, test = folder / "train", folder / "test"
    content = (train / "disc" / "000.jpg").read_bytes()
    (train / "disc" / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (train / "disc" / "empty.jpg").write_bytes(b"")
    (train / "square" / "text.png").write_text("no picture at all")
    (train / "square" / "notes.txt").write_text("remember the milk")
    (train / "loose.jpg").write_bytes(content)

    exif = Image.Exif()
    exif[274] = TURNED
    (train / "disc" / "turned.jpg").write_bytes(
        jpeg(picture(50, "disc").transpose(Image.Transpose.ROTATE_90), exif=exif)
    )
    shutil.copyfile(train / "disc" / "001.jpg", train / "disc" / "copy.jpg")
    Image.open(train / "disc" / "002.jpg").save(train / "disc" / "other-bytes.png")
    shutil.copyfile(test / "disc" / "000.jpg", train / "disc" / "leaked.jpg")
    shutil.copyfile(train / "disc" / "003.jpg", train / "square" / "wrong-label.jpg")
    shot = Image.open(test / "square" / "001.jpg")
    (train / "square" / "compressed.jpg").write_bytes(jpeg(shot.crop((2, 2, SIDE - 1, SIDE - 2)).resize(shot.size), 60))
    (train / "square" / "brighter.jpg").write_bytes(
        jpeg(picture(4, "square").point(lambda value: min(255, value + 20)))
    )

    picture(60, "disc").convert("CMYK").save(train / "disc" / "cmyk.jpg")
    picture(61, "disc").convert("L").save(train / "disc" / "grey.png")
    grey = np.asarray(picture(62, "square").convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(train / "square" / "deep.png")
    picture(63, "square").convert("RGBA").save(train / "square" / "transparent.png")
    frames = [picture(number, "square") for number in (64, 65)]
    frames[0].save(train / "square" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (SIDE, SIDE), (90, 90, 90)).save(train / "disc" / "blank.png")
    picture(66, "disc", (400, 80)).save(train / "disc" / "long.jpg")
    picture(67, "disc", (20, 20)).save(train / "disc" / "small.png")

    (train / "star").mkdir()
    (test / "star").mkdir()
    for number in range(3):
        (train / "star" / f"{number}.jpg").write_bytes(jpeg(picture(70 + number, "star")))
    (train / "only-here").mkdir()
    (train / "only-here" / "0.jpg").write_bytes(jpeg(picture(80, "only")))


if __name__ == "__main__":
    write_sound(Path(sys.argv[1]))
    seed_faults(Path(sys.argv[1]))
