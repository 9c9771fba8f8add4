from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mobilenets.auditing.structure.align import align, alignment
from mobilenets.auditing.structure.differences import AlignedSlot
from mobilenets.auditing.structure.layers import ChainLayer, Grouping, Reference
from mobilenets.auditing.structure.published import reference


def v2() -> Reference:
    return reference("mobilenet_v2")


def laid(published: Reference, found: Sequence[ChainLayer]) -> tuple[AlignedSlot, ...]:
    return align(published.chain.layers, published.places, found)


def block(published: Reference, number: int) -> slice:
    numbers = [place.block for place in published.places]
    return slice(numbers.index(number), numbers.index(number) + numbers.count(number))


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v4_conv_small"])
def test_equal_chains_lie_layer_on_layer(name: str) -> None:
    published = reference(name)
    found = alignment(published.chain.layers, published.places, published.chain.layers)
    assert found.cost == 0
    assert [(slot.reference_index, slot.found_index) for slot in found.slots] == [
        (index, index) for index in range(len(published.chain.layers))
    ]
    assert [slot.index for slot in found.slots] == list(range(len(found.slots)))


def test_a_kept_expansion_is_one_extra_layer_in_front_of_its_block() -> None:
    published = v2()
    layers = list(published.chain.layers)
    first = block(published, 1).start
    layers.insert(first, replace(layers[0], kernel=1, stride=1))
    extra = [slot for slot in laid(published, layers) if slot.expected is None]
    assert [slot.found_index for slot in extra] == [first]


@pytest.mark.parametrize("number", [3, 5, 9, 12, 16])
def test_a_missing_repeat_is_the_block_whole(number: int) -> None:
    published = v2()
    layers = list(published.chain.layers)
    del layers[block(published, number)]
    missing = [slot.reference_index for slot in laid(published, layers) if slot.found is None]
    stage = {published.places[index].source for index in missing if index is not None}
    blocks = {published.places[index].block for index in missing if index is not None}
    assert len(missing) == 3
    assert len(blocks) == 1
    assert stage == {published.places[block(published, number).start].source}


@pytest.mark.parametrize("number", [3, 9, 16])
def test_an_extra_repeat_is_a_block_whole(number: int) -> None:
    published = v2()
    where = block(published, number)
    layers = list(published.chain.layers)
    layers[where.stop : where.stop] = layers[where]
    slots = laid(published, layers)
    extra = [slot for slot in slots if slot.expected is None]
    assert len(extra) == 3
    assert extra[0].found is not None
    assert extra[0].found.kernel == 1
    assert [slot.index for slot in extra] == list(range(extra[0].index, extra[0].index + 3))


def test_a_dense_filter_lies_on_the_depthwise_one_it_replaces() -> None:
    published = v2()
    layers = [replace(layer, grouping=Grouping.DENSE) for layer in published.chain.layers]
    assert all(slot.expected and slot.found for slot in laid(published, layers))


def test_widths_can_be_left_aside() -> None:
    wide, narrow = reference("mobilenet_v3_large"), reference("mobilenet_v3_large", width_mult=0.25)
    found = alignment(wide.chain.layers, wide.places, narrow.chain.layers, by_width=False)
    assert found.cost == 0
    assert all(slot.reference_index == slot.found_index for slot in found.slots)


def test_empty_chains_have_slots_too() -> None:
    published = v2()
    assert align((), (), ()) == ()
    assert all(slot.found is None for slot in laid(published, ()))
    assert all(slot.expected is None for slot in align((), (), published.chain.layers[:3]))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_layer_has_one_slot_and_order_is_kept(data: st.DataObject) -> None:
    published = reference("mobilenet_v3_small")
    keep = data.draw(st.lists(st.booleans(), min_size=36, max_size=36))
    layers = [layer for layer, kept in zip(published.chain.layers, keep, strict=True) if kept]
    layers = data.draw(st.sampled_from([layers, layers + layers[:5], layers[::-1]]))
    assume(layers)
    slots = laid(published, layers)
    assert [slot.reference_index for slot in slots if slot.reference_index is not None] == list(range(36))
    assert [slot.found_index for slot in slots if slot.found_index is not None] == list(range(len(layers)))
    for slot in slots:
        assert (slot.expected is None) == (slot.reference_index is None)
        assert slot.found is None or (slot.found_index is not None and slot.found == layers[slot.found_index])


def test_of_a_hundred_layers_only_the_one_left_out_is_missing() -> None:
    published = reference("mobilenet_v4_conv_large")
    assert len(published.chain.layers) > 100
    slots = laid(published, published.chain.layers[1:])
    assert [slot.reference_index for slot in slots if slot.found is None] == [0]
