"""Decode many images at once in a pool of threads, telling how far it is and stopping when asked to.

JPEGs are decoded at a reduced scale and without detours by simplejpeg where it is installed: leaving high frequencies
out decodes one at 1/2, 1/4 or 1/8 of its size for less work. simplejpeg hands out libjpeg-turbo's pixels as they are,
lets other threads run meanwhile, and reports the least damage; what it refuses is left to `mobilenets.images`, whose
pixels are the same where both use libjpeg-turbo.

How many bits images hold, where they are stored with more than 8 (12 in 16, for example), is found once, in a sample of
the training images, and kept with the network: see `mobilenets.image_formats`.
"""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import features

from mobilenets.data.sources import MAX_FILE_BYTES, EncodedSource, ImageSource, encoded_file
from mobilenets.errors import BadImage, BadImagesError, RecipeError
from mobilenets.image_folders import EIGHT_BIT_SUFFIXES
from mobilenets.image_formats import AS_STORED, DeepPixels, DeepValue, find_rule
from mobilenets.images import MAX_PIXELS, ChooseScale, check_image, greatest_value, read_size
from mobilenets.machine import usable_cores
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Count

_COLOURS: Final = ("YCbCr", "Gray")  # others, as CMYK, are turned into RGB by Pillow's formulas


_EXIF: Final = b"Exif\0\0"


_XMP_ORIENTATION: Final = b"tiff:Orientation"


_START: Final = b"\xff\xd8\xff"


def decoder_name() -> str:
    """Name and version of what decodes training's JPEGs, e.g. `simplejpeg 1.9.0`: another may round otherwise."""
    if _simplejpeg() is not None:
        return f"simplejpeg {version('simplejpeg')}"
    return f"Pillow {version('pillow')} with libjpeg-turbo {features.version_feature('libjpeg_turbo') or 'missing'}"


