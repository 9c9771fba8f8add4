"""Every known disagreement between a source and the network, each with the reason it must be given."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.catalogue.figures import PrintedFigure
from mobilenets.catalogue.readings import AGREES, CostParts, TableReading, cost_parts, mac_readings, parameter_readings
from mobilenets.catalogue.variants import UNEXPLAINED, FigureReadings, Verdict, reconcile


def parts(name: str, width_mult: float = 1.0, image_size: int = 224) -> CostParts:
    return cost_parts(name, width_mult, 1000, image_size)


def parameters(name: str, printed: dict[float, str]) -> list[Verdict]:
    """Verdicts on one source's parameters in millions, by width."""
    claims = [
        FigureReadings(PrintedFigure(text, "M"), parameter_readings(parts(name, width)))
        for width, text in printed.items()
    ]
    return list(reconcile(claims))


def macs(name: str, printed: dict[tuple[float, int], str], unit: str = "M") -> list[Verdict]:
    """Verdicts on one source's multiply-adds, by width and image size."""
    return list(
        reconcile(
            [
                FigureReadings(PrintedFigure(text, unit), mac_readings(parts(name, width, size), {}))
                for (width, size), text in printed.items()
            ]
        )
    )


def test_slims_v2_parameters_are_without_batch_norm() -> None:
    verdicts = parameters(
        "mobilenet_v2", {1.4: "6.06", 1.3: "5.34", 1.0: "3.47", 0.75: "2.61", 0.5: "1.95", 0.35: "1.66"}
    )
    assert [(verdict.key, verdict.count, verdict.explains) for verdict in verdicts] == [
        ("no norm", 6_060_840, 6),
        ("no norm", 5_342_536, 6),
        ("no norm", 3_470_760, 6),
        ("no norm", 2_609_784, 6),
        ("no norm", 1_950_136, 6),
        ("no norm", 1_663_048, 6),
    ]


@pytest.mark.slow
def test_slims_v3_small_has_a_wider_head_in_parameters_and_multiply_adds() -> None:
    verdicts = parameters("mobilenet_v3_small", {1.0: "2.9", 0.75: "2.4"})
    assert [(verdict.key, verdict.count) for verdict in verdicts] == [
        ("wide head", 2_946_568),
        ("wide head", 2_408_720),
    ]
    assert verdicts[0].reason == "1,280 channels before the classifier instead of 1,024"
    readings = mac_readings(parts("mobilenet_v3_small", 0.75), {})
    (verdict,) = reconcile([FigureReadings(PrintedFigure("44", "M"), readings, hint="wide head")])
    assert (verdict.key, verdict.count) == ("wide head", 43_399_344 + 256 * (432 + 1000))


def test_slims_v1_three_quarters_leave_the_stem_out() -> None:
    sizes = {(0.75, 224): "317", (0.75, 192): "233", (0.75, 160): "162", (0.75, 128): "104"}
    assert {verdict.key for verdict in macs("mobilenet_v1", sizes)} == {"no stem"}


def test_slims_v1_parameters_hold_statistics_but_no_scales() -> None:
    verdicts = parameters("mobilenet_v1", {1.0: "4.24", 0.75: "2.59", 0.5: "1.34", 0.25: "0.47"})
    assert [verdict.key for verdict in verdicts] == ["statistics, no scale", AGREES, "statistics, no scale", AGREES]
    # Rounding up, though simpler, gives three of the four: 0.470 would be 0.48.
    assert verdicts[0].explains == 4


def test_slims_v2_multiply_adds_are_cut_off() -> None:
    verdicts = macs("mobilenet_v2", {(1.0, 224): "300", (0.75, 192): "153", (0.5, 128): "32", (1.0, 192): "221"})
    assert [verdict.key for verdict in verdicts] == ["truncated", "truncated", "truncated", AGREES]


@pytest.mark.parametrize(
    ("name", "width_mult", "image_size", "printed", "deviation"),
    [
        ("mobilenet_v1", 1.0, 224, "529", "-7.0 %"),
        ("mobilenet_v1", 0.25, 192, "34", "+12.5 %"),
        ("mobilenet_v2", 1.4, 224, "585", "+0.5 %"),
        ("mobilenet_v3_small", 1.0, 224, "66", "+16.8 %"),
        ("mobilenet_v3_small_minimalistic", 1.0, 224, "65", "+24.3 %"),
    ],
)
def test_what_nothing_explains_is_said_so(
    name: str, width_mult: float, image_size: int, printed: str, deviation: str
) -> None:
    (verdict,) = macs(name, {(width_mult, image_size): printed})
    assert verdict.key == UNEXPLAINED
    assert verdict.count is None
    assert verdict.reason.startswith(deviation)
    assert ("misprint" in verdict.reason) == (printed in ("529", "585"))


