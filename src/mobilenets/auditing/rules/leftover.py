"""What no other rule explains: networks near to nothing published, single layers, and whatever else is left."""

from __future__ import annotations

from collections.abc import Callable

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext
from mobilenets.auditing.rules.registry import (
    ANY,
    ERROR,
    PAPER,
    TABLE,
    Aspect,
    check,
    diagnostic,
    grouped,
    paper_of,
    plain,
    rule,
)
from mobilenets.auditing.structure.differences import AlignedSlot
from mobilenets.auditing.structure.draft import SHARED
from mobilenets.auditing.structure.layers import Chain, ChainLayer, Grouping
from mobilenets.auditing.structure.nearest import Backbone, find_backbone

NOT_A_MOBILENET = "not-a-mobilenet"
"""The rule of the one finding about a network that is near to nothing published."""

NEAR = 0.5
"""Share of the layers with the published filter from which on a network is a MobileNet, whatever its mistakes."""

PLAUSIBLE = 0.1
"""Certainty from which on a network is called a MobileNet: others are made of the same blocks in other rows."""

SAME_WIDTHS = 0.9
"""Share of the layers with the published channels from which on it is one, whatever its filters: no other has them."""

OTHER_TABLE = 0.2
"""Shares of layers that differ, summed over what a table gives, from which on it is another table ..."""

OTHER_COLUMNS = 4
"""... when they are in so many of its columns: mistakes are in one or two, a search or a redesign is in all of them."""

DOUBTFUL = 0.5
"""... and the certainty of the nearest is below this."""


@check(Aspect.IDENTITY, reads=ANY)
@rule(
    NOT_A_MOBILENET,
    ERROR,
    "the network is near none of the published ones; no other rule is applied then",
    source=PAPER,
    effect="layer by layer comparison with a network it was never meant to be says nothing",
    fix="name the network it should be with --expect to see every difference",
)
def not_a_mobilenet(context: RuleContext) -> list[Diagnostic]:
    """Nothing published is near: one diagnostic for all differences, instead of hundreds that mean nothing."""
    if context.comparison.expected_by_user or not context.open:
        return []
    backbone = _backbone_of_more(context.found)
    if backbone is None and _is_near(context) and not _is_of_another_table(context):
        return []
    if backbone is None:
        found, fix = _nearest_network(context), None
    else:
        found = _built_on(backbone)
        fix = f"audit the backbone alone, with --expect {backbone.name}"
    return [
        diagnostic(
            context,
            NOT_A_MOBILENET,
            expected="a network near a published MobileNet",
            found=found,
            fix=fix,
            effect="",
            differences=context.open,
        )
    ]


def _backbone_of_more(found: Chain) -> Backbone | None:
    """The network that one answering in maps, boxes or features is built on, where it has more layers than that."""
    backbone = find_backbone(found) if found.answers_in_maps or found.num_classes is None else None
    if backbone is None:
        return None
    # A layer or two behind the blocks are the backbone's own head.
    own = 1 if found.answers_in_maps else 2
    beside = found.answers_in_maps and any(stray.parameters for stray in found.unfolded)
    return backbone if backbone.more > own or beside else None


def _is_near(context: RuleContext) -> bool:
    slots = context.comparison.slots
    matched = sum(_same_filter(slot) for slot in slots)
    as_wide = sum(_same_channels(slot) for slot in slots)
    plausible = context.comparison.certainty >= PLAUSIBLE or as_wide >= SAME_WIDTHS * len(slots)
    return matched >= NEAR * len(slots) and plausible


def _is_of_another_table(context: RuleContext) -> bool:
    """Whether blocks, filters, channels, strides, attention and shortcuts differ, each a little, rather than one a lot.

    EfficientNet-Lite, FBNet, LCNet and other descendants are made of the same blocks: layer by layer they are near.
    """
    both = [slot for slot in context.comparison.slots if slot.expected is not None and slot.found is not None]
    shares = [1 - len(both) / len(context.comparison.slots)]
    shares += [sum(differs(slot) for slot in both) / len(both) for differs in _COLUMNS]
    functions = any(_differ(slot, lambda layer: layer.activation) for slot in both)
    columns = sum(share > 0 for share in shares) + functions
    return sum(shares) >= OTHER_TABLE and columns >= OTHER_COLUMNS and context.comparison.certainty < DOUBTFUL


def _differ(slot: AlignedSlot, of: Callable[[ChainLayer], object]) -> bool:
    assert slot.expected is not None
    assert slot.found is not None
    return of(slot.expected) != of(slot.found)


_COLUMNS: tuple[Callable[[AlignedSlot], bool], ...] = (
    lambda slot: _differ(slot, lambda layer: (layer.kernel, layer.grouping)),
    # Those of a depthwise layer follow from the layer before.
    lambda slot: _differ(slot, lambda layer: layer.out_channels) and not _is_depthwise(slot),
    lambda slot: _differ(slot, lambda layer: layer.stride),
    lambda slot: _differ(slot, lambda layer: layer.squeeze is None),
    lambda slot: _differ(slot, lambda layer: layer.shortcut is None),
)


def _is_depthwise(slot: AlignedSlot) -> bool:
    return slot.expected is not None and slot.expected.grouping is Grouping.DEPTHWISE


