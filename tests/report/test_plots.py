"""The pictures: well-formed, self-contained, the same every time, and true to the records."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mobilenets.evaluation.results import Bounds, Choice, Comparison, Metrics, SeedRun
from mobilenets.report.plots import canvas
from mobilenets.report.plots.comparison import (
    accuracy_plot,
    confusion_plot,
    curves_plot,
    summary_png,
    total_confusion,
)
from mobilenets.report.plots.scatter import Cost, latency_key

Make = Callable[..., Comparison]
COSTS: tuple[Cost, ...] = get_args(Cost)


def words(svg: str) -> list[str]:
    """Return the text elements, after parsing: a picture that is not well-formed fails here."""
    root = ElementTree.fromstring(svg)
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


def pictures(comparison: Comparison) -> dict[str, str]:
    found = {f"accuracy-{cost}": accuracy_plot(comparison, cost) for cost in COSTS}
    found |= {"loss": curves_plot(comparison, "loss"), "top1": curves_plot(comparison, "top1")}
    return found | {f"confusion-{i}": confusion_plot(row, f"confusion-{i}") for i, row in enumerate(comparison.rows)}


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_picture_is_well_formed_described_and_fetches_nothing(comparison: Comparison) -> None:
    for name, svg in pictures(comparison).items():
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img", name
        assert root.get("aria-label"), name
        references = re.findall(r'(?:href="|url\()([^")]*)', svg)
        assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in references), name
        assert "<metadata" not in svg, name


@pytest.mark.slow
def test_pictures_are_the_same_every_time(comparison: Comparison) -> None:
    assert pictures(comparison) == pictures(comparison)


@pytest.mark.slow
def test_no_two_pictures_share_an_id(comparison: Comparison) -> None:
    ids = [found for svg in pictures(comparison).values() for found in re.findall(r' id="([^"]*)"', svg)]
    assert len(ids) == len(set(ids)) > 0


def test_every_reference_finds_its_id(comparison: Comparison) -> None:
    for svg in pictures(comparison).values():
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) <= set(re.findall(r' id="([^"]*)"', svg))


@pytest.mark.slow
@pytest.mark.parametrize("networks", [2, 12])
@pytest.mark.parametrize("cost", COSTS)
def test_every_network_is_named_once(make_comparison: Make, networks: int, cost: Cost) -> None:
    comparison = make_comparison(networks)
    named = words(accuracy_plot(comparison, cost))
    for row in comparison.rows:
        assert named.count(row.label.removeprefix("mobilenet_")) == 1


def test_bounds_are_drawn_where_they_belong(make_comparison: Make) -> None:
    bounded = make_comparison(3, bounds=Bounds(max_latency_ms=1.5, max_params=2_000_000, min_top1=88.0))
    drawn = {cost: set(words(accuracy_plot(bounded, cost))) for cost in COSTS}
    assert all("at least 88 % in validation" in found for found in drawn.values())
    assert "at most 1.5 ms" in drawn["latency"] - drawn["macs"] - drawn["parameters"]
    assert "at most 2 M" in drawn["parameters"] - drawn["macs"] - drawn["latency"]


@pytest.mark.slow
def test_a_network_keeps_its_colour_in_every_picture(comparison: Comparison) -> None:
    for index in range(len(comparison.rows)):
        for svg in (accuracy_plot(comparison, "macs"), curves_plot(comparison, "loss")):
            assert f"var(--series-{index}, {canvas.colour(index)})" in svg


def test_only_the_chosen_network_is_ringed(comparison: Comparison) -> None:
    unchosen = replace(comparison, choice=Choice(None, "No network fits."))
    ring = f"stroke: var(--ink, {canvas.INK})"
    assert ring in accuracy_plot(comparison, "macs")
    assert ring not in accuracy_plot(unchosen, "macs")


def test_the_runtime_drawn_is_measured_on_all(comparison: Comparison) -> None:
    first = replace(comparison.rows[0], latency={"pytorch": comparison.rows[0].latency["pytorch"]})
    some = replace(comparison, rows=(first, *comparison.rows[1:]))
    assert latency_key(comparison) == "onnxruntime"
    assert latency_key(some) == "pytorch"
    none = replace(comparison, rows=(replace(first, latency={}), *comparison.rows[1:]))
    assert latency_key(none) is None
    with pytest.raises(ValueError, match="no runtime"):
        accuracy_plot(none, "latency")


def test_each_seed_has_its_line(make_comparison: Make) -> None:
    one, three = make_comparison(2, 1), make_comparison(2, 3)
    lines = [curves_plot(comparison, "top1").count("opacity: 0.35") for comparison in (one, three)]
    assert lines == [0, 2 * 3]


def test_curves_of_unequal_length_and_of_one_epoch(comparison: Comparison) -> None:
    row = comparison.rows[0]
    short = replace(row.runs[0], curve=row.runs[0].curve[:1])
    uneven = replace(comparison, rows=(replace(row, runs=(row.runs[0], short)), replace(row, runs=(short,), label="b")))
    assert "epoch" in words(curves_plot(uneven, "loss"))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_confusion_names_and_counts(make_comparison: Make, classes: int) -> None:
    names = tuple(f"class {i:03d}" for i in range(classes))
    row = make_comparison(2, 2, names=names).rows[1]
    counts = total_confusion(row.runs)
    assert counts.sum() == 2 * 360
    written = words(confusion_plot(row, "c"))
    named = [name for name in names if name in written]
    assert len(named) == min(classes, 20)
    assert {"truth", "answer"} <= set(written)
    numbers = sorted(int(text) for text in written if text.isdigit())
    assert numbers == (sorted(int(n) for n in counts[counts > 0]) if classes <= 12 else [])


def test_class_names_are_text_whatever_they_hold(make_comparison: Make) -> None:
    names = (
        "<script>x</script>",
        "$\\frac{1}$",
        "猫",
        "#1d2127",
        "a\"b'c",
        "{{ x }}",
        "&amp;",
        "a\tb",
        " ",
        "long " * 20,
    )
    svg = confusion_plot(make_comparison(1, names=names).rows[0], "c")
    assert "<script" not in svg
    assert {"<script>x</script>", "$\\frac{1}$", "猫", "#1d2127", "{{ x }}", "&amp;"} <= set(words(svg))


def test_a_class_without_test_images_is_no_division_by_zero(comparison: Comparison) -> None:
    run: SeedRun = comparison.rows[0].runs[0]
    confusion = (tuple([0] * 10), *run.test.confusion[1:])
    test: Metrics = replace(run.test, confusion=confusion)
    svg = confusion_plot(replace(comparison.rows[0], runs=(replace(run, test=test),)), "c")
    assert "nan" not in svg


def test_colours_are_legible_on_white_and_in_the_dark() -> None:
    style = (Path(canvas.__file__).parents[1] / "templates" / "style.css").read_text(encoding="utf-8")
    dark = style[style.index("prefers-color-scheme: dark") :]
    dark_paper = re.search(r"--paper: (#\w+)", dark)
    assert dark_paper is not None
    for index, colour in enumerate(canvas.SERIES):
        assert contrast(colour, canvas.PAPER) >= 4.5
        found = re.search(rf"--series-{index}: (#\w+)", dark)
        assert found is not None
        assert contrast(found[1], dark_paper[1]) >= 4.5


def test_every_network_looks_different() -> None:
    looks = [(canvas.colour(index), canvas.marker(index)) for index in range(100)]
    assert len(set(looks)) == len(looks)


@pytest.mark.slow
@pytest.mark.parametrize("networks", [1, 12])
def test_summary_is_one_small_picture(make_comparison: Make, tmp_path: Path, networks: int) -> None:
    path = tmp_path / "summary.png"
    summary_png(make_comparison(networks), path)
    assert path.stat().st_size < 300_000
    with Image.open(path) as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(10**6)) > networks
    assert list(tmp_path.iterdir()) == [path]


def test_summary_without_latencies_draws_the_rest(comparison: Comparison, tmp_path: Path) -> None:
    bare = replace(comparison, rows=tuple(replace(row, latency={}) for row in comparison.rows))
    summary_png(bare, tmp_path / "summary.png")
    with Image.open(tmp_path / "summary.png") as image:
        assert image.width < 1000
