"""What is said of times and drops, for made-up figures."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mobilenets.errors import ArtifactError
from mobilenets.evaluation.results import Latency
from mobilenets.progress import Silent
from mobilenets.quantization import quantize
from mobilenets.quantization.results import CalibrationSummary, QuantizationReport, Rung, RuntimeRow, Top1
from mobilenets.report.quantize import with_notes

FLOAT = Top1(90.0, 90.0, 90.0)
FLOAT_WAY = "float onnxruntime fp32"


def row(file: str, median_ms: float, drop: float = 0.0, as_fast: tuple[str, ...] = ()) -> RuntimeRow:
    latency = Latency(median_ms, 2 * median_ms, 0.01, 50)
    precision = "fp32" if file == "float" else "int8"
    return RuntimeRow(file, "onnxruntime", precision, 1000, FLOAT, Top1(drop, drop, drop), latency, as_fast)


def said(*rows: RuntimeRow, drop: float = 0.5, validated: bool = False) -> tuple[str, ...]:
    rung = Rung("plain", "one way", FLOAT, Top1(drop, drop, drop), 0.0, 1000, (), True, 1.0)
    report = QuantizationReport(
        "network", "run", "digits", "litert", "a.tflite", 1.0, 0, 500, 500, CalibrationSummary(64, 10, 0), FLOAT, 4000,
        (rung,), "plain", rows, (), validated, 10.0,
    )  # fmt: skip
    return with_notes(report).notes


def test_a_notebook_shows_a_line_and_the_rungs() -> None:
    rungs = tuple(
        Rung(f"<{name}>", "one way", FLOAT, Top1(drop, drop, drop), 0.0, 1000, (), True, 1.0)
        for name, drop in (("plain", 5.0), ("better", 0.5))
    )
    report = QuantizationReport(
        "network", "run", "digits", "onnx", "a.onnx", 1.0, 0, 500, 500, CalibrationSummary(64, 10, 0), FLOAT, 4000,
        rungs, "<better>", (), ("a note",),
    )  # fmt: skip
    assert repr(report) == "<QuantizationReport: network: <better>, 0.50 points of top-1 lost>"
    html = report._repr_html_()
    assert "&lt;plain&gt;" in html
    assert "<plain>" not in html
    record = json.loads(json.dumps(report.to_dict()))
    notes = record["remarks"]  # codespell:ignore remarks
    assert (notes, record["refused"], record["rungs"][1]["name"]) == (["a note"], False, "<better>")
    assert not {"notes", "chance_level", "keeps_tensorrt_rules"} & set(record)


@pytest.mark.parametrize(
    ("int8", "words"),
    [
        (row("int8", 1.0), "int8 is 2.00 times faster than float32 in onnxruntime on one thread of this machine"),
        (row("int8", 3.0), "int8 is 1.50 times SLOWER than float32 in onnxruntime on one thread of this machine"),
        (row("int8", 2.05, as_fast=(FLOAT_WAY,)), "int8 is as fast as float32 in onnxruntime on one thread of this"),
    ],
)
def test_times_are_compared_with_float(int8: RuntimeRow, words: str) -> None:
    assert any(note.startswith(words) for note in said(row("float", 2.0), int8))


@pytest.mark.parametrize(
    ("times", "tied"),
    [
        ([2_000_000, 2_040_000] * 25, True),  # no difference that repeats
        ([1_700_000] * 50, False),
        ([2_300_000] * 50, False),
    ],
)
def test_ways_as_fast_follow_the_rule_of_every_choice(times: list[int], tied: bool) -> None:
    both = {FLOAT_WAY: [2_000_000, 2_040_000] * 25, "int8 onnxruntime int8": times}
    rows = [row(name.split()[0], float(np.median(values)) / 1e6) for name, values in both.items()]
    first, second = quantize._with_ties(rows, both)
    assert (first.as_fast, second.as_fast) == (((second.label,), (first.label,)) if tied else ((), ()))


def test_the_fastest_names_what_is_as_fast_and_takes_a_drop_of_exactly_the_bound() -> None:
    fastest = said(row("float", 1.01), row("int8", 1.0, drop=1.0 + 1e-13, as_fast=(FLOAT_WAY,)))[-1]
    assert fastest == (
        "fastest here within 1 points: the int8 file in onnxruntime in int8, 1.00 ms on one thread; "
        "as fast: the float file in onnxruntime in fp32"
    )


def test_an_error_of_rounding_is_no_doubt() -> None:
    assert not any("did not decide" in note for note in said(row("float", 1.0), drop=1.0 + 1e-13))
    assert any("did not decide" in note for note in said(row("float", 1.0), drop=1.1))


def test_a_drop_on_the_test_images_that_is_too_great_is_warned_of() -> None:
    assert (
        "on the 500 test images it loses 1.10 points, more than 1: it may lose too much on other images, too; "
        "don't choose again by them"
    ) in said(row("float", 1.0), drop=1.1, validated=True)


def test_files_are_scored_on_all_threads_and_timed_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, int | None]] = []

    def open_backend(artifact: object, *, backend: str, precision: str, threads: int | None) -> Any:
        opened.append((backend, threads))
        return SimpleNamespace(name=backend, precision=precision, predict=lambda images: threads)

    def time_rounds(calls: dict[str, Any], **settings: object) -> dict[str, list[int]]:
        assert [call() for call in calls.values()] == [1, 1]
        return {name: [1_000_000] * 50 for name in calls}

    ways = [SimpleNamespace(backend=name, precision="fp32") for name in ("onnxruntime", "openvino")]
    monkeypatch.setattr(quantize, "choices", lambda artifact: ways)
    monkeypatch.setattr(quantize, "open_backend", open_backend)

    def check_golden(artifact: object, backend: Any) -> None:
        if backend.name == "litert":
            raise ArtifactError("colours in litert fp32: its golden pairs no longer hold")

    monkeypatch.setattr(quantize, "time_rounds", time_rounds)
    monkeypatch.setattr(quantize, "check_golden", check_golden)
    images: Any = SimpleNamespace(predict=lambda predict, what, progress: predict(None))
    monkeypatch.setattr(quantize, "score", lambda images, logits: FLOAT)
    golden = SimpleNamespace(images=np.zeros((1, 4, 4, 1), np.uint8))
    file: Any = SimpleNamespace(file_bytes=1, description=SimpleNamespace(golden=golden))
    rows = quantize.measure_runtimes({"float": file}, images, {"float": FLOAT}, threads=4, progress=Silent().update)
    assert opened == [("onnxruntime", 1), ("openvino", 4), ("openvino", 1)]
    # A way that whoever loads the file would be refused is no way to call fast.
    ways.append(SimpleNamespace(backend="litert", precision="fp32"))
    told: list[str] = []
    again = quantize.measure_runtimes(
        {"float": file}, images, {"float": FLOAT}, threads=4, progress=Silent().update, refused=told.append
    )
    assert [row.backend for row in again] == [row.backend for row in rows] == ["onnxruntime", "openvino"]
    assert told == ["not listed: colours in litert fp32: its golden pairs no longer hold"]
