from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from mobilenets.benchmarking.results import Ratio
from mobilenets.deployment.results import Advantage, Decision, DeploymentReport, DeploymentTest
from mobilenets.report.deploy import advantage_sentence, choice_sentence, deploy_text, headline, shell_commands
from mobilenets.report.deploy_page import page_view, write_report


def printed(report: DeploymentReport) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(deploy_text(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_files_are_written_and_read_back(report: DeploymentReport, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert record["kept"]["label"] == report.decision.label == "int8.onnx, OpenVINO int8, 2 threads"
    assert [way["verdict"] for way in record["ways"]] == [report.verdict(way) for way in report.ways]
    assert record["quantizations"][0]["chosen"] == "fast bias correction"
    assert (tmp_path / "latency-accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_notebook_shows_a_line_and_the_ways(report: DeploymentReport) -> None:
    assert repr(report).startswith("<DeploymentReport: mobilenet_v2 x1 32 px: int8.onnx, OpenVINO int8, 2 threads")
    assert len(repr(report)) < 200
    html = replace(report, network="<b>net</b>")._repr_html_()
    assert "&lt;b&gt;net" in html
    assert "<b>" not in html
    assert html.count("<tr>") == 1 + len(report.ways)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["notes"] == list(report.notes)


def test_nan_becomes_null(report: DeploymentReport) -> None:
    broken = replace(report, float_top1=float("nan"))
    assert broken.to_dict()["float_top1"] is None


def test_every_way_gets_its_verdict(report: DeploymentReport) -> None:
    kept, bf16, fp32, _ = report.ways
    assert report.verdict(kept) == "kept"
    assert report.verdict(bf16) == "loses 1.40 points, 1 allowed"
    assert report.verdict(fp32) == "holds, 1.60× the time"
    tied = replace(report, decision=replace(report.decision, tied=(fp32.label,)))
    assert "not measurably slower" in tied.verdict(fp32)


def test_the_terminal_shows_ways_outcomes_and_decision(report: DeploymentReport) -> None:
    text = printed(report)
    for way in report.ways:
        assert way.label in text
    for said in (
        "missing: float.pte",
        "refused: int8.tflite",
        "Recommended: model.onnx",
        "18.0× (17.0 to 19.0) as fast as",
    ):
        assert said in text


def test_advantages_in_words(report: DeploymentReport) -> None:
    eager, _, openvino = report.advantages
    assert advantage_sentence(eager) == "18.0× (17.0 to 19.0) as fast as PyTorch eager"
    assert advantage_sentence(openvino).endswith("not measurably different")
    slower = Advantage("OpenVINO with its defaults", Ratio("a", "b", 1, 0.8, 0.7, 0.9, True))
    assert advantage_sentence(slower).endswith("slower")


def test_what_holds_nothing_says_so(report: DeploymentReport) -> None:
    kept = report.ways[2]
    failed = replace(report, decision=Decision(kept.label, False, "No way holds."))
    assert "kept model.onnx, in float" in headline(failed)
    assert not page_view(failed).holds


def test_commands_quote_what_a_shell_would_part(report: DeploymentReport) -> None:
    assert "predict 'my out/model.onnx' photos/" in shell_commands(replace(report, path="my out/model.onnx"))


def test_the_page_lists_peers_among_the_ways_by_time(report: DeploymentReport) -> None:
    view = page_view(report)
    times = [way.cells[0].value for way in view.ways]
    assert times == sorted(times, key=lambda value: value or 0)
    assert [way.mark for way in view.ways] == ["kept", "out", "", "", "peer"]
    assert view.ladders[0].chosen == 2
    assert [file.status for file in view.files] == ["made", "missing", "made", "refused"]


def test_the_test_images_are_shown_beside_those_that_decided(report: DeploymentReport) -> None:
    assert choice_sentence(report) == "Chosen on 1,000 test images of photos, top-1 89.70 %."
    ways = tuple(replace(way, test_top1=way.top1 - 1 if number < 3 else None) for number, way in enumerate(report.ways))
    tested = replace(report, ways=ways, test=DeploymentTest("2,000 test images of photos", 89.5))
    asked = "the 2,000 test images of photos, asked once, afterwards"
    sentence = f"Top-1 on {asked}: 88.70 %, 0.80 points below PyTorch."
    text = printed(tested)
    assert sentence in text
    assert "validation 90.00 %, test 89.50 %" in text
    view = page_view(tested)
    assert view.reason.endswith(sentence)
    assert [heading for heading, *_ in view.columns][:3] == ["Latency", "Validation", "Test"]
    assert [cells[2].text for cells in (way.cells for way in view.ways)] == ["88.70", "87.60", "89.00", "–", "89.50"]
    assert all(len(way.cells) == len(view.columns) for way in view.ways)
    assert view.keys[1] == ("Top-1, test images", "88.70 %", "0.80 points below PyTorch")
    unanswered = replace(tested, ways=tuple(replace(way, test_top1=None) for way in ways))
    assert choice_sentence(unanswered).endswith("could not be answered.")
