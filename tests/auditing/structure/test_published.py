"""References: the published counts, forms for other images, places with their table rows."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenets.auditing.count import count
from mobilenets.auditing.structure.cost import chain_cost
from mobilenets.auditing.structure.layers import Reference
from mobilenets.auditing.structure.published import reference, without_paths
from mobilenets.auditing.structure.variants import VARIANTS, catalogue, published_widths
from mobilenets.errors import AuditError, ModelError
from mobilenets.models.layers import make_divisible
from mobilenets.models.registry import create_model, list_models


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_counts_are_the_networks(name: str) -> None:
    with torch.device("meta"):
        counted = count(create_model(name), (1, 3, 224, 224))
    chain = reference(name).chain
    assert (chain.parameters, chain.macs) == (counted.parameters, counted.macs)


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(
    name=st.sampled_from(list_models()[:6]),
    width_mult=st.sampled_from([0.25, 0.35, 0.6, 1.0, 1.3]),
    image_size=st.integers(8, 100),
    num_classes=st.integers(1, 20),
    same=st.booleans(),
)
def test_counts_are_the_networks_in_any_form(
    name: str, width_mult: float, image_size: int, num_classes: int, same: bool
) -> None:
    form = {"width_mult": width_mult, "image_size": image_size, "num_classes": num_classes}
    options = {"padding": "same" if same else "symmetric"}
    with torch.device("meta"):
        counted = count(create_model(name, **form, **options), (1, 3, image_size, image_size))  # type: ignore[arg-type]
    chain = reference(name, **form, **options).chain  # type: ignore[arg-type]
    assert (chain.parameters, chain.macs) == (counted.parameters, counted.macs)


TIMM = {
    "mobilenetv1_100": ("mobilenet_v1", 1.0),
    "mobilenetv1_100h": ("timm mobilenetv1_100h", 1.0),
    "mobilenetv1_125": ("mobilenet_v1", 1.25),
    "mobilenetv2_035": ("mobilenet_v2", 0.35),
    "mobilenetv2_050": ("mobilenet_v2", 0.5),
    "mobilenetv2_075": ("mobilenet_v2", 0.75),
    "mobilenetv2_100": ("mobilenet_v2", 1.0),
    "mobilenetv2_110d": ("timm mobilenetv2_110d", 1.1),
    "mobilenetv2_120d": ("timm mobilenetv2_120d", 1.2),
    "mobilenetv2_140": ("mobilenet_v2", 1.4),
    "mobilenetv3_large_075": ("mobilenet_v3_large", 0.75),
    "mobilenetv3_large_100": ("mobilenet_v3_large", 1.0),
    "mobilenetv3_large_150d": ("timm mobilenetv3_large_150d", 1.5),
    "mobilenetv3_rw": ("timm mobilenetv3_rw", 1.0),
    "mobilenetv3_small_050": ("timm mobilenetv3_small_050", 0.5),
    "mobilenetv3_small_075": ("mobilenet_v3_small", 0.75),
    "mobilenetv3_small_100": ("mobilenet_v3_small", 1.0),
    "tf_mobilenetv3_large_075": ("mobilenet_v3_large", 0.75),
    "tf_mobilenetv3_large_100": ("mobilenet_v3_large", 1.0),
    "tf_mobilenetv3_large_minimal_100": ("mobilenet_v3_large_minimalistic", 1.0),
    "tf_mobilenetv3_small_075": ("mobilenet_v3_small", 0.75),
    "tf_mobilenetv3_small_100": ("mobilenet_v3_small", 1.0),
    "tf_mobilenetv3_small_minimal_100": ("mobilenet_v3_small_minimalistic", 1.0),
    "mobilenetv4_conv_aa_large": ("timm mobilenetv4_conv_aa_large", 1.0),
    "mobilenetv4_conv_aa_medium": ("timm mobilenetv4_conv_aa_medium", 1.0),
    "mobilenetv4_conv_blur_medium": ("timm mobilenetv4_conv_aa_medium", 1.0),
    "mobilenetv4_conv_large": ("mobilenet_v4_conv_large", 1.0),
    "mobilenetv4_conv_medium": ("mobilenet_v4_conv_medium", 1.0),
    "mobilenetv4_conv_small": ("mobilenet_v4_conv_small", 1.0),
    "mobilenetv4_conv_small_035": ("mobilenet_v4_conv_small", 0.35),
    "mobilenetv4_conv_small_050": ("mobilenet_v4_conv_small", 0.5),
    "mobilenetv4_hybrid_large": ("mobilenet_v4_hybrid_large", 1.0),
    "mobilenetv4_hybrid_large_075": ("mobilenet_v4_hybrid_large", 0.75),
    "mobilenetv4_hybrid_medium": ("mobilenet_v4_hybrid_medium", 1.0),
    "mobilenetv4_hybrid_medium_075": ("mobilenet_v4_hybrid_medium", 0.75),
}


def test_no_network_of_timms_is_left_out() -> None:
    patterns = [f"{prefix}mobilenetv{version}_*" for prefix in ("", "tf_") for version in range(1, 5)]
    theirs = {name for pattern in patterns for name in timm.list_models(pattern)}
    assert sorted(theirs) == sorted(TIMM)


@pytest.mark.slow
@pytest.mark.parametrize("theirs", TIMM)
def test_parameters_are_timms(theirs: str) -> None:
    name, width_mult = TIMM[theirs]
    with torch.device("meta"):
        network = timm.create_model(theirs)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert reference(name, width_mult=width_mult).chain.parameters == parameters


def test_strides_for_other_images_than_planned() -> None:
    small = reference("mobilenet_v2", image_size=32)
    table = reference("mobilenet_v2", image_size=32, imagenet_strides=True)
    cifar_form = reference("mobilenet_v2", image_size=224, imagenet_strides=False)
    assert (small.small_input, table.small_input, cifar_form.small_input) == (True, False, True)
    assert [one.chain.pooling.map_size for one in (small, table, cifar_form)] == [4, 1, 28]
    # Known figures of a 32-pixel image: with and without the early strides.
    assert table.chain.macs < small.chain.macs / 10
    assert reference("mobilenet_v2", image_size=32, imagenet_strides=False) == small
    assert reference("mobilenet_v2", image_size=224, imagenet_strides=True) == reference("mobilenet_v2")


def test_places_name_block_part_and_row() -> None:
    found = reference("mobilenet_v2", width_mult=0.75)
    parts = [(place.block, place.part) for place in found.places]
    assert parts[:6] == [(0, "stem"), (1, "spatial"), (1, "project"), (2, "expand"), (2, "spatial"), (2, "project")]
    assert parts[-2:] == [(0, "head"), (0, "classifier")]
    assert max(place.block for place in found.places) == 17
    block = [place for place in found.places if place.block == 3]
    assert {place.source for place in block} == {"arXiv 1801.04381, table 2: t=6, c=24, n=2, s=2"}
    assert {(place.in_channels, place.expand_ratio) for place in block} == {(make_divisible(24 * 0.75), 6.0)}


@pytest.mark.parametrize("name", list(catalogue()))
def test_every_reference_is_whole(name: str) -> None:
    for width_mult in published_widths(name) or (0.5, 1.0):
        found: Reference = reference(name, width_mult=width_mult)
        assert len(found.places) == len(found.chain.layers)
        assert found.name == name
        assert bool(found.variant_note) == (name in VARIANTS)
        assert all(place.source for place in found.places)
        assert found.chain == without_paths(found.chain)
        cost = chain_cost(found.chain)
        assert (found.chain.parameters, found.chain.macs) == (cost.parameters, cost.macs)
        assert math.prod(layer.stride for layer in found.chain.layers) == 32
        blocks = [place.block for place in found.places if place.block]
        assert blocks == sorted(blocks)
        assert set(blocks) == set(range(1, max(blocks) + 1))


def test_a_reference_is_made_once() -> None:
    first = reference("mobilenet_v3_large", width_mult=0.9)
    assert reference("mobilenet_v3_large", width_mult=0.9) is first


def test_unknown_names_and_values() -> None:
    with pytest.raises(AuditError, match="did you mean mobilenet_v2"):
        reference("mobilenet_v22")
    with pytest.raises(ModelError, match="width_mult"):
        reference("mobilenet_v2", width_mult=-1)
    with pytest.raises(ModelError, match="no argument 'activation'"):
        reference("mobilenet_v2", activation="relu")
