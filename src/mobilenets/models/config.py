"""What a network was built with: checked once, kept on the network, written to the run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real

from mobilenets.errors import ModelError

OptionValue = str | int | float | bool

MIN_IMAGE_SIZE = 8
"""Smallest image side in pixels: that of scikit-learn's digits, the smallest images in common use."""
MAX_IMAGE_SIZE = 4096
"""Largest, as in `Preprocessing`; catches a number of pixels given for a side."""
MAX_CLASSES = 1_000_000
"""Largest number of outputs, far beyond the 21,841 of all of ImageNet; more take gigabytes."""
MAX_CHANNELS = 1024
"""Largest number of channels of an image; spectral images have a few hundred."""
MAX_WIDTH_MULT = 10.0
"""Far beyond any use (the papers stop at 1.4); catches a percentage given for a factor."""


@dataclass(frozen=True)
class NetworkConfig:
    """The arguments of a network, so that `create_model(**config.to_dict())` builds it again.

    Whole and real numbers of any kind (NumPy's too) are accepted and kept as Python's own, so that the record can be
    written as JSON.

    Attributes:
        name: the registered name.
        num_classes: outputs of the classifier, at most 1,000,000; 0 for a network without classifier.
        width_mult: factor on every layer's channels, the papers' alpha.
        image_size: side in pixels of the square images the strides are planned for, 8 to 4096.
        dropout: rate before the classifier, in [0, 1).
        in_channels: channels of the images, 3 for RGB, 1 for grey; at most 1,024.
        options: arguments only this network has, e.g. V1's `activation`.

    Raises:
        ModelError: a value is out of range or of the wrong kind; the message says what is valid.
    """

    name: str
    num_classes: int
    width_mult: float
    image_size: int
    dropout: float
    in_channels: int
    options: Mapping[str, OptionValue] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        checked = {
            "num_classes": _whole("num_classes", self.num_classes, minimum=0, maximum=MAX_CLASSES),
            "image_size": _whole("image_size", self.image_size, minimum=MIN_IMAGE_SIZE, maximum=MAX_IMAGE_SIZE),
            "in_channels": _whole("in_channels", self.in_channels, minimum=1, maximum=MAX_CHANNELS),
            "width_mult": _width_mult(self.width_mult),
            "dropout": _dropout(self.dropout),
            "options": dict(self.options),  # the caller's own may change later
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, OptionValue]:
        """The arguments of `create_model`, flat, with values JSON knows."""
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "width_mult": self.width_mult,
            "image_size": self.image_size,
            "dropout": self.dropout,
            "in_channels": self.in_channels,
            **self.options,
        }


def _whole(name: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    # True and False are whole numbers to Python, and never meant as one here.
    if not isinstance(value, bool) and isinstance(value, Integral):
        number = int(value)
        if minimum <= number and (maximum is None or number <= maximum):
            return number
    valid = f"{minimum} or more" if maximum is None else f"from {minimum} to {maximum}"
    raise ModelError(f"{name} is {_shown(value)}: it must be a whole number, {valid}")


def _shown(value: object) -> str:
    """A value in a message; Python refuses to write numbers of thousands of digits."""
    return "a number of thousands of digits" if isinstance(value, int) and value.bit_length() > 4096 else repr(value)


def _real(value: object) -> float:
    """The value as a float; NaN for what is NaN or infinity, so that one range check refuses both."""
    return math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)


def _width_mult(value: object) -> float:
    width_mult = _real(value)
    if 0 < width_mult <= MAX_WIDTH_MULT:
        return width_mult
    valid = f"a number above 0, at most {MAX_WIDTH_MULT:g} (the papers use 0.25 to 1.4)"
    raise ModelError(f"width_mult is {value!r}: it must be {valid}")


def _dropout(value: object) -> float:
    dropout = _real(value)
    if 0 <= dropout < 1:
        return dropout
    raise ModelError(f"dropout is {value!r}: it must be a number from 0 up to, not including, 1")
