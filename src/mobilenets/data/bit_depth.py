"""How many bits the images of a data set hold, where they are stored with more than 8: 12 in 16, for example.

Found once, in a sample of the training images, and kept with the network: see `mobilenets.image_formats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Final

import numpy as np

from mobilenets.data.decoding import worker_count
from mobilenets.data.sources import ImageSource, encoded_file
from mobilenets.errors import BadImagesError
from mobilenets.image_formats import AS_STORED, DeepPixels, DeepValue, find_rule
from mobilenets.images import greatest_value

HEADERS: Final = 1024
"""Images whose header is looked at."""
_SHALLOW: Final = frozenset({"", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".avif", ".pbm"})


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
    able = [source for source in sources if PurePosixPath(source.name).suffix.lower() not in _SHALLOW]
    if not able:
        return []
    places = np.unique(np.linspace(0, len(able) - 1, min(len(able), HEADERS)).astype(np.int64))
    sample = [able[place] for place in places]
    with ThreadPoolExecutor(worker_count(sample), thread_name_prefix="bit-depth") as pool:
        return [value for value in pool.map(_value, sample) if value is not None]


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