def decode_scaled(
    content: bytes, choose: ChooseScale, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], tuple[int, int]] | None:
    """Decode a plain JPEG at the scale chosen: uint8 RGB `[H, W, 3]`, and its width and height at full scale.

    None for all that is not plain: another format or colour space, a picture that may have to be turned, one that is
    damaged or too large, or if simplejpeg is not installed. `mobilenets.images` reads or refuses those.
    """
    library = _simplejpeg()
    if library is None or not content.startswith(_START) or _EXIF in content or _XMP_ORIENTATION in content:
        return None
    try:
        height, width, colours, _ = library.decode_jpeg_header(content)
        if colours not in _COLOURS or not 0 < width * height <= max_pixels:
            return None
        divisor = choose(width, height)
        least = {"min_height": -(-height // divisor), "min_width": -(-width // divisor), "min_factor": divisor}
        pixels: NDArray[np.uint8] = library.decode_jpeg(content, **(least if divisor > 1 else {}))
    except (ValueError, MemoryError):
        return None
    return pixels, (width, height)


def is_whole(content: bytes, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether these bytes are a JPEG of usual colours without the least damage; False leaves the question open.

    All of it is read, at the smallest scale: damage shows in the bytes, and most of the time goes into those.
    """
    library = _simplejpeg()
    if library is None or not content.startswith(_START):
        return False
    try:
        height, width, colours, _ = library.decode_jpeg_header(content)
        if colours not in _COLOURS or not 0 < width * height <= max_pixels:
            return False
        library.decode_jpeg(content, min_height=1, min_width=1, min_factor=8)
    except (ValueError, MemoryError):
        return False
    return True


@cache
def _simplejpeg() -> Any:
    if find_spec("simplejpeg") is None:
        return None
    import simplejpeg

    return simplejpeg


ATTEMPTS: Final = 10
"""Shapes drawn for one crop; the first that fits is taken, as torchvision's `RandomResizedCrop` does."""


Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the upright picture; right and bottom are outside."""


@dataclass(frozen=True)
class RandomCrop:
    """Crops of random area, shape and place.

    Attributes:
        scale: least and greatest share of the picture's area.
        ratio: least and greatest width over height.

    Raises:
        RecipeError: a share not above 0 or above 1, a ratio not above 0, or a least above a greatest.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise RecipeError(f"a random crop's scale is {self.scale}; it must rise, above 0 and at most 1")
        if not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise RecipeError(f"a random crop's ratio is {self.ratio}; it must rise, above 0")

    def box(self, width: int, height: int, draws: NDArray[np.float64]) -> Box:
        """Return the crop of a picture of this size that `draws` stand for.

        Args:
            width: of the upright picture in pixels.
            height: likewise.
            draws: the picture's from `draw`, `[ATTEMPTS + 1, 2]`: area and ratio of every attempt, then the place.
        """
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for area, shape in draws[:ATTEMPTS].tolist():
            pixels = width * height * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
            ratio = math.exp(low + shape * (high - low))
            wide, tall = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                across, down = draws[ATTEMPTS].tolist()
                left, top = int(across * (width - wide + 1)), int(down * (height - tall + 1))
                return left, top, left + wide, top + tall
        return self._centre(width, height)

    def _centre(self, width: int, height: int) -> Box:
        """The largest crop around the centre whose ratio is allowed: for strips, which no drawn shape fits into."""
        wide = min(width, max(1, round(height * self.ratio[1])))
        tall = min(height, max(1, round(width / self.ratio[0])))
        left, top = (width - wide) // 2, (height - tall) // 2
        return left, top, left + wide, top + tall


def draw(seed: int, step: int, batch: int) -> NDArray[np.float64]:
    """Draw what decides the crops of one step's batch: `[B, ATTEMPTS + 1, 2]` from [0, 1), by seed and step alone."""
    return np.random.default_rng((seed, step)).random((batch, ATTEMPTS + 1, 2))


_CHUNK: Final = 64


_CHUNK_BYTES: Final = 4 * 2**20


_PROGRESS_SECONDS: Final = 0.1


_TINY_BYTES: Final = 8192


def decode_all(
    sources: Sequence[ImageSource],
    preprocessing: Preprocessing,
    pixels: NDArray[np.uint8] | None,
    progress: Count | None,
) -> dict[int, BadImage]:
    """Decode every image, into `pixels` if given, and return the unreadable ones by position.

    Without `pixels` what counts is whether an image can be read, which JPEGs show at a reduced scale too.
    """
    stop = threading.Event()

    def decode(chunk: range) -> tuple[int, dict[int, BadImage]]:
        faults: dict[int, BadImage] = {}
        for index in chunk:
            if stop.is_set():
                break
            try:
                if pixels is not None:
                    pixels[index] = preprocessing.arrange(sources[index].open(preprocessing.deep))
                else:
                    _check(sources[index])
            except BadImagesError as error:
                faults[index] = error.bad[0]
        return len(chunk), faults

    total, done, reported = len(sources), 0, time.monotonic()
    bad: dict[int, BadImage] = {}
    pool = ThreadPoolExecutor(worker_count(sources), thread_name_prefix="decode")
    try:
        for future in as_completed([pool.submit(decode, chunk) for chunk in _chunks(sources)]):
            count, faults = future.result()
            done += count
            bad.update(faults)
            if progress is not None and done < total and time.monotonic() - reported >= _PROGRESS_SECONDS:
                progress(done, total)
                reported = time.monotonic()
    finally:
        # After Ctrl-C, what has not begun never does, and what has begun ends with the image at hand.
        stop.set()
        pool.shutdown(cancel_futures=True)
    if progress is not None:
        progress(total, total)
    return bad


def _check(source: ImageSource) -> None:
    if not isinstance(source, EncodedSource) or source.size > MAX_FILE_BYTES:
        source.open()
        return
    content = source.encoded()
    if is_whole(content, source.max_pixels):
        read_size(
            io.BytesIO(content), name=source.location, max_pixels=source.max_pixels
        )  # exact decoding, by Pillow, is to understand it too
    else:
        check_image(io.BytesIO(content), name=source.location, max_pixels=source.max_pixels)


def _chunks(sources: Sequence[ImageSource]) -> Iterator[range]:
    """Cut the images into tasks of at most `_CHUNK` images and, beyond the first image, `_CHUNK_BYTES` bytes."""
    start = filled = 0
    for index, source in enumerate(sources):
        if index > start and (index - start == _CHUNK or filled + source.size > _CHUNK_BYTES):
            yield range(start, index)
            start, filled = index, 0
        filled += source.size
    if start < len(sources):
        yield range(start, len(sources))


def worker_count(sources: Sequence[ImageSource]) -> int:
    """Return how many threads decode these images fastest: a core each, or one for tiny images."""
    if sum(source.size for source in sources) < _TINY_BYTES * len(sources):
        return 1
    return usable_cores()


@dataclass(frozen=True)
class TrainingDecoding:
    """How pictures are decoded for training, where they are decoded for each batch.

    Attributes:
        crop: random crops, taken while decoding; None for the crop that evaluation takes.
        reduced: whether large JPEGs may be decoded at a reduced scale, and all be resized by PyTorch.
    """

    crop: RandomCrop | None = None
    reduced: bool = True

    def __str__(self) -> str:
        return f"by {decoder_name()}{' at reduced scale' if self.reduced else ''}"


HEADERS: Final = 1024
"""Images whose header is looked at."""


def find_bit_depth(sources: Sequence[ImageSource]) -> tuple[DeepPixels, tuple[str, ...]]:
    """Find the rule by which images with more than 8 bits a sample are scaled, and what a user should know of it.

    Looks at up to `HEADERS` images, spread evenly over those of formats that can hold more than 8 bits, and decodes
    those that do. Images that can't be read are passed over: whoever decodes them all reports them.

    Args:
        sources: the training images.

    Returns:
        The rule, the usual one where no image decides; and a sentence for each way in which it differs from that.
    """
    values = _values(sources)
    rule = find_rule(values)
    return rule, tuple(_notes(rule, values))


def differing(rule: DeepPixels, sources: Sequence[ImageSource]) -> str | None:
    """What to say where images to be scored hold another number of bits than the network takes; None where they don't.

    A dark set may seem to hold fewer bits than it does: this is a hint, nothing is read otherwise for it.
    """
    values = _values(sources)
    found = find_rule(values)
    if found.bits == rule.bits or all(value.is_float for value in values):
        return None
    looks = "darker" if found.bits < rule.bits else "brighter, or all white,"
    return (
        f"16-bit images hold {found.bits} bits, where {rule.bits} are read with this network, as it was trained: "
        f"they look {looks} to it"
    )


def _values(sources: Sequence[ImageSource]) -> list[DeepValue]:
    able = [source for source in sources if _may_be_deep(source.name)]
    if not able:
        return []
    places = np.unique(np.linspace(0, len(able) - 1, min(len(able), HEADERS)).astype(np.int64))
    sample = [able[place] for place in places]
    with ThreadPoolExecutor(worker_count(sample), thread_name_prefix="bit-depth") as pool:
        return [value for value in pool.map(_value, sample) if value is not None]


def _may_be_deep(name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    return bool(suffix) and suffix not in EIGHT_BIT_SUFFIXES


def _value(source: ImageSource) -> DeepValue | None:
    try:
        found = encoded_file(source)
        return None if found is None else greatest_value(found[0], max_pixels=found[1])
    except BadImagesError:
        return None


def _notes(rule: DeepPixels, values: Sequence[DeepValue]) -> Iterator[str]:
    whole = [value.greatest for value in values if not value.is_float]
    real = [value.greatest for value in values if value.is_float]
    if rule.bits != AS_STORED.bits:
        yield (
            f"16-bit images hold {rule.bits} bits (greatest value {max(whole):,.0f} in {len(whole):,} looked at): "
            f"{rule.white:,.0f} is read as white, and will be with this network"
        )
    if rule.float_white is not None and rule.float_white != 1:
        yield (
            f"images of floats go up to {rule.float_white:,.0f} (greatest value {max(real):,g} in {len(real):,} looked "
            "at): that is read as white, and will be with this network"
        )
