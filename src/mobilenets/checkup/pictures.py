"""Findings about readable pictures one by one: their shapes, colours and other oddities."""

from __future__ import annotations

from collections.abc import Iterator

from mobilenets.checkup.case import Case, finding
from mobilenets.checkup.examination import FLAT, Facts
from mobilenets.checkup.results import Example, Finding, Severity
from mobilenets.image_formats import AS_STORED

TURNED = range(2, 9)
"""EXIF orientations that turn or mirror a picture."""
LONG = 3.0
"""Length over width from which a centre crop loses more than half of a picture's longer side."""
HUGE_PIXELS = 20_000_000
SMALL_SHARE = 0.5
"""Of the data's usual shorter side: smaller pictures are enlarged to something others are not."""


def of_pictures(case: Case) -> Iterator[Finding]:
    """Shapes, colours and other things about readable pictures."""
    seen = list(case.seen())
    sides = sorted(min(facts.header.width, facts.header.height) for _, facts in seen)
    usual = sides[len(sides) // 2] if sides else 0
    checks: list[tuple[str, Severity, str, str, list[Example]]] = [
        (
            "rotated",
            "note",
            "images stored turned, which their EXIF shows upright",
            "nothing here, where they are read upright; other programs may take them as they are stored",
            [
                Example((e.name,), f"orientation {f.header.orientation}")
                for e, f in seen
                if f.header.orientation in TURNED
            ],
        ),
        (
            "one-colour",
            "warning",
            "images of one colour, which show next to nothing",
            "look whether they belong to their class",
            [Example((e.name,)) for e, f in seen if f.contrast < FLAT],
        ),
        (
            "long",
            "warning",
            "images more than three times as long as wide, which lose most of it to the centre crop",
            "cut them to what matters",
            [Example((e.name,), _size(f)) for e, f in seen if _length(f) > LONG],
        ),
        (
            "small",
            "note",
            f"images less than half as large as usual ({usual} pixels), which are enlarged",
            "use larger ones",
            [
                Example((e.name,), _size(f))
                for e, f in seen
                if min(f.header.width, f.header.height) < SMALL_SHARE * usual
            ],
        ),
        (
            "huge",
            "note",
            "images of more than 20 million pixels, which take long to read",
            "shrink them once",
            [Example((e.name,), _size(f)) for e, f in seen if f.header.width * f.header.height > HUGE_PIXELS],
        ),
        (
            "animated",
            "note",
            "images that move, of which only the first frame is used",
            "choose the frames yourself",
            [Example((e.name,)) for e, f in seen if f.header.animated],
        ),
    ]
    for kind, severity, title, advice, examples in checks:
        yield from finding(kind, severity, title, examples, advice)


def of_modes(case: Case) -> Iterator[Finding]:
    """Pictures stored in other colours than most."""
    modes: dict[str, list[Example]] = {}
    for entry, facts in case.seen():
        modes.setdefault(_mode(facts), []).append(Example((entry.name,), facts.header.mode))
    usual_mode = max(modes, key=lambda mode: len(modes[mode]), default="")
    for mode, examples in modes.items():
        if mode != usual_mode:
            title = f"{mode} images, where most are {usual_mode}"
            yield from finding(f"mode-{mode.split()[0]}", "note", title, examples, "nothing: all are read as RGB")


def of_depth(case: Case) -> Iterator[Finding]:
    """Pictures with more than 8 bits a sample that do not use the range they are stored with."""
    deep = [(entry, facts.header.deep) for entry, facts in case.seen() if facts.header.deep is not None]
    whole = [(entry, value.greatest) for entry, value in deep if not value.is_float]
    if case.deep.bits != AS_STORED.bits:
        yield from finding(
            "bit-depth",
            "warning",
            f"16-bit images that hold {case.deep.bits} bits",
            [Example((entry.name,), f"greatest value {greatest:,.0f}") for entry, greatest in whole],
            f"nothing here, where {case.deep.white:,.0f} is read as white; other programs show them near black",
        )
        yield from finding(
            "bit-depth-exceeded",
            "warning",
            f"images with values above the {case.deep.bits} bits of the training images looked at, which become white",
            [Example((e.name,), f"greatest value {top:,.0f}") for e, top in whole if top > case.deep.white],
            "scale all images alike, or store them with 8 bits",
        )
    white = case.deep.float_white
    if white is not None and white != 1:
        yield from finding(
            "float-range",
            "note",
            f"images of floats, of which {white:,.0f} is read as white",
            [Example((e.name,), f"greatest value {value.greatest:,g}") for e, value in deep if value.is_float],
            "nothing, where that is what they hold; scale them to [0, 1] to be sure",
        )


def _length(facts: Facts) -> float:
    width, height = facts.header.width, facts.header.height
    return max(width, height) / min(width, height)


def _size(facts: Facts) -> str:
    return f"{facts.header.width}x{facts.header.height}"


def _mode(facts: Facts) -> str:
    mode = facts.header.mode
    if mode in ("L", "1"):
        return "grey"
    if mode.startswith("I") or mode == "F":
        return "deep grey (more than 8 bits)"
    return {"CMYK": "CMYK", "RGBA": "transparent", "LA": "transparent", "PA": "transparent", "P": "palette"}.get(
        mode, "colour"
    )
