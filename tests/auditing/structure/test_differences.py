from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenets.auditing.structure.align import align
from mobilenets.auditing.structure.differences import NetworkDifference, apply, differences, published
from mobilenets.auditing.structure.layers import (
    BatchNorm,
    Chain,
    ChainLayer,
    Grouping,
    Padding,
    Reference,
    Shortcut,
    ShortcutKind,
    SqueezeExcite,
    UnplacedOperator,
)
from mobilenets.auditing.structure.published import reference, without_paths

SQUEEZE = SqueezeExcite(40, "relu", "sigmoid", before_activation=True, bias=False, norms=1)
SIDE = ChainLayer(7, norms=(BatchNorm(1e-3, 0.01),))
EDITS: tuple[dict[str, Any], ...] = (
    {"out_channels": 50},
    {"kernel": 7},
    {"stride": 3},
    {"grouping": Grouping.DENSE},
    {"grouping": Grouping.GROUPED, "groups": 2},
    {"dilation": 2},
    {"padding": Padding.SAME},
    {"bias": True},
    {"norms": ()},
    {"norms": (BatchNorm(1e-2, 0.5), BatchNorm(1e-1, 0.3))},
    {"norms": (BatchNorm(0.1, 0.9, kind="group"),)},
    {"activation": "gelu"},
    {"squeeze": None},
    {"squeeze": SQUEEZE},
    {"shortcut": None},
    {"shortcut": Shortcut(ShortcutKind.PROJECTED, 2, (SIDE,))},
    {"shortcut": Shortcut(ShortcutKind.IDENTITY, 3, activation_after="relu")},
    {"layer_scale": True},
    {"anti_alias": True},
    {"pooled": True},
)


def compared(published_one: Reference, found: Chain) -> tuple[NetworkDifference, ...]:
    slots = align(published_one.chain.layers, published_one.places, found.layers)
    return differences(slots, published_one, found)


def edited(chain: Chain, index: int, **changes: Any) -> Chain:
    layers = list(chain.layers)
    layers[index] = replace(layers[index], **changes)
    return replace(chain, layers=tuple(layers))


def test_equal_chains_differ_in_nothing() -> None:
    v2 = reference("mobilenet_v2")
    assert compared(v2, v2.chain) == ()


@pytest.mark.parametrize(
    ("index", "changes", "attribute"),
    [
        (0, {"stride": 1}, "stride"),
        (0, {"padding": Padding.SAME}, "padding"),
        (2, {"out_channels": 24}, "out_channels"),
        (2, {"activation": "relu6"}, "activation"),
        (1, {"grouping": Grouping.DENSE}, "grouping"),
        (0, {"bias": True}, "bias"),
        (0, {"norms": ()}, "norms"),
        (0, {"norms": (BatchNorm(1e-3, 0.1),)}, "eps"),
        (0, {"norms": (BatchNorm(1e-5, 0.9),)}, "momentum"),
        (1, {"squeeze": replace(SQUEEZE, bias=True, norms=0)}, "squeeze"),
        (8, {"shortcut": None}, "shortcut"),
        (52, {"out_channels": 1001}, "out_channels"),
    ],
)
def test_one_edit_is_one_difference(index: int, changes: dict[str, Any], attribute: str) -> None:
    v2 = reference("mobilenet_v2")
    (difference,) = compared(v2, edited(v2.chain, index, **changes))
    assert (difference.slot, difference.attribute) == (index, attribute)


def test_what_no_source_says_is_no_difference() -> None:
    v2 = reference("mobilenet_v2")
    unsaid = edited(v2.chain, 0, norms=(BatchNorm(1e-5 * (1 + 1e-6), None),), path="elsewhere")
    assert compared(v2, replace(unsaid, dropout=None)) == ()


