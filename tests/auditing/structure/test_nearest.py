from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mobilenets.auditing.rules.leftover import PLAUSIBLE
from mobilenets.auditing.structure.cost import chain_cost
from mobilenets.auditing.structure.layers import BatchNorm, Chain, ChainLayer, Grouping, Pooling, Shortcut, ShortcutKind
from mobilenets.auditing.structure.nearest import WIDTHS, compare
from mobilenets.auditing.structure.published import reference
from mobilenets.auditing.structure.variants import catalogue, published_widths
from mobilenets.errors import AuditError

SMALL_NAMES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "mobilenet_v4_conv_small")


def chain_of(layers: list[ChainLayer], image_size: int = 224) -> Chain:
    bare = Chain(tuple(layers), 3, image_size, Pooling("global", 7), 0.0, 0.0, "none", parameters=0, macs=0)
    cost = chain_cost(bare)
    return replace(bare, parameters=cost.parameters, macs=cost.macs)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(catalogue()))
def test_every_published_network_is_nearest_to_itself(name: str) -> None:
    width = next(iter(published_widths(name)), 1.0)
    found = compare(reference(name, width_mult=width).chain)
    assert (found.reference.name, found.reference.width_mult, found.differences) == (name, width, ())
    assert found.certainty == 1
    assert not found.runner_up.startswith(f"{name} width")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_NAMES)
@pytest.mark.parametrize(("width", "image_size"), [(0.35, 224), (0.5, 32), (0.75, 48), (1.4, 96), (0.6, 160)])
def test_width_and_strides_are_found(name: str, width: float, image_size: int) -> None:
    published = reference(name, width_mult=width, image_size=image_size, num_classes=10)
    found = compare(published.chain)
    assert found.differences == ()
    assert found.reference.chain == published.chain
    assert found.reference.name == name
    if width in WIDTHS:
        assert found.reference.width_mult == width


@pytest.mark.parametrize("imagenet_strides", [True, False])
@pytest.mark.parametrize("image_size", [32, 224])
def test_the_strides_may_be_those_of_the_other_images(image_size: int, imagenet_strides: bool) -> None:
    published = reference("mobilenet_v2", image_size=image_size, imagenet_strides=imagenet_strides)
    found = compare(published.chain)
    assert found.differences == ()
    assert found.reference.small_input is not imagenet_strides


def rounded(chain: Chain, width: float, rule: Callable[[float], int]) -> Chain:
    """The width-1 chain with every layer but the classifier rounded by `rule`."""
    layers = [
        layer if layer.pooled else replace(layer, out_channels=rule(layer.out_channels * width))
        for layer in chain.layers
    ]
    return replace(chain, layers=tuple(layers))


@pytest.mark.parametrize("width", [0.5, 0.75, 1.3, 1.4])
def test_the_width_is_found_where_channels_were_truncated(width: float) -> None:
    found = compare(rounded(reference("mobilenet_v2").chain, width, int))
    assert (found.reference.name, found.reference.width_mult) == ("mobilenet_v2", width)


def test_another_class_count_is_no_difference_but_tensorflows_is() -> None:
    assert compare(reference("mobilenet_v2", num_classes=10).chain).differences == ()
    (difference,) = compare(reference("mobilenet_v2", num_classes=1001).chain).differences
    assert (difference.attribute, difference.expected, difference.found) == ("out_channels", 1000, 1001)


def test_grey_images_are_a_difference_of_the_network() -> None:
    found = compare(reference("mobilenet_v1", in_channels=1).chain)
    assert [(one.slot, one.attribute) for one in found.differences] == [(None, "in_channels")]


def test_a_user_who_names_network_and_width_is_believed() -> None:
    found = compare(reference("mobilenet_v2").chain, expect="mobilenet_v2", width_mult=0.75)
    assert (found.reference.width_mult, found.certainty, found.expected_by_user) == (0.75, 1, True)
    assert found.differences


def test_a_name_alone_leaves_the_width_to_find() -> None:
    found = compare(reference("mobilenet_v2", width_mult=0.5).chain, expect="mobilenet_v2")
    assert (found.reference.width_mult, found.differences) == (0.5, ())
    assert found.runner_up.startswith("mobilenet_v2 width")


def test_an_unknown_name_is_met_with_a_suggestion() -> None:
    with pytest.raises(AuditError, match="no published network 'mobilenet_v22' to expect: did you mean mobilenet_v2"):
        compare(reference("mobilenet_v2").chain, expect="mobilenet_v22")


def resnet() -> list[ChainLayer]:
    norm = (BatchNorm(1e-5, 0.1),)
    layers = [ChainLayer(64, kernel=7, stride=2, norms=norm, activation="relu")]
    for width in (64, 128, 256, 512):
        for _ in range(2):
            layers.append(ChainLayer(width, kernel=3, norms=norm, activation="relu"))
            shortcut = Shortcut(ShortcutKind.IDENTITY, 2, activation_after="relu")
            layers.append(ChainLayer(width, kernel=3, norms=norm, shortcut=shortcut))
    return [*layers, ChainLayer(1000, pooled=True, bias=True)]


def vgg() -> list[ChainLayer]:
    widths = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512)
    return [
        *(ChainLayer(width, kernel=3, bias=True, activation="relu") for width in widths),
        ChainLayer(1000, pooled=True),
    ]


@pytest.mark.parametrize("layers", [resnet(), vgg(), [ChainLayer(10, pooled=True, bias=True)]])
def test_what_is_no_mobilenet_is_not_taken_for_one(layers: list[ChainLayer]) -> None:
    assert compare(chain_of(layers)).certainty < PLAUSIBLE


def test_a_mobilenet_with_several_faults_still_is_one() -> None:
    chain = reference("mobilenet_v2").chain
    layers = [
        replace(layer, activation="relu", shortcut=None, bias=True, norms=layer.norms * 2)
        for layer in chain.layers
        if layer.grouping is not Grouping.GROUPED
    ]
    del layers[6:9]
    found = compare(replace(chain, layers=tuple(layers)))
    assert found.reference.name == "mobilenet_v2"
    assert found.certainty > PLAUSIBLE
