"""Strides in other places than the table's, fewer for small images, and the last map they leave."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mobilenets.auditing.rules.case import Item, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic, Severity
from mobilenets.auditing.rules.wording import diagnostic, note, paper_of, plain, source_of, stages_of
from mobilenets.auditing.structure.published import reference
from mobilenets.models.network import MIN_FEATURE_SIZE

SMALL_INPUT_SOURCE = "stride plan for small images: the first stride-2 steps become 1 (the usual CIFAR form)"
SHIFTED_EFFECT = (
    "parameters stay identical, so neither a count nor a checkpoint shows it; every map behind the moved step has "
    "another size, and weights trained for the table's strides don't answer right"
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
                effect=SHIFTED_EFFECT,
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
            effect="the maps behind have another size than the table's",
            fix="take the stride from the table's row for its first block, 1 for its repeats",
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
    return note(
        context,
        "input-strides",
        items,
        expected=f"stride 2 in {stages_of(items)}",
        found=f"stride 1: an image of 32 pixels leaves a map of {-(-32 // factor)}x{-(-32 // factor)}",
        source=SMALL_INPUT_SOURCE,
        effect="weights trained with the table's strides load, but were trained on smaller maps than these",
        fix="nothing, for small images; audit with --image-size 32 to count at that size",
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


def small_form(context: RuleContext) -> list[Diagnostic]:
    """The strides are those for small images although nothing differs: the reference was chosen so."""
    if not context.reference.small_input:
        return []
    return [
        note(
            context,
            "input-strides",
            [],
            expected="the table's strides at 224 pixels",
            found=f"those for small images: a last map of {context.found.pooling.map_size}x{context.found.pooling.map_size} "
            f"from {context.found.image_size} pixels",
            source=SMALL_INPUT_SOURCE,
            fix="nothing",
        )
    ]


def last_map(context: RuleContext) -> list[Diagnostic]:
    """A last map of one place: the filters before it see padding, and pooling has nothing to do."""
    size = context.found.pooling.map_size
    if size >= MIN_FEATURE_SIZE or context.found.image_size < MIN_FEATURE_SIZE:
        return []
    expected = f"a last map of at least {MIN_FEATURE_SIZE}x{MIN_FEATURE_SIZE}"
    found = f"{size}x{size} from images of {context.found.image_size} pixels"
    fix = "give the first stride-2 steps stride 1 for small images, or feed larger ones"
    where = context.found.pooling.path
    if size > 1:
        return [note(context, "last-map-small", [], expected=expected, found=found, source=paper_of(context), fix=fix)]
    return [
        Diagnostic(
            rule="last-map-1x1",
            severity=Severity.ERROR,
            where=(where,) if where else (),
            expected=expected,
            found=found,
            source="the network's strides shrink the image 32 times; they are for images from 65 pixels up",
            effect="a 3x3 filter on a 1x1 map sees its centre only, eight ninths of it are padding",
            fix=fix,
        )
    ]
