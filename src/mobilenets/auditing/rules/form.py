"""The form of the layers: kernel, dilation, groups, padding, layer scale, anti-aliasing, attention."""

from __future__ import annotations

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext
from mobilenets.auditing.rules.registry import (
    ERROR,
    LOADS,
    NOTE,
    OTHER_SHAPES,
    TABLE,
    Aspect,
    check,
    diagnostic,
    grouped,
    plain,
    rule,
)
from mobilenets.auditing.structure.cost import layer_cost
from mobilenets.auditing.structure.differences import AlignedSlot
from mobilenets.auditing.structure.layers import ChainLayer, Padding
from mobilenets.models.layers import same_padding

SAME_SOURCE = "TensorFlow's padding SAME, in which the published TF-slim weights were trained"


@check(Aspect.PADDING, reads=("padding",))
@rule(
    "padding-place",
    ERROR,
    "zeros in front of a block's first convolution instead of at its depthwise filter",
    source=TABLE,
    effect="the same weights, but the border the filter reads holds what norm and activation make of zeros; "
    "the layers between work on larger maps",
    fix="pad the depthwise convolution itself: padding=(kernel_size - 1) // 2, none in front of the block",
)
def padding_place(context: RuleContext) -> list[Diagnostic]:
    """Zeros around the map that enters a block, where its first layer is a 1x1, and none for the filter behind it."""
    open_items = [item for item in context.items("padding") if item.both and item.block]
    bare = {item.block: item for item in open_items if item.part == "spatial" and item.found.padding is Padding.VALID}
    early = [
        item
        for item in open_items
        if item.found.padding is Padding.OTHER
        and item.block in bare
        and item.difference.slot != _slot(bare[item.block])
    ]
    if not early:
        return []
    return [
        diagnostic(
            context,
            "padding-place",
            early,
            follows=[bare[item.block] for item in early],
            expected="zeros around the map that the depthwise filter reads",
            found=f"{_zeros(early[0].found)} in front of the block's first convolution, none at its filter",
        )
    ]


def _slot(item: Item) -> int | None:
    return item.difference.slot


def _zeros(layer: ChainLayer) -> str:
    before, behind = layer.zeros
    if before == behind:
        return f"{before} pixel{'' if before == 1 else 's'} of zeros on each side"
    return f"zeros on {before} pixels before and {behind} behind the map"


@check(Aspect.PADDING, reads=("padding",))
@rule(
    "same-padding",
    NOTE,
    "TensorFlow's SAME padding in every stride-2 convolution, or even zeros in its place",
    source=SAME_SOURCE,
    effect="same shapes; weights trained with the one answer worse with the other",
    fix="nothing; keep the padding your weights were trained with",
)
@rule(
    "padding",
    ERROR,
    "no padding, other zeros, or a mixture",
    source=TABLE,
    effect="maps of another size, or moved by a pixel",
    fix="set padding=(kernel_size - 1) // 2",
)
def padding(context: RuleContext) -> list[Diagnostic]:
    """TensorFlow's SAME throughout is a note; mixed, or zeros elsewhere or missing, an error."""
    items = [item for item in context.items("padding") if item.both]
    uneven = [item for item in items if _even(item)]
    diagnostics = []
    if uneven:
        kept = [
            slot
            for slot in context.comparison.slots
            if slot.expected is not None
            and slot.found is not None
            and _strided(slot.found)
            and slot.found.padding is uneven[0].expected.padding
            and _tells(context, slot)
        ]
        found = uneven[0].found.padding
        if kept:
            diagnostics.append(_mixed(context, uneven, found))
        else:
            diagnostics.append(_uniform(context, uneven, found))
    rest = [item for item in items if not any(item is one for one in uneven)]
    for (expected, other), members in grouped(rest, _padding_values).items():
        diagnostics.append(
            diagnostic(
                context,
                "padding",
                members,
                expected=f"{expected} padding of (kernel - 1) / 2 pixels",
                found=other,
            )
        )
    return diagnostics


def _even(item: Item) -> bool:
    return {item.expected.padding, item.found.padding} == {Padding.SYMMETRIC, Padding.SAME}


def _strided(layer: ChainLayer) -> bool:
    return layer.kernel > 1 and layer.stride > 1


