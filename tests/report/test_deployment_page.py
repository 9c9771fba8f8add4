from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mobilenets.benchmarking.results import BenchmarkReport, BenchmarkRow, Measurement
from mobilenets.errors import RunError
from mobilenets.evaluation.results import Latency
from mobilenets.report.deploy_page import (
    Cell,
    DeploymentView,
    FileView,
    LadderView,
    WayView,
    render_deployment_page,
    write_deployment_page,
)

LATENCY = Latency(1.5, 1.8, 0.1, 200)


@pytest.fixture
def view() -> DeploymentView:
    """A small view whose texts try to be markup."""
    row = BenchmarkRow(
        "a.onnx <i>", "a.onnx", "artifact", "onnxruntime", "fp32", 1, False, "net", 1_000_000, 80.0, 300.0,
        (Measurement(1, LATENCY, 666.0, 1.0),),
    )  # fmt: skip
    return DeploymentView(
        title="<script>document.title = 'owned'</script>",
        lead="360 test images",
        headline="Recommended: model.onnx",
        holds=True,
        reason="The fastest.",
        keys=(("Latency", "1.50 ms", "p95 1.80"),),
        advantages=("9.0× (8.5 to 9.5) as fast as PyTorch eager",),
        shell="mobilenets predict 'a b/model.onnx' photos/",
        python="from mobilenets.runtime.classifier import Classifier",
        columns=(("Latency", "ms", False), ("Top-1", "%", True)),
        ways=(
            WayView("a.onnx <i>", "kept", (Cell(1.5, "1.50", "p95 1.80"), Cell(None, "–")), "kept"),
            WayView("PyTorch eager", "peer", (Cell(13.0, "13.0"), Cell(90.0, "90.00")), "for comparison"),
        ),
        files=(FileView("float.pte", "missing", "–", "pip install 'mobilenets[executorch]'"),),
        rung_headings=("Rung", "Drop"),
        ladder_lead="The validation images decide.",
        ladders=(LadderView("onnx: int8.onnx", (("float32", ""), ("plain", "0.20")), 1, ("8 bits are slower",)),),
        notes=("a note & more",),
        measured=(("Latency", "in turns"),),
        environment={"processor": "x"},
        command="mobilenets deploy run --data digits --out o",
        created="2026-01-01",
        benchmark=BenchmarkReport("2026", {}, {}, (row,), (), ()),
    )


def test_everything_of_the_view_is_on_the_page(view: DeploymentView) -> None:
    page = render_deployment_page(view)
    said = (
        view.lead, view.headline, "1.50 ms", view.advantages[0], "13.0", "for comparison", "float.pte",
        "plain", "8 bits are slower", "in turns", view.command, "a note &amp; more", "model.onnx&#39; photos/",
    )  # fmt: skip
    for text in said:
        assert text in page


def test_users_text_is_never_markup(view: DeploymentView) -> None:
    page = render_deployment_page(view)
    assert "<script>document" not in page
    assert "<i>" not in page
    assert page.count("<script>") == 1


def test_the_page_fetches_nothing(view: DeploymentView) -> None:
    page = render_deployment_page(view)
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)


def test_the_chosen_rung_and_the_kept_way_stand_out(view: DeploymentView) -> None:
    assert render_deployment_page(view).count('<tr class="chosen">') == 2
    without = replace(view, ladders=(), holds=False)
    page = render_deployment_page(without)
    assert 'class="choice none"' in page
    assert 'id="ladders"' not in page


def test_the_same_view_gives_the_same_page(view: DeploymentView) -> None:
    assert render_deployment_page(view) == render_deployment_page(view)


def test_a_page_that_cant_be_written_is_one_clear_error(view: DeploymentView, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        write_deployment_page(view, tmp_path / "file" / "report.html")
