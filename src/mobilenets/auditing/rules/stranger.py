"""Networks that are no MobileNet: one finding that says how far the nearest is, instead of many that mean nothing."""

from __future__ import annotations

from collections.abc import Callable

from mobilenets.auditing.rules.case import RuleContext
from mobilenets.auditing.rules.finding import STRANGER, Diagnostic, Severity
from mobilenets.auditing.rules.wording import paper_of
from mobilenets.auditing.structure.differences import AlignedSlot
from mobilenets.auditing.structure.layers import Chain, ChainLayer, Grouping
from mobilenets.auditing.structure.nearest import Backbone, find_backbone

NEAR = 0.5
"""Share of the places filled alike from which on a network is called a MobileNet, however many mistakes it has."""

PLAUSIBLE = 0.1
"""Certainty from which on a network is called a MobileNet: others are made of the same blocks in other rows."""

SAME_WIDTHS = 0.9
"""Share of the layers with the published channels from which on it is one, whatever its filters: no other has them."""

OTHER_TABLE = 0.2
"""Shares of layers that differ, summed over what a table gives, from which on it is another table ..."""

OTHER_COLUMNS = 4
"""... when they are in so many of its columns: mistakes are in one or two, a search or a redesign is in all of them."""

DOUBTFUL = 0.5
"""... and the choice of the nearest is no surer than this."""


def stranger(context: RuleContext) -> list[Diagnostic]:
    """Nothing published is near: one diagnostic over all differences, instead of hundreds that mean nothing."""
    if context.comparison.expected_by_user or not context.open:
        return []
    backbone = _backbone_of_more(context.found)
    if backbone is None and _is_near(context) and not _is_of_another_table(context):
        return []
    return [
        Diagnostic(
            STRANGER,
            Severity.ERROR,
            (),
            "a network near a published MobileNet",
            _no_mobilenet(context) if backbone is None else _more_than_a_mobilenet(context, backbone),
            paper_of(context),
            "",
            "name the network it should be with --expect to see every difference"
            if backbone is None
            else f"audit the backbone alone, with --expect {backbone.name}",
            tuple(context.open),
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
    matched = sum(_alike(slot) for slot in slots)
    as_wide = sum(_as_wide(slot) for slot in slots)
    plausible = context.comparison.certainty >= PLAUSIBLE or as_wide >= SAME_WIDTHS * len(slots)
    return matched >= NEAR * len(slots) and plausible


def _is_of_another_table(context: RuleContext) -> bool:
    """Whether blocks, filters, channels, strides, attention and shortcuts differ, each a little, rather than one a lot.

    EfficientNet-Lite, FBNet, LCNet and other descendants are made of the same blocks: layer by layer they are near.
    """
    both = [slot for slot in context.comparison.slots if slot.expected is not None and slot.found is not None]
    shares = [1 - len(both) / len(context.comparison.slots)]
    shares += [sum(differs(slot) for slot in both) / len(both) for differs in _COLUMNS]
    functions = any(_unlike(slot, lambda layer: layer.activation) for slot in both)
    columns = sum(share > 0 for share in shares) + functions
    return sum(shares) >= OTHER_TABLE and columns >= OTHER_COLUMNS and context.comparison.certainty < DOUBTFUL


def _unlike(slot: AlignedSlot, of: Callable[[ChainLayer], object]) -> bool:
    assert slot.expected is not None
    assert slot.found is not None
    return of(slot.expected) != of(slot.found)


_COLUMNS: tuple[Callable[[AlignedSlot], bool], ...] = (
    lambda slot: _unlike(slot, lambda layer: (layer.kernel, layer.grouping)),
    # Those of a depthwise layer follow from the layer before.
    lambda slot: _unlike(slot, lambda layer: layer.out_channels) and not _is_depthwise(slot),
    lambda slot: _unlike(slot, lambda layer: layer.stride),
    lambda slot: _unlike(slot, lambda layer: layer.squeeze is None),
    lambda slot: _unlike(slot, lambda layer: layer.shortcut is None),
)


def _is_depthwise(slot: AlignedSlot) -> bool:
    return slot.expected is not None and slot.expected.grouping is Grouping.DEPTHWISE


def _no_mobilenet(context: RuleContext) -> str:
    reference, slots = context.reference, context.comparison.slots
    equal = sum(_alike(slot) and _as_wide(slot) for slot in slots)
    return (
        f"not a MobileNet V1 to V4: the nearest is {reference.name}, width {reference.width_mult:g}, "
        f"with {equal} of {len(slots)} layers of the same filter and channels, and {len(context.open)} differences"
    )


def _more_than_a_mobilenet(context: RuleContext, backbone: Backbone) -> str:
    return (
        "not a MobileNet classifier, but one's backbone with other layers behind, as detectors and segmenters have: "
        f"its first {backbone.shared} layers are those of {backbone.name}, width {backbone.width_mult:g}, "
        f"which has {backbone.layers}, and {backbone.more} more follow"
    )


def _alike(slot: AlignedSlot) -> bool:
    """Both networks have a layer here, with the same kind of filter."""
    one, other = slot.expected, slot.found
    return one is not None and other is not None and (one.kernel, one.grouping) == (other.kernel, other.grouping)


def _as_wide(slot: AlignedSlot) -> bool:
    return (
        slot.expected is not None and slot.found is not None and slot.expected.out_channels == slot.found.out_channels
    )