def _nearest_network(context: RuleContext) -> str:
    reference, slots = context.reference, context.comparison.slots
    equal = sum(_same_filter(slot) and _same_channels(slot) for slot in slots)
    return (
        f"not a MobileNet V1 to V4: the nearest is {reference.name}, width {reference.width_mult:g}, "
        f"with {equal} of {len(slots)} layers of the same filter and channels, and {len(context.open)} differences"
    )


def _built_on(backbone: Backbone) -> str:
    return (
        "not a MobileNet classifier, but one's backbone with other layers behind, as detectors and segmenters have: "
        f"its first {backbone.shared} layers are those of {backbone.name}, width {backbone.width_mult:g}, "
        f"which has {backbone.layers}, and {backbone.more} more follow"
    )


def _same_filter(slot: AlignedSlot) -> bool:
    """Both networks have a layer here, with the same kind of filter."""
    one, other = slot.expected, slot.found
    return one is not None and other is not None and (one.kernel, one.grouping) == (other.kernel, other.grouping)


def _same_channels(slot: AlignedSlot) -> bool:
    return (
        slot.expected is not None and slot.found is not None and slot.expected.out_channels == slot.found.out_channels
    )


HARMLESS = "dropout"
"""How the description of an operator begins that does nothing in evaluation."""


@check(Aspect.REST, reads=("unfolded",), reports=("dropout",))
@rule(
    "unfolded",
    ERROR,
    "operators that belong to no layer of a MobileNet",
    source=PAPER,
    effect="they change the outputs, or cost time for nothing",
    fix="remove them, or check that they are meant",
)
@rule(
    "weights-shared",
    ERROR,
    "one module called in several places, where the paper has a layer each",
    source=PAPER,
    effect="published weights don't fit",
    fix="build a module for every layer: one object in two places is one layer",
)
def unfolded(context: RuleContext) -> list[Diagnostic]:
    """Operators the chain of layers has no place for; dropout inside the network alone is only a note."""
    items = context.own("unfolded")
    if not items:
        return []
    listed = context.found.unfolded
    kinds = ", ".join(dict.fromkeys(one.what for one in listed))
    if all(one.what == SHARED for one in listed):
        return [_weights_shared(context, items, sum(one.parameters for one in listed))]
    harmless = all(one.what.startswith(HARMLESS) for one in listed)
    return [
        diagnostic(
            context,
            "dropout" if harmless else "unfolded",
            items,
            # What stands between two layers hands the second another map than the first has left.
            follows=context.items("enters"),
            where=tuple(dict.fromkeys(one.path or one.what for one in listed)),
            expected="stem, blocks and head alone",
            found=kinds if harmless else f"what belongs to none of these: {kinds}",
            source=paper_of(context),
        )
    ]


def _weights_shared(context: RuleContext, items: list[Item], weights: int) -> Diagnostic:
    return diagnostic(
        context,
        "weights-shared",
        items,
        where=tuple(dict.fromkeys(one.path for one in context.found.unfolded)),
        expected="weights of its own in every layer",
        found=f"an earlier layer's called again: {-weights:,} parameters fewer",
    )


@check(Aspect.REST, reads=("layer",), reports=("layer-extra",))
@rule(
    "layer-missing",
    ERROR,
    "a single layer of the table that is not there",
    source=TABLE,
    effect="published weights don't fit",
    fix="add the layer",
)
def layers(context: RuleContext) -> list[Diagnostic]:
    """Single layers missing or extra."""
    diagnostics = []
    for (missing, what), members in grouped(context.items("layer"), _layer_key).items():
        diagnostics.append(
            diagnostic(
                context,
                "layer-missing" if missing else "layer-extra",
                members,
                expected=what if missing else "no layer here",
                found=f"{what} is missing" if missing else f"{what} more",
                source=None if missing else paper_of(context),
                fix=None if missing else _remove(members),
            )
        )
    return diagnostics


def _remove(items: list[Item]) -> str:
    if all(item.found.pooled for item in items):
        return "remove the layer, or keep it as a head of your own: the layers before the pool are not concerned"
    return "remove the layer"


def _layer_key(item: Item) -> tuple[bool, str]:
    assert item.slot is not None
    missing = item.slot.found is None
    layer = item.slot.expected if missing else item.slot.found
    assert layer is not None
    return missing, _described(layer)


def _described(layer: ChainLayer) -> str:
    if layer.pooled:
        return "a linear layer"
    kind = plain(str(layer.grouping))
    return f"a {kind} {layer.kernel}x{layer.kernel} convolution"


@check(Aspect.REST, reads=ANY)
@rule(
    "other",
    ERROR,
    "any other difference, by attribute and values",
    source=TABLE,
    effect="the network is not the published one",
    fix="make it as published",
)
def rest(context: RuleContext) -> list[Diagnostic]:
    """Everything left, by attribute and values."""
    diagnostics = []
    items = [context.item(difference) for difference in context.open]
    for (attribute, expected, found), members in grouped(items, _key).items():
        name = attribute.replace("_", " ")
        diagnostics.append(
            diagnostic(
                context,
                "other",
                members,
                expected=f"{name}: {expected}",
                found=found,
            )
        )
    return diagnostics


def _key(item: Item) -> tuple[str, str, str]:
    one = item.difference
    return one.attribute, plain(str(one.expected)), plain(str(one.found))
