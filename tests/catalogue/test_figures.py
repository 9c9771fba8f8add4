"""The data file against what it must hold, and against the sources that are installed here."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models import MobileNet_V2_Weights, MobileNet_V3_Large_Weights, MobileNet_V3_Small_Weights
from torchvision.models.quantization import MobileNet_V2_QuantizedWeights, MobileNet_V3_Large_QuantizedWeights

from mobilenets.catalogue.figures import PrintedFigure, PublishedRow, load_figures

ROWS = load_figures().rows


@pytest.mark.parametrize(
    ("text", "unit", "value", "step", "digits"),
    [
        ("4.24", "M", 4_240_000, 10_000, 3),
        ("4.0", "M", 4_000_000, 100_000, 2),
        ("569", "M", 569_000_000, 1_000_000, 3),
        ("0.615", "G", 615_000_000, 1_000_000, 3),
        ("0.028", "G", 28_000_000, 1_000_000, 2),
        ("3,504,872", "", 3_504_872, 1, 7),
    ],
)
def test_a_printed_figure_knows_its_precision(text: str, unit: str, value: int, step: int, digits: int) -> None:
    figure = PrintedFigure(text, unit)
    assert (figure.value, figure.step, figure.digits) == (value, step, digits)
    assert str(figure) == (f"{text} {unit}" if unit else text)


@given(st.integers(1, 10**7), st.integers(0, 4))
def test_the_step_is_one_more_in_the_last_digit(digits: int, places: int) -> None:
    text = f"{Decimal(digits).scaleb(-places):f}"
    more = f"{Decimal(digits + 1).scaleb(-places):f}"
    figure = PrintedFigure(text, "M")
    assert figure.value + figure.step == PrintedFigure(more, "M").value


def test_the_authors_tables_are_complete() -> None:
    per_table = Counter((row.source, row.network) for row in ROWS)
    assert per_table["slim-v1", "mobilenet_v1"] == 16
    assert per_table["slim", "mobilenet_v2"] == 22
    assert sum(count for (source, network), count in per_table.items() if source == "slim" and "_v3_" in network) == 9
    v1 = {(row.width_mult, row.image_size) for row in ROWS if row.source == "slim-v1"}
    assert v1 == {(width, size) for width in (1.0, 0.75, 0.5, 0.25) for size in (224, 192, 160, 128)}
    v2 = {(row.width_mult, row.image_size) for row in ROWS if row.source == "slim" and row.network == "mobilenet_v2"}
    grid = {(width, size) for width in (1.0, 0.75, 0.5, 0.35) for size in (224, 192, 160, 128, 96)}
    assert v2 == grid | {(1.4, 224), (1.3, 224)}


def test_every_source_has_an_address_and_is_used() -> None:
    sources = load_figures().sources
    assert all(source.address.startswith("https://") and source.name and source.about for source in sources.values())
    assert {row.source for row in ROWS} == set(sources)


def test_every_row_says_something() -> None:
    for row in ROWS:
        assert row.parameters or row.macs or row.top1 or row.int8_top1, row
        assert bool(row.latency_ms) == bool(row.latency_on), row
        for accuracy in (row.top1, row.top5, row.int8_top1, row.int8_top5):
            assert accuracy == "" or 0 < float(accuracy.removeprefix(">=")) < 100, row


def test_accuracy_falls_with_the_image_size_and_the_width() -> None:
    """A mistyped digit would mostly break this: in the authors' tables, less of either is always less accurate."""
    for source, network in (("slim-v1", "mobilenet_v1"), ("slim", "mobilenet_v2")):
        rows = [row for row in ROWS if row.source == source and row.network == network]
        assert all(worse(small, large) for small in rows for large in rows if smaller(small, large))


def smaller(one: PublishedRow, other: PublishedRow) -> bool:
    shapes = (one.width_mult, one.image_size), (other.width_mult, other.image_size)
    return shapes[0] != shapes[1] and all(a <= b for a, b in zip(*shapes, strict=True))


def worse(one: PublishedRow, other: PublishedRow) -> bool:
    pairs = [(one.top1, other.top1), (one.top5, other.top5), (one.int8_top1, other.int8_top1)]
    return all(float(a) < float(b) for a, b in pairs if a and b)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "label", "weights", "quantized"),
    [
        ("mobilenet_v2", "V1 weights", MobileNet_V2_Weights.IMAGENET1K_V1, MobileNet_V2_QuantizedWeights.DEFAULT),
        ("mobilenet_v2", "V2 weights", MobileNet_V2_Weights.IMAGENET1K_V2, None),
        (
            "mobilenet_v3_large",
            "V1 weights",
            MobileNet_V3_Large_Weights.IMAGENET1K_V1,
            MobileNet_V3_Large_QuantizedWeights.DEFAULT,
        ),
        ("mobilenet_v3_large", "V2 weights", MobileNet_V3_Large_Weights.IMAGENET1K_V2, None),
        ("mobilenet_v3_small", "V1 weights", MobileNet_V3_Small_Weights.IMAGENET1K_V1, None),
    ],
)
def test_torchvisions_rows_are_what_torchvision_says(network: str, label: str, weights, quantized) -> None:  # type: ignore[no-untyped-def]
    (row,) = (row for row in ROWS if (row.source, row.network, row.label) == ("torchvision", network, label))
    meta = weights.meta
    accuracy = meta["_metrics"]["ImageNet-1K"]
    assert row.parameters is not None
    assert row.macs is not None
    assert row.parameters.value == meta["num_params"]
    assert float(row.macs.text) == meta["_ops"]
    assert (float(row.top1), float(row.top5)) == (accuracy["acc@1"], accuracy["acc@5"])
    if quantized is not None:
        accuracy = quantized.meta["_metrics"]["ImageNet-1K"]
        assert (float(row.int8_top1), float(row.int8_top5)) == (accuracy["acc@1"], accuracy["acc@5"])
