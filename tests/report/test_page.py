"""The page: complete, inert, self-contained; and, in a real browser, quiet and sortable."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mobilenets.errors import RunError
from mobilenets.evaluation.results import Bounds, Choice, Comparison
from mobilenets.report.page import render_page, write_page
from mobilenets.report.wording import pair_sentence

Make = Callable[..., Comparison]
EVIL = "<img src=x onerror=document.title='owned'>\"'&"
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


@pytest.fixture(scope="session")
def hostile(make_comparison: Make) -> Comparison:
    """A comparison in which everything a user can name tries to be HTML."""
    made = make_comparison(2, names=tuple(f"{EVIL} {i}" for i in range(10)), bounds=Bounds(min_top1=50.0))
    rows = tuple(
        replace(
            row,
            label=f"{EVIL} {row.label}",
            mistakes=tuple(replace(mistake, image=f"{EVIL}.png") for mistake in row.mistakes),
        )
        for row in made.rows
    )
    data = replace(made.data, name=EVIL, skipped=(EVIL,), notes=(EVIL,))
    return replace(
        made,
        rows=rows,
        data=data,
        command=EVIL,
        created=EVIL,
        notes=(EVIL,),
        recipe={EVIL: EVIL},
        environment={EVIL: EVIL},
        choice=Choice(rows[0].label, EVIL),
        pairs=tuple(replace(pair, first=EVIL, method=EVIL) for pair in made.pairs),
    )


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


def test_html_in_names_is_inert(hostile: Comparison) -> None:
    text = render_page(hostile)
    parsed = Page(text)
    assert [attributes for _, attributes in parsed.elements if any(name.startswith("on") for name in attributes)] == []
    assert [image["src"] for image in parsed.named("img") if not str(image["src"]).startswith("data:")] == []
    assert len(parsed.named("script")) == 1
    assert EVIL in "".join(parsed.texts)


def test_the_same_comparison_gives_the_same_page(comparison: Comparison, page: str) -> None:
    assert render_page(comparison) == page


def test_no_choice_says_so_and_marks_nothing(comparison: Comparison) -> None:
    reason = "No network is within 0.1 ms; allow 1.6 ms to get mobilenet_v3_large x1."
    text = render_page(replace(comparison, choice=Choice(None, reason), bounds=Bounds(max_latency_ms=0.1)))
    assert "No network fits" in text
    assert html.escape(reason) in text
    assert 'class="chosen"' not in text


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


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium (or Chrome) on the PATH")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--dump-dom",
)


def in_browser(path: Path, profile: Path) -> tuple[str, str]:
    """Open a file in a real browser; return the document after its scripts ran, and what its console said."""
    assert BROWSER is not None
    command = [BROWSER, *QUIET, f"--user-data-dir={profile}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console)


def first_cells(document: str) -> list[str]:
    body = document[document.index("<tbody>") : document.index("</tbody>")]
    return [
        html.unescape(re.sub(r"<[^>]*>", "", cell)).split(" to take")[0] for cell in re.findall("<th.*?</th>", body)
    ]


@needs_browser
def test_browser_opens_the_page_without_a_word_on_the_console(hostile: Comparison, tmp_path: Path) -> None:
    write_page(hostile, tmp_path / "report.html")
    document, console = in_browser(tmp_path / "report.html", tmp_path / "profile")
    assert console == ""
    assert "<title>owned</title>" not in document
    # The page's own script ran in spite of the policy: its digest is right.
    assert document.count('<button type="button">') > 10
    assert '<span data-needs-script=""> A click on a heading sorts.' in document


@needs_browser
def test_browser_reports_what_the_policy_stops(page: str, tmp_path: Path) -> None:
    """The check above can fail: a script and an image that are not the page's own are stopped and reported."""
    broken = page.replace("</body>", "<script>document.title = 'owned'</script><img src='other.png' alt=''></body>")
    (tmp_path / "report.html").write_text(broken, encoding="utf-8")
    document, console = in_browser(tmp_path / "report.html", tmp_path / "profile")
    assert console.count("Content Security Policy") >= 2
    assert "<title>owned</title>" not in document


@needs_browser
def test_browser_sorts_by_a_click(comparison: Comparison, tmp_path: Path) -> None:
    rows = list(comparison.rows)
    rows[1] = replace(rows[1], latency={"onnxruntime": rows[1].latency["onnxruntime"]})
    text = render_page(replace(comparison, rows=tuple(rows)))
    # The policy would stop this test's own script, so the copy goes without one.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    orders = {}
    for heading, clicks in (("Test accuracy", 1), ("Parameters", 1), ("Parameters", 2), ("PyTorch", 1), ("PyTorch", 2)):
        click = (
            f"const b = [...document.querySelectorAll('th button')].find(b => b.textContent.includes('{heading}'));"
            f"for (let i = 0; i < {clicks}; i++) b.click();"
        )
        path = tmp_path / "report.html"
        path.write_text(text.replace("</body>", f"<script>{click}</script></body>"), encoding="utf-8")
        document, console = in_browser(path, tmp_path / "profile")
        assert console == ""
        orders[heading, clicks] = first_cells(document)
        assert document.count(' aria-sort="') == 1
    labels = {row.label: row for row in rows}
    accuracies = [labels[label].test_top1.mean for label in orders["Test accuracy", 1]]
    assert accuracies == sorted(accuracies, reverse=True)
    ascending = [labels[label].parameters for label in orders["Parameters", 1]]
    assert ascending == sorted(ascending)
    assert orders["Parameters", 2] == orders["Parameters", 1][::-1]
    # What was not measured comes last, whichever way.
    assert orders["PyTorch", 1][-1] == orders["PyTorch", 2][-1] == rows[1].label
