"""The page: complete, inert and self-contained. What a browser makes of it: test_page_in_browser.py."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mobilenets.errors import RunError
from mobilenets.evaluation.results import Bounds, Choice, Comparison
from mobilenets.report.compare_page import render_page, write_page
from mobilenets.report.scores import pair_sentence

Make = Callable[..., Comparison]
VOID = {"meta", "link", "img", "br", "wbr", "input", "hr"}


class Page(HTMLParser):
    """The page's elements, and a check that every one is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def page(comparison: Comparison) -> str:
    return render_page(comparison)


@pytest.mark.slow
def test_every_row_pair_class_and_mistake_is_on_the_page(comparison: Comparison, page: str) -> None:
    text = re.sub(r"\s+", " ", "".join(Page(page).texts))
    for row in comparison.rows:
        assert row.label in text
        assert f"{row.test_top1.mean:.1f}" in text
        assert all(mistake.image in text for mistake in row.mistakes)
    for pair in comparison.pairs:
        assert re.sub(r"\s+", " ", pair_sentence(pair)) in text
    assert comparison.choice.reason in text
    assert comparison.command in text
    assert all(name in text for name in (*comparison.recipe, *comparison.environment))
    assert page.count('class="chosen"') == 1


def test_the_page_is_well_formed_and_named(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    assert all(image.get("alt") for image in parsed.named("img"))
    assert all(picture.get("aria-label") for picture in parsed.named("svg"))
    assert all(heading.get("scope") in {"col", "row"} for heading in parsed.named("th"))
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {link["href"] for link in parsed.named("a")}
    assert links <= {f"#{found}" for found in ids}


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    for tag, attributes in Page(page).elements:
        for name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), f"{tag} {name}={value[:60]}"
    assert re.findall(r"url\((?!#)", page) == []
    assert "@import" not in page
    assert "default-src 'none'" in page


@pytest.mark.slow
def test_html_in_names_is_inert(hostile: Comparison) -> None:
    text = render_page(hostile)
    parsed = Page(text)
    assert [attributes for _, attributes in parsed.elements if any(name.startswith("on") for name in attributes)] == []
    assert [image["src"] for image in parsed.named("img") if not str(image["src"]).startswith("data:")] == []
    assert len(parsed.named("script")) == 1
    assert hostile.command in "".join(parsed.texts)


@pytest.mark.slow
def test_the_same_comparison_gives_the_same_page(comparison: Comparison, page: str) -> None:
    assert render_page(comparison) == page


@pytest.mark.slow
def test_no_choice_says_so_and_marks_nothing(comparison: Comparison) -> None:
    reason = "No network is within 0.1 ms; allow 1.6 ms to get mobilenet_v3_large x1."
    text = render_page(replace(comparison, choice=Choice(None, reason), bounds=Bounds(max_latency_ms=0.1)))
    assert "No network fits" in text
    assert html.escape(reason) in text
    assert 'class="chosen"' not in text


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 100])
def test_few_and_many_classes(make_comparison: Make, classes: int) -> None:
    names = tuple(f"a rather long name of class {i}" for i in range(classes))
    text = render_page(make_comparison(2, 3, names=names))
    assert all(f'<th scope="row">{name}</th>' in text for name in names)


def test_networks_without_mistakes_or_latency_make_a_page(comparison: Comparison) -> None:
    rows = tuple(replace(row, mistakes=(), latency={}) for row in comparison.rows)
    text = render_page(replace(comparison, rows=rows, pairs=()))
    assert "Accuracy against latency" not in text
    assert 'id="mistakes"' not in text
    assert 'id="tests"' not in text


def test_a_thumbnail_from_elsewhere_is_refused(comparison: Comparison) -> None:
    row = comparison.rows[0]
    far = replace(row, mistakes=(replace(row.mistakes[0], thumbnail="https://example.org/a.png"),))
    with pytest.raises(RunError, match="thumbnail"):
        render_page(replace(comparison, rows=(far,)))


def test_an_empty_comparison_is_refused_and_nothing_written(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no network"):
        write_page(replace(comparison, rows=()), tmp_path / "report.html")
    with pytest.raises(RunError, match="no finished run"):
        write_page(replace(comparison, rows=(replace(comparison.rows[0], runs=()),)), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_each_networks_plan_is_shown_once_and_old_files_have_none(make_comparison: Make, page: str) -> None:
    assert "Computed in training" not in page
    made = make_comparison(2, 2)
    first = replace(made.rows[0], runs=tuple(replace(run, plan="cpu, bfloat16") for run in made.rows[0].runs))
    text = render_page(replace(made, rows=(first, made.rows[1])))
    assert text.count("cpu, bfloat16") == 1
    assert "Computed in training" in text


@pytest.mark.parametrize("seeds", [1, 2])
def test_what_holds_for_several_seeds_is_said_for_several_only(make_comparison: Make, seeds: int) -> None:
    made = make_comparison(2, seeds)
    text = render_page(replace(made, recipe={**made.recipe, "seed": 7}))
    assert ("<dt>seed</dt><dd>7</dd>" in text) == (seeds == 1)
    assert ("by the network of the first seed" in text) == (seeds > 1)
    assert ("the median epoch of each run, mean over seeds" in text) == (seeds > 1)


def test_the_methods_say_what_was_measured(page: str) -> None:
    assert "the median epoch of each run" in page
    assert "(batch 1) on one thread" in page
    assert "Python, NumPy and ONNX Runtime included" in page


def test_shares_sort_from_the_greatest(page: str) -> None:
    table = page[page.index('id="classes"') : page.index('id="confusion"')]
    assert table.count('data-first="descending"') == (1 + 3) + (1 + 2 * 3)
