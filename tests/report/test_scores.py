"""What a comparison and its scores say in sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mobilenets import formatting
from mobilenets.evaluation.results import (
    Bounds,
    ClassScore,
    Comparison,
    Interval,
    Latency,
    LedgerEntry,
    Metrics,
    PairedTest,
)
from mobilenets.evaluation.selection import Contender, choose
from mobilenets.report import scores


@pytest.mark.parametrize(
    ("probability", "written"), [(0.0, "p < 0.001"), (0.0123, "p = 0.012"), (0.614, "p = 0.61"), (1.0, "p = 1.00")]
)
def test_a_p_value_is_not_parted(probability: float, written: str) -> None:
    assert formatting.unbroken_p_value(probability) == written.replace(" ", formatting.NBSP)


def test_the_reason_of_a_choice_writes_p_as_the_page_does(comparison: Comparison) -> None:
    dear, cheap = (
        Contender(row.label, Interval(top1, top1, top1, ""), 144, row.parameters, row.macs, row.latency)
        for row, top1 in ((comparison.rows[0], 97.0), (comparison.rows[-1], 96.0))
    )
    test = PairedTest(dear.label, cheap.label, 1.0, -1.0, 3.0, 0.5, 1.0, False, "McNemar")
    assert "p = 1.00" in choose((dear, cheap), (test,), Bounds()).reason
    assert "p = 1.00" in scores.pair_sentence(test).replace(formatting.NBSP, " ")


def pair(difference: float, *, differs: bool, adjusted: float) -> PairedTest:
    return PairedTest("A", "B", difference, difference - 0.9, difference + 0.9, 0.001, adjusted, differs, "McNemar")


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        (pair(1.3, differs=True, adjusted=0.01), "A beats B by 1.3 points [0.4, 2.2], p = 0.010"),
        (pair(-1.3, differs=True, adjusted=0.01), "B beats A by 1.3 points [0.4, 2.2], p = 0.010"),
        (
            pair(0.3, differs=False, adjusted=0.6),
            "A and B do not differ significantly: 0.3 points [−0.6, 1.2], p = 0.60",
        ),
        (
            pair(-0.3, differs=False, adjusted=0.6),
            "B and A do not differ significantly: 0.3 points [−0.6, 1.2], p = 0.60",
        ),
        (
            pair(0.9, differs=False, adjusted=0.2),
            "A and B do not differ significantly: 0.9 points [0.0, 1.8], p = 0.20",
        ),
    ],
)
def test_pair_sentence(test: PairedTest, sentence: str) -> None:
    assert scores.pair_sentence(test).replace(formatting.NBSP, " ") == sentence


def test_bound_phrases_name_what_was_set_and_nothing_else() -> None:
    assert scores.bound_phrases(Bounds()) == ()
    phrases = scores.bound_phrases(Bounds(max_latency_ms=5.0, max_params=2_000_000, min_top1=90.5))
    assert [phrase.replace(formatting.NBSP, " ") for phrase in phrases] == [
        "latency at most 5 ms",
        "at most 2,000,000 parameters",
        "accuracy at least 90.5 %",
    ]
    assert scores.bound_phrases(Bounds(min_top1=0.0)) != ()


def test_runtimes_come_in_one_order_and_unknown_ones_last() -> None:
    latency = Latency(1.0, 1.2, 0.1, 10)
    found = scores.runtimes([{"zeta": latency, "onnxruntime": latency}, {"pytorch": latency}])
    assert found == ("pytorch", "onnxruntime", "zeta")
    assert scores.runtime_name("zeta") == "zeta"


def again(comparison: Comparison, *readings: LedgerEntry) -> Comparison:
    """The comparison with its first run read so."""
    row = comparison.rows[0]
    runs = (replace(row.runs[0], test_readings=readings), *row.runs[1:])
    return replace(comparison, rows=(replace(row, runs=runs), *comparison.rows[1:]))


def test_the_split_sentence_says_what_was_chosen_by_and_when_test_images_were_read(comparison: Comparison) -> None:
    assert scores.split_sentence(comparison) == (
        "The choice went by 144 validation images, not by the 360 test images; these were read once for each network "
        "trained: 2026-01-02 03:04:00 UTC."
    )
    first, second = (LedgerEntry(f"2026-01-0{day}T03:04:00+00:00", "compare", 360) for day in (1, 2))
    assert "read more than once (1 of 3 runs, up to 2 times): 2026-01-01 03:04:00 UTC to 2026-01-02" in (
        scores.split_sentence(again(comparison, first, second))
    )
    # A reading that was stopped left nothing to choose by, and its repetition is no second one.
    assert "read once for each" in scores.split_sentence(again(comparison, first, replace(second, repeats=True)))


def test_a_comparison_from_before_validation_images_says_so(comparison: Comparison) -> None:
    rows = tuple(replace(row, validation_top1=None) for row in comparison.rows)
    old = replace(comparison, rows=rows, data=replace(comparison.data, validation_images=0))
    assert "the choice went by the test images, which flatters it" in scores.split_sentence(old)
    assert scores.deciding_split(old) == "test"


def scored(*classes: tuple[str, int, float]) -> Metrics:
    return Metrics(
        count=sum(count for _, count, _ in classes),
        loss=0.1,
        top1=80.0,
        top5=100.0,
        ece=1.0,
        classes=tuple(ClassScore(name, count, recall, 50.0) for name, count, recall in classes),
        confusion=(),
    )


def test_class_lines_name_the_worst_and_the_macro_averages_of_unequal_classes() -> None:
    assert scores.class_lines(scored(("a", 10, 90.0), ("b", 12, 70.0), ("c", 12, 80.0))) == (
        "least recognised: b 70.0 %",
    )
    macro, worst = scores.class_lines(scored(("a", 100, 90.0), ("b", 10, 30.0), ("none", 0, 0.0), ("c", 90, 75.0)))
    assert macro.startswith("macro recall 65.00 %, precision 50.00 %, F1 ")
    assert macro.endswith("(classes have 10 to 100 images, each weighs the same)")
    assert worst == "least recognised: b 30.0 %, c 75.0 %"
    assert scores.class_lines(scored(("a", 10, 80.0), ("b", 10, 80.0))) == ()
