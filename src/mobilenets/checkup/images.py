"""Checks of readable images one by one: their shapes, colours, bit depth and other properties."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mobilenets.checkup.context import CheckContext
from mobilenets.checkup.examination import FLAT, ImageFacts
from mobilenets.checkup.registry import CheckFunction, Family, check, issue, rule
from mobilenets.checkup.results import DataIssue, Example
from mobilenets.image_formats import AS_STORED

TURNED = range(2, 9)
"""EXIF orientations that turn or mirror an image."""
LONG = 3.0
"""Length over width from which a centre crop loses more than half of an image's longer side."""
HUGE_PIXELS = 20_000_000
SMALL_SHARE = 0.5
"""Of the data's usual shorter side: smaller images are enlarged to something others are not."""
MODES = ("grey", "deep", "CMYK", "transparent", "palette", "colour")
"""Ways in which pixels are stored, as the ids of their rules name them."""

EXIF = "CIPA DC-008 (Exif), tag Orientation"
CROP = "the centre crop of evaluation"
PILLOW = "Pillow, which reads the images"


@check(Family.IMAGES)
@rule(
    "rotated",
    "note",
    "images stored turned, which their EXIF shows upright",
    source=EXIF,
    effect="a program that ignores EXIF gives the network turned images",
    fix="nothing here, where they are read upright; other programs may take them as they are stored",
)
def rotated(context: CheckContext) -> Iterator[DataIssue]:
    """Images that are turned by their EXIF orientation."""
    yield from issue(
        "rotated",
        [
            Example((entry.name,), f"orientation {facts.header.orientation}")
            for entry, facts in context.seen()
            if facts.header.orientation in TURNED
        ],
    )


@check(Family.IMAGES)
@rule(
    "one-colour",
    "warning",
    "images of one colour, which show next to nothing",
    source=PILLOW,
    effect="there is nothing in them to learn",
    fix="look whether they belong to their class",
)
def one_colour(context: CheckContext) -> Iterator[DataIssue]:
    """Images of next to no contrast."""
    yield from issue("one-colour", [Example((entry.name,)) for entry, facts in context.seen() if facts.contrast < FLAT])


