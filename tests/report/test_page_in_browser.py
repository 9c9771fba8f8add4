"""The page in a real browser: quiet and sortable."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mobilenets.evaluation.results import Comparison
from mobilenets.report.compare_page import render_page, write_page

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
        html.unescape(re.sub(r"<[^>]*>", "", cell)).split(" recommended")[0] for cell in re.findall("<th.*?</th>", body)
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
def test_browser_reports_what_the_policy_stops(comparison: Comparison, tmp_path: Path) -> None:
    """The check above can fail: a script and an image that are not the page's own are stopped and reported."""
    broken = render_page(comparison).replace(
        "</body>", "<script>document.title = 'owned'</script><img src='other.png' alt=''></body>"
    )
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
