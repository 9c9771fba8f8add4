from __future__ import annotations

import io
import re

import pytest
from rich.console import Console, RenderableType

from mobilenets.catalogue.variants import TableVariant, published_variants
from mobilenets.report.models import sources_view, variants_view


@pytest.fixture(scope="module")
def variants() -> tuple[TableVariant, ...]:
    return (*published_variants("v1"), *published_variants("v3"))


def printed(view: RenderableType, width: int) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=width).print(view, crop=False)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


@pytest.fixture(scope="module")
def lines(variants: tuple[TableVariant, ...]) -> list[str]:
    return printed(variants_view(variants), 120)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 119, 120, 200])
def test_nothing_is_cut(columns: int) -> None:
    shown = printed(variants_view(published_variants(), columns=columns), columns)
    assert max(map(len, shown)) <= columns
    assert not any("…" in line for line in shown)


def test_a_narrow_terminal_has_our_counts_above_those_printed(variants: tuple[TableVariant, ...]) -> None:
    shown = "\n".join(printed(variants_view(variants, columns=80), 80))
    assert re.search(r"^ 0\.25, 224 px +470,072 +41\.03 M\n   TF-slim +0\.47 M ✓ +41 M ✓ +49\.8", shown, re.M)
    assert re.search(r"^ mobilenetv1_100h +timm +224 +5\.28 M +75\.664\n   a larger head", shown, re.M)


def test_it_opens_with_how_to_read_it(variants: tuple[TableVariant, ...], lines: list[str]) -> None:
    opening = lines[: lines.index("")]
    assert opening[0].startswith("Published MobileNets")
    assert [line[2] for line in opening[1:]] == ["✓", "a", "↓"]
    foreign = [variant for variant in variants if not variant.built_here]
    assert not any("↓" in line for line in printed(variants_view(foreign), 120))


def test_published_weights_are_marked_and_named(variants: tuple[TableVariant, ...], lines: list[str]) -> None:
    text = "\n".join(lines)
    marked = re.findall(r"^ +↓ ([\d.]+) +(\d+) +[\d,]+", text, re.M)
    with_weights = [variant for variant in variants if variant.weights]
    assert marked == [(f"{variant.width_mult:g}", f"{variant.image_size}") for variant in with_weights]
    assert "  ↓ --weights imagenet at width 0.75: tf_mobilenetv3_large_075-150ee8b0.pth" in lines


def test_figures_have_a_tick_or_a_letter_that_is_explained(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert re.search(
        r"^ +0\.25 +224 +470,072 +41\.03 M +TF-slim +0\.47 M ✓ +41 M ✓ +49\.8 \(74\.2\) +48\.2", text, re.M
    )
    (letter,) = re.findall(r"TF-slim +2\.59 M ✓ +317 M (\w)", text)
    assert f"  {letter} the first convolution left out" in lines
    for table in text.split("\n\nmobilenet")[1:]:
        used = set(re.findall(r"\d [MG] ([a-z])\b", table))
        explained = set(re.findall(r"^  ([a-z]) \S", table, re.M))
        assert used == explained


def test_counts_are_printed_once_a_variant(variants: tuple[TableVariant, ...], lines: list[str]) -> None:
    for variant in variants:
        if variant.built_here:
            own = f"{variant.width_mult:g} +{variant.image_size} +{variant.parameters:,} +{variant.macs / 1e6:,.2f} M"
            pattern = re.compile(rf"^ +(↓ )?{own} ")
            found = [line for line in lines if pattern.match(line)]
            equal = [v for v in variants if (v.parameters, v.macs) == (variant.parameters, variant.macs)]
            assert len(found) == len(equal)


def test_networks_of_others_come_last(lines: list[str]) -> None:
    start = lines.index("published by others, not built here")
    assert any(re.match(r" mobilenetv1_100h +timm +224 +5\.28 M +75\.664 +a larger head", x) for x in lines[start:])
    assert not any(line.startswith("mobilenet_v") for line in lines[start:])


def test_the_legend_has_every_source_and_its_whole_address(variants: tuple[TableVariant, ...]) -> None:
    shown = [line.strip() for line in printed(sources_view(variants), 80)]
    text = "\n".join(shown)
    for variant in variants:
        for publication in variant.publications:
            source = publication.source
            assert source.address in shown
            assert f"{source.name}: {source.about}" in text.replace("\n", " ")
    assert "chenyaofo" not in text  # V2 only
