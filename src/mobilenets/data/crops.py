"""Which part of a picture a training step sees: a random crop that draws alone decide, resized to the input afterwards.

Szegedy et al. 2014, arXiv 1409.4842, section 6 (training methodology): an area between 8 % and 100 % of the picture, at
a ratio of the sides between 3/4 and 4/3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import RecipeError

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
