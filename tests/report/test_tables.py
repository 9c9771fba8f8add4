"""Terminal, Markdown, CSV and JSON of the same comparison."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from mobilenets.errors import RunError
from mobilenets.evaluation.results import Choice, ClassScore, Comparison, Interval, Metrics
from mobilenets.report.compare import (
    comparison_table,
    markdown_table,
    metrics_table,
    read_json,
    to_json,
    verdict_lines,
    write_csv,
    write_json,
)
from mobilenets.report.compare_page import render_page

GOLDEN = Path(__file__).parent / "golden"


def printed(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


@pytest.fixture(scope="session")
def fixed(comparison: Comparison) -> Comparison:
    """The comparison with every figure that scikit-learn computed replaced by a constant: golden text needs no luck."""
    train, test = Interval(97.5, 97.1, 97.9, "3 seeds"), Interval(92.25, 89.04, 94.61, "3 seeds")
    validation = Interval(93.75, 88.56, 96.68, "3 seeds")
    score = ClassScore("0", 360, 91.0, 92.0, 93.0)
    rows = tuple(
        replace(
            row,
            train_top1=train,
            validation_top1=validation,
            test_top1=test,
            test_top5=99.5,
            ece=2.5,
            runs=tuple(replace(run, test=one_class(run.test, score)) for run in row.runs),
        )
        for row in comparison.rows
    )
    return replace(comparison, rows=rows)


def one_class(metrics: Metrics, score: ClassScore) -> Metrics:
    """The metrics with one class, whose scores then are the macro averages."""
    macro = {"macro_recall": score.recall, "macro_precision": score.precision, "macro_f1": score.f1}
    return replace(metrics, classes=(score,), **macro)


@pytest.mark.parametrize("width", [80, 110, 160])
def test_terminal_table_is_the_golden_text(fixed: Comparison, width: int) -> None:
    golden = (GOLDEN / f"table-{width}.txt").read_text(encoding="utf-8")
    assert printed(comparison_table(fixed, width=width), width) == golden


def test_csv_is_the_golden_text(fixed: Comparison, tmp_path: Path) -> None:
    write_csv(fixed, tmp_path / "new folder" / "comparison.csv")
    written = (tmp_path / "new folder" / "comparison.csv").read_bytes()
    assert written == (GOLDEN / "comparison.csv").read_bytes()


@pytest.mark.parametrize("width", range(80, 170, 7))
def test_terminal_table_keeps_within_the_width_and_cuts_nothing(
    make_comparison: Callable[..., Comparison], width: int
) -> None:
    comparison = make_comparison(6)
    text = printed(comparison_table(comparison, width=width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text.replace("mobilenet_…", "")
    for row in comparison.rows:
        assert f"{row.test_top1.mean:.1f}" in text
        assert f"p95 {row.latency['onnxruntime'].p95_ms:.2f}" in text
    assert text.count("★") == 1


def test_width_defaults_to_the_terminal(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert len(comparison_table(comparison).columns) == len(comparison_table(comparison, width=160).columns)
    monkeypatch.setenv("COLUMNS", "80")
    assert len(comparison_table(comparison).columns) == len(comparison_table(comparison, width=80).columns)


def test_a_label_is_never_markup(comparison: Comparison) -> None:
    row = replace(comparison.rows[0], label="[red]mine[/red] [/]")
    odd = replace(comparison, rows=(row, *comparison.rows[1:]))
    assert "[red]mine[/red] [/]" in printed(comparison_table(odd, width=160), 160)


def test_nothing_is_marked_when_nothing_fits(comparison: Comparison) -> None:
    none = replace(comparison, choice=Choice(None, "No network fits."))
    assert "★" not in printed(comparison_table(none, width=120), 120)
    assert "**" not in markdown_table(none)


def test_markdown_has_a_row_a_network_and_even_columns(comparison: Comparison) -> None:
    piped = replace(comparison, rows=(replace(comparison.rows[0], label="a|b"), *comparison.rows[1:]))
    lines = markdown_table(piped).splitlines()
    assert len(lines) == 2 + len(piped.rows)
    assert {line.replace("\\|", "").count("|") for line in lines} == {lines[0].count("|")}
    assert lines[-1].startswith(f"| **{piped.choice.label}** |")


def test_csv_reads_back_at_full_precision(comparison: Comparison, tmp_path: Path) -> None:
    rows = list(comparison.rows)
    rows[1] = replace(rows[1], latency={"onnxruntime": rows[1].latency["onnxruntime"]})
    write_csv(replace(comparison, rows=tuple(rows)), tmp_path / "c.csv")
    with (tmp_path / "c.csv").open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    assert [record["network"] for record in records] == [row.label for row in rows]
    for record, row in zip(records, rows, strict=True):
        assert float(record["test_top1_percent"]) == row.test_top1.mean
        assert row.validation_top1 is not None
        assert float(record["validation_top1_percent"]) == row.validation_top1.mean
        assert float(record["test_macro_f1_percent"]) == row.runs[0].test.macro_f1
        assert (record["validation_images"], record["test_readings"]) == ("144", "1")
        assert record["test_images_first_read"] == "2026-01-02T03:04:00+00:00"
        assert int(record["macs"]) == row.macs
        assert float(record["latency_onnxruntime_median_ms"]) == row.latency["onnxruntime"].median_ms
    assert records[1]["latency_pytorch_median_ms"] == ""
    assert [record["chosen"] for record in records] == ["no", "no", "yes"]


def test_json_round_trip(comparison: Comparison, tmp_path: Path) -> None:
    write_json(comparison, tmp_path / "c.json")
    assert read_json(tmp_path / "c.json") == comparison
    assert json.loads(to_json(comparison))["rows"][0]["label"] == comparison.rows[0].label


def test_json_keeps_a_row_of_the_confusion_on_one_line(comparison: Comparison) -> None:
    """And touches no text, not even one that looks like a list over several lines."""
    odd = replace(comparison, command="[\n  1,\n  2\n]", notes=("[1,\n2]",))
    text = to_json(odd)
    confusion = comparison.rows[0].runs[0].test.confusion
    assert f"{list(confusion[0])},\n" in text
    assert json.loads(text)["command"] == odd.command
    assert json.loads(text)["notes"] == list(odd.notes)


def test_verdict_lines_are_the_tests_of_the_network_to_take(comparison: Comparison) -> None:
    chosen = str(comparison.choice.label)
    lines = verdict_lines(comparison)
    assert len(lines) == len(comparison.rows) - 1
    assert all(chosen in line and "\u00a0" not in line and "p " in line for line in lines)
    best = max(comparison.rows, key=lambda row: row.deciding_top1.mean).label
    assert all(best in line for line in verdict_lines(replace(comparison, choice=Choice(None, "none fits"))))
    assert verdict_lines(replace(comparison, rows=(), pairs=())) == ()


recipe_values = st.one_of(
    st.booleans(), st.integers(-(2**53), 2**53), st.text(), st.floats(allow_nan=False, allow_infinity=False)
)


@settings(max_examples=50, deadline=None)
@given(recipe=st.dictionaries(st.text(), recipe_values, max_size=4), reason=st.text())
def test_json_keeps_every_value_and_its_type(
    recipe: dict[str, str | int | float | bool],
    reason: str,
    tmp_path_factory: pytest.TempPathFactory,
    comparison: Comparison,
) -> None:
    path = tmp_path_factory.mktemp("json") / "c.json"
    small = replace(comparison, rows=(), recipe=recipe, choice=Choice(None, reason))
    write_json(small, path)
    again = read_json(path)
    assert again == small
    assert [type(value) for value in again.recipe.values()] == [type(value) for value in recipe.values()]


def test_json_keeps_what_is_not_a_number(comparison: Comparison, tmp_path: Path) -> None:
    row = replace(comparison.rows[0], ece=math.nan, seconds_per_epoch=math.inf)
    write_json(replace(comparison, rows=(row,)), tmp_path / "c.json")
    again = read_json(tmp_path / "c.json").rows[0]
    assert math.isnan(again.ece)
    assert again.seconds_per_epoch == math.inf


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "the file"), ("{}", "created"), ('{"created": 3}', "created")],
)
def test_a_wrong_json_file_is_one_clear_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=said) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_json_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nothing\.json: can't be read"):
        read_json(tmp_path / "nothing.json")


def test_a_file_in_the_place_of_the_folder_is_one_clear_line(comparison: Comparison, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="can't be made a folder"):
        write_csv(comparison, tmp_path / "taken" / "c.csv")


def test_an_empty_comparison_has_no_csv(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no network"):
        write_csv(replace(comparison, rows=()), tmp_path / "c.csv")
    assert list(tmp_path.iterdir()) == []


def test_metrics_table_has_the_totals_and_a_row_a_class(comparison: Comparison) -> None:
    metrics = comparison.rows[0].runs[0].test
    text = printed(metrics_table(metrics), 80)
    assert f"top-1 {metrics.top1:.1f} %" in text
    for score in metrics.classes:
        figures = [f"{value:.1f}" for value in (score.recall, score.precision, score.f1)]
        assert any(line.split() == [score.name, str(score.count), *figures] for line in text.splitlines())
    averages = [f"{value:.1f}" for value in (metrics.macro_recall, metrics.macro_precision, metrics.macro_f1)]
    assert any(line.split() == ["macro", "average", "360", *averages] for line in text.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_comparisons_made_before_there_were_validation_images_are_read_and_shown(name: str, tmp_path: Path) -> None:
    """Whatever they lack is worked out or left empty; once they are made again, nothing is lacking."""
    old = read_json(Path(__file__).parents[2] / "benchmarks" / "results" / f"{name}.json")
    rows = tuple(replace(row, validation_top1=None) for row in old.rows)
    old = replace(old, rows=rows, data=replace(old.data, validation_images=0))
    assert all(0 < run.test.macro_f1 <= 100 for row in old.rows for run in row.runs)
    assert "Validation" not in markdown_table(old)
    assert "accuracy" in printed(comparison_table(old, width=120), 120)
    write_csv(old, tmp_path / "c.csv")
    page = render_page(old)
    assert "Made before there were validation images" in page
    assert "the same test images" in page
