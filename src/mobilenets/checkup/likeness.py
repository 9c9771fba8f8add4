"""Whether two small pictures show the same thing, though one was cut, turned, moved or lightened a little.

What a slight change of the frame does to a picture is, to first order, adding some of its own slopes: those along x and
y for a shift, those times the place for a stretch. So one picture is fitted by the other and its slopes, in one small
system of equations for each pair, and how well it fits is the answer (the step of B. Lucas, T. Kanade, "An iterative
image registration technique", 1981, taken once).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.float32]
"""Small pictures, `[N, S, S, C]`."""

MOST_MOVED: Final = 0.09
"""Share of a side by which an edge may move: cuts of 5 % at one side, with room; more is another picture."""
_STEADY: Final = 1e-3
_TINY: Final = 1e-6


def correlation(one: Pictures, other: Pictures) -> NDArray[np.float32]:
    """Correlation of pictures as they are, -1 to 1, `[N]`."""
    return _cosine(_levelled(one), _levelled(other))


def aligned_correlation(one: Pictures, other: Pictures) -> NDArray[np.float32]:
    """Correlation of pictures once one is moved and stretched a little to fit the other, -1 to 1, `[N]`.

    The edge of a pixel is left out, as it has no slope. The better of both directions counts.
    """
    return np.maximum(_fit(one, other), _fit(other, one))


def halved(pictures: Pictures) -> Pictures:
    """Pictures at half the side, `[N, S/2, S/2, C]`."""
    count, side, _, channels = pictures.shape
    mean: Pictures = pictures.reshape(count, side // 2, 2, side // 2, 2, channels).mean(axis=(2, 4))
    return mean


def _fit(moved: Pictures, fixed: Pictures) -> NDArray[np.float32]:
    count, side, _, channels = moved.shape
    inner = (side - 2) ** 2 * channels
    place = ((np.arange(side, dtype=np.float32) - (side - 1) / 2) / (side / 2))[1:-1]
    across, down = place[None, None, :, None], place[None, :, None, None]
    x_slope = (moved[:, 1:-1, 2:] - moved[:, 1:-1, :-2]) / 2
    y_slope = (moved[:, 2:, 1:-1] - moved[:, :-2, 1:-1]) / 2
    parts = np.stack([moved[:, 1:-1, 1:-1], x_slope, y_slope, x_slope * across, y_slope * down], axis=1)
    regressors = _levelled(parts.reshape(5 * count, side - 2, side - 2, channels)).reshape(count, 5, inner)
    wanted = _levelled(fixed[:, 1:-1, 1:-1])
    products = regressors @ regressors.transpose(0, 2, 1)
    # A little of the picture's own size on the diagonal: one without slopes, or of one colour, still has an answer.
    products += np.eye(5, dtype=np.float32) * (_STEADY * products[:, :1, :1] + _TINY)
    weights = np.linalg.solve(products, regressors @ wanted[:, :, None])[:, :, 0]
    gain = np.maximum(weights[:, :1], 0)  # a negative is another picture
    reach = MOST_MOVED * side * gain
    weights = np.concatenate([gain, np.clip(weights[:, 1:], -reach, reach)], axis=1)
    return _cosine((weights[:, None] @ regressors)[:, 0], wanted)


def _levelled(pictures: Pictures) -> NDArray[np.float32]:
    """Pictures less the mean of each channel, `[N, S * S * C]`: a blue sky is no likeness to another."""
    less: Pictures = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    return less.reshape(len(pictures), int(np.prod(pictures.shape[1:])))


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine: NDArray[np.float32] = (one * other).sum(axis=1) / np.maximum(lengths, _TINY)
    return cosine