def test_v2_papers_parameters_at_width_1_4_are_unexplained() -> None:
    (verdict,) = parameters("mobilenet_v2", {1.4: "6.9"})
    assert (verdict.key, verdict.short) == (UNEXPLAINED, "unexplained, +13.0 %")


def test_openvino_counts_operations_folds_norms_and_has_a_background_class() -> None:
    operations = macs("mobilenet_v2", {(1.0, 224): "0.615", (1.4, 224): "1.183"}, "G")
    assert [verdict.key for verdict in operations] == ["operations", "operations"]
    assert operations[0].reason.startswith("multiplications and additions counted singly")
    assert macs("mobilenet_v1", {(1.0, 224): "1.148"}, "G")[0].key == "operations"
    folded = parameters("mobilenet_v2", {1.0: "3.489", 1.4: "6.087"})
    assert [verdict.key for verdict in folded] == ["folded norm+background"] * 2
    assert folded[0].count == 3_504_872 - 17_056 + 1281
    assert parameters("mobilenet_v1", {1.0: "4.221"})[0].key == "folded norm"


def test_plainly_doubled_multiply_adds() -> None:
    (verdict,) = macs("mobilenet_v2", {(1.0, 224): "601.5"})
    assert (verdict.key, verdict.count) == ("doubled", 2 * 300_774_272)


def test_the_articles_v2_keeps_its_first_expansion() -> None:
    (verdict,) = reconcile([FigureReadings(PrintedFigure("3,505,960", ""), parameter_readings(parts("mobilenet_v2")))])
    assert (verdict.key, verdict.count) == ("kept expansion", 3_504_872 + 1088)


@pytest.mark.parametrize(("width_mult", "key", "width"), [(0.5, "scaled head", 640), (1.4, "unscaled head", 1280)])
def test_a_head_scaled_against_the_rule(width_mult: float, key: str, width: int) -> None:
    whole = parts("mobilenet_v2", width_mult)
    assert whole.last is not None
    last_block = whole.last.parameters_per_output - 2
    expected = whole.parameters + (width - whole.last.width) * (last_block + 2 + 1000)
    (verdict,) = reconcile([FigureReadings(PrintedFigure(f"{expected:,}", ""), parameter_readings(whole))])
    assert (verdict.key, verdict.count) == (key, expected)


def test_another_size_is_recognised() -> None:
    small = parts("mobilenet_v2", 1.0, 192).macs
    (verdict,) = reconcile(
        [FigureReadings(PrintedFigure("221", "M"), mac_readings(parts("mobilenet_v2"), {192: small}))]
    )
    assert (verdict.key, verdict.short) == ("at 192", "count at 192 px")


def test_a_pair_of_readings_needs_three_digits() -> None:
    folded = TableReading("folded norm+background", "", "", 3_489_097)
    plain = TableReading(AGREES, "", "", 3_504_872)
    for text, key in (("3.489", "folded norm+background"), ("3.49", "folded norm+background")):
        assert reconcile([FigureReadings(PrintedFigure(text, "M"), (plain, folded))])[0].key == key
    short = (replace(plain, count=3_704_872), folded)
    assert reconcile([FigureReadings(PrintedFigure("3.5", "M"), short)])[0].key == UNEXPLAINED


def test_the_nearest_reading_is_named_where_the_plain_count_is_far() -> None:
    (verdict,) = macs("mobilenet_v3_large", {(1.0, 224): "0.4536"}, "G")
    assert verdict.key == UNEXPLAINED
    assert "nearest is" in verdict.reason


@given(st.integers(10_000, 10**9), st.integers(0, 3))
def test_rounding_a_count_always_agrees_and_cutting_it_is_recognised(count: int, places: int) -> None:
    readings = (TableReading(AGREES, "", "", count), TableReading("truncated", "", "", count, "down"))
    rounded = PrintedFigure(f"{count / 1e6:.{places}f}", "M")
    step = int(rounded.step)
    cut = PrintedFigure(f"{count // step * step / 1e6:.{places}f}", "M")
    assert readings[0].gives(rounded)
    assert readings[1].gives(cut)
    (verdict,) = reconcile([FigureReadings(cut, readings)])
    assert verdict.key in (AGREES, "truncated")
    assert verdict.agrees == (abs(count - cut.value) <= cut.step / 2)
    assert not readings[1].gives(PrintedFigure(f"{(count // step + 2) * step / 1e6:.{places}f}", "M"))
