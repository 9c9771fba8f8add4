"""Matplotlib as a maker of small inline SVG: one style, colours that follow the page's theme, no pyplot state.

The pictures are drawn with a few fixed colours; `svg` then replaces each by a CSS variable that falls back to it, so
the same text is right on a light page, a dark page and alone.
"""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1d2127", "#5b6470", "#dde1e6", "#fefefe"
RIGHT, WRONG, BOUND = "#2468b4", "#c2570c", "#b3261d"

# Twelve colours of at least 4.5:1 against white (names are written in them), the first ones after Okabe and Ito, made
# to be told apart by colour-blind readers. Past those no palette is enough: markers differ and points carry names.
SERIES = (
    "#0072b2",
    "#bf4f00",
    "#007d59",
    "#a8417f",
    "#866000",
    "#1f79ad",
    "#4d5258",
    "#882255",
    "#4b3aa8",
    "#666a00",
    "#117777",
    "#96492a",
)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h", "p", "<", ">", "d", "8")

_THEME = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    PAPER: "--paper",
    BOUND: "--bound",
    **{colour: f"--series-{index}" for index, colour in enumerate(SERIES)},
}

_STYLE = {
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.labelsize": 10.0,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 10.0,
    "text.color": INK,
    "text.parse_math": False,  # a class called "$5" is a name, not a formula
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, searchable, and set in the page's font
    "svg.image_inline": True,
    "image.composite_image": False,
}


def colour(index: int) -> str:
    """Return the colour of the network at `index` of the comparison: the same in every picture."""
    return SERIES[index % len(SERIES)]


def marker(index: int) -> str:
    """Return the marker of the network at `index`; with 13 markers and 12 colours no pair repeats before 156."""
    return MARKERS[index % len(MARKERS)]


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Hold the report's style while a figure is drawn and saved, whatever the user's matplotlibrc says.

    Args:
        name: the picture's name; salts the ids inside the SVG, so that two pictures on one page don't share any.
    """
    with matplotlib.style.context(["default", {**_STYLE, "svg.hashsalt": name}]), warnings.catch_warnings():
        # Class names may be in any script. The font used for measuring lacks most, the reader's browser does not.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        yield


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of `width` x `height` inches with an Agg canvas (text can be measured on it) and its axes."""
    figure = Figure(figsize=(width, height), dpi=72)
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def svg(figure: Figure, name: str, description: str) -> str:
    """Return the figure as one `<svg>` element; call inside `drawing(name)`.

    Args:
        figure: what was drawn.
        name: the same name as given to `drawing`.
        description: what a reader who can't see the picture is told.
    """
    text = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", metadata=nothing)
    return _inline(text.getvalue(), name, description)


def _inline(document: str, name: str, description: str) -> str:
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = _themed(_own_ids(body, name))
    label = html.escape(description, quote=True)
    size = re.search(r'viewBox="[^"]*"', body)
    if size is None:
        raise ValueError("matplotlib wrote an SVG without a viewBox")
    opening = (
        f'<svg {size.group()} role="img" aria-label="{label}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return opening + re.sub(r"\n\s*", "\n", body[body.index(">") + 1 :]).strip()


def _own_ids(body: str, name: str) -> str:
    """Drop the ids nothing refers to (matplotlib numbers every group) and prefix the others with the picture's name."""
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))

    def keep(match: re.Match[str]) -> str:
        return f' id="{name}-{match.group(1)}"' if match.group(1) in used else ""

    body = re.sub(r' id="([^"]*)"', keep, body)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)


def _themed(body: str) -> str:
    body = body.replace("'DejaVu Sans', sans-serif", "system-ui, sans-serif").replace("'DejaVu Sans'", "system-ui")
    pattern = re.compile("|".join(map(re.escape, _THEME)))
    # Only inside style attributes: a class may be named like a colour.
    return re.sub(
        r'style="[^"]*"',
        lambda style: pattern.sub(lambda found: f"var({_THEME[found.group()]}, {found.group()})", style.group()),
        body,
    )


# Where to put the names of points so that none covers another: pure geometry on boxes.


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
    for index in sorted(range(len(points)), key=lambda i: _elbow_space(points, i)):
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


def _elbow_space(points: Sequence[Point], index: int) -> float:
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
