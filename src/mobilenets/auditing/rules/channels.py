"""Wrong numbers of channels, by the mistake that makes them: rounding, hidden width, head, V3's table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext
from mobilenets.auditing.rules.registry import (
    ERROR,
    OTHER_SHAPES,
    TABLE,
    Aspect,
    check,
    diagnostic,
    grouped,
    pairs,
    rule,
)
from mobilenets.auditing.structure.layers import ShortcutKind
from mobilenets.auditing.structure.published import reference
from mobilenets.models.layers import make_divisible

Rounding = Callable[[float], int]

CODE = "TF-slim mobilenet.py, make_divisible: to the nearest multiple of 8, never more than 10 % down"
ENOUGH = 0.6
"""Share of the layers a rounding would change that must have changed so: other mistakes may cover the rest."""


UNROUNDED: tuple[Rounding, ...] = (int, round, lambda channels: int(channels + 0.999))
WITHOUT_TEN_PERCENT: tuple[Rounding, ...] = (
    lambda channels: max(8, int(channels + 4) // 8 * 8),
    lambda channels: max(8, round(channels / 8) * 8),
    lambda channels: max(8, int(channels) // 8 * 8),
    lambda channels: max(8, -(-int(channels) // 8) * 8),
)
"""To the nearest multiple of 8, by half up and by Python's `round`; down; up."""
ROUNDINGS = (*UNROUNDED, *WITHOUT_TEN_PERCENT, make_divisible)


def _channel_items(context: RuleContext) -> list[Item]:
    """Open differences in channels of layers both networks have, the classifier's classes apart."""
    return [item for item in context.items("out_channels") if item.both and item.part != "classifier"]


def _table_channels(context: RuleContext) -> dict[int, int]:
    """The table's own channels, before any width multiplier, by the index in the reference."""
    published = context.reference
    whole = reference(published.name, width_mult=1.0, image_size=published.chain.image_size)
    return {index: layer.out_channels for index, layer in enumerate(whole.chain.layers)}


def _table(context: RuleContext, table: dict[int, int], item: Item) -> int | None:
    assert item.slot is not None
    return None if item.slot.reference_index is None else table.get(item.slot.reference_index)


def _expands(items: Sequence[Item]) -> list[Item]:
    return [item for item in items if item.part == "expand"]


def _ratio_widths(item: Item, channels: int | None) -> set[int]:
    """What an expansion of `channels` by the table's ratio gives, under any rounding."""
    if channels is None or item.place is None or not item.place.expand_ratio:
        return set()
    return {rounding(channels * item.place.expand_ratio) for rounding in ROUNDINGS}


def _followers(context: RuleContext, items: Sequence[Item]) -> list[Item]:
    """Differences that come of other channels around them: squeezes a quarter as wide, shortcuts that fit or not."""
    blocks = {item.block for item in items if item.block}
    squeezes = [item for item in context.items("squeeze.channels") if item.block in blocks and _quarter(context, item)]
    shortcuts = [item for item in context.items("shortcut") if item.both and _fits(context, item)]
    # What leaves a block or the stem enters the next one, whose shortcut may then fit or not.
    blocks |= {item.block + 1 for item in items if item.block or item.part == "stem"}
    return squeezes + [item for item in shortcuts if item.block in blocks]


def _quarter(context: RuleContext, item: Item) -> bool:
    assert item.slot is not None
    assert item.found.squeeze is not None
    return item.found.squeeze.channels == make_divisible(context.hidden(item.slot) / 4)


def _fits(context: RuleContext, item: Item) -> bool:
    """The shortcut is there, or not, as the found channels and strides ask, though not as the table's do.

    One through a convolution, a pool or channels of zeros is a fault of its own, whatever the channels.
    """
    entering, leaving = context.block_input(item.block), context.block_output(item.block)
    asked = context.block_stride(item.block) == 1 and entering == leaving
    found = item.found.shortcut
    if found is not None and found.kind is not ShortcutKind.IDENTITY:
        return False
    return asked == (found is not None)


@check(Aspect.ROUNDING, reads=("out_channels",))
@rule(
    "hidden-from-output",
    ERROR,
    "a hidden width of t times the channels that leave the block instead of those that enter it",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="compute hidden = in_channels * expand_ratio",
    measured=True,
)
def hidden_from_output(context: RuleContext) -> list[Diagnostic]:
    """The hidden width is t times the channels that leave the block instead of those that enter it."""
    items = []
    for item in _expands(_channel_items(context)):
        inside, outside = context.block_input(item.block), context.block_output(item.block)
        found = item.found.out_channels
        if inside != outside and found in _ratio_widths(item, outside) and found not in _ratio_widths(item, inside):
            items.append(item)
    if not items:
        return []
    expected, found_widths = pairs(items)
    return [
        diagnostic(
            context,
            "hidden-from-output",
            items,
            follows=_followers(context, items),
            expected=f"hidden width t x INPUT channels: {expected}",
            found=f"t x OUTPUT channels: {found_widths}",
        )
    ]