@check(Family.IMAGES)
@rule(
    "long",
    "warning",
    "images more than three times as long as wide, which lose most of it to the centre crop",
    source=CROP,
    effect="what the label names may be cut off",
    fix="cut them to what matters",
)
@rule(
    "small",
    "note",
    "images less than half as large as usual, which are enlarged",
    source=CROP,
    effect="they are blurred where others are sharp",
    fix="use larger ones",
)
@rule(
    "huge",
    "note",
    "images of more than 20 million pixels, which take long to read",
    source=PILLOW,
    effect="decoding them takes most of the time of loading",
    fix="shrink them once",
)
def sizes(context: CheckContext) -> Iterator[DataIssue]:
    """Images of unusual shape or size."""
    seen = list(context.seen())
    sides = sorted(_shorter_side(facts) for _, facts in seen)
    usual = sides[len(sides) // 2] if sides else 0
    yield from issue("long", [Example((entry.name,), _size(facts)) for entry, facts in seen if _length(facts) > LONG])
    yield from issue(
        "small",
        [Example((entry.name,), _size(facts)) for entry, facts in seen if _shorter_side(facts) < SMALL_SHARE * usual],
        title=f"images less than half as large as usual ({usual} pixels), which are enlarged",
    )
    yield from issue(
        "huge",
        [
            Example((entry.name,), _size(facts))
            for entry, facts in seen
            if facts.header.width * facts.header.height > HUGE_PIXELS
        ],
    )


@check(Family.IMAGES)
@rule(
    "animated",
    "note",
    "images that move, of which only the first frame is used",
    source=PILLOW,
    effect="the first frame may not show what the label names",
    fix="choose the frames yourself",
)
def animated(context: CheckContext) -> Iterator[DataIssue]:
    """Images of several frames."""
    yield from issue("animated", [Example((entry.name,)) for entry, facts in context.seen() if facts.header.animated])


def _rules_of_modes() -> Callable[[CheckFunction], CheckFunction]:
    """A rule for each way in which pixels are stored."""

    def decorate(function: CheckFunction) -> CheckFunction:
        for mode in reversed(MODES):
            function = rule(
                f"mode-{mode}",
                "note",
                f"{mode} images, where most are others",
                source=PILLOW,
                effect="colours and transparency that most images have not are converted away",
                fix="nothing: all are read as RGB",
            )(function)
        return function

    return decorate


@check(Family.IMAGES)
@_rules_of_modes()
def modes(context: CheckContext) -> Iterator[DataIssue]:
    """Images stored in other colours than most."""
    found: dict[str, list[Example]] = {}
    for entry, facts in context.seen():
        found.setdefault(_mode(facts), []).append(Example((entry.name,), facts.header.mode))
    usual = max(found, key=lambda mode: len(found[mode]), default="")
    for mode, examples in found.items():
        if mode != usual:
            yield from issue(f"mode-{mode.split()[0]}", examples, title=f"{mode} images, where most are {usual}")


@check(Family.IMAGES)
@rule(
    "bit-depth",
    "warning",
    "16-bit images that hold fewer bits",
    source=PILLOW,
    effect="programs that take 65,535 as white show them near black",
    fix="nothing here, where the greatest value is read as white; other programs show them near black",
)
@rule(
    "bit-depth-exceeded",
    "warning",
    "images with values above those of the training images looked at, which become white",
    source=PILLOW,
    effect="bright parts lose their detail",
    fix="scale all images the same way, or store them with 8 bits",
)
@rule(
    "float-range",
    "note",
    "images of floats, of which another value than 1 is read as white",
    source=PILLOW,
    effect="a wrong range makes all of them too dark or too bright",
    fix="nothing, where that is what they hold; scale them to [0, 1] to be sure",
)
def bit_depth(context: CheckContext) -> Iterator[DataIssue]:
    """Images with more than 8 bits a sample that do not use the range they are stored with."""
    deep = [(entry, facts.header.deep) for entry, facts in context.seen() if facts.header.deep is not None]
    whole = [(entry, value.greatest) for entry, value in deep if not value.is_float]
    bits, white = context.deep.bits, context.deep.white
    if bits != AS_STORED.bits:
        yield from issue(
            "bit-depth",
            [Example((entry.name,), f"greatest value {greatest:,.0f}") for entry, greatest in whole],
            title=f"16-bit images that hold {bits} bits",
            advice=f"nothing here, where {white:,.0f} is read as white; other programs show them near black",
        )
        yield from issue(
            "bit-depth-exceeded",
            [Example((entry.name,), f"greatest value {top:,.0f}") for entry, top in whole if top > white],
            title=f"images with values above the {bits} bits of the training images looked at, which become white",
        )
    float_white = context.deep.float_white
    if float_white is not None and float_white != 1:
        yield from issue(
            "float-range",
            [Example((entry.name,), f"greatest value {value.greatest:,g}") for entry, value in deep if value.is_float],
            title=f"images of floats, of which {float_white:,.0f} is read as white",
        )


def _shorter_side(facts: ImageFacts) -> int:
    return min(facts.header.width, facts.header.height)


def _length(facts: ImageFacts) -> float:
    width, height = facts.header.width, facts.header.height
    return max(width, height) / min(width, height)


def _size(facts: ImageFacts) -> str:
    return f"{facts.header.width}x{facts.header.height}"


def _mode(facts: ImageFacts) -> str:
    mode = facts.header.mode
    if mode in ("L", "1"):
        return "grey"
    if mode.startswith("I") or mode == "F":
        return "deep grey (more than 8 bits)"
    return {"CMYK": "CMYK", "RGBA": "transparent", "LA": "transparent", "PA": "transparent", "P": "palette"}.get(
        mode, "colour"
    )
