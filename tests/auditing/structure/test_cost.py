from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenets.auditing.count import count
from mobilenets.auditing.structure.cost import chain_cost, cost
from mobilenets.auditing.structure.layers import (
    AttentionUnit,
    BatchNorm,
    ChainLayer,
    Grouping,
    Padding,
    Shortcut,
    ShortcutKind,
    SqueezeExcite,
)
from mobilenets.auditing.structure.published import reference
from mobilenets.models.registry import create_model

NORM = (BatchNorm(1e-5, 0.1),)
NETWORKS = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "mobilenet_v3_small_minimalistic",
    "mobilenet_v4_conv_small",
    "mobilenet_v4_hybrid_medium",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=4, deadline=None)
@given(
    width=st.sampled_from((0.25, 0.35, 0.5, 0.75, 1.0, 1.4)),
    size=st.sampled_from((32, 96, 161, 224)),
    classes=st.integers(1, 1001),
)
def test_a_published_chain_costs_what_the_network_is_counted_to_have(
    name: str, width: float, size: int, classes: int
) -> None:
    with torch.device("meta"):
        own = count(create_model(name, width_mult=width, image_size=size, num_classes=classes))
    chain = reference(name, width_mult=width, image_size=size, num_classes=classes).chain
    found = chain_cost(chain)
    assert (found.parameters, found.macs) == (own.parameters, own.macs)


def test_a_layer_is_weights_norm_and_bias() -> None:
    layer = ChainLayer(32, kernel=3, stride=2, bias=True, norms=NORM)
    (found,) = cost([layer], in_channels=3, image_size=9).layers
    assert (found.weights, found.biases, found.norms) == (3 * 32 * 9, 32, 64)
    assert (found.out_size, found.macs) == (5, 3 * 32 * 9 * 25)
    assert found.parameters == 3 * 32 * 9 + 32 + 64


def test_a_norm_without_scale_and_shift_has_no_parameters() -> None:
    layer = ChainLayer(8, norms=(replace(NORM[0], affine=False),))
    assert cost([layer], in_channels=4, image_size=1).layers[0].norms == 0


def test_depthwise_channels_follow_from_the_layer_before() -> None:
    layers = [ChainLayer(10), ChainLayer(999, kernel=5, grouping=Grouping.DEPTHWISE, multiplier=2), ChainLayer(7)]
    found = cost(layers, in_channels=3, image_size=4).layers
    assert [one.out_channels for one in found] == [10, 20, 7]
    assert [one.weights for one in found] == [30, 20 * 25, 140]


def test_grouped_filters_see_their_group_only() -> None:
    layer = ChainLayer(12, grouping=Grouping.GROUPED, groups=4)
    assert cost([layer], in_channels=8, image_size=1).parameters == 2 * 12


@pytest.mark.parametrize(
    ("bias", "norms", "parameters"), [(True, 0, 143), (False, 0, 120), (False, 1, 126), (True, 2, 189)]
)
def test_squeeze_and_excitation_is_two_layers_on_a_vector(bias: bool, norms: int, parameters: int) -> None:
    squeeze = SqueezeExcite(3, "relu", "hard_sigmoid", before_activation=False, bias=bias, norms=norms)
    layers = [ChainLayer(20), ChainLayer(20, squeeze=squeeze)]
    found = cost(layers, in_channels=1, image_size=8).layers[1]
    # 20 -> 3 -> 20: 120 weights; biases 23; norms 6 and 40.
    assert found.squeeze == parameters
    assert found.macs == 20 * 20 * 64 + 120


def test_a_projected_shortcut_starts_where_its_span_does() -> None:
    side = ChainLayer(24, stride=2, norms=NORM)
    shortcut = Shortcut(ShortcutKind.PROJECTED, 3, (side,))
    layers = [
        ChainLayer(16),
        ChainLayer(96),
        ChainLayer(96, kernel=3, stride=2, grouping=Grouping.DEPTHWISE),
        ChainLayer(24, shortcut=shortcut),
    ]
    found = cost(layers, in_channels=3, image_size=8).layers[-1]
    assert found.shortcut == 16 * 24 + 48
    assert found.macs == (96 * 24 + 16 * 24) * 16


def test_without_a_pool_the_classifier_sees_every_place() -> None:
    layers = [ChainLayer(6, stride=2), ChainLayer(10, pooled=True, bias=True)]
    assert cost(layers, in_channels=3, image_size=8).parameters == 18 + 60 + 10
    assert cost(layers, in_channels=3, image_size=8, pooling="flatten").parameters == 18 + 6 * 16 * 10 + 10


@pytest.mark.parametrize(
    ("padding", "kernel", "size", "after"),
    [
        (Padding.SYMMETRIC, 3, 7, 4),
        (Padding.SYMMETRIC, 2, 7, 3),
        (Padding.SAME, 2, 7, 4),
        (Padding.VALID, 3, 7, 3),
        (Padding.VALID, 5, 3, 1),
        (Padding.OTHER, 3, 7, 5),
        (Padding.OTHER, 1, 7, 6),
    ],
)
def test_padding_decides_the_size_of_the_map(padding: Padding, kernel: int, size: int, after: int) -> None:
    layer = ChainLayer(
        4, kernel=kernel, stride=2, padding=padding, zeros=(3, 1) if padding is Padding.OTHER else (0, 0)
    )
    assert cost([layer], in_channels=1, image_size=size).layers[0].out_size == after


def test_a_blurred_stride_leaves_the_convolution_its_full_map() -> None:
    layer = ChainLayer(4, kernel=3, stride=2, anti_alias=True)
    (found,) = cost([layer], in_channels=1, image_size=8).layers
    assert (found.out_size, found.macs) == (4, 36 * 64)


def test_attention_is_taken_whole_with_the_norm_in_front_of_it() -> None:
    unit = AttentionUnit(4, parameters=1000, macs=5000)
    found = cost(
        [ChainLayer(16), ChainLayer(16, attention=unit, norms=NORM, layer_scale=True)], in_channels=3, image_size=2
    )
    assert (found.layers[1].parameters, found.layers[1].macs) == (1000 + 32 + 16, 5000)


def test_layers_add_up() -> None:
    found = chain_cost(reference("mobilenet_v2").chain)
    assert found.parameters == sum(layer.parameters for layer in found.layers) == 3_504_872
    assert found.macs == sum(layer.macs for layer in found.layers) == 300_774_272
