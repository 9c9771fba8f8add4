"""Layers that should not be there, or are missing: expansions kept, repeats, dense for depthwise."""

from __future__ import annotations

from collections.abc import Sequence

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext, leaving
from mobilenets.auditing.rules.registry import (
    ERROR,
    OTHER_SHAPES,
    TABLE,
    Aspect,
    check,
    diagnostic,
    grouped,
    rule,
    source_of,
    stages_of,
)
from mobilenets.auditing.structure.differences import AlignedSlot
from mobilenets.auditing.structure.layers import Grouping
from mobilenets.models.layers import make_divisible


@check(Aspect.BLOCKS, reads=("layer",))
@rule(
    "expansion-kept",
    ERROR,
    "a 1x1 expansion in a block whose row has t = 1",
    source=TABLE,
    effect="a layer more to learn and to run that the published weights do not have",
    fix="build the expansion only when expand_ratio != 1",
    measured=True,
)
def expansion_kept(context: RuleContext) -> list[Diagnostic]:
    """A 1x1 convolution in front of the filter of a block whose table row has t = 1."""
    items = []
    for item in context.items("layer"):
        block = _block_without_expansion(context, item)
        if block is None:
            continue
        layer, slot = item.found, item.slot
        assert slot is not None
        assert slot.found_index is not None
        entering = context.found_inputs[slot.found_index]
        if layer.kernel == 1 and not layer.pooled and layer.out_channels in (entering, context.block_output(block)):
            items.append((item, block, entering))
    if not items:
        return []
    places = [context.place(context.blocks[block][0]) for _, block, _ in items]
    item, _, entering = items[0]
    return [
        diagnostic(
            context,
            "expansion-kept",
            [item for item, _, _ in items],
            expected="no expansion at t=1: the block starts with its depthwise filter",
            found=f"the 1x1 expansion kept at t=1, {entering} -> {item.found.out_channels} channels",
            source="; ".join(dict.fromkeys(place.source for place in places if place is not None)),
        )
    ]


@check(Aspect.BLOCKS, reads=("layer",))
@rule(
    "expand-ratio",
    ERROR,
    "another expansion ratio than the table's t, or no expansion where the row has one",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="expand by the table's t",
)
def expanded_at_one(context: RuleContext) -> list[Diagnostic]:
    """A block whose row has t = 1, and so no expansion, widened by another t: the ratio is wrong, not the layer.

    The squeeze-and-excitation behind its filter is then as much wider.
    """
    diagnostics = []
    for item in context.items("layer"):
        block = _block_without_expansion(context, item)
        if block is None or item.slot is None or item.slot.found_index is None:
            continue
        layer, entering = item.found, context.found_inputs[item.slot.found_index]
        if layer.kernel > 1 or layer.pooled or layer.grouping is Grouping.DEPTHWISE or layer.out_channels == entering:
            continue
        squeezes = [one for one in context.items("squeeze.channels") if one.block == block]
        diagnostics.append(
            diagnostic(
                context,
                "expand-ratio",
                [item],
                follows=[one for one in squeezes if _quarter_inside(context, one)],
                expected="expansion t=1: no expansion layer, the block starts with its depthwise filter",
                found=f"t={layer.out_channels / entering:g}: {entering} -> {layer.out_channels} channels",
                source=source_at(context, block),
                fix=f"give this block t=1 (a hidden width of {entering}), and no expansion layer where t is 1",
            )
        )
    return diagnostics


@check(Aspect.BLOCKS, reads=("layer",), reports=("expand-ratio",))
def not_expanded(context: RuleContext) -> list[Diagnostic]:
    """A block without the expansion its row asks for: t = 1 where the table has more."""
    items = []
    for item in context.items("layer"):
        absent = item.slot is not None and item.slot.found is None and item.part == "expand"
        others = [slot for slot in context.blocks.get(item.block, ()) if slot is not item.slot]
        if absent and all(slot.found is not None for slot in others):
            items.append(item)
    diagnostics = []
    for (source, ratio), members in grouped(items, _row_and_ratio).items():
        blocks = {item.block for item in members}
        squeezes = [one for one in context.items("squeeze.channels") if one.block in blocks]
        diagnostics.append(
            diagnostic(
                context,
                "expand-ratio",
                members,
                follows=[one for one in squeezes if _quarter_inside(context, one)],
                expected=f"expansion t={ratio:g} in {stages_of(members)}",
                found="t=1: no expansion layer",
                source=source,
                fix=f"expand by the table's t={ratio:g} in front of the depthwise filter",
            )
        )
    return diagnostics


