"""A made-up benchmark report, of times that a test gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mobilenets.benchmarking.latency import Timed, ratios
from mobilenets.benchmarking.results import BenchmarkReport, BenchmarkRow

MakeReport = Callable[..., BenchmarkReport]


@pytest.fixture
def make_report() -> MakeReport:
    """A report of rows with these median times (ms) in each round, `{label: [...]}`, at batch 1; peers by label."""

    def make(turns: dict[str, list[float]], peers: tuple[str, ...] = (), **changes: object) -> BenchmarkReport:
        calls = {label: [[round(time * 1e6)] for time in times] for label, times in turns.items()}
        timed = Timed(calls)
        rows = tuple(
            BenchmarkRow(
                label=label,
                path="" if label in peers else "model.onnx",
                source="pytorch" if label in peers else "artifact",
                backend="pytorch" if label in peers else "onnxruntime",
                precision="fp32",
                threads=1,
                peer=label in peers,
                network="mobilenet_v2",
                file_bytes=None if label in peers else 3_500_000,
                peak_memory_mb=80.0,
                cold_start_ms=250.0,
                measurements=(timed.measurement(label, 1),),
            )
            for label in turns
        )
        values = {
            "created": "2026-01-01T00:00:00+00:00",
            "environment": {"cores": "2", "load at start": "0.1"},
            "settings": {},
            "rows": rows,
            "ratios": ratios(turns, 1),
            "noise": (),
            **changes,
        }
        return BenchmarkReport(**values)  # type: ignore[arg-type]

    return make