def test_depthwise_channels_follow_and_are_no_difference() -> None:
    v2 = reference("mobilenet_v2")
    (difference,) = compared(v2, edited(edited(v2.chain, 3, out_channels=144), 4, out_channels=144))
    assert (difference.slot, difference.expected, difference.found) == (3, 96, 144)


def test_parts_of_squeeze_and_excitation_are_told_apart() -> None:
    small = reference("mobilenet_v3_small")
    squeeze = small.chain.layers[1].squeeze
    assert squeeze is not None
    found = edited(small.chain, 1, squeeze=replace(squeeze, channels=4, gate="sigmoid", path="x"))
    assert [(one.attribute, one.expected, one.found) for one in compared(small, found)] == [
        ("squeeze.channels", 8, 4),
        ("squeeze.gate", "hard_sigmoid", "sigmoid"),
    ]


def test_a_layer_more_in_its_block_does_not_move_a_shortcut() -> None:
    large = reference("mobilenet_v3_large")
    layers = list(large.chain.layers)
    shortcut = layers[2].shortcut
    assert shortcut is not None
    layers[2] = replace(layers[2], shortcut=replace(shortcut, span=3))
    layers.insert(1, replace(layers[0], kernel=1, stride=1, activation="relu"))
    (difference,) = compared(large, replace(large.chain, layers=tuple(layers)))
    assert (difference.slot, difference.attribute, difference.expected) == (1, "layer", None)


def test_a_shortcut_that_starts_elsewhere_is_another() -> None:
    v2 = reference("mobilenet_v2")
    shortcut = v2.chain.layers[8].shortcut
    assert shortcut is not None
    (difference,) = compared(v2, edited(v2.chain, 8, shortcut=replace(shortcut, span=2)))
    assert (difference.slot, difference.attribute) == (8, "shortcut")


def test_the_networks_own_differences_come_first() -> None:
    v2 = reference("mobilenet_v2")
    found = replace(
        edited(v2.chain, 0, stride=1),
        dropout=0.5,
        final="softmax",
        unfolded=(UnplacedOperator("a", "cumsum", 3),),
        in_channels=1,
    )
    assert [(one.slot, one.attribute) for one in compared(v2, found)] == [
        (None, "in_channels"),
        (None, "dropout"),
        (None, "final"),
        (None, "unfolded"),
        (0, "stride"),
    ]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small")))
def test_applying_all_differences_gives_the_found_chain(data: st.DataObject, name: str) -> None:
    start = reference(name)
    layers = list(start.chain.layers)
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(1, len(layers) - 1))
        layers[index] = replace(layers[index], **data.draw(st.sampled_from(EDITS)))
    cut = data.draw(st.integers(2, len(layers) - 2))
    kind = data.draw(st.sampled_from(("as it is", "missing", "extra")))
    if kind == "missing":
        del layers[cut]
    elif kind == "extra":
        layers.insert(cut, replace(layers[cut], shortcut=None))
    slots = align(start.chain.layers, start.places, layers)
    found = replace(start.chain, layers=tuple(layers))
    changes = list(differences(slots, start, found))
    before = published(slots, start)
    assert without_paths(replace(found, layers=before.chain_layers())) == without_paths(start.chain)
    middle = data.draw(st.integers(0, len(changes)))
    after = apply(apply(before, changes[:middle]), changes[middle:])
    # The found layers with the depthwise channels that follow from the layers before them, as a network has.
    expected = apply(published(slots, replace(start, chain=found)), [])
    applied = replace(expected, layers=tuple(slot.found for slot in slots)).chain_layers()
    assert [_comparable(layer) for layer in after.chain_layers()] == [_comparable(layer) for layer in applied]


def _comparable(layer: ChainLayer) -> tuple[object, ...]:
    """All that costs something; of a shortcut that starts at a missing layer, not the number of layers it spans."""
    shortcut = layer.shortcut and replace(layer.shortcut, span=0)
    return (replace(layer, shortcut=None, norms=(), path=""), shortcut, tuple(norm.kind for norm in layer.norms))