@check(Aspect.ROUNDING, reads=("out_channels",))
@rule(
    "v3-scaled-table",
    ERROR,
    "V3 at another width than 1 with the table's expansions scaled, instead of a ratio of the scaled input",
    source="TF-slim mobilenet_v3.py and its released 0.75 weights; torchvision scales the table instead",
    effect="published V3 weights of this width don't fit",
    fix="compute exp = make_divisible(in_channels * row.exp / row.in) from the scaled input",
)
def scaled_table(context: RuleContext) -> list[Diagnostic]:
    """V3 at a width other than 1 with the expansions of the scaled table instead of a ratio of the scaled input.

    It is how torchvision scales V3; the released weights of width 0.75 have the other widths.
    """
    if not context.reference.name.startswith("mobilenet_v3") or context.reference.width_mult == 1:
        return []
    table, width = _table_channels(context), context.reference.width_mult
    items = []
    for item in _expands(_channel_items(context)):
        base = _table(context, table, item)
        if base is not None and item.found.out_channels == make_divisible(base * width):
            items.append(item)
    if len(items) < 2:
        return []
    expected, found = pairs(items)
    return [
        diagnostic(
            context,
            "v3-scaled-table",
            items,
            follows=_followers(context, items),
            expected=f"exp sizes as a ratio of the scaled input: {expected}",
            found=f"the table's exp sizes times the width: {found}",
        )
    ]


@check(Aspect.ROUNDING, reads=("out_channels",), reports=("rounding-missing",))
@rule(
    "head-scaled",
    ERROR,
    "a head that shrinks below width 1",
    source=TABLE,
    effect="fewer features for the classifier; published weights don't fit",
    fix="build it with make_divisible(channels * max(1.0, width_mult))",
)
@rule(
    "head-not-scaled",
    ERROR,
    "a head that does not grow above width 1",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="build it with make_divisible(channels * max(1.0, width_mult))",
)
@rule(
    "head-width",
    ERROR,
    "a head of another width altogether",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="make the layer as wide as the table says",
)
def head(context: RuleContext) -> list[Diagnostic]:
    """The last wide layer: scaled below its full width, not scaled above, or of another width altogether."""
    return [_head(context, item) for item in _channel_items(context) if _is_head(context, item)]


def _is_head(context: RuleContext, item: Item) -> bool:
    """The layer that keeps its width below 1: V3's penultimate, otherwise the head."""
    parts = {place.part for place in context.reference.places}
    return item.part == ("penultimate" if "penultimate" in parts else "head")


def _head(context: RuleContext, item: Item) -> Diagnostic:
    width, expected, found = context.reference.width_mult, item.expected.out_channels, item.found.out_channels
    if width < 1 and found in {rounding(expected * width) for rounding in ROUNDINGS}:
        return diagnostic(
            context,
            "head-scaled",
            [item],
            expected=f"{expected:,} channels: the head does not shrink below width 1",
            found=f"{found:,} channels, scaled by {width:g}",
            fix=f"build it with make_divisible({expected} * max(1.0, width_mult))",
        )
    if width > 1 and expected in {rounding(found * width) for rounding in ROUNDINGS}:
        return diagnostic(
            context,
            "head-not-scaled",
            [item],
            expected=f"{expected:,} channels: above width 1 the head grows",
            found=f"{found:,} channels",
            fix=f"build it with make_divisible({found} * max(1.0, width_mult))",
        )
    if width > 1 and found == int(found / width * width) and _unrounded_head(context, item):
        return diagnostic(
            context,
            "rounding-missing",
            [item],
            expected=f"{expected:,}",
            found=f"{found:,} channels",
            fix="round channel counts with make_divisible(channels, 8)",
        )
    return diagnostic(
        context,
        "head-width",
        [item],
        expected=f"{expected:,} channels",
        found=f"{found:,} channels",
        fix=f"make this layer {expected:,} wide",
    )


def _unrounded_head(context: RuleContext, item: Item) -> bool:
    table = _table(context, _table_channels(context), item)
    return table is not None and item.found.out_channels in {
        rounding(table * context.reference.width_mult) for rounding in UNROUNDED
    }


@check(Aspect.ROUNDING, reads=("out_channels",))
@rule(
    "rounding-missing",
    ERROR,
    "channel counts that are not rounded to multiples of 8",
    source=CODE,
    effect="published weights of this width don't fit",
    fix="round channel counts with make_divisible(channels, 8), which never goes below 90 % of the unrounded",
)
@rule(
    "rounding-ten-percent",
    ERROR,
    "channel counts rounded to multiples of 8 without the rule against more than 10 % down",
    source=CODE,
    effect="published weights of this width don't fit",
    fix="round channel counts with make_divisible(channels, 8), which never goes below 90 % of the unrounded",
)
def rounding(context: RuleContext) -> list[Diagnostic]:
    """Channel counts not rounded to multiples of 8, or rounded to the nearest without the 10 % rule."""
    table, width = _table_channels(context), context.reference.width_mult
    if not table or width == 1:
        return []
    candidates = [("rounding-missing", one) for one in UNROUNDED] + [
        ("rounding-ten-percent", one) for one in WITHOUT_TEN_PERCENT
    ]
    explained = [(len(items), rule, items) for rule, one in candidates if (items := _rounded_so(context, table, one))]
    if not explained:
        return []
    _, rule, items = max(explained, key=lambda candidate: candidate[0])
    hidden = [item for item in _expands(_channel_items(context)) if _follows_input(context, item, table)]
    expected, found = pairs(items)
    everywhere = [*items, *hidden]
    return [
        diagnostic(
            context,
            rule,
            items,
            follows=[*hidden, *_followers(context, everywhere)],
            expected=f"multiples of 8: {expected}"
            if rule == "rounding-missing"
            else f"never more than 10 % down: {expected}",
            found=f"{'unrounded' if rule == 'rounding-missing' else 'rounded without the 10 % rule'}: {found}",
            source=CODE,
            effect="published weights of this width don't fit",
            fix="round channel counts with make_divisible(channels, 8), which never goes below 90 % of the unrounded",
        )
    ]


