"""Where to put the names of points so that none covers another: pure geometry on boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """An upright rectangle, in any one unit."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Return the area shared with `other`, 0 when apart."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def inside(self, other: Box) -> bool:
        """Return whether no part lies outside `other`."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )

    def distance(self, point: Point) -> float:
        """Return how far `point` is from the nearest part of the box, 0 inside."""
        dx = max(self.left - point[0], 0.0, point[0] - self.right)
        dy = max(self.bottom - point[1], 0.0, point[1] - self.top)
        return math.hypot(dx, dy)


_ROUNDING = 1e-9
"""Area that boxes side by side may seem to share."""
# Beside the point reads best, then above and below; the corners come last.
_DIRECTIONS = (0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240)


def place_labels(
    points: Sequence[Point],
    sizes: Sequence[Point],
    area: Box,
    *,
    texts: Sequence[Box] = (),
    bars: Sequence[Box] = (),
    gap: float = 7.0,
) -> list[Box]:
    """Find a box for each label: inside `area`, off the other labels and the points, near its own point.

    Args:
        points: where each label's point is.
        sizes: width and height of each label.
        area: what the labels must stay inside.
        texts: other text, as bad to cover as a label.
        bars: thin marks, such as error bars, that a label had better not cross.
        gap: distance between a point and a label beside it; also the side of the square a point itself takes.

    Returns:
        The boxes in the order of the points. Labels overlap only when no place tried is free.
    """
    marks = [Box(x - gap / 2, y - gap / 2, x + gap / 2, y + gap / 2) for x, y in points]
    placed: dict[int, Box] = {}
    for index in sorted(range(len(points)), key=lambda i: _elbow_room(points, i)):
        words = [*placed.values(), *texts]
        # A label on a label can't be read, however little of it; one across an error bar can.
        placed[index] = min(
            _candidates(points[index], sizes[index], area, gap),
            key=lambda box: (
                1000.0 * sum(_touching(box, other) + box.overlap(other) for other in words)
                + 1000.0 * sum(box.overlap(other) for other in marks)
                + 0.4 * sum(box.overlap(other) for other in bars)
                + _stray(box, index, points)
            ),
        )
    return [placed[index] for index in range(len(points))]


def _touching(box: Box, other: Box) -> bool:
    return box.overlap(other) > _ROUNDING


def _elbow_room(points: Sequence[Point], index: int) -> float:
    """Return the distance to the nearest other point: the crowded ones choose first."""
    return min((math.dist(points[index], other) for i, other in enumerate(points) if i != index), default=math.inf)


def _stray(box: Box, index: int, points: Sequence[Point]) -> float:
    """Return how misleading a place is: far from its own point, and worse when another point is nearer."""
    # Rounded, so that equally near places are left to the order of the directions.
    own = round(box.distance(points[index]), 1)
    nearer = sum(1 for i, other in enumerate(points) if i != index and box.distance(other) < own)
    return own + 40.0 * nearer


def _candidates(point: Point, size: Point, area: Box, gap: float) -> Iterator[Box]:
    (x, y), (width, height) = point, size
    found = False
    for ring in range(8):
        reach = gap + ring * height
        for degrees in _DIRECTIONS:
            cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            # The label's nearest edge, not its middle, is `reach` away.
            centre_x = x + cosine * reach + _sign(cosine) * width / 2
            centre_y = y + sine * reach + _sign(sine) * height / 2
            box = Box(centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
            if box.inside(area):
                found = True
                yield box
    # Everywhere else in the area, for crowds that fill the neighbourhood.
    for row in range(max(1, int((area.top - area.bottom) // height))):
        for column in range(5):
            left = area.left + (area.right - area.left - width) * column / 4
            bottom = area.bottom + row * height
            box = Box(left, bottom, left + width, bottom + height)
            if box.inside(area) or not found:
                yield box


def _sign(value: float) -> float:
    return 0.0 if abs(value) < 1e-9 else math.copysign(1.0, value)