def _tells(context: RuleContext, slot: AlignedSlot) -> bool:
    """On the map of this layer SAME and even zeros differ: on others, of odd sides mostly, they come to the same."""
    if slot.found is None or slot.found_index is None:
        return False
    layer, size = slot.found, context.found_sizes[slot.found_index]
    reach = (layer.kernel - 1) * layer.dilation + 1
    return same_padding(size, reach, layer.stride) != ((reach - 1) // 2, (reach - 1) // 2)


def _padding_values(item: Item) -> tuple[str, str]:
    found = item.found
    words = {Padding.VALID: "no padding", Padding.OTHER: _zeros(found)}
    return plain(item.expected.padding), words.get(found.padding, f"{plain(found.padding)} padding")


def _values(item: Item) -> tuple[str, str]:
    return plain(item.difference.expected), plain(item.difference.found)


def _uniform(context: RuleContext, items: list[Item], found: Padding) -> Diagnostic:
    return diagnostic(
        context,
        "same-padding",
        items,
        expected="zeros evenly on both sides" if found is Padding.SAME else "TensorFlow's SAME padding",
        found="TensorFlow's SAME in every stride-2 convolution: one zero more at the end than in front"
        if found is Padding.SAME
        else "zeros evenly on both sides",
    )


def _mixed(context: RuleContext, items: list[Item], found: Padding) -> Diagnostic:
    return diagnostic(
        context,
        "padding",
        items,
        expected="one padding in all stride-2 convolutions",
        found=f"{plain(found)} padding here, {plain(items[0].expected.padding)} in the others",
        source=SAME_SOURCE,
        effect="no published weights have the mixture",
        fix=f"use {plain(items[0].expected.padding)} padding here too",
    )


@check(Aspect.FILTERS, reads=("other",), reports=("kernel",))
def filters(context: RuleContext) -> list[Diagnostic]:
    """Filters with two sides, 1x3 say, with the kernel and the multiply-adds that come of them."""
    items = [item for item in context.items("other") if item.both and _sides(context, item) is not None]
    kernels = {item.difference.slot: item for item in context.items("kernel")}
    diagnostics = []
    for (expected, sides), members in grouped(
        items, lambda item: (item.expected.kernel, _sides(context, item) or (0, 0))
    ).items():
        diagnostics.append(
            diagnostic(
                context,
                "kernel",
                members,
                follows=[kernels[item.difference.slot] for item in members if item.difference.slot in kernels],
                expected=f"a {expected}x{expected} filter",
                found=f"a filter that is not square: {sides[0]} by {sides[1]}, or the other way round",
                fix=f"set kernel_size={expected}, padding={(expected - 1) // 2}",
            )
        )
    return diagnostics


def _sides(context: RuleContext, item: Item) -> tuple[int, int] | None:
    """The shorter and the longer side of a filter, from the weights it has fewer than a square one."""
    difference = item.difference.found
    assert isinstance(difference, tuple)
    weights, macs = difference
    longer = item.found.kernel
    # Of norms with parameters of their own number no multiply-adds come.
    if not (weights < 0 and macs and longer > 1) or item.slot is None or item.slot.found_index is None:
        return None
    entering = context.found_inputs[item.slot.found_index]
    of_a_row = layer_cost(item.found, entering, 1).weights // longer
    return longer + weights // of_a_row, longer


@check(Aspect.FILTERS, reads=("kernel",))
@rule(
    "kernel",
    ERROR,
    "a filter of another size than the table's, or one that is not square",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="set kernel_size to the table's and padding=(kernel_size - 1) // 2",
)
def kernels(context: RuleContext) -> list[Diagnostic]:
    """Filters of another size than the table's; padding that does not fit the filter is a fault of its own."""
    items = [item for item in context.items("kernel") if item.both]
    diagnostics = []
    for (expected, found), members in grouped(items, _values).items():
        diagnostics.append(
            diagnostic(
                context,
                "kernel",
                members,
                expected=f"a {expected}x{expected} filter",
                found=f"a {found}x{found} filter",
                fix=f"set kernel_size={expected}, padding={(int(expected) - 1) // 2}",
            )
        )
    return diagnostics


FORM = {
    "dilation": "dilation",
    "grouping": "grouping",
    "groups": "groups",
    "multiplier": "depth-multiplier",
    "layer_scale": "layer-scale",
    "attention": "attention",
    "pooled": "pooled",
}
"""The rule of each attribute that needs no more words."""


@check(Aspect.FORM, reads=tuple(FORM))
@rule(
    "dilation",
    ERROR,
    "another dilation than the paper's",
    source=TABLE,
    effect=LOADS + "every output sees a wider part of the image",
    fix="set dilation to the published one",
)
@rule(
    "grouping",
    ERROR,
    "another kind of convolution: dense, depthwise or grouped",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="group the convolution as the paper does",
)
@rule(
    "groups",
    ERROR,
    "another number of groups",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="group the convolution as the paper does",
)
@rule(
    "depth-multiplier",
    ERROR,
    "more than one filter a channel in a depthwise convolution",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="give every channel one filter",
)
@rule(
    "layer-scale",
    ERROR,
    "a layer scale missing, or where the paper has none",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="build it with the layer scale of the published form",
)
@rule(
    "attention",
    ERROR,
    "an attention block missing, extra or of another size",
    source=TABLE,
    effect=OTHER_SHAPES,
    fix="build the attention block of the published table",
)
@rule(
    "pooled",
    ERROR,
    "a layer on the other side of the global pool",
    source=TABLE,
    effect="as many weights, which work on one vector instead of every place of the map, or the reverse",
    fix="put the layer on the same side of the global pool as the paper",
)
def others(context: RuleContext) -> list[Diagnostic]:
    """Dilation, groups, multiplier, layer scale, attention, and layers on the other side of the pool."""
    diagnostics = []
    items = [item for item in context.items(*FORM) if item.both]
    for (attribute, expected, found), members in grouped(items, _attributes).items():
        diagnostics.append(
            diagnostic(
                context,
                FORM[attribute],
                members,
                expected=_with_name(attribute, expected),
                found=_with_name(attribute, found),
            )
        )
    return diagnostics


def _attributes(item: Item) -> tuple[str, str, str]:
    one = item.difference
    if one.attribute == "attention":
        return one.attribute, str(one.expected is not None), str(one.found is not None)
    return one.attribute, plain(one.expected), plain(one.found)


def _with_name(attribute: str, value: str) -> str:
    name = attribute.replace("_", " ")
    if attribute == "pooled":
        return "behind the global pool" if value.lower() == "true" else "before the global pool"
    return {"true": name, "false": f"no {name}"}.get(value.lower(), f"{name} {value}")


@check(Aspect.FORM, reads=("anti_alias", "enters"))
@rule(
    "anti-alias",
    NOTE,
    "a blur or pool that does the stride in place of the convolution",
    source=TABLE,
    effect="the convolution works at the larger size: more multiply-adds",
    fix="nothing, if it is meant",
)
@rule(
    "odd-map",
    NOTE,
    "a map of odd sides in front of a pool that does the stride",
    source=TABLE,
    effect="the pool leaves out the last row and column",
    fix="nothing; images whose sides are multiples of 32 have none",
)
def anti_alias(context: RuleContext) -> list[Diagnostic]:
    """A blur or pool that does the stride: a known variant in every stride-2 place, otherwise a mistake."""
    items = [item for item in context.items("anti_alias") if item.both]
    if not items:
        return _rounded_down(context)
    return [
        *_rounded_down(context),
        diagnostic(
            context,
            "anti-alias",
            items,
            expected="the stride in the convolution" if items[0].found.anti_alias else "a blur does the stride",
            found="a blur or pool behind the convolution does the stride"
            if items[0].found.anti_alias
            else "the convolution does it",
        ),
    ]


def _rounded_down(context: RuleContext) -> list[Diagnostic]:
    """Maps behind a pool that does the stride, smaller by one than a convolution's: the pool leaves out an odd row."""
    pooled = {slot.index + 1 for slot in context.comparison.slots if slot.found is not None and slot.found.anti_alias}
    items = [item for item in context.items("enters") if item.difference.slot in pooled]
    if not items:
        return []
    return [
        diagnostic(
            context,
            "odd-map",
            items,
            expected="maps of even sides in front of the pools that do the strides",
            found="a map of odd sides, whose last row and column the pool leaves out",
        )
    ]
