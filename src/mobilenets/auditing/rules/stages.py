"""Stages that end a block too early or too late: one row's n too small, the next one's as much too large."""

from __future__ import annotations

from collections.abc import Sequence

from mobilenets.auditing.rules.case import Item, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic
from mobilenets.auditing.rules.wording import diagnostic


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
                diagnostics.append(_claim(context, items, (last - first + 1, channels), _size(rows[other])))
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


def _claim(context: RuleContext, items: list[Item], own: tuple[int, int], other: tuple[int, int]) -> Diagnostic:
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
        fix="repeat each row's block as often as the table's n says",
    )


def _as_found(context: RuleContext, item: Item) -> bool:
    """The difference follows from the channels that really enter and leave its block."""
    entering, leaving = context.block_input(item.block), context.block_output(item.block)
    if item.difference.attribute == "out_channels":
        ratio = item.place.expand_ratio if item.place else 0.0
        return item.part == "expand" and entering is not None and item.found.out_channels == round(entering * ratio)
    asked = context.block_stride(item.block) == 1 and entering == leaving
    return item.both and asked == (item.found.shortcut is not None)
