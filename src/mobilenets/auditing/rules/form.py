"""The form of the layers: kernel, dilation, groups, padding, layer scale, anti-aliasing, attention."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Item, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic, Severity
from mobilenets.auditing.rules.wording import LOADS, OTHER_SHAPES, diagnostic, grouped, note, plain
from mobilenets.auditing.structure.differences import AlignedSlot
from mobilenets.auditing.structure.layers import ChainLayer, Padding
from mobilenets.models.layers import same_padding

SAME_SOURCE = "TensorFlow's padding SAME, in which the published TF-slim weights were trained"


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
            effect="the same weights, but the border the filter reads holds what norm and activation make of zeros; "
            "the layers between work on larger maps",
            fix="pad the depthwise convolution itself: padding=(kernel_size - 1) // 2, none in front of the block",
        )
    ]


def _slot(item: Item) -> int | None:
    return item.difference.slot


def _zeros(layer: ChainLayer) -> str:
    before, behind = layer.zeros
    if before == behind:
        return f"{before} pixel{'' if before == 1 else 's'} of zeros on each side"
    return f"zeros on {before} pixels before and {behind} behind the map"


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
                effect="maps of another size, or moved by a pixel",
                fix="set padding=(kernel_size - 1) // 2",
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
    return note(
        context,
        "same-padding",
        items,
        expected="zeros evenly on both sides" if found is Padding.SAME else "TensorFlow's SAME padding",
        found="TensorFlow's SAME in every stride-2 convolution: one zero more at the end than in front"
        if found is Padding.SAME
        else "zeros evenly on both sides",
        source=SAME_SOURCE,
        effect="same shapes; weights trained with the one answer worse with the other",
        fix="nothing; keep the padding your weights were trained with",
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
                effect=OTHER_SHAPES,
                fix=f"set kernel_size={expected}, padding={(int(expected) - 1) // 2}",
            )
        )
    return diagnostics


WORDS = {
    "dilation": (
        "dilation",
        "set dilation to the published one",
        LOADS + "every output sees a wider part of the image",
    ),
    "grouping": ("grouping", "group the convolution as the paper does", OTHER_SHAPES),
    "groups": ("groups", "group the convolution as the paper does", OTHER_SHAPES),
    "multiplier": ("depth-multiplier", "give every channel one filter", OTHER_SHAPES),
    "layer_scale": ("layer-scale", "build it with the layer scale of the published form", OTHER_SHAPES),
    "attention": ("attention", "build the attention block of the published table", OTHER_SHAPES),
    "pooled": (
        "pooled",
        "put the layer on the same side of the global pool as the paper",
        "as many weights, which work on one vector instead of every place of the map, or the reverse",
    ),
}
"""Rule, cure and effect of attributes that need no more words."""


def others(context: RuleContext) -> list[Diagnostic]:
    """Dilation, groups, multiplier, layer scale, attention, and layers on the other side of the pool."""
    diagnostics = []
    items = [item for item in context.items(*WORDS) if item.both]
    for (attribute, expected, found), members in grouped(items, _attributes).items():
        rule, fix, effect = WORDS[attribute]
        diagnostics.append(
            diagnostic(
                context,
                rule,
                members,
                expected=_words(attribute, expected),
                found=_words(attribute, found),
                effect=effect,
                fix=fix,
            )
        )
    return diagnostics


def _attributes(item: Item) -> tuple[str, str, str]:
    one = item.difference
    if one.attribute == "attention":
        return one.attribute, str(one.expected is not None), str(one.found is not None)
    return one.attribute, plain(one.expected), plain(one.found)


def _words(attribute: str, value: str) -> str:
    name = attribute.replace("_", " ")
    if attribute == "pooled":
        return "behind the global pool" if value.lower() == "true" else "before the global pool"
    return {"true": name, "false": f"no {name}"}.get(value.lower(), f"{name} {value}")


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
            severity=Severity.NOTE,
            expected="the stride in the convolution" if items[0].found.anti_alias else "a blur does the stride",
            found="a blur or pool behind the convolution does the stride"
            if items[0].found.anti_alias
            else "the convolution does it",
            effect="the convolution works at the larger size: more multiply-adds",
            fix="nothing, if it is meant",
        ),
    ]


def _rounded_down(context: RuleContext) -> list[Diagnostic]:
    """Maps behind a pool that does the stride, smaller by one than a convolution's: the pool leaves out an odd row."""
    pooled = {slot.index + 1 for slot in context.comparison.slots if slot.found is not None and slot.found.anti_alias}
    items = [item for item in context.items("enters") if item.difference.slot in pooled]
    if not items:
        return []
    return [
        note(
            context,
            "odd-map",
            items,
            expected="maps of even sides in front of the pools that do the strides",
            found="a map of odd sides, whose last row and column the pool leaves out",
            fix="nothing; images whose sides are multiples of 32 have none",
        )
    ]
