"""Strides: moved, left out, fewer for small images; and stages that end at other blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext
from mobilenets.auditing.rules.registry import (
    ERROR,
    NOTE,
    OTHER_SHAPES,
    TABLE,
    Aspect,
    check,
    diagnostic,
    plain,
    rule,
    source_of,
    stages_of,
)
from mobilenets.auditing.structure.published import reference

SMALL_INPUT_SOURCE = "stride plan for small images: the first stride-2 steps become 1 (the usual CIFAR form)"
FIRST_VERSION_SOURCE = "arXiv 1905.02244v5, table 1; the rows found are those of its first version"


@check(Aspect.NETWORK, reads=("stride",))
@rule(
    "v3-first-version",
    ERROR,
    "MobileNetV3-Large by the rows of the first version of its paper",
    source=FIRST_VERSION_SOURCE,
    effect=OTHER_SHAPES,
    fix="take the rows of the paper's last version: its first 160-channel block has stride 2, "
    "both after it exp size 960 and stride 1",
)
def first_version(context: RuleContext) -> list[Diagnostic]:
    """V3-Large by the first arXiv version: a 160-channel block at stride 1 before the one at stride 2.

    That network has 5,147,152 parameters and 245.57 M multiply-adds. The second of its blocks squeezes 672 channels,
    has stride 2 and no shortcut, all of which follow from the row.
    """
    if not context.reference.name.startswith("mobilenet_v3_large"):
        return []
    strides = [item for item in context.items("stride") if item.part == "spatial" and item.both]
    for one, other in pairwise(strides):
        later = other.block == one.block + 1 and (one.expected.stride, one.found.stride) == (2, 1)
        if not later or (other.expected.stride, other.found.stride) != (1, 2):
            continue
        expands = {item.block: item for item in context.items("out_channels") if item.part == "expand"}
        narrow = expands.get(other.block)
        if narrow is None or narrow.found.out_channels != _expansion(context, one.block):
            continue
        follows = [
            item for item in context.items("squeeze.channels", "shortcut", "shortcut.") if item.block == other.block
        ]
        items = [one, narrow, other]
        return [
            diagnostic(
                context,
                "v3-first-version",
                items,
                follows=follows,
                expected=f"block {one.block} at stride 2, then exp size {narrow.expected.out_channels} at stride 1",
                found=f"block {one.block} at stride 1, then exp size {narrow.found.out_channels} at stride 2",
            )
        ]
    return []


def _expansion(context: RuleContext, block: int) -> int | None:
    """Channels that leave the found expansion of a block."""
    for slot in context.blocks.get(block, ()):
        place = context.place(slot)
        if place is not None and place.part == "expand" and slot.found is not None:
            return slot.found.out_channels
    return None


@check(Aspect.STRIDES, reads=("stride",))
@rule(
    "layer-extra",
    ERROR,
    "a single layer that the table has not",
    source=TABLE,
    effect="published weights don't fit",
    fix="remove the layer",
)
def in_extra_filter(context: RuleContext) -> list[Diagnostic]:
    """A filter at stride 1 whose stride a filter more, right beside it, takes: one mistake, not two that cancel out."""
    extra = {
        one.slot.index: one for one in context.items("layer") if one.slot is not None and one.slot.expected is None
    }
    items, follows = [], []
    for item in context.items("stride"):
        if not item.both or item.found.stride != 1 or item.slot is None:
            continue
        beside = [extra[place] for place in (item.slot.index + 1, item.slot.index - 1) if place in extra]
        beside = [one for one in beside if one.found.kernel > 1 and one.found.stride == item.expected.stride]
        if beside:
            items.append(beside[0])
            follows.append(item)
    if not items:
        return []
    kernel = items[0].found.kernel
    return [
        diagnostic(
            context,
            "layer-extra",
            items,
            follows=follows,
            expected=f"stride {follows[0].expected.stride} in the convolution of {stages_of(follows)}, no other filter",
            found=f"stride 1 there, and a {plain(items[0].found.grouping)} {kernel}x{kernel} convolution more, which "
            "takes the stride",
            source=source_of(context, follows),
            effect="the published network has no weights for it, and the convolution in front works on larger maps",
            fix="give the convolution its stride, and remove the filter beside it",
        )
    ]


@check(Aspect.STRIDES, reads=("stride",))
@rule(
    "stride-shifted",
    ERROR,
    "stride 2 in another block than the table's, with the same product",
    source=TABLE,
    effect="parameters stay identical, so neither a count nor a checkpoint shows it; "
    "every map behind the moved step has another size, and weights trained for the table's strides don't answer right",
    fix="move stride 2 back to the block that has it in the table",
    measured=True,
)
@rule(
    "strides",
    ERROR,
    "another product of strides than the table's",
    source=TABLE,
    effect="the maps behind have another size than the table's",
    fix="take the stride from the table's row for its first block, 1 for its repeats",
    measured=True,
)
@rule(
    "input-strides",
    NOTE,
    "the first stride-2 steps at stride 1, for small images",
    source=SMALL_INPUT_SOURCE,
    effect="weights trained with the table's strides load, but were trained on smaller maps than these",
    fix="nothing, for small images; audit with --image-size 32 to count at that size",
)
def strides(context: RuleContext) -> list[Diagnostic]:
    """Steps moved, left out or added; early ones left out are the form for small images, a note."""
    items = [item for item in context.items("stride") if item.both]
    if not items:
        return []
    if _small_input(context):
        return [_input_form(context, items)]
    shorter = [item for item in items if item.found.stride < item.expected.stride]
    longer = [item for item in items if item.found.stride > item.expected.stride]
    follows = _shortcuts(context, items)
    if math.prod(item.expected.stride for item in items) == math.prod(item.found.stride for item in items):
        return [
            diagnostic(
                context,
                "stride-shifted",
                items,
                follows=follows,
                expected=f"stride 2 in {stages_of(shorter)}",
                found=f"stride 1 there, stride 2 in {stages_of(longer)}",
                source=source_of(context, shorter),
                fix=f"move stride 2 from {stages_of(longer)} back to {stages_of(shorter)}",
            )
        ]
    expected = ", ".join(dict.fromkeys(str(item.expected.stride) for item in items))
    found = ", ".join(dict.fromkeys(str(item.found.stride) for item in items))
    return [
        diagnostic(
            context,
            "strides",
            items,
            follows=follows,
            expected=f"stride {expected} in {stages_of(items)}",
            found=f"stride {found}",
        )
    ]


def _small_input(context: RuleContext) -> bool:
    """The table's strides, but for the earliest steps, which became 1; a step or more is left.

    Seen against the table for ImageNet, not against the reference, which may be planned for another small size.
    """
    published = context.reference
    table = reference(published.name, width_mult=published.width_mult, imagenet_strides=True).chain.layers
    left_out, later = 0, 0
    for slot in context.comparison.slots:
        if slot.reference_index is None or slot.found is None:
            continue
        expected = table[slot.reference_index].stride
        if slot.found.stride == expected:
            later += expected > 1
        elif slot.found.stride == 1 and not later:
            left_out += 1
        else:
            return False
    return left_out > 0 and later > 0


def _input_form(context: RuleContext, items: Sequence[Item]) -> Diagnostic:
    factor = math.prod(layer.stride for layer in context.found.layers)
    return diagnostic(
        context,
        "input-strides",
        items,
        expected=f"stride 2 in {stages_of(items)}",
        found=f"stride 1: an image of 32 pixels leaves a map of {-(-32 // factor)}x{-(-32 // factor)}",
    )


def _shortcuts(context: RuleContext, items: Sequence[Item]) -> list[Item]:
    """Shortcuts there or not because of these strides."""
    blocks = {item.block for item in items if item.block}
    follows = []
    for item in context.items("shortcut"):
        fits = context.block_stride(item.block) == 1 and context.block_input(item.block) == context.block_output(
            item.block
        )
        if item.both and item.block in blocks and fits == (item.found.shortcut is not None):
            follows.append(item)
    return follows


# Stages that end a block too early or too late: one row's n too small, the next one's as much too large.


@check(Aspect.STAGES, reads=("out_channels",), reports=("repeats",))
def moved_borders(context: RuleContext) -> list[Diagnostic]:
    """Blocks at the border of two rows that have the other row's channels, though as many blocks as published.

    The channels that leave such a block are those of the row beside its own, and so are those of all blocks between it
    and that row. Widths inside the blocks and shortcuts follow from them.
    """
    projections = {item.block: item for item in context.items("out_channels") if item.both and item.part == "project"}
    rows = _rows(context)
    diagnostics = []
    for number, (first, last, channels) in enumerate(rows):
        later = _taken(projections, range(last, first - 1, -1), rows[number + 1][2]) if number + 1 < len(rows) else []
        earlier = _taken(projections, range(first, last + 1), rows[number - 1][2]) if number else []
        # With no block of its own left the row is not shortened but has other channels.
        for items, other in ((later, number + 1), (earlier, number - 1)):
            if items and len(items) < last - first + 1:
                diagnostics.append(_moved(context, items, (last - first + 1, channels), _size(rows[other])))
    return diagnostics


_Row = tuple[int, int, int]
"""First and last block of a stage, and the channels that leave its blocks."""


def _rows(context: RuleContext) -> list[_Row]:
    rows: list[_Row] = []
    for slot in context.comparison.slots:
        place = context.place(slot)
        if place is None or slot.expected is None or place.part != "project":
            continue
        channels = slot.expected.out_channels
        if rows and rows[-1][2] == channels:
            rows[-1] = (rows[-1][0], place.block, channels)
        else:
            rows.append((place.block, place.block, channels))
    return rows


def _size(row: _Row) -> tuple[int, int]:
    return row[1] - row[0] + 1, row[2]


def _taken(projections: dict[int, Item], blocks: Sequence[int], channels: int) -> list[Item]:
    """The blocks in this order, up to the first that does not have these channels."""
    taken = []
    for block in blocks:
        item = projections.get(block)
        if item is None or item.found.out_channels != channels:
            break
        taken.append(item)
    return taken


def _moved(context: RuleContext, items: list[Item], own: tuple[int, int], other: tuple[int, int]) -> Diagnostic:
    blocks = {item.block for item in items} | {item.block + 1 for item in items}
    follows = [
        item
        for item in context.items("out_channels", "shortcut", "shortcut.")
        if item.block in blocks and item.part in ("expand", "project") and _as_found(context, item)
    ]
    (own_count, own_channels), (other_count, other_channels) = own, other
    return diagnostic(
        context,
        "repeats",
        items,
        follows=[item for item in follows if not any(item is one for one in items)],
        expected=f"{own_count} blocks of {own_channels} channels and {other_count} of {other_channels}",
        found=f"{own_count - len(items)} and {other_count + len(items)}",
    )


def _as_found(context: RuleContext, item: Item) -> bool:
    """The difference follows from the channels that really enter and leave its block."""
    entering, leaving = context.block_input(item.block), context.block_output(item.block)
    if item.difference.attribute == "out_channels":
        ratio = item.place.expand_ratio if item.place else 0.0
        return item.part == "expand" and entering is not None and item.found.out_channels == round(entering * ratio)
    asked = context.block_stride(item.block) == 1 and entering == leaving
    return item.both and asked == (item.found.shortcut is not None)
