from __future__ import annotations

import json

import pytest

from mobilenets.catalogue.figures import load_figures
from mobilenets.catalogue.variants import UNEXPLAINED, Publication, TableVariant, published_variants
from mobilenets.errors import ModelError
from mobilenets.models.weights.published import PUBLISHED, published_weights


@pytest.fixture(scope="module")
def everything() -> tuple[TableVariant, ...]:
    return published_variants()


def published(variants: tuple[TableVariant, ...]) -> list[tuple[TableVariant, Publication]]:
    return [(variant, publication) for variant in variants for publication in variant.publications]


def test_every_row_of_the_file_is_there_once(everything: tuple[TableVariant, ...]) -> None:
    rows = [publication.row for _, publication in published(everything)]
    assert sorted(map(repr, rows)) == sorted(map(repr, load_figures().rows))


def test_every_network_of_ours_is_counted(everything: tuple[TableVariant, ...]) -> None:
    assert all(variant.built_here != bool(variant.name) for variant in everything)
    ours = [variant for variant in everything if variant.built_here]
    counts = {(v.network, v.width_mult, v.image_size, v.num_classes): (v.parameters, v.macs) for v in ours}
    assert counts["mobilenet_v1", 1.0, 224, 1000] == (4_231_976, 568_740_352)
    assert counts["mobilenet_v2", 1.4, 224, 1000] == (6_108_776, 582_195_824)
    assert counts["mobilenet_v2", 1.0, 32, 10] == (2_236_682, 87_976_448)
    assert counts["mobilenet_v3_large", 0.75, 224, 1000] == (3_993_528, 154_560_624)
    v4 = {name: parameters for (name, width, *_), (parameters, _) in counts.items() if "_v4_" in name and width == 1}
    assert v4 == {
        "mobilenet_v4_conv_small": 3_774_024,
        "mobilenet_v4_conv_medium": 9_715_512,
        "mobilenet_v4_conv_large": 32_590_864,
        "mobilenet_v4_hybrid_medium": 11_074_648,
        "mobilenet_v4_hybrid_large": 37_764_624,
    }


def test_only_known_figures_are_unexplained(everything: tuple[TableVariant, ...]) -> None:
    unexplained = {
        (variant.network, variant.width_mult, variant.image_size, publication.row.source, verdict.printed)
        for variant, publication in published(everything)
        for verdict in (publication.parameters, publication.macs)
        if verdict is not None and verdict.key == UNEXPLAINED
    }
    assert unexplained == {
        ("mobilenet_v1", 1.0, 224, "keras", "529 M"),
        ("mobilenet_v1", 0.25, 192, "slim-v1", "34 M"),
        ("mobilenet_v2", 1.4, 224, "paper-v2", "585 M"),
        ("mobilenet_v2", 1.4, 224, "paper-v2", "6.9 M"),
        ("mobilenet_v3_large", 1.0, 224, "openvino", "0.4536 G"),
        ("mobilenet_v3_small", 1.0, 224, "openvino", "0.121 G"),
        ("mobilenet_v3_small", 1.0, 224, "slim", "66 M"),
        ("mobilenet_v3_small", 1.0, 224, "keras", "66 M"),
        ("mobilenet_v3_small_minimalistic", 1.0, 224, "slim", "65 M"),
        ("mobilenet_v3_small_minimalistic", 1.0, 224, "keras", "65 M"),
    }


def test_what_is_filtered_out_changes_no_verdict(everything: tuple[TableVariant, ...]) -> None:
    small = published_variants("v3_small")
    assert {variant.network for variant in small} == {"mobilenet_v3_small", "mobilenet_v3_small_minimalistic"}
    assert small == tuple(variant for variant in everything if variant.network.startswith("mobilenet_v3_small"))


@pytest.mark.parametrize("word", ["v1", "mobilenet_v1", "MobileNet-V1", " v1 "])
def test_a_name_can_be_written_in_many_ways(word: str) -> None:
    assert {variant.network for variant in published_variants(word)} == {"mobilenet_v1"}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mobilnet_v2", "did you mean mobilenet_v2?"),
        ("v3_smal", "did you mean mobilenet_v3_small?"),
        ("resnet", "There are: mobilenet_v1, mobilenet_v2"),
        ("v", "There are: mobilenet_v1"),
    ],
)
def test_a_wrong_name_lists_the_right_ones(word: str, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        published_variants(word)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_file_behind_imagenet_is_on_one_variant(everything: tuple[TableVariant, ...]) -> None:
    with_weights = [variant for variant in everything if variant.weights]
    default = {(file.model, file.width_mult): published_weights(file.model, file.width_mult) for file in PUBLISHED}
    assert {(v.network, v.width_mult): v.weights for v in with_weights} == default
    assert len(with_weights) == len(default)
    assert all(v.weights and v.image_size == v.weights.preprocessing.image_size for v in with_weights)
    assert all(v.num_classes == 1000 for v in with_weights)


def test_records_are_json(everything: tuple[TableVariant, ...]) -> None:
    records = json.loads(json.dumps([variant.to_dict() for variant in everything]))
    (slim,) = (
        publication
        for record in records
        if (record["network"], record["width_mult"], record["image_size"]) == ("mobilenet_v2", 0.35, 96)
        for publication in record["publications"]
    )
    assert slim["source"]["address"].startswith("https://github.com/tensorflow/models/blob/0ba83cf0")
    assert (slim["top1"], slim["top5"], slim["latency_ms"], slim["latency_on"]) == ("45.5", "70.4", "4.5", "Pixel 1")
    assert slim["parameters"]["printed"] == "1.66 M"
    assert (slim["parameters"]["key"], slim["parameters"]["count"]) == ("no norm", 1_663_048)
    foreign = next(record for record in records if record["name"] == "mobilenetv2_110d")
    assert foreign["parameters"] is None
    assert foreign["publications"][0]["parameters"] == {"printed": "4.52 M"}
    assert foreign["weights"] is None
    torchvision = next(
        r for r in records if (r["network"], r["width_mult"], r["image_size"]) == ("mobilenet_v2", 1, 224)
    )
    assert torchvision["weights"] == {
        "file": "mobilenet_v2-7ebf99e0.pth",
        "url": "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth",
    }