def _row_and_ratio(item: Item) -> tuple[str, float]:
    assert item.place is not None
    return item.place.source, item.place.expand_ratio


def source_at(context: RuleContext, block: int) -> str:
    """Paper, table and row of a block."""
    return next(place.source for place in context.reference.places if place.block == block)


def _quarter_inside(context: RuleContext, item: Item) -> bool:
    """Squeezed to a quarter of the channels that are really there, however rounded."""
    assert item.slot is not None
    assert item.found.squeeze is not None
    hidden = context.hidden(item.slot)
    return item.found.squeeze.channels in (make_divisible(hidden / 4), hidden // 4)


def _block_without_expansion(context: RuleContext, item: Item) -> int | None:
    """The block in front of which an extra layer stands, when the paper's block begins with its filter."""
    slots = context.comparison.slots
    if item.slot is None or item.slot.found is None or item.slot.expected is not None:
        return None
    after = next((slot for slot in slots[slots.index(item.slot) + 1 :] if slot.expected is not None), None)
    place = context.place(after)
    if after is None or place is None or place.part != "spatial" or after is not context.blocks[place.block][0]:
        return None
    has_projection = any((one := context.place(slot)) and one.expand_ratio == 1 for slot in context.blocks[place.block])
    return place.block if has_projection else None


@check(Aspect.BLOCKS, reads=("grouping", "layer"))
@rule(
    "dense-for-depthwise",
    ERROR,
    "a filter over all channels in place of a depthwise one, or the reverse",
    source=TABLE,
    effect="the filter's cost grows by the number of channels",
    fix="set groups=in_channels on the spatial convolution",
)
def dense_for_depthwise(context: RuleContext) -> list[Diagnostic]:
    """A filter over all channels where the paper has one a channel, or the reverse."""
    items = [item for item in context.items("grouping") if item.both and item.expected.kernel > 1]
    dense = [item for item in items if item.expected.grouping is Grouping.DEPTHWISE]
    reverse = [item for item in items if item.expected.grouping is not Grouping.DEPTHWISE]
    diagnostics = []
    for members, expected in ((dense, "a depthwise convolution, a filter per channel"), (reverse, "a dense one")):
        if not members:
            continue
        slots = {item.difference.slot for item in members}
        follows = [
            item for item in context.items("groups", "multiplier", "out_channels") if item.difference.slot in slots
        ]
        found = dict.fromkeys(_grouping(context, item) for item in members)
        diagnostics.append(
            diagnostic(
                context,
                "dense-for-depthwise",
                members,
                follows=follows,
                expected=expected,
                found=", ".join(found),
                effect="the filter's cost grows by the number of channels" if members is dense else "",
                fix="set groups=in_channels on the spatial convolution"
                if members is dense
                else "set groups=1 on the spatial convolution",
            )
        )
    return diagnostics + _standard_block(context)


def _grouping(context: RuleContext, item: Item) -> str:
    layer = item.found
    if layer.grouping is Grouping.GROUPED:
        return f"a convolution of {layer.groups} groups"
    return (
        "a dense convolution, groups=1: every filter sees all channels"
        if layer.grouping is Grouping.DENSE
        else "one filter a channel"
    )


def _standard_block(context: RuleContext) -> list[Diagnostic]:
    """One dense k x k convolution in place of the depthwise filter and the 1x1 behind it."""
    kernels = {item.block: item for item in context.items("kernel") if item.both and item.part in ("project", "expand")}
    items, follows = [], []
    for item in context.items("layer"):
        merged = kernels.get(item.block)
        missing = item.slot is not None and item.slot.found is None and item.part == "spatial"
        if missing and merged is not None and merged.found.kernel == item.expected.kernel:
            items.append(item)
            follows += [one for one in context.items("kernel", "stride", "padding") if one.slot is merged.slot]
    if not items:
        return []
    return [
        diagnostic(
            context,
            "dense-for-depthwise",
            [item for item in follows if item.difference.attribute == "kernel"],
            follows=[*items, *follows],
            expected="a depthwise filter, then a 1x1 convolution",
            found="one dense convolution with the filter's kernel",
            fix="split it: depthwise k x k with groups=in_channels, norm, activation; then 1x1",
        )
    ]


@check(Aspect.BLOCKS, reads=("layer",))
@rule(
    "repeats",
    ERROR,
    "whole blocks missing, extra or in place of others",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="repeat the row's block as often as the table's n says",
    measured=True,
)
def repeats(context: RuleContext) -> list[Diagnostic]:
    """Whole blocks missing or extra: runs of such layers with a spatial filter among them."""
    replaced = _replaced(context)
    context = context.without(replaced)
    items = context.items("layer")
    missing = [item for item in items if item.slot and item.slot.found is None and _whole_block_missing(context, item)]
    diagnostics = [_missing(context, row, members) for row, members in _by_row(missing).items()]
    extra = _runs([item for item in items if item.slot and item.place is None])
    return [*replaced, *diagnostics, *[_extra(context, run) for run in extra]]


def _replaced(context: RuleContext) -> list[Diagnostic]:
    """Published blocks missing right where other layers stand: those are in their place, and neither costs alone."""
    diagnostics = []
    for run in _next_to_each_other(context.items("layer")):
        lost = [item for item in run if item.slot and item.slot.found is None]
        come = [item for item in run if item.slot and item.slot.expected is None]
        if not (any(_whole_block_missing(context, item) for item in lost) and len(come) > 1):
            continue
        diagnostics.append(
            diagnostic(
                context,
                "repeats",
                [*come, *lost],
                expected=f"{stages_of(lost)} of the table",
                found=f"{len(come)} layers of other blocks in their place",
                source=source_of(context, lost),
                fix="build these blocks as the table's rows say",
                measured=False,
            )
        )
    return diagnostics


def _next_to_each_other(items: Sequence[Item]) -> list[list[Item]]:
    """Runs of items whose slots follow one another."""
    runs: list[list[Item]] = []
    for item in items:
        assert item.slot is not None
        last = runs[-1][-1].slot if runs else None
        if last is not None and item.slot.index == last.index + 1:
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def _whole_block_missing(context: RuleContext, item: Item) -> bool:
    return bool(item.block) and all(slot.found is None for slot in context.blocks[item.block])


def _by_row(items: Sequence[Item]) -> dict[str, list[Item]]:
    rows: dict[str, list[Item]] = {}
    for item in items:
        rows.setdefault(item.place.source if item.place else "", []).append(item)
    return rows


def _missing(context: RuleContext, row: str, members: list[Item]) -> Diagnostic:
    blocks = {item.block for item in members}
    follows = [item for item in context.items("shortcut", "shortcut.") if item.block - 1 in blocks]
    verb = "is" if len(blocks) == 1 else "are"
    total = len({place.block for place in context.reference.places if place.source == row})
    return diagnostic(
        context,
        "repeats",
        members,
        follows=[item for item in follows if not _follows_rule(context, item)],
        expected=f"{total} block{'s' if total > 1 else ''} of this row",
        found=f"{stages_of(members)} {verb} missing, {total - len(blocks) or 'none'} left",
    )


def _follows_rule(context: RuleContext, item: Item) -> bool:
    """A difference in a shortcut that is wrong by itself: not what the found stride and channels ask for."""
    if not item.both:
        return True
    asked = context.block_stride(item.block) == 1 and context.block_input(item.block) == context.block_output(
        item.block
    )
    return asked != (item.found.shortcut is not None)


def _runs(items: Sequence[Item]) -> list[list[Item]]:
    """Runs of extra layers next to each other that hold a spatial filter and a 1x1 layer: blocks, not single layers."""
    runs = _next_to_each_other(items)
    return [run for run in runs if len(run) > 1 and len({item.found.kernel > 1 for item in run}) == 2]


def _extra(context: RuleContext, run: list[Item]) -> Diagnostic:
    count = sum(1 for item in run if item.found.kernel > 1)
    beside = _neighbour(context, run)
    return diagnostic(
        context,
        "repeats",
        run,
        expected="as many blocks as the table's n says",
        found=f"{count} block{'s' if count > 1 else ''} more, of {_width(context, run)} channels",
        source=source_of(context, beside),
    )


def _width(context: RuleContext, run: Sequence[Item]) -> int:
    slot = run[-1].slot
    assert slot is not None
    assert slot.found is not None
    assert slot.found_index is not None
    return leaving(slot.found, context.found_inputs[slot.found_index])


def _neighbour(context: RuleContext, run: Sequence[Item]) -> list[Item]:
    """The published layer before the run, as an item, for its source."""
    slots = context.comparison.slots
    first = run[0].slot
    assert first is not None
    before: Sequence[AlignedSlot] = [slot for slot in slots[: slots.index(first)] if slot.expected is not None]
    return [Item(run[0].difference, before[-1], context.place(before[-1]))] if before else []
