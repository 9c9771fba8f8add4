"""Matplotlib as a maker of small inline SVG: one style, colours that follow the page's theme, no pyplot state.

The pictures are drawn with a few fixed colours; `svg` then replaces each by a CSS variable that falls back to it, so
the same text is right on a light page, a dark page and alone.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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