def _rounded_so(context: RuleContext, table: dict[int, int], rounding: Rounding) -> list[Item]:
    """The differences this rounding explains, when it explains enough of what it would change."""
    changed, explained = 0, []
    opened = {item.difference.slot: item for item in _channel_items(context)}
    for slot in context.comparison.slots:
        place = context.place(slot)
        if place is None or place.part in ("expand", "spatial", "classifier", "attention") or slot.expected is None:
            continue
        predicted = rounding(table[slot.reference_index or 0] * _factor(context, place.part))
        if predicted == slot.expected.out_channels or slot.found is None:
            continue
        changed += 1
        item = opened.get(slot.index)
        if item is not None and item.found.out_channels == predicted:
            explained.append(item)
    return explained if len(explained) >= ENOUGH * changed else []


def _factor(context: RuleContext, part: str) -> float:
    """The width a part is scaled by: the widest head does not shrink."""
    width = context.reference.width_mult
    has_penultimate = any(place.part == "penultimate" for place in context.reference.places)
    return max(1.0, width) if part == ("penultimate" if has_penultimate else "head") else width


def _follows_input(context: RuleContext, item: Item, table: dict[int, int] | None = None) -> bool:
    """The hidden width is right for the channels that really enter the block (or scaled like the table's row)."""
    found, base = item.found.out_channels, _table(context, table, item) if table else None
    scaled = set() if base is None else {rounding(base * context.reference.width_mult) for rounding in ROUNDINGS}
    return found in _ratio_widths(item, context.block_input(item.block)) | scaled


@check(Aspect.CHANNELS, reads=("out_channels",), reports=("expand-ratio",))
def expand_ratio(context: RuleContext) -> list[Diagnostic]:
    """Another expansion ratio than the table's t, the same in every block that differs."""
    diagnostics = []
    items = [item for item in _expands(_channel_items(context)) if context.block_input(item.block)]
    items = [item for item in items if not _follows_input(context, item)]
    for (expected, found), members in grouped(items, lambda item: _ratios(context, item)).items():
        if len(members) > 1 and found == int(found):
            diagnostics.append(
                diagnostic(
                    context,
                    "expand-ratio",
                    members,
                    follows=_followers(context, members),
                    expected=f"expansion t={expected:g}",
                    found=f"t={found:g}",
                    fix=f"expand by the table's t={expected:g}",
                )
            )
    return diagnostics


def _ratios(context: RuleContext, item: Item) -> tuple[float, float]:
    entering = context.block_input(item.block) or 1
    return (item.place.expand_ratio if item.place else 0.0, item.found.out_channels / entering)


@check(Aspect.CHANNELS, reads=("out_channels",))
@rule(
    "channels",
    ERROR,
    "any other number of channels than the table's",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="make the layer as wide as the table says",
)
def channels(context: RuleContext) -> list[Diagnostic]:
    """Any other number of channels: one diagnostic for the equal differences of a row, with the hidden widths after."""
    items = _channel_items(context)
    hidden = [item for item in _expands(items) if _follows_input(context, item)]
    causes = [item for item in items if not any(item is one for one in hidden)]
    if not causes and hidden:
        causes, hidden = hidden, []
    groups = grouped(causes, lambda item: (item.place.source if item.place else "", *_values(item)))
    diagnostics = []
    for number, ((_, expected, found), members) in enumerate(groups.items()):
        follows = [one for one in hidden if _entered_from(members, one)] if number < len(groups) - 1 else hidden
        hidden = [one for one in hidden if not any(one is other for other in follows)]
        diagnostics.append(
            diagnostic(
                context,
                "channels",
                members,
                follows=[*follows, *_followers(context, [*members, *follows])],
                expected=f"{expected} channels",
                found=f"{found} channels",
                fix=f"make it {expected} wide",
            )
        )
    return diagnostics


def _values(item: Item) -> tuple[int, int]:
    return item.expected.out_channels, item.found.out_channels


def _entered_from(members: Sequence[Item], hidden: Item) -> bool:
    """The hidden width is of a block one of these layers leads into."""
    return any(hidden.block in (item.block, item.block + 1) for item in members)
